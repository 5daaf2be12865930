"""Convolutions over space and time of few channels, and their gradients, row by row."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from codec.jit import inner_float, njit_float
from codec.layers.kernels.tiles import (
    INFINITE,
    PITCH,
    TILE,
    TILE_STEP,
    add_weight_gradients,
    aligned_zeros,
    copy_row,
    fold_gradients,
    gradient_floats,
    padded_outputs,
    round_up,
    weighted_sums,
)
from codec.layers.kernels.vectors import FLOAT_BYTES, address

_ROW = np.int64(PITCH * FLOAT_BYTES)
_WORD = np.int64(FLOAT_BYTES)
_ZERO, _ONE = np.float32(0.0), np.float32(1.0)


class Form(NamedTuple):
    """Sizes of a convolution of stride 1: kernel (time, space), dilation, groups, and the limits
    that outputs are held to."""

    time: int
    space: int
    dilation: int
    groups: int
    low: float
    high: float


class Packed(NamedTuple):
    """Weights of every group of a layer, one after the other, and their biases."""

    weights: np.ndarray
    biases: np.ndarray


@njit_float
def pad_rows(source, target, margin, y0, y1):
    """Rows y0 to y1 of target (h + 2 margin, w + 2 margin), source (h, w) with replicated edges."""
    height, width = source.shape
    for y in range(y0, y1):
        row, out = source[min(max(y - margin, 0), height - 1)], target[y]
        out[:margin] = row[0]
        out[margin : margin + width] = row
        out[margin + width :] = row[width - 1]


@njit_float
def fold_rows(source, target, margin, y0, y1):
    """Rows y0 to y1 of target (h, w): source (h + 2 margin, w + 2 margin), each place added to
    that which it replicates."""
    height, width = target.shape
    for y in range(y0, y1):
        out = target[y]
        out[:] = source[margin + y, margin : margin + width]
        first = 0 if y == 0 else margin + y
        last = 2 * margin + height if y == height - 1 else margin + y + 1
        for line in range(first, last):
            row = source[line]
            if line != margin + y:
                for x in range(width):
                    out[x] += row[margin + x]
            for x in range(margin):
                out[0] += row[x]
                out[width - 1] += row[margin + width + x]


@inner_float
def _point_at_taps(table, padded, form, group, t, y):
    """Addresses of the rows (channel, time, row, column) that output row y of frame t reads."""
    frames, channels, rows, stride = padded.shape
    per_group, f = channels // form.groups, 0
    for c in range(group * per_group, (group + 1) * per_group):
        for k in range(form.time):
            frame = min(max(t + (k - form.time // 2) * form.dilation, 0), frames - 1)
            for dy in range(form.space):
                line = ((frame * channels + c) * rows + y + dy * form.dilation) * stride
                for dx in range(form.space):
                    table[f] = address(padded, line + dx * form.dilation)
                    f += 1
    return f


@njit_float
def convolve_rows(padded, packed, form, t, y0, y1, out):
    """Rows y0 to y1 of frame t of `out` (T, O, H, W) from `padded` (T, C, H + 2 m, W + 2 m).

    `padded` has room for a tile behind its last row.
    """
    _, outputs, height, width = out.shape
    per_group, taps = outputs // form.groups, 0
    table = np.zeros(padded.shape[1] * form.time * form.space**2, np.int64)
    scratch = aligned_zeros(padded_outputs(per_group) * PITCH)
    target, flat = address(scratch, 0), out.ravel()
    low, high = np.float32(form.low), np.float32(form.high)
    for y in range(y0, y1):
        for g in range(form.groups):
            taps = _point_at_taps(table, padded, form, g, t, y)
            weights = address(packed.weights, g * padded_outputs(per_group) * taps)
            bias = address(packed.biases, g * padded_outputs(per_group))
            for x in range(0, width, TILE):
                length = min(TILE, width - x)
                whole = round_up(length, TILE_STEP)
                weighted_sums(table, taps, weights, bias, per_group, target, _ROW, whole, low, high)
                for o in range(per_group):
                    line = ((t * outputs + g * per_group + o) * height + y) * width + x
                    copy_row((flat, line), (scratch, o * PITCH), length)
                for f in range(taps):
                    table[f] += TILE * _WORD


@njit_float
def mask_rows(back, values, low, high, target, margin, y0, y1):
    """Rows y0 to y1 of back (h, w), 0 where the clamped value is at a limit, into a target.

    There they begin at column `margin`; the columns before and behind them are set to 0.
    """
    width = back.shape[1]
    for y in range(y0, y1):
        row, value, out = back[y], values[y], target[y, margin : margin + width]
        target[y, :margin] = _ZERO
        target[y, margin + width :] = _ZERO
        for x in range(width):
            is_free = (value[x] > low) & (value[x] < high)
            out[x] = row[x] * (_ONE if is_free else _ZERO)


@njit_float
def gradient_margin(form):
    """Columns of zeros before the gradients of a row, and as many and TILE_STEP behind them."""
    return (form.space - 1) * form.dilation


@njit_float
def weight_gradient_rows(padded, masked, form, t, y0, y1, out):
    """Gradients (O, taps + 1) of weights and biases over rows y0 to y1 of frame t.

    `masked` (T, O, H, ...) are the gradients of the sums, with the zeros of `gradient_margin`.
    """
    _, outputs, height, stride = masked.shape
    margin = gradient_margin(form)
    width, per_group = stride - 2 * margin - TILE_STEP, outputs // form.groups
    count = padded.shape[1] // form.groups * form.time * form.space**2
    table, backs = np.zeros(count + 4, np.int64), np.zeros(per_group + 4, np.int64)
    ones = np.ones(TILE, np.float32)
    size = gradient_floats(per_group, count + 1)
    sums = aligned_zeros(form.groups * size)
    for y in range(y0, y1):
        for g in range(form.groups):
            taps = _point_at_taps(table, padded, form, g, t, y)
            table[taps] = address(ones, 0)
            for x in range(0, width, TILE):
                length = min(TILE, width - x)
                for o in range(per_group):
                    line = ((t * outputs + g * per_group + o) * height + y) * stride + margin + x
                    backs[o] = address(masked, line)
                place = address(sums, g * size)
                whole = round_up(length, TILE_STEP)
                add_weight_gradients(backs, per_group, table, taps + 1, place, whole)
                for f in range(taps):
                    table[f] += TILE * _WORD
    for g in range(form.groups):
        fold_gradients(sums[g * size :], per_group, count + 1, out[g * per_group * (count + 1) :])


@njit_float
def input_gradient_rows(masked, packed, form, sources, y0, y1, zeros, out):
    """Gradients of rows y0 to y1 of one frame of the padded input, out (C, H + 2 m, W + 2 m).

    Args:
        masked: (T, O, H, ...), the gradients of the sums, with the zeros of `gradient_margin`.
        packed: for each group weights (channels, (source, output, row, column)).
        sources: int64 frames of `masked` that read this frame, one for each time tap that does.
        zeros: a row of zeros as long as that of `masked` and a tile.
    """
    _, outputs, height, stride = masked.shape
    channels, per_group = out.shape[0] // form.groups, outputs // form.groups
    width, rows = out.shape[2], padded_outputs(channels)
    reach = form.space - 1
    taps = sources.size * per_group * form.space**2
    table = np.zeros(taps, np.int64)
    scratch, flat = aligned_zeros(rows * PITCH), out.ravel()
    for y in range(y0, y1):
        for g in range(form.groups):
            f = 0
            for s in range(sources.size):
                for o in range(g * per_group, (g + 1) * per_group):
                    for dy in range(form.space):
                        line = y - dy * form.dilation
                        inside = 0 <= line < height
                        at = ((sources[s] * outputs + o) * height + line) * stride
                        for dx in range(form.space):
                            column = (reach - dx) * form.dilation
                            table[f] = address(masked, at + column) if inside else address(zeros, 0)
                            f += 1
            weights = address(packed.weights, g * rows * taps)
            bias = address(packed.biases, g * rows)
            for x in range(0, width, TILE):
                length = min(TILE, width - x)
                weighted_sums(
                    table, taps, weights, bias, channels, address(scratch, 0), _ROW,
                    round_up(length, TILE_STEP), -INFINITE, INFINITE,
                )  # fmt: skip
                for c in range(channels):
                    line = ((g * channels + c) * out.shape[1] + y) * width + x
                    copy_row((flat, line), (scratch, c * PITCH), length)
                for i in range(taps):
                    table[i] += TILE * _WORD
