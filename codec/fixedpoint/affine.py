"""The operation that the decoder is made of: rows of weighted sums, their bound, their kernel."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from codec.errors import BitstreamError
from codec.fixedpoint.lanes import (
    LANES,
    load,
    load_splat,
    mul_add,
    pointer,
    shift_clamp,
    splat,
    store,
)
from codec.jit import inner, njit

TILE = 2 * LANES  # places that are worked on at once

# Arguments of kernels: a literal in their place would compile another version for every value.
ZERO = np.int64(0)
ONE = np.int64(1)

# Columns of Stack.meta.
OUTPUTS = 0
TAPS = 1
WEIGHTS = 2
BIASES = 3
SHIFT = 4
LOW = 5
HIGH = 6


class Rows(NamedTuple):
    """y[o] = clamp((bias[o] + sum_f weight[o, f] x[f]) >> shift, low, high).

    `weight` is (outputs, taps), and the rounding constant of the shift is part of `bias`. Both have
    the type of the accumulator. `form` is (shift, low, high).
    """

    weight: np.ndarray
    bias: np.ndarray
    form: tuple[int, int, int]


class Stack(NamedTuple):
    """Several `Rows` as kernels take them, all in flat arrays.

    `meta` (layers, 7) int64 has the columns OUTPUTS, TAPS, where weights and biases start, SHIFT,
    and the two limits.
    """

    meta: np.ndarray
    weight: np.ndarray
    bias: np.ndarray


def make_rows(
    name: str,
    weight: np.ndarray,
    bias: np.ndarray | int,
    *,
    form: tuple[int, int, int],
    input_max: int,
    acc_max: int,
    residual: np.ndarray | int = 0,
) -> Rows:
    """Rows with their accumulators checked: sum|w| input_max + |bias| + rounding <= acc_max.

    Args:
        name: the tensor, as errors call it.
        weight: (outputs, taps) int64.
        bias: int64, one per output, in the accumulator's format.
        residual: weights >= 0 of the identity path, one per output at most, broadcast to `weight`.

    Raises:
        BitstreamError: a row whose accumulator could leave its type.
    """
    half = (1 << form[0]) >> 1
    bias = np.broadcast_to(np.asarray(bias, np.int64), weight.shape[:1])
    sums = np.abs(weight).sum(axis=1) + np.broadcast_to(residual, weight.shape).max(axis=1)
    # In this order nothing overflows, whatever the stream says.
    if np.any(sums > (acc_max - np.abs(bias) - half) // input_max):
        raise BitstreamError(
            f"network: {name}: its weighted sums could exceed {acc_max}; use smaller weights"
        )
    dtype = np.int32 if acc_max < 1 << 31 else np.int64
    return Rows((weight + residual).astype(dtype), (bias + half).astype(dtype), form)


def pack(*layers: Rows) -> Stack:
    """Layers of one accumulator type as one stack."""
    meta, weights, biases = [], 0, 0
    for rows in layers:
        meta.append([*rows.weight.shape, weights, biases, *rows.form])
        weights += rows.weight.size
        biases += rows.bias.size
    return Stack(
        np.array(meta, np.int64),
        np.concatenate([rows.weight.ravel() for rows in layers]),
        np.concatenate([rows.bias for rows in layers]),
    )


@inner(forceinline=True)
def _few_places(src, start, offsets, length, rows, first, form, dst, target):
    """One output at fewer places than a tile has."""
    (weight, taps, bias), (shift, low, high) = rows, form
    for j in range(length):
        total = bias
        for f in range(taps):
            total += src[start + offsets[f] + j] * weight[first + f]
        dst[target + j] = min(max(total >> shift, low), high)


@inner(forceinline=True)
def _one_output(src, at, offsets, rows, first, form, dst, target):
    """One output at TILE places."""
    (weight, taps, bias), (shift, low, high) = rows, form
    left = right = splat(bias)
    for f in range(taps):
        place, w = at + offsets[f], load_splat(weight, first + f)
        left = mul_add(left, load(src, place), w)
        right = mul_add(right, load(src, place + LANES), w)
    store(dst, target, shift_clamp(left, shift, low, high))
    store(dst, target + LANES, shift_clamp(right, shift, low, high))


@inner(forceinline=True)
def _four_outputs(src, at, offsets, rows, first, form, dst, target, step):
    """Four outputs at TILE places: eight sums, which share the inputs, fill half the registers."""
    (weight, taps, biases, o), (shift, low, high) = rows, form
    left_a = right_a = load_splat(biases, o)
    left_b = right_b = load_splat(biases, o + 1)
    left_c = right_c = load_splat(biases, o + 2)
    left_d = right_d = load_splat(biases, o + 3)
    for f in range(taps):
        place, row = at + offsets[f], first + f
        left, right = load(src, place), load(src, place + LANES)
        w = load_splat(weight, row)
        left_a, right_a = mul_add(left_a, left, w), mul_add(right_a, right, w)
        w = load_splat(weight, row + taps)
        left_b, right_b = mul_add(left_b, left, w), mul_add(right_b, right, w)
        w = load_splat(weight, row + 2 * taps)
        left_c, right_c = mul_add(left_c, left, w), mul_add(right_c, right, w)
        w = load_splat(weight, row + 3 * taps)
        left_d, right_d = mul_add(left_d, left, w), mul_add(right_d, right, w)
    store(dst, target, shift_clamp(left_a, shift, low, high))
    store(dst, target + LANES, shift_clamp(right_a, shift, low, high))
    store(dst, target + step, shift_clamp(left_b, shift, low, high))
    store(dst, target + step + LANES, shift_clamp(right_b, shift, low, high))
    store(dst, target + 2 * step, shift_clamp(left_c, shift, low, high))
    store(dst, target + 2 * step + LANES, shift_clamp(right_c, shift, low, high))
    store(dst, target + 3 * step, shift_clamp(left_d, shift, low, high))
    store(dst, target + 3 * step + LANES, shift_clamp(right_d, shift, low, high))


@inner
def _affine(src, start, offsets, length, meta, weight, biases, index, dst, target, step):
    """`affine` on pointers. The last tile is moved back to end where the places do: it makes some
    of them again."""
    outputs, taps = meta[index, OUTPUTS], meta[index, TAPS]
    weights, bias = meta[index, WEIGHTS], meta[index, BIASES]
    form = (meta[index, SHIFT], meta[index, LOW], meta[index, HIGH])
    fours = outputs // 4 * 4 if length >= TILE else 0
    for j in range(0, length if fours else 0, TILE):
        at = min(j, length - TILE)
        for o in range(0, fours, 4):
            rows, to = (weight, taps, biases, bias + o), target + o * step + at
            _four_outputs(src, start + at, offsets, rows, weights + o * taps, form, dst, to, step)
    for o in range(fours, outputs):
        rows, first, to = (weight, taps, biases[bias + o]), weights + o * taps, target + o * step
        if length < TILE:
            _few_places(src, start, offsets, length, rows, first, form, dst, to)
            continue
        for j in range(0, length, TILE):
            at = min(j, length - TILE)
            _one_output(src, start + at, offsets, rows, first, form, dst, to + at)


@njit
def affine(src, start, offsets, length, stack, index, dst, target, step):
    """Layer `index` of a stack at `length` neighbouring places: tap f of place j is
    src[start + offsets[f] + j].

    Output o goes to dst[target + o step + j]. All arrays are flat; no place is read and written.
    """
    _affine(
        pointer(src, 0),
        start,
        pointer(offsets, 0),
        length,
        stack.meta,
        pointer(stack.weight, 0),
        pointer(stack.bias, 0),
        index,
        pointer(dst, 0),
        target,
        step,
    )
