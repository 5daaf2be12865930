"""Windows of a plane through separable interpolation filters, and back: runs of blocks at once.

Rows of samples are named by their address and the bytes from one to the next. What is computed
behind a row up to a whole vector means nothing, and there must be room for it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from codec.arch.motion import INTERPOLATION_TAPS, VECTOR_FRAC
from codec.jit import inner_float
from codec.layers.kernels.tiles import PITCH, TILE_STEP
from codec.layers.kernels.vectors import (
    FLOAT_BYTES,
    LANES,
    VECTOR_BYTES,
    add,
    address,
    load,
    load_splat,
    multiply_add,
    splat,
    store,
)

TAPS = INTERPOLATION_TAPS
REACH = TAPS // 2 - 1  # taps before the one of phase 0
PHASES = 1 << VECTOR_FRAC
MARGIN = TAPS  # zeros before rows that are spread
WINDOW = PITCH + TILE_STEP  # floats from row to row of scratch: a tile and the taps around it
WORD = np.int64(FLOAT_BYTES)
VECTOR = np.int64(VECTOR_BYTES)
WINDOW_BYTES = WINDOW * WORD
_TABLE = np.int64(PHASES * TAPS * FLOAT_BYTES)  # from a phase's taps to their derivatives
_ZERO = np.float32(0.0)


class Rows(NamedTuple):
    """Address of the first row and bytes to the next."""

    place: int
    step: int


class Run(NamedTuple):
    """Neighbouring blocks that share a vector: columns from `left` on, whole samples, phases."""

    left: int
    length: int
    dx: int
    dy: int
    px: int
    py: int


@inner_float
def scratch_rows(count):
    """Zeros (count, WINDOW), and behind them room for a vector."""
    return np.zeros((count + 1) * WINDOW, np.float32)


@inner_float
def run_at(vectors, row, left, end, level):
    """The run of blocks that begins at column `left`, before column `end`."""
    block, last = left >> level, (end - 1) >> level
    vx, vy = vectors[0, row, block], vectors[1, row, block]
    while block < last and vectors[0, row, block + 1] == vx and vectors[1, row, block + 1] == vy:
        block += 1
    length = min((block + 1) << level, end) - left
    return Run(
        left, length, vx >> VECTOR_FRAC, vy >> VECTOR_FRAC, vx & (PHASES - 1), vy & (PHASES - 1)
    )


@inner_float
def is_inside(plane, top, left, rows, columns):
    """Whether a window lies in a plane (H, W), and a vector behind it in the plane's memory."""
    height, width = plane.shape
    fits = top >= 0 and left >= 0 and top + rows <= height and left + columns <= width
    return fits and (top + rows - 1) * width + left + columns + LANES <= height * width


@inner_float
def window_of(plane, top, left, rows, columns, scratch):
    """The rows of a window of a plane (H, W), edges replicated: in the plane, or in `scratch`."""
    height, width = plane.shape
    if is_inside(plane, top, left, rows, columns):
        return Rows(address(plane, top * width + left), width * WORD)
    before = min(max(-left, 0), columns)
    inside = max(min(left + columns, width) - max(left, 0), 0)
    for r in range(rows):
        line = plane[min(max(top + r, 0), height - 1)]
        out = scratch[r * WINDOW : r * WINDOW + columns]
        out[:before] = line[0]
        values, target = line[max(left, 0) :], out[before:]
        for x in range(inside):
            target[x] = values[x]
        out[before + inside :] = line[width - 1]
    return Rows(address(scratch, 0), WINDOW_BYTES)


@inner_float
def fold_window(scratch, plane, top, left, rows, columns):
    """Add a window in scratch to the plane (H, W), each place to that which it replicates."""
    height, width = plane.shape
    before = min(max(-left, 0), columns)
    inside = max(min(left + columns, width) - max(left, 0), 0)
    for r in range(rows):
        line = plane[min(max(top + r, 0), height - 1)]
        values = scratch[r * WINDOW : r * WINDOW + columns]
        for x in range(before):
            line[0] += values[x]
        middle, target = values[before:], line[max(left, 0) :]
        for x in range(inside):
            target[x] += middle[x]
        for x in range(before + inside, columns):
            line[width - 1] += values[x]


@inner_float
def moved(rows, down, across):
    """Rows that begin some rows lower and some columns to the right."""
    return Rows(rows.place + down * rows.step + across * WORD, rows.step)


@inner_float
def clear_rows(target, rows, length):
    """target = 0."""
    for r in range(rows):
        for at in range(0, length * WORD, VECTOR):
            store(target.place + r * target.step + at, splat(_ZERO))


@inner_float
def copy_rows(source, target, rows, length):
    """target = source."""
    for r in range(rows):
        place, out = source.place + r * source.step, target.place + r * target.step
        for at in range(0, length * WORD, VECTOR):
            store(out + at, load(place + at))


@inner_float
def add_rows(source, target, rows, length):
    """target += source."""
    for r in range(rows):
        place, out = source.place + r * source.step, target.place + r * target.step
        for at in range(0, length * WORD, VECTOR):
            store(out + at, add(load(out + at), load(place + at)))


@inner_float
def add_products(factors, source, target, rows, length):
    """target += factors * source."""
    for r in range(rows):
        place, out = source.place + r * source.step, target.place + r * target.step
        factor = factors.place + r * factors.step
        for at in range(0, length * WORD, VECTOR):
            total = multiply_add(load(factor + at), load(place + at), load(out + at))
            store(out + at, total)


@inner_float
def filter_rows(source, tap_step, taps, target, rows, length):
    """target = sum_k taps[k] source at k tap_step bytes from there: a word across, a row down."""
    t0, t1 = load_splat(taps), load_splat(taps + WORD)
    t2, t3 = load_splat(taps + 2 * WORD), load_splat(taps + 3 * WORD)
    t4, t5 = load_splat(taps + 4 * WORD), load_splat(taps + 5 * WORD)
    t6, t7 = load_splat(taps + 6 * WORD), load_splat(taps + 7 * WORD)
    zero, s, four = splat(_ZERO), tap_step, 4 * tap_step
    for r in range(rows):
        row, out = source.place + r * source.step, target.place + r * target.step
        for at in range(0, length * WORD, VECTOR):
            p, q = row + at, row + at + four
            a = multiply_add(t1, load(p + s), multiply_add(t0, load(p), zero))
            b = multiply_add(t5, load(q + s), multiply_add(t4, load(q), zero))
            a = multiply_add(t3, load(p + 3 * s), multiply_add(t2, load(p + 2 * s), a))
            b = multiply_add(t7, load(q + 3 * s), multiply_add(t6, load(q + 2 * s), b))
            store(out + at, add(a, b))


@inner_float
def filter_twice(source, tap_step, taps, target, slope, rows, length):
    """As `filter_rows` into `target`, and into `slope` with the derivatives of the taps."""
    t0, t1 = load_splat(taps), load_splat(taps + WORD)
    t2, t3 = load_splat(taps + 2 * WORD), load_splat(taps + 3 * WORD)
    t4, t5 = load_splat(taps + 4 * WORD), load_splat(taps + 5 * WORD)
    t6, t7 = load_splat(taps + 6 * WORD), load_splat(taps + 7 * WORD)
    taps = derivative(taps)
    d0, d1 = load_splat(taps), load_splat(taps + WORD)
    d2, d3 = load_splat(taps + 2 * WORD), load_splat(taps + 3 * WORD)
    d4, d5 = load_splat(taps + 4 * WORD), load_splat(taps + 5 * WORD)
    d6, d7 = load_splat(taps + 6 * WORD), load_splat(taps + 7 * WORD)
    zero, s = splat(_ZERO), tap_step
    for r in range(rows):
        row, offset = source.place + r * source.step, r * target.step
        for at in range(0, length * WORD, VECTOR):
            p = row + at
            x = load(p)
            a, b = multiply_add(t0, x, zero), multiply_add(d0, x, zero)
            x = load(p + s)
            a, b = multiply_add(t1, x, a), multiply_add(d1, x, b)
            x = load(p + 2 * s)
            a, b = multiply_add(t2, x, a), multiply_add(d2, x, b)
            x = load(p + 3 * s)
            a, b = multiply_add(t3, x, a), multiply_add(d3, x, b)
            x = load(p + 4 * s)
            a, b = multiply_add(t4, x, a), multiply_add(d4, x, b)
            x = load(p + 5 * s)
            a, b = multiply_add(t5, x, a), multiply_add(d5, x, b)
            x = load(p + 6 * s)
            a, b = multiply_add(t6, x, a), multiply_add(d6, x, b)
            x = load(p + 7 * s)
            a, b = multiply_add(t7, x, a), multiply_add(d7, x, b)
            store(target.place + offset + at, a)
            store(slope.place + offset + at, b)


@inner_float(inline="always")
def taps_of(tables, phase):
    """Address of the taps of a phase in tables (2, 16, 8)."""
    return address(tables, phase * TAPS)


@inner_float(inline="always")
def derivative(taps):
    """Address of the derivatives of taps."""
    return taps + _TABLE


@inner_float
def warp_run(plane, y, rows, run, tables, target, scratch):
    """target = the plane at the displaced places of a run, on rows y to y + rows.

    Args:
        scratch: two arrays of `scratch_rows`, rows + 7 each.
    """
    up, left = (REACH if run.py else 0), (REACH if run.px else 0)
    lines, columns = rows + (TAPS - 1 if run.py else 0), run.length + (TAPS - 1 if run.px else 0)
    top, first = y + run.dy - up, run.left + run.dx - left
    source = window_of(plane, top, first, lines, columns, scratch[0])
    if run.px:
        filtered = Rows(address(scratch[1], 0), WINDOW_BYTES) if run.py else target
        filter_rows(source, WORD, taps_of(tables, run.px), filtered, lines, run.length)
        source = filtered
    if run.py:
        filter_rows(source, source.step, taps_of(tables, run.py), target, rows, run.length)
    elif run.px == 0:
        copy_rows(source, target, rows, run.length)


@inner_float
def warp_with_slopes(plane, y, rows, run, tables, targets, scratch):
    """As `warp_run` into targets[0]; into the others its derivatives by the vector, (x, y).

    Gives what was written: targets, or rows of the plane or of scratch that are the same.

    Args:
        scratch: three arrays of `scratch_rows`, rows + 7 each.
    """
    lines, columns = rows + TAPS - 1, run.length + TAPS - 1
    top, first = y + run.dy - REACH, run.left + run.dx - REACH
    source = window_of(plane, top, first, lines, columns, scratch[0])
    smooth = Rows(address(scratch[1], 0), WINDOW_BYTES)
    slope = Rows(address(scratch[2], 0), WINDOW_BYTES)
    across, down = taps_of(tables, run.px), taps_of(tables, run.py)
    if run.px:
        filter_twice(source, WORD, across, smooth, slope, lines, run.length)
    else:
        smooth = moved(source, 0, REACH)
        filter_rows(source, WORD, derivative(across), slope, lines, run.length)
    value, by_x, by_y = targets
    if run.py:
        filter_twice(smooth, smooth.step, down, value, by_y, rows, run.length)
        filter_rows(slope, slope.step, down, by_x, rows, run.length)
    else:
        value, by_x = moved(smooth, REACH, 0), moved(slope, REACH, 0)
        filter_rows(smooth, smooth.step, derivative(down), by_y, rows, run.length)
    return value, by_x, by_y


@inner_float
def _spread_down(source, taps, target, rows, length):
    """target row r = sum_j taps[j] source row r - j; rows + 7 rows."""
    for r in range(rows + TAPS - 1):
        first, end = max(r - rows + 1, 0), min(r + 1, TAPS)
        for at in range(0, length * WORD, VECTOR):
            total = splat(_ZERO)
            for j in range(first, end):
                values = load(source.place + (r - j) * source.step + at)
                total = multiply_add(load_splat(taps + j * WORD), values, total)
            store(target.place + r * target.step + at, total)


@inner_float
def spread_run(source, rows, run, reverse, y, plane, scratch):
    """Add gradients of a run to what they were made of: the way back of `warp_run`.

    Args:
        source: rows of gradients, run.length of them count.
        reverse: (2, 16, 8) tables, the taps from last to first in the second.
        plane: (H, W), gets the sums.
        scratch: two arrays of `scratch_rows`, rows + 7 each, whose rows begin with MARGIN zeros.
    """
    lines, columns = rows + (TAPS - 1 if run.py else 0), run.length + (TAPS - 1 if run.px else 0)
    wide = Rows(address(scratch[0], MARGIN), WINDOW_BYTES)
    if run.py:
        _spread_down(source, taps_of(reverse, run.py), wide, rows, run.length)
    else:
        copy_rows(source, wide, lines, run.length)
    for r in range(lines):  # what was written behind the run
        end = wide.place + r * wide.step + run.length * WORD
        store(end, splat(_ZERO))
        store(end + VECTOR, splat(_ZERO))
    if run.px:
        taps, narrow = derivative(taps_of(reverse, run.px)), wide
        wide = Rows(address(scratch[1], MARGIN), WINDOW_BYTES)
        filter_rows(moved(narrow, 0, 1 - TAPS), WORD, taps, wide, lines, columns)
    top = y + run.dy - (REACH if run.py else 0)
    left = run.left + run.dx - (REACH if run.px else 0)
    if is_inside(plane, top, left, lines, columns):
        width = plane.shape[1]
        target = Rows(address(plane, top * width + left), width * WORD)
        add_rows(wide, target, lines, columns)
    else:
        shifted = scratch[1 if run.px else 0][MARGIN:]
        fold_window(shifted, plane, top, left, lines, columns)
