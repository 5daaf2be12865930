"""Dense layers on tiles: rows of weighted sums over pixels, and the gradients of their weights.

A tile is some tens of rows of a few hundred neighbouring pixels, one row a channel. Its inputs are
named by the addresses of their rows, which need not be neighbours: shifted rows of a plane are the
neighbours of a pixel. Lengths are multiples of TILE_STEP; what a row holds behind its last pixel
is computed along and means nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from codec.jit import inner, njit
from codec.layers.kernels.vectors import (
    FLOAT_BYTES,
    LANES,
    VECTOR_BYTES,
    add,
    address,
    clamp,
    load,
    load_splat,
    multiply_add,
    splat,
    store,
    where_inside,
)

TILE_STEP = 2 * LANES  # pixels that the inner loop takes at once
TILE = 256  # most pixels of a tile: its rows stay in the caches next to the processor
# Floats from row to row of scratch. Rows a power of two apart would share few sets of the cache.
PITCH = TILE + 16
# Layers are computed in blocks of six outputs, which with two vectors each fill the registers of
# AVX; one block of three may come last.
BLOCK = 6
SMALL_BLOCK = 3
# Gradients of weights are summed in blocks of outputs by inputs.
GRADIENT_OUTPUTS = 4
GRADIENT_INPUTS = 3

# Columns of the table of `pack_layers`.
WEIGHTS = 0  # where packed weights begin
BIASES = 1
OUTPUTS = 2
INPUTS = 3
GRADIENTS = 4  # where the sums for the gradients (outputs, inputs + 1) of a layer begin

INFINITE = np.float32(np.inf)
_STEP_BYTES = np.int64(2 * VECTOR_BYTES)
_VECTOR = np.int64(VECTOR_BYTES)
_WORD = np.int64(FLOAT_BYTES)
_LINE_BYTES = 64
_LINE = _LINE_BYTES // FLOAT_BYTES


@njit
def aligned_zeros(count):
    """That many zeros from the start of a line of the cache on: no load crosses into the next."""
    floats = np.zeros(count + _LINE, np.float32)
    first = (-address(floats, 0) % _LINE_BYTES) // FLOAT_BYTES
    return floats[first : first + count]


@inner
def round_up(count, multiple):
    """The smallest multiple of `multiple` that is at least `count`."""
    return (count + multiple - 1) // multiple * multiple


@njit
def padded_outputs(outputs):
    """Rows that a layer of so many outputs writes: blocks of six, and of three at the end."""
    rest = outputs % BLOCK
    return outputs - rest + (0 if rest == 0 else SMALL_BLOCK if rest <= SMALL_BLOCK else BLOCK)


def pack_layer(weight: np.ndarray, bias: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Weights (outputs, inputs) and bias (outputs,) as `weighted_sums` reads them, flat float32.

    Block by block of outputs, in each input by input; outputs that fill up a block are zero.
    """
    outputs, inputs = weight.shape
    rows = padded_outputs(outputs)
    whole = np.zeros((rows, inputs), np.float32)
    whole[:outputs] = weight
    sixes = rows // BLOCK * BLOCK
    parts = [whole[:sixes].reshape(-1, BLOCK, inputs).transpose(0, 2, 1), whole[sixes:].T]
    padded = np.zeros(rows, np.float32)
    if bias is not None:
        padded[:outputs] = bias
    return np.concatenate([part.ravel() for part in parts]), padded


class Limits(NamedTuple):
    """What becomes of sums before they are stored from address `target` on.

    They are held to [low, high]; or, where `values` is not 0 but the address of as many rows, they
    are 0 where the values are not inside (low, high).
    """

    target: int
    values: int
    low: float
    high: float


def pack_layers(
    forward: Sequence[tuple[np.ndarray, np.ndarray]], backward: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray, int]:
    """A network as kernels read it: layers (weight, bias), and the weights of their way back.

    Returns:
        All packed weights and biases, flat; a table (layers, 5) int64 with the columns WEIGHTS to
        GRADIENTS, forward layers first; the floats that gradients of the forward layers' weights
        are summed in.
    """
    rows, parts, place, sums = [], [], 0, 0
    for weight, bias in [*forward, *((weight, None) for weight in backward)]:
        packed, padded = pack_layer(weight, bias)
        rows.append((place, place + packed.size, *weight.shape, sums))
        parts += [packed, padded]
        place += packed.size + padded.size
        if len(rows) <= len(forward):
            sums += int(gradient_floats(weight.shape[0], weight.shape[1] + 1))
    return np.concatenate(parts), np.array(rows, np.int64), sums


@inner
def _six_sums(inputs, count, weights, bias, target, step, length, limits):
    for at in range(0, length * _WORD, _STEP_BYTES):
        a0 = a1 = load_splat(bias)
        b0 = b1 = load_splat(bias + _WORD)
        c0 = c1 = load_splat(bias + 2 * _WORD)
        d0 = d1 = load_splat(bias + 3 * _WORD)
        e0 = e1 = load_splat(bias + 4 * _WORD)
        f0 = f1 = load_splat(bias + 5 * _WORD)
        w = weights
        for i in range(count):
            place = inputs[np.uint64(i)] + at
            x0, x1 = load(place), load(place + _VECTOR)
            s = load_splat(w)
            a0, a1 = multiply_add(s, x0, a0), multiply_add(s, x1, a1)
            s = load_splat(w + _WORD)
            b0, b1 = multiply_add(s, x0, b0), multiply_add(s, x1, b1)
            s = load_splat(w + 2 * _WORD)
            c0, c1 = multiply_add(s, x0, c0), multiply_add(s, x1, c1)
            s = load_splat(w + 3 * _WORD)
            d0, d1 = multiply_add(s, x0, d0), multiply_add(s, x1, d1)
            s = load_splat(w + 4 * _WORD)
            e0, e1 = multiply_add(s, x0, e0), multiply_add(s, x1, e1)
            s = load_splat(w + 5 * _WORD)
            f0, f1 = multiply_add(s, x0, f0), multiply_add(s, x1, f1)
            w += BLOCK * _WORD
        out = target + at
        _store_pair(out, a0, a1, limits)
        _store_pair(out + step, b0, b1, limits)
        _store_pair(out + 2 * step, c0, c1, limits)
        _store_pair(out + 3 * step, d0, d1, limits)
        _store_pair(out + 4 * step, e0, e1, limits)
        _store_pair(out + 5 * step, f0, f1, limits)


@inner
def _three_sums(inputs, count, weights, bias, target, step, length, limits):
    for at in range(0, length * _WORD, _STEP_BYTES):
        a0 = a1 = load_splat(bias)
        b0 = b1 = load_splat(bias + _WORD)
        c0 = c1 = load_splat(bias + 2 * _WORD)
        w = weights
        for i in range(count):
            place = inputs[np.uint64(i)] + at
            x0, x1 = load(place), load(place + _VECTOR)
            s = load_splat(w)
            a0, a1 = multiply_add(s, x0, a0), multiply_add(s, x1, a1)
            s = load_splat(w + _WORD)
            b0, b1 = multiply_add(s, x0, b0), multiply_add(s, x1, b1)
            s = load_splat(w + 2 * _WORD)
            c0, c1 = multiply_add(s, x0, c0), multiply_add(s, x1, c1)
            w += SMALL_BLOCK * _WORD
        out = target + at
        _store_pair(out, a0, a1, limits)
        _store_pair(out + step, b0, b1, limits)
        _store_pair(out + 2 * step, c0, c1, limits)


@inner(inline="always")
def _store_pair(place, first, second, limits):
    low, high = splat(limits.low), splat(limits.high)
    if limits.values == 0:
        store(place, clamp(first, low, high))
        store(place + _VECTOR, clamp(second, low, high))
    else:
        values = limits.values + (place - limits.target)
        store(place, where_inside(load(values), low, high, first))
        store(place + _VECTOR, where_inside(load(values + _VECTOR), low, high, second))


@inner
def _sums(inputs, count, weights, bias, outputs, step, length, limits):
    target, sixes = limits.target, padded_outputs(outputs) // BLOCK
    for block in range(sixes):
        place = target + block * BLOCK * step
        _six_sums(inputs, count, weights, bias, place, step, length, limits)
        weights += BLOCK * count * _WORD
        bias += BLOCK * _WORD
    if padded_outputs(outputs) > sixes * BLOCK:
        place = target + sixes * BLOCK * step
        _three_sums(inputs, count, weights, bias, place, step, length, limits)


@inner
def weighted_sums(inputs, count, weights, bias, outputs, target, step, length, low, high):
    """y[o] = clamp(bias[o] + sum_i weight[o, i] x[i], low, high) over `length` pixels.

    Args:
        inputs: int64 addresses of the rows x[i], the first `count` of them.
        weights, bias: addresses of what `pack_layer` made.
        outputs: their number; `padded_outputs` of them are written.
        target: address of y[0]; y[o] is o * step bytes behind it.
        low, high: float32 limits, infinite for none.
    """
    limits = Limits(target, 0, low, high)
    _sums(inputs, count, weights, bias, outputs, step, length, limits)


@inner
def masked_sums(inputs, count, weights, bias, outputs, target, step, length, values, low, high):
    """As `weighted_sums`, for gradients behind a clamp: 0 where its value is not in (low, high).

    `values` is the address of the first clamped row; there is one for each padded output, `step`
    bytes apart.
    """
    limits = Limits(target, values, low, high)
    _sums(inputs, count, weights, bias, outputs, step, length, limits)


@inner
def add_row(target, source, length):
    """target += source over `length` pixels, both addresses."""
    for at in range(0, length * _WORD, _VECTOR):
        store(target + at, add(load(target + at), load(source + at)))


@inner
def copy_row(target, source, length):
    """Copy `length` floats, exactly, between flat arrays given as (array, place)."""
    out, first, rows, start = target[0], np.uint64(target[1]), source[0], np.uint64(source[1])
    for j in range(length):
        out[first + np.uint64(j)] = rows[start + np.uint64(j)]


@njit
def gradient_floats(outputs, inputs):
    """Floats that `add_weight_gradients` sums into for a layer."""
    return round_up(outputs, GRADIENT_OUTPUTS) * round_up(inputs, GRADIENT_INPUTS) * LANES


@inner
def repeat_last(rows, count, multiple):
    """Fill up a table of row addresses, of which `count` are set, to a multiple."""
    for i in range(count, round_up(count, multiple)):
        rows[i] = rows[count - 1]


@inner
def add_weight_gradients(gradients, outputs, inputs, num_inputs, sums, length):
    """sums[o, i, lane] += gradient[o] x[i], a sum over `length` pixels in every lane.

    Args:
        gradients: int64 addresses of the rows of gradients, `outputs` of them; both tables have
            room for `repeat_last`, which is called here.
        inputs: addresses of the rows x[i], `num_inputs` of them.
        sums: address of `gradient_floats` sums; those of rows that fill up mean nothing.
    """
    repeat_last(gradients, outputs, GRADIENT_OUTPUTS)
    repeat_last(inputs, num_inputs, GRADIENT_INPUTS)
    for o in range(0, outputs, GRADIENT_OUTPUTS):
        for i in range(0, num_inputs, GRADIENT_INPUTS):
            row = sums + (o * round_up(num_inputs, GRADIENT_INPUTS) + i) * _VECTOR
            _twelve_products(gradients, o, inputs, i, row, num_inputs, length)


@inner(inline="always")
def _twelve_products(gradients, o, inputs, i, sums, num_inputs, length):
    step = round_up(num_inputs, GRADIENT_INPUTS) * _VECTOR
    first, second, third, fourth = sums, sums + step, sums + 2 * step, sums + 3 * step
    a0, a1, a2 = load(first), load(first + _VECTOR), load(first + 2 * _VECTOR)
    b0, b1, b2 = load(second), load(second + _VECTOR), load(second + 2 * _VECTOR)
    c0, c1, c2 = load(third), load(third + _VECTOR), load(third + 2 * _VECTOR)
    d0, d1, d2 = load(fourth), load(fourth + _VECTOR), load(fourth + 2 * _VECTOR)
    p, q, r, s = gradients[o], gradients[o + 1], gradients[o + 2], gradients[o + 3]
    u, v, w = inputs[i], inputs[i + 1], inputs[i + 2]
    for at in range(0, length * _WORD, _VECTOR):
        x0, x1, x2 = load(u + at), load(v + at), load(w + at)
        g = load(p + at)
        a0, a1, a2 = multiply_add(g, x0, a0), multiply_add(g, x1, a1), multiply_add(g, x2, a2)
        g = load(q + at)
        b0, b1, b2 = multiply_add(g, x0, b0), multiply_add(g, x1, b1), multiply_add(g, x2, b2)
        g = load(r + at)
        c0, c1, c2 = multiply_add(g, x0, c0), multiply_add(g, x1, c1), multiply_add(g, x2, c2)
        g = load(s + at)
        d0, d1, d2 = multiply_add(g, x0, d0), multiply_add(g, x1, d1), multiply_add(g, x2, d2)
    _store_three(first, a0, a1, a2)
    _store_three(second, b0, b1, b2)
    _store_three(third, c0, c1, c2)
    _store_three(fourth, d0, d1, d2)


@inner(inline="always")
def _store_three(place, a, b, c):
    store(place, a)
    store(place + _VECTOR, b)
    store(place + 2 * _VECTOR, c)


@inner
def fold_gradients(sums, outputs, inputs, target):
    """target (outputs, inputs) = the lanes of `sums`, added up; both flat arrays."""
    width = round_up(inputs, GRADIENT_INPUTS)
    for o in range(outputs):
        for i in range(inputs):
            total = np.float32(0.0)
            for lane in range(LANES):
                total += sums[(o * width + i) * LANES + lane]
            target[o * inputs + i] = total


@inner
def fold_layers(layers, count, sums, target):
    """The gradients of the first `count` layers of a table, one after the other; gives their end.

    Each is (outputs, inputs + 1), with the bias last.
    """
    place = 0
    for layer in range(count):
        outputs, inputs = layers[layer, OUTPUTS], layers[layer, INPUTS] + 1
        fold_gradients(sums[layers[layer, GRADIENTS] :], outputs, inputs, target[place:])
        place += outputs * inputs
    return place
