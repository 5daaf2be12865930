"""The entropy model's hot loops: predictions along rows, and the decoder's, one by one."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from codec.arch.network import CONTEXT_REACH_SIDE, CONTEXT_REACH_UP
from codec.arch.numerics import CONTEXT_FRAC, MU_FRAC
from codec.bitstream.laplace import encode_value
from codec.bitstream.rate import value_cost_q16
from codec.fixedpoint.affine import OUTPUTS, SHIFT, TAPS, WEIGHTS, ZERO, Stack, affine
from codec.fixedpoint.lanes import LANES
from codec.fixedpoint.program import SCALE_BIAS, Arm
from codec.jit import inner, njit

MU_HALF = 1 << (MU_FRAC - 1)
_TILE = 256
_STEP = np.int64(_TILE)
_UP = CONTEXT_REACH_UP
_SIDE = CONTEXT_REACH_SIDE


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
    """The ARM for one position at a time: an input adds its weights to the sums of all outputs.

    Weights are rows of `width` lanes, one for each output; the last two lanes of the first layer
    are what x adds to mu and to the scale. All arrays but `places` are flat int32. The first layer
    is cut by where its `inputs` come from: `beside` are the weights of the latents 1 to
    CONTEXT_REACH_SIDE places to the left, `above` those of the latents at `places` (dy, dx) in rows
    above, both to be multiplied with latents instead of activations; then those of the `features`.
    `hidden` are the layers after the first with their residual, `output` (2 rows) the weights of mu
    and of the scale on the last one. `bias` has a row for each of the `layers`.
    """

    width: int
    inputs: int
    layers: int
    beside: np.ndarray
    above: np.ndarray
    places: np.ndarray
    features: np.ndarray
    hidden: np.ndarray
    output: np.ndarray
    bias: np.ndarray
    hidden_shift: int
    mu_shift: int
    scale_shift: int


def _dense_layers(arm: Arm) -> tuple[list[np.ndarray], np.ndarray]:
    """Weights (outputs, inputs) of each hidden layer, and of mu and scale on [h | x] (2, ...)."""
    inputs, found = len(arm.contexts) + arm.num_features, []
    for meta in arm.stack.meta:
        flat = arm.stack.weight[meta[WEIGHTS] :][: meta[OUTPUTS] * meta[TAPS]]
        found.append(flat.reshape(meta[OUTPUTS], meta[TAPS]))
    hidden = [weight[:, :inputs] for weight in found[:-2]]
    return hidden, np.concatenate(found[-2:])[:, : inputs * (2 if hidden else 1)]


def arm_columns(arm: Arm) -> Columns:
    """The same network as `arm`, laid out for `decode_band`."""
    contexts, inputs = len(arm.contexts), len(arm.contexts) + arm.num_features
    hidden, output = _dense_layers(arm)
    width = -(-(inputs + 2) // LANES) * LANES
    columns = np.zeros((max(len(hidden), 1), inputs, width), np.int32)
    bias = np.zeros((len(columns), width), np.int32)
    for i, weight in enumerate(hidden):
        columns[i, :, :inputs] = weight.T
        bias[i, :inputs] = arm.stack.bias[i * inputs :][:inputs]
    columns[0, :, -2:] = output[:, -inputs:].T
    bias[0, -2:] = arm.stack.bias[-2:]
    on_hidden = np.zeros((2, width), np.int32)
    if hidden:
        on_hidden[:, :inputs] = output[:, :inputs]
    of_contexts = columns[0, :contexts] << CONTEXT_FRAC
    is_above = arm.contexts[:, 0] < 0
    beside = np.zeros((_SIDE, width), np.int32)
    beside[-1 - arm.contexts[~is_above, 1]] = of_contexts[~is_above]
    shifts = [int(shift) for shift in arm.stack.meta[:, SHIFT]]
    return Columns(
        width=width,
        inputs=inputs,
        layers=len(columns),
        beside=beside.ravel(),
        above=of_contexts[is_above].ravel(),
        places=arm.contexts[is_above],
        features=columns[0, contexts:].ravel(),
        hidden=columns[1:].ravel(),
        output=on_hidden.ravel(),
        bias=bias.ravel(),
        hidden_shift=shifts[0],
        mu_shift=shifts[-2],
        scale_shift=shifts[-1],
    )


@inner
def feature_row(flat, ifce, y2, width2, inputs, features, step):
    """Features (F, width2) of row y2 at half resolution, `step` apart in `features`.

    `inputs` is scratch (sources, width2).
    """
    offsets = np.arange(ifce.places.shape[0]) * width2
    for s in range(ifce.places.shape[0]):
        first, stride, coarser = ifce.places[s, 0], ifce.places[s, 1], ifce.places[s, 2]
        line = np.uint64(first + (y2 >> coarser) * stride)
        for x in range(width2):
            value = flat[line + (np.uint64(x) >> np.uint64(coarser))]
            inputs[s * width2 + x] = value << CONTEXT_FRAC
    affine(inputs, ZERO, offsets, width2, ifce.rows, ZERO, features, ZERO, step)


@inner
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


@inner
def _predict(arm, length, tile, offsets, outputs):
    """Location (Q4) and scale index at the positions gathered in `tile`, into outputs (2, _TILE).

    `tile` has room for three times the inputs: x, and two sets of hidden activations; `offsets` is
    scratch for the taps of the widest layer.
    """
    inputs, layers = arm.contexts.shape[0] + arm.num_features, arm.stack.meta.shape[0] - 2
    current = 0
    for i in range(layers):
        following = 2 * inputs if current == inputs else inputs
        for f in range(inputs):
            offsets[f] = (current + f) * _TILE
        affine(tile, ZERO, offsets, length, arm.stack, i, tile, following * _TILE, _STEP)
        current = following
    for f in range(inputs):
        offsets[f] = (current + f) * _TILE
        if layers:
            offsets[inputs + f] = f * _TILE
    affine(tile, ZERO, offsets, length, arm.stack, layers, outputs, ZERO, ZERO)
    affine(tile, ZERO, offsets, length, arm.stack, layers + 1, outputs, _STEP, ZERO)
    for j in range(length):
        outputs[_TILE + j] += SCALE_BIAS


@njit
def predict_rows(flat, band, y0, y1, arm, ifce):
    """Location (Q4) and scale index of every latent in rows y0 to y1: int16 (2, rows, width)."""
    width, width2 = band.width, (band.width + 1) >> 1
    inputs, sources = arm.contexts.shape[0] + arm.num_features, ifce.places.shape[0]
    source_row = np.zeros(sources * width2, np.int16)
    features = np.zeros(arm.num_features * width2, np.int16)
    tile, outputs = np.zeros(3 * inputs * _TILE, np.int16), np.zeros(2 * _TILE, np.int16)
    # The widest row is that of mu: it reads x as well.
    offsets = np.zeros(arm.stack.meta[arm.stack.meta.shape[0] - 1, TAPS], np.int64)
    predictions = np.zeros((2, y1 - y0, width), np.int16)
    for y in range(y0, y1):
        if sources and (y == y0 or y & 1 == 0):
            feature_row(flat, ifce, y >> 1, width2, source_row, features, width2)
        for x in range(0, width, _TILE):
            length = min(_TILE, width - x)
            _gather(flat, band, y, x, length, arm.contexts, arm.num_features, features, tile)
            _predict(arm, length, tile, offsets, outputs)
            for j in range(length):
                predictions[0, y - y0, x + j] = outputs[j]
                predictions[1, y - y0, x + j] = outputs[_TILE + j]
    return predictions


@inner
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
def cost_rows(flat, band, y0, y1, arm, ifce, laplace, costs, out):
    """What each latent in rows y0 to y1 costs if it is one less, as it is, and one more.

    Written to the rows of `out` (3, height, width), in 2^-16 bits.
    """
    predictions = predict_rows(flat, band, y0, y1, arm, ifce)
    row_start, half_width = laplace.row_start, laplace.half_width
    for y in range(y0, y1):
        row = band.start + (y + _UP) * band.stride + _SIDE
        for x in range(band.width):
            mu, scale = np.int64(predictions[0, y - y0, x]), np.int64(predictions[1, y - y0, x])
            for i in range(3):
                value = np.int64(flat[row + x]) + i - 1
                out[i, y, x] = value_cost_q16(
                    costs, row_start, half_width, laplace.golomb_order, value, mu, scale
                )


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
