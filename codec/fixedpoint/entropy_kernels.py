"""The entropy model's hot loops: predictions along rows, and the decoder's, one by one."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from codec.arch.network import CONTEXT_REACH_SIDE, CONTEXT_REACH_UP
from codec.arch.numerics import CONTEXT_ACT_MAX, CONTEXT_FRAC, LATENT_MAX, MU_FRAC, NUM_SCALES
from codec.bitstream.laplace import decode_value, encode_value
from codec.bitstream.rangecoder import ERROR
from codec.bitstream.rate import value_cost_q16
from codec.fixedpoint.affine import BIASES, OUTPUTS, SHIFT, TAPS, WEIGHTS, ZERO, Stack, affine
from codec.fixedpoint.program import MU_MAX_Q4, SCALE_BIAS, Arm
from codec.jit import njit

ERROR_LATENT = 100  # a decoded value outside [-LATENT_MAX, LATENT_MAX], beside the coder's errors

MU_HALF = 1 << (MU_FRAC - 1)
_TILE = 256
_STEP = np.int64(_TILE)
_UP = CONTEXT_REACH_UP
_SIDE = CONTEXT_REACH_SIDE
# Widths of the columns below are multiples of this, for loops without a remainder.
_LANES = 8


class Band(NamedTuple):
    """Rows `top` to `bottom` of a slice of `width` columns; contexts above `top` read as zero.

    `start` is where the slice, margins included, begins in the store, `stride` its row stride.
    """

    start: int
    stride: int
    width: int
    top: int
    bottom: int


class Ifce(NamedTuple):
    """The features of one slice: `rows` on the sources in `places` (sources, 3), see `ifce_places`.

    Without sources the features are zero, and nothing looks at `rows`.
    """

    rows: Stack
    places: np.ndarray


class Laplace(NamedTuple):
    """The tables of the range coder, as in `codec.bitstream.tables.Tables`."""

    cdf: np.ndarray
    row_start: np.ndarray
    half_width: np.ndarray
    golomb_order: np.ndarray


class Columns(NamedTuple):
    """The ARM for one position at a time: input i adds x[i] weight[i] to all outputs at once.

    `hidden` (layers x inputs x outputs, flat) has the residual in it, `bias` is (layers x outputs);
    `output` (4, inputs) are the weights of mu on h and on x, then those of the scale.
    """

    hidden: np.ndarray
    bias: np.ndarray
    hidden_shift: int
    output: np.ndarray
    output_bias: np.ndarray
    mu_shift: int
    scale_shift: int


def arm_columns(arm: Arm) -> Columns:
    """The same network as `arm`, laid out for `decode_band`."""
    inputs, layers = len(arm.contexts) + arm.num_features, len(arm.stack.meta) - 2
    width = -(-inputs // _LANES) * _LANES
    hidden, bias = np.zeros((layers, width, width), np.int32), np.zeros((layers, width), np.int32)
    output = np.zeros((2, 2, width), np.int32)
    for i, meta in enumerate(arm.stack.meta):
        weight = arm.stack.weight[meta[WEIGHTS] :][: meta[OUTPUTS] * meta[TAPS]]
        weight = weight.reshape(meta[OUTPUTS], meta[TAPS])
        if i < layers:
            hidden[i, :inputs, :inputs] = weight[:, :inputs].T
            bias[i, :inputs] = arm.stack.bias[meta[BIASES] :][:inputs]
        else:
            parts = weight[0, : inputs * (2 if layers else 1)].reshape(-1, inputs)
            output[i - layers, : len(parts), :inputs] = parts
    shifts = [int(shift) for shift in arm.stack.meta[:, SHIFT]]
    return Columns(
        hidden=hidden.ravel(),
        bias=bias.ravel(),
        hidden_shift=shifts[0],
        output=output.reshape(4, width),
        output_bias=arm.stack.bias[-2:],
        mu_shift=shifts[-2],
        scale_shift=shifts[-1],
    )


@njit
def _feature_row(flat, ifce, y2, width2, inputs, acc, features):
    """Features (F, width2) of row y2 at half resolution; `inputs` is scratch (sources, width2)."""
    offsets = np.zeros(ifce.rows.meta[0, TAPS], np.int64)
    for s in range(ifce.places.shape[0]):
        offsets[s] = s * width2
        first, stride, coarser = ifce.places[s, 0], ifce.places[s, 1], ifce.places[s, 2]
        line = np.uint64(first + (y2 >> coarser) * stride)
        for x in range(width2):
            value = flat[line + (np.uint64(x) >> np.uint64(coarser))]
            inputs[s * width2 + x] = value << CONTEXT_FRAC
    affine(inputs, ZERO, offsets, width2, ifce.rows, ZERO, acc, features, ZERO, width2)


@njit
def _gather(flat, band, y, x, length, contexts, num_features, features, tile):
    """Inputs of the ARM for `length` positions from (y, x) on, into tile (inputs, _TILE)."""
    for k in range(contexts.shape[0]):
        row, target = y + contexts[k, 0], np.uint64(k * _TILE)
        line = np.uint64(band.start + (row + _UP) * band.stride + _SIDE + x + contexts[k, 1])
        is_inside = row >= band.top
        for j in range(length):
            value = flat[line + np.uint64(j)] << CONTEXT_FRAC
            tile[target + np.uint64(j)] = value if is_inside else 0
    width2 = (band.width + 1) >> 1
    for f in range(num_features):
        target = np.uint64((contexts.shape[0] + f) * _TILE)
        line = np.uint64(f * width2 + (x >> 1))
        for j in range(length):
            tile[target + np.uint64(j)] = features[line + np.uint64(j >> 1)]


@njit
def _predict(arm, length, acc, tile, offsets, outputs):
    """Location (Q4) and scale index at the positions gathered in `tile`, into outputs (2, _TILE).

    `tile` has room for three times the inputs: x, and two sets of hidden activations; `offsets` is
    scratch for the taps of the widest layer.
    """
    inputs, layers = arm.contexts.shape[0] + arm.num_features, arm.stack.meta.shape[0] - 2
    for f in range(offsets.size):
        offsets[f] = 0
    current = 0
    for i in range(layers):
        following = 2 * inputs if current == inputs else inputs
        for f in range(inputs):
            offsets[f] = (current + f) * _TILE
        affine(tile, ZERO, offsets, length, arm.stack, i, acc, tile, following * _TILE, _STEP)
        current = following
    for f in range(inputs):
        offsets[f] = (current + f) * _TILE
        if layers:
            offsets[inputs + f] = f * _TILE
    affine(tile, ZERO, offsets, length, arm.stack, layers, acc, outputs, ZERO, ZERO)
    affine(tile, ZERO, offsets, length, arm.stack, layers + 1, acc, outputs, _STEP, ZERO)
    for j in range(length):
        outputs[_TILE + j] += SCALE_BIAS


@njit
def predict_rows(flat, band, y0, y1, arm, ifce):
    """Location (Q4) and scale index of every latent in rows y0 to y1: int16 (2, rows, width)."""
    width, width2 = band.width, (band.width + 1) >> 1
    inputs, sources = arm.contexts.shape[0] + arm.num_features, ifce.places.shape[0]
    acc = np.zeros(max(_TILE, width2), np.int32)
    source_row = np.zeros(sources * width2, np.int16)
    features = np.zeros(arm.num_features * width2, np.int16)
    tile, outputs = np.zeros(3 * inputs * _TILE, np.int16), np.zeros(2 * _TILE, np.int16)
    # The widest row is that of mu: it reads x as well.
    offsets = np.zeros(arm.stack.meta[arm.stack.meta.shape[0] - 1, TAPS], np.int64)
    predictions = np.zeros((2, y1 - y0, width), np.int16)
    for y in range(y0, y1):
        if sources and (y == y0 or y & 1 == 0):
            _feature_row(flat, ifce, y >> 1, width2, source_row, acc, features)
        for x in range(0, width, _TILE):
            length = min(_TILE, width - x)
            _gather(flat, band, y, x, length, arm.contexts, arm.num_features, features, tile)
            _predict(arm, length, acc, tile, offsets, outputs)
            for j in range(length):
                predictions[0, y - y0, x + j] = outputs[j]
                predictions[1, y - y0, x + j] = outputs[_TILE + j]
    return predictions


@njit
def _rate_row(flat, start, mu, scale, laplace, costs):
    """Cost of a row of latents, which starts at `start`, in 2^-16 bits."""
    row_start, half_width, golomb_order = (
        laplace.row_start,
        laplace.half_width,
        laplace.golomb_order,
    )
    total, escapes = np.int64(0), 0
    # First without escapes, which keeps the loop free of branches; those are rare.
    for x in range(mu.size):
        mu_int = (np.int64(mu[x]) + MU_HALF) >> MU_FRAC
        index = np.uint64(scale[x])
        k, width = flat[np.uint64(start + x)] - mu_int, half_width[index]
        row = row_start[np.uint64((scale[x] << MU_FRAC) + mu[x] - (mu_int << MU_FRAC) + MU_HALF)]
        is_escape = abs(k) > width
        total += 0 if is_escape else costs[np.uint64(row + k + width)]
        escapes += is_escape
    if escapes:
        for x in range(mu.size):
            value, at, of = np.int64(flat[start + x]), np.int64(mu[x]), np.int64(scale[x])
            if abs(value - ((at + MU_HALF) >> MU_FRAC)) > half_width[of]:
                total += value_cost_q16(costs, row_start, half_width, golomb_order, value, at, of)
    return total


@njit
def rate_rows(flat, band, y0, y1, arm, ifce, laplace, costs):
    """What the latents in rows y0 to y1 cost, in 2^-16 bits; `costs` as of `symbol_costs_q16`."""
    predictions = predict_rows(flat, band, y0, y1, arm, ifce)
    total = np.int64(0)
    for y in range(y0, y1):
        start = band.start + (y + _UP) * band.stride + _SIDE
        total += _rate_row(
            flat, start, predictions[0, y - y0], predictions[1, y - y0], laplace, costs
        )
    return total


@njit
def encode_rows(flat, band, y0, y1, arm, ifce, laplace, state, buffer):
    """Code the latents in rows y0 to y1."""
    cdf, row_start = laplace.cdf, laplace.row_start
    half_width, golomb_order = laplace.half_width, laplace.golomb_order
    predictions = predict_rows(flat, band, y0, y1, arm, ifce)
    width = band.width
    for y in range(y0, y1):
        row = band.start + (y + _UP) * band.stride + _SIDE
        for x in range(width):
            value = np.int64(flat[row + x])
            mu, scale = np.int64(predictions[0, y - y0, x]), np.int64(predictions[1, y - y0, x])
            encode_value(state, buffer, cdf, row_start, half_width, golomb_order, value, mu, scale)


@njit
def _hidden_layer(values, columns, layer, acc):
    """values = clamp((bias + weight^T values) >> shift, 0, max), in place, four inputs a pass."""
    weight, bias, size = columns.hidden, columns.bias, values.size
    for o in range(size):
        acc[o] = bias[layer * size + o]
    for i in range(0, size, 4):
        a, b, c, d = values[i], values[i + 1], values[i + 2], values[i + 3]
        wa = np.uint64((layer * size + i) * size)
        wb, wc = wa + np.uint64(size), wa + np.uint64(2 * size)
        wd = wa + np.uint64(3 * size)
        for o in range(size):
            k = np.uint64(o)
            ab = a * weight[wa + k] + b * weight[wb + k]
            acc[o] += ab + c * weight[wc + k] + d * weight[wd + k]
    for o in range(size):
        values[o] = min(max(acc[o] >> columns.hidden_shift, 0), CONTEXT_ACT_MAX)


@njit
def _predict_one(x, h, columns, acc):
    """(location in Q4, scale index) from the inputs x; h and acc are scratch of the same size."""
    size = x.size
    for i in range(size):
        h[i] = x[i]
    for i in range(columns.bias.size // size):
        _hidden_layer(h, columns, i, acc)
    output = columns.output
    mu, scale = np.int64(columns.output_bias[0]), np.int64(columns.output_bias[1])
    for i in range(size):
        mu += h[i] * output[0, i] + x[i] * output[1, i]
        scale += h[i] * output[2, i] + x[i] * output[3, i]
    mu = min(max(mu >> columns.mu_shift, -MU_MAX_Q4), MU_MAX_Q4)
    scale = (scale >> columns.scale_shift) + SCALE_BIAS
    return mu, min(max(scale, 0), NUM_SCALES - 1)


@njit
def decode_band(flat, band, contexts, columns, ifce, laplace, state, data):
    """Decode the latents of a band into the store, in raster order.

    Returns 0, or ERROR_LATENT, or the coder's error; after an error the band means nothing.
    """
    # Attributes are read once: inside the loop each access would count a reference.
    cdf, row_start = laplace.cdf, laplace.row_start
    half_width, golomb_order = laplace.half_width, laplace.golomb_order
    width, width2, stride = band.width, (band.width + 1) >> 1, band.stride
    num_contexts, num_features = contexts.shape[0], 0
    if ifce.places.shape[0]:
        num_features = ifce.rows.meta[0, OUTPUTS]
    plane = np.zeros((band.bottom - band.top + _UP) * stride, np.int16)
    steps = np.zeros(num_contexts, np.int64)
    for k in range(num_contexts):
        steps[k] = contexts[k, 0] * stride + contexts[k, 1]
    acc_row = np.zeros(width2, np.int32)
    source_row = np.zeros(ifce.places.shape[0] * width2, np.int16)
    features = np.zeros(num_features * width2, np.int16)
    size = columns.output.shape[1]
    x, h, acc = np.zeros(size, np.int32), np.zeros(size, np.int32), np.zeros(size, np.int32)
    for y in range(band.top, band.bottom):
        if num_features and (y == band.top or y & 1 == 0):
            _feature_row(flat, ifce, y >> 1, width2, source_row, acc_row, features)
        start = (y - band.top + _UP) * stride + _SIDE
        for column in range(width):
            place = start + column
            for k in range(num_contexts):
                x[k] = plane[np.uint64(place + steps[k])] << CONTEXT_FRAC
            for f in range(num_features):
                x[num_contexts + f] = features[f * width2 + (column >> 1)]
            mu, scale = _predict_one(x, h, columns, acc)
            value = decode_value(state, data, cdf, row_start, half_width, golomb_order, mu, scale)
            if abs(value) > LATENT_MAX or state[ERROR] != 0:
                return ERROR_LATENT if state[ERROR] == 0 else state[ERROR]
            plane[place] = value
        row = band.start + (y + _UP) * stride + _SIDE
        for column in range(width):
            flat[row + column] = plane[start + column]
    return np.int64(0)
