"""The decoder's hot loop: latents one by one, each predicted from those before it."""

from __future__ import annotations

import numpy as np

from codec.arch.network import CONTEXT_REACH_SIDE, CONTEXT_REACH_UP
from codec.arch.numerics import CONTEXT_ACT_MAX, LATENT_MAX, NUM_SCALES
from codec.bitstream.laplace import decode_value
from codec.bitstream.rangecoder import ERROR
from codec.fixedpoint.affine import OUTPUTS
from codec.fixedpoint.entropy_kernels import Columns, Laplace, feature_row
from codec.fixedpoint.lanes import (
    LANES,
    lane_of,
    load,
    load_splat,
    mul_add,
    pointer,
    shift_clamp,
    splat,
    store,
    total_of,
)
from codec.fixedpoint.program import MU_MAX_Q4, SCALE_BIAS
from codec.jit import inner, njit

ERROR_LATENT = 100  # a decoded value outside [-LATENT_MAX, LATENT_MAX], beside the coder's errors

_UP = CONTEXT_REACH_UP
_SIDE = CONTEXT_REACH_SIDE
# What does not depend on the latents beside is summed for so many columns ahead, within the cache.
_COLUMNS_AHEAD = 32
# Positions that share the weights that are read, in registers.
_POSITIONS = 4
# How far positions are shifted down to the row of sums that they start from.
_BY_PAIRS = np.int64(1)
_TO_ROW_0 = np.int64(63)
_MU_LANE = LANES - 2
_SCALE_LANE = LANES - 1


@inner
def _add_inputs(starts, step, source, places, weight, sums, size):
    """sums (positions, width) = those of `starts` plus the weights of inputs read from `source`.

    size = (positions, width), the positions a multiple of _POSITIONS. Position j starts from row
    j >> step of `starts`, and reads input k at `places[k] + j`.
    """
    (positions, width), rows = size, pointer(weight, 0)
    starts, source, sums = pointer(starts, 0), pointer(source, 0), pointer(sums, 0)
    for j in range(0, positions, _POSITIONS):
        for b in range(0, width, LANES):
            total_a = total_b = load(starts, (j >> step) * width + b)
            total_c = total_d = load(starts, (j + 2 >> step) * width + b)
            for k in range(places.size):
                w, place = load(rows, k * width + b), places[k] + j
                total_a = mul_add(total_a, w, load_splat(source, place))
                total_b = mul_add(total_b, w, load_splat(source, place + 1))
                total_c = mul_add(total_c, w, load_splat(source, place + 2))
                total_d = mul_add(total_d, w, load_splat(source, place + 3))
            target = j * width + b
            store(sums, target, total_a)
            store(sums, target + width, total_b)
            store(sums, target + 2 * width, total_c)
            store(sums, target + 3 * width, total_d)


@inner(forceinline=True)
def _with_pointers(columns, laplace):
    """The same two, with pointers in place of those arrays that are read for each latent."""
    pointers = Columns(
        columns.width,
        columns.inputs,
        columns.layers,
        pointer(columns.beside, 0),
        columns.above,
        columns.places,
        columns.features,
        pointer(columns.hidden, 0),
        pointer(columns.output, 0),
        pointer(columns.bias, 0),
        columns.hidden_shift,
        columns.mu_shift,
        columns.scale_shift,
    )
    tables = Laplace(
        pointer(laplace.cdf, 0),
        pointer(laplace.row_start, 0),
        pointer(laplace.half_width, 0),
        pointer(laplace.golomb_order, 0),
    )
    return pointers, tables


@inner(forceinline=True)
def _hidden_layer(columns, layer, h, here, there):
    """Hidden layer `layer` >= 1 on the activations at h[here:], to h[there:]."""
    width, inputs, shift = columns.width, columns.inputs, columns.hidden_shift
    first, bias = (layer - 1) * inputs * width, layer * width
    pairs = width // (2 * LANES) * (2 * LANES)
    for b in range(0, pairs, 2 * LANES):
        left, right = load(columns.bias, bias + b), load(columns.bias, bias + b + LANES)
        for i in range(inputs):
            value, place = load_splat(h, here + i), first + i * width + b
            left = mul_add(left, load(columns.hidden, place), value)
            right = mul_add(right, load(columns.hidden, place + LANES), value)
        store(h, there + b, shift_clamp(left, shift, 0, CONTEXT_ACT_MAX))
        store(h, there + b + LANES, shift_clamp(right, shift, 0, CONTEXT_ACT_MAX))
    if pairs < width:
        left = load(columns.bias, bias + pairs)
        for i in range(inputs):
            weight = load(columns.hidden, first + i * width + pairs)
            left = mul_add(left, weight, load_splat(h, here + i))
        store(h, there + pairs, shift_clamp(left, shift, 0, CONTEXT_ACT_MAX))


@inner(forceinline=True)
def _predict(columns, sums, at, beside, h):
    """(location in Q4, scale index) from the first layer's sums and the latents beside.

    `sums` begin at `at`; `beside` are the values 1, 2, 3 and 4 places to the left; `h` (2 lanes) is
    scratch for two sets of activations.
    """
    width, weight = columns.width, columns.beside
    one, two, three, four = splat(beside[0]), splat(beside[1]), splat(beside[2]), splat(beside[3])
    total = splat(np.int32(0))
    for b in range(0, width, LANES):
        total = mul_add(load(sums, at + b), load(weight, 3 * width + b), four)
        total = mul_add(total, load(weight, 2 * width + b), three)
        total = mul_add(total, load(weight, width + b), two)
        total = mul_add(total, load(weight, b), one)
        store(h, b, shift_clamp(total, columns.hidden_shift, 0, CONTEXT_ACT_MAX))
    mu, scale = np.int64(lane_of(total, _MU_LANE)), np.int64(lane_of(total, _SCALE_LANE))
    here, there = 0, width
    for layer in range(1, columns.layers):
        _hidden_layer(columns, layer, h, here, there)
        here, there = there, here
    of_mu, of_scale = splat(np.int32(0)), splat(np.int32(0))
    for b in range(0, width, LANES):
        values = load(h, here + b)
        of_mu = mul_add(of_mu, load(columns.output, b), values)
        of_scale = mul_add(of_scale, load(columns.output, width + b), values)
    mu = (mu + total_of(of_mu)) >> columns.mu_shift
    scale = ((scale + total_of(of_scale)) >> columns.scale_shift) + SCALE_BIAS
    return min(max(mu, -MU_MAX_Q4), MU_MAX_Q4), min(max(scale, 0), NUM_SCALES - 1)


@inner
def _decode_columns(plane, place, length, columns, laplace, sums, beside, h, coder, data):
    """Decode `length` latents from `place` of the plane on; 0, or the error.

    `beside` are the latents before the first one, and afterwards those before the next.
    """
    layers, tables = _with_pointers(columns, laplace)
    values, starts, scratch = pointer(plane, 0), pointer(sums, 0), pointer(h, 0)
    state, code = pointer(coder, 0), pointer(data, 0)
    one, two, three, four = beside[0], beside[1], beside[2], beside[3]
    for j in range(length):
        mu, scale = _predict(layers, starts, j * columns.width, (one, two, three, four), scratch)
        value = decode_value(
            state,
            code,
            tables.cdf,
            tables.row_start,
            tables.half_width,
            tables.golomb_order,
            mu,
            scale,
        )
        if abs(value) > LATENT_MAX or state[ERROR] != 0:
            return ERROR_LATENT if state[ERROR] == 0 else state[ERROR]
        values[place + j] = np.int32(value)
        one, two, three, four = np.int32(value), one, two, three
    beside[0], beside[1], beside[2], beside[3] = one, two, three, four
    return np.int64(0)


@inner
def _decode_row(plane, start, length, columns, laplace, feature_sums, places, scratch, coder, data):
    """Decode a row of `length` latents from `start` of the plane on; 0, or the error."""
    sums, beside, h = scratch
    lanes = columns.width
    beside[:] = 0
    for x in range(0, length, _COLUMNS_AHEAD):
        ahead, place = min(_COLUMNS_AHEAD, length - x), start + x
        starts, size = feature_sums[(x >> 1) * lanes :], (_whole(ahead), lanes)
        _add_inputs(starts, _BY_PAIRS, plane, places + place, columns.above, sums, size)
        error = _decode_columns(plane, place, ahead, columns, laplace, sums, beside, h, coder, data)
        if error:
            return error
    return np.int64(0)


@inner
def _whole(positions):
    """`positions`, rounded up to a multiple of _POSITIONS."""
    return (positions + _POSITIONS - 1) // _POSITIONS * _POSITIONS


@njit
def decode_band(flat, band, columns, ifce, laplace, coder, data):
    """Decode the latents of a band into the store, in raster order.

    Returns 0, or ERROR_LATENT, or the coder's error; after an error the band means nothing.
    """
    width, width2, stride = band.width, (band.width + 1) >> 1, band.stride
    num_features = ifce.rows.meta[0, OUTPUTS] if ifce.places.shape[0] else 0
    lanes, whole2 = columns.width, _whole(width2)
    places = columns.places[:, 0] * stride + columns.places[:, 1]
    feature_places = np.arange(num_features) * whole2
    # Latents and features with 32 bits: that is what lanes are filled from at once.
    plane = np.zeros((band.bottom - band.top + _UP) * stride, np.int32)
    source_row = np.zeros(ifce.places.shape[0] * width2, np.int16)
    made_features = np.zeros(num_features * whole2, np.int16)
    features = np.zeros(num_features * whole2, np.int32)
    feature_sums = np.zeros(whole2 * lanes, np.int32)
    scratch = (
        np.zeros(_COLUMNS_AHEAD * lanes, np.int32),
        np.zeros(_SIDE, np.int32),
        np.zeros(2 * lanes, np.int32),
    )
    for y in range(band.top, band.bottom):
        if y == band.top or (num_features and y & 1 == 0):
            if num_features:
                feature_row(flat, ifce, y >> 1, width2, source_row, made_features, whole2)
                features[:] = made_features
            bias, weight, size = columns.bias, columns.features, (whole2, lanes)
            _add_inputs(bias, _TO_ROW_0, features, feature_places, weight, feature_sums, size)
        start = (y - band.top + _UP) * stride + _SIDE
        error = _decode_row(
            plane, start, width, columns, laplace, feature_sums, places, scratch, coder, data
        )
        if error:
            return error
        row = band.start + (y + _UP) * band.stride + _SIDE
        for column in range(width):
            flat[row + column] = plane[start + column]
    return np.int64(0)
