"""Prediction of frames from warped references and its gradients, by rows of blocks and tiles."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from codec.jit import inner_float, njit_float
from codec.layers.kernels.tiles import TILE
from codec.layers.kernels.vectors import address
from codec.layers.kernels.warp_kernels import (
    TAPS,
    WINDOW,
    WINDOW_BYTES,
    Rows,
    add_products,
    clear_rows,
    run_at,
    scratch_rows,
    spread_run,
    warp_run,
    warp_with_slopes,
)

_ZERO, _HALF, _ONE = np.float32(0.0), np.float32(0.5), np.float32(1.0)

# What a reference is weighted with.
ALONE, PAST, FUTURE = 0, 1, 2  # alpha, alpha beta, alpha (1 - beta)


class Frame(NamedTuple):
    """What one frame is predicted from: trunk (C + 2, H, W), references (R, C, H, W), the indices
    of two (-1: none; equal: one), and vectors (2, rows, columns) int32 to each."""

    trunk: np.ndarray
    references: np.ndarray
    past: int
    future: int
    first: np.ndarray
    second: np.ndarray


class Tile(NamedTuple):
    """Rows y to y + rows of a row of blocks, columns x to end."""

    y: int
    rows: int
    x: int
    end: int
    level: int


@inner_float(inline="always")
def _held(value):
    return min(max(value, _ZERO), _ONE)


@inner_float(inline="always")
def _is_free(value):
    """1 where a clamp to [0, 1] passes the gradient on, else 0."""
    return _ONE if (value >= _ZERO) & (value <= _ONE) else _ZERO


@inner_float
def _num_references(frame):
    return 0 if frame.past < 0 else 1 if frame.past == frame.future else 2


@inner_float
def _tile_rows(array, row, column):
    """Rows of scratch from one place on."""
    return Rows(address(array, row * WINDOW + column), WINDOW_BYTES)


@inner_float
def _line(array, row, length):
    """A row of scratch as an array."""
    return array[row * WINDOW : row * WINDOW + length]


@inner_float
def _share_row(blend, gain, share, out):
    """What the reference is weighted with along a row."""
    for x in range(out.size):
        out[x] = _held(_ONE + gain[x])
    if share != ALONE:
        for x in range(out.size):
            beta = _held(_HALF + blend[x])
            out[x] *= beta if share == PAST else _ONE - beta


@inner_float
def _add_weighted(out, weights, values):
    for x in range(out.size):
        out[x] += weights[x] * values[x]


@inner_float
def _warp_tile(planes, vectors, tile, tables, warped, scratch):
    """Rows (C, side) of scratch = a tile of planes (C, H, W) displaced."""
    left = tile.x
    while left < tile.end:
        run = run_at(vectors, tile.y >> tile.level, left, tile.end, tile.level)
        for c in range(planes.shape[0]):
            target = _tile_rows(warped, c << tile.level, left - tile.x)
            warp_run(planes[c], tile.y, tile.rows, run, tables, target, scratch)
        left += run.length


@njit_float
def predict_rows(frame, tables, level, y0, y1, out):
    """Rows y0 to y1 of out (C, H, W), y0 being the first of a row of blocks.

    Args:
        tables: (2, 16, 8) taps and their derivatives.
    """
    channels, _, width = out.shape
    side, count = 1 << level, _num_references(frame)
    warped = (scratch_rows(channels * side), scratch_rows(channels * side))
    scratch = (scratch_rows(side + TAPS), scratch_rows(side + TAPS))
    shares = np.empty((2, TILE), np.float32)
    for y in range(y0, y1, side):
        for x in range(0, width, TILE):
            tile = Tile(y, min(side, y1 - y), x, min(x + TILE, width), level)
            for i in range(count):
                planes = frame.references[frame.future if i else frame.past]
                vectors = frame.second if i else frame.first
                _warp_tile(planes, vectors, tile, tables, warped[i], scratch)
            for r in range(tile.rows):
                _compose_row(frame.trunk, count, tile, r, shares, warped, out)


@inner_float
def _compose_row(trunk, count, tile, r, shares, warped, out):
    """Row r of a tile of out (C, H, W)."""
    channels, y, x, end = out.shape[0], tile.y + r, tile.x, tile.end
    for i in range(count):
        blend, gain = trunk[channels, y, x:end], trunk[channels + 1, y, x:end]
        _share_row(blend, gain, count - 1 + i, shares[i, : end - x])
    for c in range(channels):
        target, residue = out[c, y, x:end], trunk[c, y, x:end]
        for j in range(end - x):
            target[j] = residue[j] + (_ZERO if count else _HALF)
        for i in range(count):
            values = _line(warped[i], (c << tile.level) + r, end - x)
            _add_weighted(target, shares[i, : end - x], values)


@inner_float
def _correlate(planes, vectors, tile, tables, backs, dots, scratch):
    """Rows (3, side) of scratch: the gradient times the warp, and times its slopes, over channels.

    Args:
        backs: rows (C, side) of scratch, the gradient.
        scratch: six arrays for `warp_with_slopes`.
    """
    left, inputs = tile.x, (scratch[0], scratch[1], scratch[2])
    targets = (
        _tile_rows(scratch[3], 0, 0),
        _tile_rows(scratch[4], 0, 0),
        _tile_rows(scratch[5], 0, 0),
    )
    while left < tile.end:
        run, at = run_at(vectors, tile.y >> tile.level, left, tile.end, tile.level), left - tile.x
        for kind in range(3):
            clear_rows(_tile_rows(dots, kind << tile.level, at), tile.rows, run.length)
        for c in range(planes.shape[0]):
            made = warp_with_slopes(planes[c], tile.y, tile.rows, run, tables, targets, inputs)
            factors = _tile_rows(backs, c << tile.level, at)
            for kind in range(3):
                target = _tile_rows(dots, kind << tile.level, at)
                add_products(factors, made[kind], target, tile.rows, run.length)
        left += run.length


@inner_float
def _copy_tile(back, tile, backs, trunk_back):
    """Rows (C, side) of scratch = a tile of back (C, H, W), the gradient of the residue as well."""
    for c in range(back.shape[0]):
        for r in range(tile.rows):
            values = back[c, tile.y + r, tile.x : tile.end]
            line = _line(backs, (c << tile.level) + r, values.size)
            residue = trunk_back[c, tile.y + r, tile.x :]
            for x in range(values.size):
                line[x] = values[x]
                residue[x] = values[x]


@inner_float
def _blend_and_gain_row(blend, gain, count, first, second, blend_back, gain_back):
    """Gradients of a row of both from the sums over channels of gradient times warp."""
    if count < 2:
        for x in range(blend.size):
            gain_back[x] = _is_free(_ONE + gain[x]) * first[x] if count else _ZERO
            blend_back[x] = _ZERO
        return
    for x in range(blend.size):
        beta, alpha = _held(_HALF + blend[x]), _held(_ONE + gain[x])
        difference = first[x] - second[x]
        blend_back[x] = _is_free(_HALF + blend[x]) * alpha * difference
        gain_back[x] = _is_free(_ONE + gain[x]) * (second[x] + beta * difference)


@inner_float
def _row_of_gradients(trunk, count, tile, r, shares, dots, sums, trunk_back):
    """Row r of a tile of the gradients of blend and gain; those of vectors are added to sums
    (2, 2, TILE)."""
    channels, y, x, end = trunk.shape[0] - 2, tile.y + r, tile.x, tile.end
    length = end - x
    blend, gain = trunk[channels, y, x:end], trunk[channels + 1, y, x:end]
    first, second = _line(dots[0], r, length), _line(dots[1], r, length)
    backs = trunk_back[channels, y, x:end], trunk_back[channels + 1, y, x:end]
    _blend_and_gain_row(blend, gain, count, first, second, backs[0], backs[1])
    for i in range(count):
        share = shares[i, :length]
        _share_row(blend, gain, count - 1 + i, share)
        for axis in range(2):
            values = _line(dots[i], (1 + axis << tile.level) + r, length)
            _add_weighted(sums[i, axis, :length], share, values)


@inner_float
def _sum_blocks(sums, tile, vectors_back):
    """Of (2, rows, columns) those of a tile = sums (2, TILE) over the columns of each block."""
    length, side = tile.end - tile.x, 1 << tile.level
    for axis in range(2):
        for first in range(0, length, side):
            total = _ZERO
            for x in range(first, min(first + side, length)):
                total += sums[axis, x]
            vectors_back[axis, tile.y >> tile.level, (tile.x + first) >> tile.level] = total


@njit_float
def gradient_rows(frame, back, tables, level, y0, y1, trunk_back, vectors_back):
    """Gradients of the rows y0 to y1 of the trunk and of the vectors of their blocks.

    Args:
        back: (C, H, W), the gradient of the frame.
        trunk_back: (C + 2, H, W).
        vectors_back: a pair of (2, rows, columns); what no reference has is left alone.
    """
    channels, _, width = back.shape
    side, count = 1 << level, _num_references(frame)
    backs = scratch_rows(channels * side)
    dots = (scratch_rows(3 * side), scratch_rows(3 * side))
    a, b, c = scratch_rows(side + TAPS), scratch_rows(side + TAPS), scratch_rows(side + TAPS)
    scratch = (a, b, c, scratch_rows(side), scratch_rows(side), scratch_rows(side))
    shares, sums = np.empty((2, TILE), np.float32), np.empty((2, 2, TILE), np.float32)
    for y in range(y0, y1, side):
        for x in range(0, width, TILE):
            tile = Tile(y, min(side, y1 - y), x, min(x + TILE, width), level)
            _copy_tile(back, tile, backs, trunk_back)
            for i in range(count):
                planes = frame.references[frame.future if i else frame.past]
                vectors = frame.second if i else frame.first
                _correlate(planes, vectors, tile, tables, backs, dots[i], scratch)
            sums[:] = _ZERO
            for r in range(tile.rows):
                _row_of_gradients(frame.trunk, count, tile, r, shares, dots, sums, trunk_back)
            for i in range(count):
                _sum_blocks(sums[i], tile, vectors_back[i])


@njit_float
def spread_frame(trunk, back, vectors, share, reverse, level, plane):
    """Add the gradient of one channel of a frame to that of the reference which it was made of.

    Args:
        trunk: (C + 2, H, W) of the frame.
        back: (H, W), the gradient of the channel.
        vectors: int32 (2, rows, columns).
        share: ALONE, PAST or FUTURE.
        reverse: (2, 16, 8), the taps, and the taps from last to first.
        plane: (H, W), gets the sums.
    """
    height, width = back.shape
    side, blend, gain = 1 << level, trunk.shape[0] - 2, trunk.shape[0] - 1
    values, weights = scratch_rows(side), np.empty(TILE, np.float32)
    scratch = (scratch_rows(side + TAPS), scratch_rows(side + TAPS))
    for y in range(0, height, side):
        rows = min(side, height - y)
        for x in range(0, width, TILE):
            end = min(x + TILE, width)
            for r in range(rows):
                own, line = weights[: end - x], _line(values, r, end - x)
                _share_row(trunk[blend, y + r, x:end], trunk[gain, y + r, x:end], share, own)
                line[:] = _ZERO
                _add_weighted(line, own, back[y + r, x:end])
            left = x
            while left < end:
                run = run_at(vectors, y >> level, left, end, level)
                source = _tile_rows(values, 0, left - x)
                spread_run(source, rows, run, reverse, y, plane, scratch)
                left += run.length
