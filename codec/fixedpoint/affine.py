"""The operation that the decoder is made of: rows of weighted sums, their bound, their kernel."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from codec.errors import BitstreamError
from codec.jit import njit

# The kernel reads this many taps in one pass over the accumulators.
TAPS_PER_PASS = 4

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

    `weight` is (outputs, taps), filled up with zero taps to a multiple of TAPS_PER_PASS; the
    rounding constant of the shift is part of `bias`. Both have the type of the accumulator. `form`
    is (shift, low, high).
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
    taps = -(-weight.shape[1] // TAPS_PER_PASS) * TAPS_PER_PASS
    padded = np.zeros((weight.shape[0], taps), dtype)
    padded[:, : weight.shape[1]] = weight + residual
    return Rows(padded, (bias + half).astype(dtype), form)


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


@njit
def affine(src, start, offsets, length, stack, index, acc, dst, target, step):
    """Layer `index` of a stack at `length` neighbouring places: tap f of place j is
    src[start + offsets[f] + j].

    Output o goes to dst[target + o step + j]; `acc` is scratch of at least `length` accumulators.
    Offsets of the taps that only fill up may be any valid ones. All arrays are flat, and indices
    unsigned: slices would count references, and signed indices would wrap around.
    """
    meta, weight, biases = stack.meta, stack.weight, stack.bias
    outputs, taps, shift = meta[index, OUTPUTS], meta[index, TAPS], meta[index, SHIFT]
    low, high = meta[index, LOW], meta[index, HIGH]
    for o in range(outputs):
        bias, first = biases[meta[index, BIASES] + o], meta[index, WEIGHTS] + o * taps
        for j in range(length):
            acc[j] = bias
        for f in range(0, taps, 4):
            w = np.uint64(first + f)
            wa, wb = weight[w], weight[w + np.uint64(1)]
            wc, wd = weight[w + np.uint64(2)], weight[w + np.uint64(3)]
            a, b = np.uint64(start + offsets[f]), np.uint64(start + offsets[f + 1])
            c, d = np.uint64(start + offsets[f + 2]), np.uint64(start + offsets[f + 3])
            for j in range(length):
                k = np.uint64(j)
                acc[j] += src[a + k] * wa + src[b + k] * wb + src[c + k] * wc + src[d + k] * wd
        out = np.uint64(target + o * step)
        for j in range(length):
            dst[out + np.uint64(j)] = min(max(acc[j] >> shift, low), high)
