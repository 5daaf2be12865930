"""The bits of latents and their gradients, in one pass over strips of rows.

The contexts of a tile are shifted rows of the store, so nothing is gathered; all activations of a
tile stay in the cache; gradients are scattered into a copy of the strip that belongs to the job.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from codec.arch.network import CONTEXT_REACH_SIDE, CONTEXT_REACH_UP
from codec.arch.numerics import (
    CONTEXT_ACT_MAX,
    CONTEXT_FRAC,
    LATENT_MAX,
    LOG_SCALE_MAX,
    LOG_SCALE_MIN,
    LOG_SCALE_OFFSET,
)
from codec.jit import inner_float, njit_float
from codec.layers.kernels.maths import exp, log, one_minus_exp_minus
from codec.layers.kernels.rate_layout import (
    END_ROW,
    FEATURE_SIZE,
    FEATURE_WIDTH,
    FEATURES,
    FIRST_ROW,
    START,
    STRIDE,
    WIDTH,
)
from codec.layers.kernels.tiles import (
    BIASES,
    GRADIENTS,
    INFINITE,
    INPUTS,
    PITCH,
    TILE,
    TILE_STEP,
    WEIGHTS,
    add_row,
    add_weight_gradients,
    aligned_zeros,
    fold_layers,
    masked_sums,
    padded_outputs,
    round_up,
    weighted_sums,
)
from codec.layers.kernels.vectors import FLOAT_BYTES, address

F32 = np.float32
_UP, _SIDE = CONTEXT_REACH_UP, CONTEXT_REACH_SIDE
_ROW = np.int64(PITCH * FLOAT_BYTES)
_ACT_LIMIT = F32(CONTEXT_ACT_MAX / (1 << CONTEXT_FRAC))
_MU_LIMIT = F32(LATENT_MAX)
_LOWEST, _HIGHEST, _OFFSET = F32(LOG_SCALE_MIN), F32(LOG_SCALE_MAX), F32(LOG_SCALE_OFFSET)
_MIN_MASS = F32(2.0**-16)
_BITS_PER_NAT = F32(1 / np.log(2))
_ZERO, _HALF, _ONE = F32(0.0), F32(0.5), F32(1.0)
_BACK, _VALUE = 3 * PITCH, 5 * PITCH


class Network(NamedTuple):
    """ARM of `width` inputs, packed for `weighted_sums`.

    Rows of `layers` (2 (hidden + 1), 5) int64: the hidden layers and the output forward, then
    backward in the same order: what each sends back to its inputs. The first hidden layer backward
    takes the gradients of the two outputs as well, which is the stabiliser.
    """

    weights: np.ndarray
    layers: np.ndarray
    contexts: np.ndarray
    width: int
    num_gradients: int


class Rows(NamedTuple):
    """Numbers of the rows of scratch, PITCH floats each.

    From `outputs` on there are location, log-scale and one row that fills up, at _BACK the
    gradients of the two, at _VALUE the latents and then their own gradients. `hidden` and
    `gradient` hold one group of padded rows a layer.
    """

    ones: int
    zeros: int
    features: int
    outputs: int
    hidden: int
    gradient: int
    group: int
    count: int


@inner_float
def _plan_rows(width, hidden_layers):
    group = padded_outputs(width)
    features = 2
    outputs = features + width
    hidden = outputs + 6
    gradient = hidden + hidden_layers * group
    count = gradient + 2 * group
    return Rows(0, 1, features, outputs, hidden, gradient, group, count)


@inner_float
def _point_at_inputs(inputs, network, store, place, stride, scratch, rows, has_features):
    """Addresses of the rows that the first layer reads for the tile that begins at `place`."""
    count = network.contexts.shape[0]
    for k in range(count):
        inputs[k] = address(store, place + network.contexts[k, 0] * stride + network.contexts[k, 1])
    for f in range(network.width - count):
        row = rows.features + f if has_features else rows.zeros
        inputs[count + f] = address(scratch, row * PITCH)


@inner_float
def _spread_features(features, strip, y, x, length, scratch, rows, count):
    """Features of row y from column x on, each at the two columns that it serves."""
    for f in range(count):
        line = strip[FEATURES] + f * strip[FEATURE_SIZE] + (y >> 1) * strip[FEATURE_WIDTH]
        target, source = np.uint64((rows.features + f) * PITCH), np.uint64(line + (x >> 1))
        for j in range((length + 1) >> 1):
            value = features[source + np.uint64(j)]
            scratch[target + np.uint64(2 * j)] = value
            scratch[target + np.uint64(2 * j + 1)] = value


@inner_float
def _forward(network, inputs, tables, scratch, rows, length):
    """Hidden layers and outputs of a tile; `tables` (hidden + 1, ...) gets what each layer read."""
    hidden, width = network.layers.shape[0] // 2 - 1, network.width
    base, layers = address(network.weights, 0), network.layers
    for i in range(width):
        tables[0, i] = inputs[i]
    for layer in range(hidden):
        target = address(scratch, (rows.hidden + layer * rows.group) * PITCH)
        weights = base + layers[layer, WEIGHTS] * FLOAT_BYTES
        bias = base + layers[layer, BIASES] * FLOAT_BYTES
        weighted_sums(
            tables[layer], width, weights, bias, width, target, _ROW, length, _ZERO, _ACT_LIMIT
        )
        for i in range(width):
            tables[layer + 1, i] = target + i * _ROW
    if hidden:
        for i in range(width):
            tables[hidden, width + i] = inputs[i]
    weights = base + layers[hidden, WEIGHTS] * FLOAT_BYTES
    bias = base + layers[hidden, BIASES] * FLOAT_BYTES
    target, count = address(scratch, rows.outputs * PITCH), layers[hidden, INPUTS]
    weighted_sums(
        tables[hidden], count, weights, bias, 2, target, _ROW, length, -INFINITE, INFINITE
    )


@inner_float
def _bits(store, place, outputs, length):
    """Bits of the latents of a tile; see `laplace_bits` of the plain model for the formula."""
    total = _ZERO
    for j in range(length):
        mu = min(max(outputs[j], -_MU_LIMIT), _MU_LIMIT)
        log_scale = min(max(outputs[PITCH + j] + _OFFSET, _LOWEST), _HIGHEST)
        inverse = exp(-log_scale)
        distance = abs(store[np.uint64(place + j)] - mu)
        is_outside = distance >= _HALF
        u = abs(distance - _HALF) * inverse
        m_u = one_minus_exp_minus(u)
        m_q = one_minus_exp_minus(inverse if is_outside else (distance + _HALF) * inverse)
        mass = _HALF * ((_ONE - m_u) * m_q if is_outside else m_u + m_q)
        total -= log(max(mass, _MIN_MASS)) * _BITS_PER_NAT
    return total


@inner_float
def _bits_and_gradients(store, place, tile, length):
    """As `_bits`; `tile` holds location and log-scale and gets the gradients of a tile.

    Its rows are those of `Rows` from `outputs` on, at fixed distances, so that the compiler knows
    that they do not overlap. With p = e^(-|d - 1/2| / b), and q = e^(-1/b) outside,
    e^(-(d + 1/2) / b) inside, the mass is p (1 - q) / 2 outside and ((1 - p) + (1 - q)) / 2 inside.
    """
    for j in range(length):
        tile[_VALUE + j] = store[np.uint64(place + j)]
    total = _ZERO
    for j in range(length):
        raw_mu, raw_scale = tile[j], tile[PITCH + j] + _OFFSET
        mu = min(max(raw_mu, -_MU_LIMIT), _MU_LIMIT)
        log_scale = min(max(raw_scale, _LOWEST), _HIGHEST)
        inverse = exp(-log_scale)
        difference = tile[_VALUE + j] - mu
        distance = abs(difference)
        is_outside = distance >= _HALF
        u = abs(distance - _HALF) * inverse
        m_u = one_minus_exp_minus(u)
        m_q = one_minus_exp_minus(inverse if is_outside else (distance + _HALF) * inverse)
        p, q = _ONE - m_u, _ONE - m_q
        mass = _HALF * (p * m_q if is_outside else m_u + m_q)
        total -= log(max(mass, _MIN_MASS)) * _BITS_PER_NAT
        scale = _BITS_PER_NAT if mass > _MIN_MASS else _ZERO
        half_mass = _HALF / max(mass, _MIN_MASS)
        slope = scale * inverse * (_ONE if is_outside else (p - q) * half_mass)
        slope = slope if difference > _ZERO else (-slope if difference < _ZERO else _ZERO)
        inside = ((distance - _HALF) * p - (distance + _HALF) * q) * half_mass
        by_inverse = (distance - _HALF) - q / m_q if is_outside else inside
        tile[_VALUE + j] = slope
        tile[_BACK + j] = -slope if abs(raw_mu) < _MU_LIMIT else _ZERO
        is_inside = (raw_scale > _LOWEST) & (raw_scale < _HIGHEST)
        tile[_BACK + PITCH + j] = -scale * inverse * by_inverse if is_inside else _ZERO
    for j in range(length, round_up(length, TILE_STEP)):
        tile[_VALUE + j] = _ZERO
        tile[_BACK + j] = _ZERO
        tile[_BACK + PITCH + j] = _ZERO
    return total


@inner_float
def _backward(network, tables, backs, sums, scratch, rows, length):
    """Send the gradients of the outputs back; gives the first row of the inputs' gradients.

    Gradients of weights are added to `sums`.
    """
    hidden, width = network.layers.shape[0] // 2 - 1, network.width
    base, layers = address(network.weights, 0), network.layers
    ones = address(scratch, rows.ones * PITCH)
    spare = address(scratch, rows.gradient * PITCH)
    other = spare + rows.group * _ROW
    outputs = address(scratch, rows.outputs * PITCH + _BACK)
    backs[0], backs[1] = outputs, outputs + _ROW
    count = 2
    for layer in range(hidden, -1, -1):
        inputs = layers[layer, INPUTS]
        tables[layer, inputs] = ones
        place = address(sums, layers[layer, GRADIENTS])
        add_weight_gradients(backs, count, tables[layer], inputs + 1, place, length)
        row = hidden + 1 + layer
        weights = base + layers[row, WEIGHTS] * FLOAT_BYTES
        bias = base + layers[row, BIASES] * FLOAT_BYTES
        if layer == 0 and hidden:
            backs[count], backs[count + 1] = outputs, outputs + _ROW
        values, low, high = np.int64(0), -INFINITE, INFINITE
        if layer:
            values = address(scratch, (rows.hidden + (layer - 1) * rows.group) * PITCH)
            low, high = _ZERO, _ACT_LIMIT
        masked_sums(
            backs, layers[row, INPUTS], weights, bias, width, spare, _ROW, length, values, low, high
        )
        for i in range(width):
            backs[i] = spare + i * _ROW
        count, spare, other = width, other, spare
    return (other - address(scratch, 0)) // _ROW


@inner_float
def _scatter(network, strip, y, x, length, scratch, first, rows, own, features_back):
    """Add the gradients of the inputs of a tile to the latents and features that they came from."""
    stride, contexts = strip[STRIDE], network.contexts
    line = (y - strip[FIRST_ROW] + _UP) * stride + _SIDE + x
    whole = round_up(length, TILE_STEP)
    add_row(address(own, line), address(scratch, rows.outputs * PITCH + _VALUE), whole)
    for k in range(contexts.shape[0]):
        target = line + contexts[k, 0] * stride + contexts[k, 1]
        add_row(address(own, target), address(scratch, (first + k) * PITCH), whole)
    if strip[FEATURES] < 0:
        return
    for f in range(network.width - contexts.shape[0]):
        source = np.uint64((first + contexts.shape[0] + f) * PITCH)
        target = strip[FEATURES] + f * strip[FEATURE_SIZE] + (x >> 1)
        target = np.uint64(target + (y >> 1) * strip[FEATURE_WIDTH])
        for j in range(length >> 1):
            pair = scratch[source + np.uint64(2 * j)] + scratch[source + np.uint64(2 * j + 1)]
            features_back[target + np.uint64(j)] += pair
        if length & 1:
            last = np.uint64(length - 1)
            features_back[target + (last >> np.uint64(1))] += scratch[source + last]


@inner_float
def _new_scratch(rows):
    scratch = aligned_zeros(rows.count * PITCH)
    scratch[rows.ones * PITCH : (rows.ones + 1) * PITCH] = _ONE
    return scratch


@njit_float
def rate_strips(strips, store, features, network):
    """Bits of the latents of some strips, float64."""
    hidden, width = network.layers.shape[0] // 2 - 1, network.width
    rows = _plan_rows(width, hidden)
    scratch = _new_scratch(rows)
    inputs = np.zeros(width, np.int64)
    tables = np.zeros((hidden + 1, 2 * width + 4), np.int64)
    num_features, total = width - network.contexts.shape[0], 0.0
    for s in range(strips.shape[0]):
        strip = strips[s]
        for y in range(strip[FIRST_ROW], strip[END_ROW]):
            for x in range(0, strip[WIDTH], TILE):
                length = min(TILE, strip[WIDTH] - x)
                whole = round_up(length, TILE_STEP)
                place = strip[START] + (y + _UP) * strip[STRIDE] + _SIDE + x
                if strip[FEATURES] >= 0:
                    _spread_features(features, strip, y, x, length, scratch, rows, num_features)
                _point_at_inputs(
                    inputs, network, store, place, strip[STRIDE], scratch, rows,
                    strip[FEATURES] >= 0,
                )  # fmt: skip
                _forward(network, inputs, tables, scratch, rows, whole)
                total += _bits(store, place, scratch[rows.outputs * PITCH :], length)
    return total


@njit_float
def rate_gradient_strips(strips, store, features, network, store_back, features_back, halos, out):
    """Bits of the latents of some strips, and their gradients.

    Args:
        strips: rows of RateLayout.strips.
        store, features: the latents, and the planes of all IFCEs.
        store_back: gets the gradients of the rows of these strips.
        features_back: zeros, which get the gradients of the features.
        halos: (strips, 4, widest stride), gets those of the four rows above each strip.
        out: gets the gradients of the network, one layer (outputs, inputs + 1) after the other,
            biases last in each row.
    """
    hidden, width = network.layers.shape[0] // 2 - 1, network.width
    rows = _plan_rows(width, hidden)
    scratch = _new_scratch(rows)
    inputs, backs = np.zeros(width, np.int64), np.zeros(width + 8, np.int64)
    tables = np.zeros((hidden + 1, 2 * width + 4), np.int64)
    sums = aligned_zeros(network.num_gradients)
    num_features, total = width - network.contexts.shape[0], 0.0
    for s in range(strips.shape[0]):
        strip = strips[s]
        stride, top, end = strip[STRIDE], strip[FIRST_ROW], strip[END_ROW]
        own = np.zeros((end - top + _UP) * stride + TILE, np.float32)
        for y in range(top, end):
            for x in range(0, strip[WIDTH], TILE):
                length = min(TILE, strip[WIDTH] - x)
                whole = round_up(length, TILE_STEP)
                place = strip[START] + (y + _UP) * stride + _SIDE + x
                if strip[FEATURES] >= 0:
                    _spread_features(features, strip, y, x, length, scratch, rows, num_features)
                _point_at_inputs(
                    inputs, network, store, place, stride, scratch, rows, strip[FEATURES] >= 0
                )
                _forward(network, inputs, tables, scratch, rows, whole)
                total += _bits_and_gradients(store, place, scratch[rows.outputs * PITCH :], length)
                first = _backward(network, tables, backs, sums, scratch, rows, whole)
                _scatter(network, strip, y, x, length, scratch, first, rows, own, features_back)
        start = strip[START] + (top + _UP) * stride
        size = (end - top) * stride
        store_back[start : start + size] = own[_UP * stride : _UP * stride + size]
        halos[s, : _UP * stride] = own[: _UP * stride]
    fold_layers(network.layers, hidden + 1, sums, out)
    return total


@njit_float
def add_halos(strips, halos, store_back):
    """Add what strips left for the four rows above them, in the order of the strips."""
    for s in range(strips.shape[0]):
        strip = strips[s]
        size = min(strip[FIRST_ROW], _UP) * strip[STRIDE]
        start = strip[START] + (strip[FIRST_ROW] + _UP) * strip[STRIDE] - size
        first = _UP * strip[STRIDE] - size
        for j in range(size):
            store_back[start + j] += halos[s, first + j]
