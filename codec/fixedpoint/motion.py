"""Frames from frames: vectors out of motion latents, interpolation at them, composition."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

from codec.arch import Architecture, Grid, Inter, grid_shape
from codec.arch.grids import MOTION_COMPONENTS
from codec.arch.motion import (
    INTERPOLATION_FRAC,
    INTERPOLATION_Q7,
    INTERPOLATION_TAPS,
    MAX_VECTOR,
    RATIO_FRAC,
    VECTOR_FRAC,
)
from codec.fixedpoint.affine import ONE
from codec.fixedpoint.formats import rshift
from codec.fixedpoint.lanes import LANES, load, load_splat, mul_add, pointer, shift_clamp, store
from codec.fixedpoint.program import Program
from codec.fixedpoint.strips import SAMPLES_PER_JOB
from codec.jit import inner, njit, run_parallel

FIELD_FRAC = 8  # fields are summed in 1/256 of what a motion latent counts
_CENTRE = 3  # the tap of the sample that a vector of whole samples points at
_NUM_PHASES = 1 << VECTOR_FRAC
_ROUNDING = _NUM_PHASES * INTERPOLATION_TAPS  # where the rounding constant follows the taps
_RUN_COLUMNS = 256  # blocks of one vector are worked on together up to this width


def double_field(field: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """A field (h, w) at twice its size: weights 3 and 1 in both axes, cropped to `shape`."""
    for axis in (0, 1):
        places, last = np.arange(field.shape[axis]), field.shape[axis] - 1
        before = field.take(np.maximum(places - 1, 0), axis)
        after = field.take(np.minimum(places + 1, last), axis)
        pairs = np.stack([3 * field + before, 3 * field + after], axis + 1)
        field = pairs.reshape((-1, pairs.shape[2]) if axis == 0 else (len(pairs), -1))
    return rshift(field[: shape[0], : shape[1]], 4)


def frame_field(
    arch: Architecture, latents: Sequence[np.ndarray], frame: int, *, height: int, width: int
) -> np.ndarray:
    """The four components of one frame, int32 (4, rows, columns) in 1/16 sample.

    Each is the sum of its grids, brought to the level of the blocks.

    Args:
        latents: int16 (slices, h, w) of each grid, in coding order.
    """
    motion = [(grid, latents[i][frame]) for i, grid in enumerate(arch.grids) if grid.motion]
    first = max(grid.level for grid, _ in motion)
    fields = []
    for component in range(1, MOTION_COMPONENTS + 1):
        field = np.zeros(grid_shape(Grid(first), height, width), np.int32)
        for level in range(first, arch.block_level - 1, -1):
            if level < first:
                field = double_field(field, grid_shape(Grid(level), height, width))
            for grid, latent in motion:
                if grid.motion == component and grid.level == level:
                    field = field + (latent.astype(np.int32) << FIELD_FRAC)
        fields.append(rshift(field, FIELD_FRAC + arch.vector_frac - VECTOR_FRAC))
    return np.stack(fields)


def motion_vectors(
    arch: Architecture, latents: Sequence[np.ndarray], *, num_frames: int, height: int, width: int
) -> np.ndarray:
    """`frame_field` of all frames, int32 (T, 4, rows, columns)."""
    size = {"height": height, "width": width}
    return np.stack([frame_field(arch, latents, t, **size) for t in range(num_frames)])


def vectors_of(field: np.ndarray, inter: Inter) -> list[np.ndarray]:
    """Vectors to each reference of a frame, int32 (2, rows, columns): columns, then rows.

    To the past v0 = a; to the future v1 = b - ratio a. Both are held to +-MAX_VECTOR.
    """
    a, b = field[:2], field[2:]
    vectors = []
    if inter.past >= 0:
        vectors.append(a)
    if inter.future != inter.past:
        vectors.append(b - rshift(inter.ratio_q8 * a, RATIO_FRAC))
    return [np.clip(vector, -MAX_VECTOR, MAX_VECTOR) for vector in vectors]


@inner
def _interpolate(source, start, step, filters, phase, target, to, length, limit):
    """target[to + j] from the taps at source[start + k step + j], up to LANES - 1 places too many.

    No result reaches the limits.
    """
    if phase == 0:
        for j in range(length):
            target[to + j] = source[start + _CENTRE * step + j]
        return
    row = phase * INTERPOLATION_TAPS
    for j in range(0, length, LANES):
        total = load_splat(filters, _ROUNDING)
        for k in range(INTERPOLATION_TAPS):
            weight = load_splat(filters, row + k)
            total = mul_add(total, load(source, start + k * step + j), weight)
        store(target, to + j, shift_clamp(total, INTERPOLATION_FRAC, -limit, limit))


@inner
def _warp_run(reference, shape, vector, place, filters, scratch, out, limit):
    """One channel of a run of blocks; place = (row, column, rows, columns) in the picture.

    reference = (pointer, first element), scratch and out = (pointer, first element, stride). The
    scratch gets the rows that are interpolated along columns, and behind them a replicated row.
    """
    (height, width), (top, left, rows, columns) = shape, place
    (plane, origin), (lines, _, stride), (target, to, pitch) = reference, scratch, out
    (x, y), phase_mask = vector, _NUM_PHASES - 1
    first = left + (x >> VECTOR_FRAC) - _CENTRE
    span = (columns + LANES - 1) // LANES * LANES + INTERPOLATION_TAPS - 1
    is_inside = first >= 0 and first + span <= width
    num_lines = rows + INTERPOLATION_TAPS - 1
    replicated = num_lines * stride
    for j in range(num_lines):
        row = min(max(top + (y >> VECTOR_FRAC) + j - _CENTRE, 0), height - 1)
        source, start = plane, origin + row * width + first
        if not is_inside:
            for i in range(span):
                column = min(max(first + i, 0), width - 1)
                lines[replicated + i] = plane[origin + row * width + column]
            source, start = lines, replicated
        _interpolate(source, start, ONE, filters, x & phase_mask, lines, j * stride, columns, limit)
    for j in range(rows):
        start, goal = j * stride, to + j * pitch
        _interpolate(lines, start, stride, filters, y & phase_mask, target, goal, columns, limit)


@inner
def _run_end(vectors, row, first, most):
    """The column behind a run of blocks with one vector, at most `most` of them."""
    end = first + 1
    while end < vectors.shape[2] and end - first < most:
        for axis in range(2):
            if vectors[axis, row, end] != vectors[axis, row, first]:
                return end
        end += 1
    return end


@njit
def _warp_rows(reference, vectors, level, filters, scratch, out, y0, limit):
    """Rows from y0 on, where blocks begin, as `vectors` say: out (C, rows, W + LANES)."""
    channels, height, width = reference.shape
    rows, pitch = out.shape[1], out.shape[2]
    plane, lines, target = pointer(reference, 0), pointer(scratch, 0), pointer(out, 0)
    taps, side = pointer(filters, 0), 1 << level
    most = max(1, _RUN_COLUMNS >> level)
    for top in range(0, rows, side):
        block_row, first = (y0 + top) >> level, 0
        while first < vectors.shape[2]:
            end = _run_end(vectors, block_row, first, most)
            left, right = first << level, min(end << level, width)
            vector = (vectors[0, block_row, first], vectors[1, block_row, first])
            place = (y0 + top, left, min(side, rows - top), right - left)
            for c in range(channels):
                _warp_run(
                    (plane, c * height * width),
                    (height, width),
                    vector,
                    place,
                    taps,
                    (lines, 0, scratch.shape[1]),
                    (target, (c * rows + top) * pitch + left, pitch),
                    limit,
                )
            first = end


@njit
def _compose_rows(straight, past, future, num_references, frac, limit, out, y0):
    """Rows from y0 on of out (C, H, W) from straight (C + 2, H, W) and warped rows of references.

    out = sat(p + residue), with p = alpha (beta past + (1 - beta) future) of two references,
    alpha past of one, and one half of none.
    """
    channels, _, width = out.shape
    one, half = 1 << frac, 1 << frac >> 1
    for c in range(channels):
        for j in range(past.shape[1]):
            y = y0 + j
            for x in range(width):
                mixed, made = np.int64(past[c, j, x]), half
                if num_references == 2:
                    beta = min(max(half + straight[channels, y, x], 0), one)
                    mixed = (beta * mixed + (one - beta) * future[c, j, x] + half) >> frac
                if num_references > 0:
                    alpha = min(max(one + straight[channels + 1, y, x], 0), one)
                    made = (alpha * mixed + half) >> frac
                out[c, y, x] = min(max(made + straight[c, y, x], -limit), limit)


@functools.cache
def _filters() -> np.ndarray:
    """All taps, phase by phase, and the rounding constant; 32 bits are enough for wide sums too."""
    rounding = 1 << INTERPOLATION_FRAC >> 1
    return np.append(np.array(INTERPOLATION_Q7).ravel(), rounding).astype(np.int32)


def warp(
    reference: np.ndarray, vectors: np.ndarray, *, level: int, limit: int, rows: tuple[int, int]
) -> np.ndarray:
    """Some rows of a picture, each block interpolated where its vector points.

    Args:
        reference: (C, H, W) in [0, 1] of the synthesis format.
        vectors: int32 (2, rows, columns) of blocks, columns then rows, in 1/16 sample.
        level: log2 of the side of a block.
        limit: act_max of the format.
        rows: (first, end); the first one is the first of a block.

    Returns:
        (C, end - first, W + LANES) of which the last LANES columns mean nothing.
    """
    channels, _, width = reference.shape
    side, columns = 1 << level, min(width, _RUN_COLUMNS) + LANES + INTERPOLATION_TAPS
    scratch = np.zeros((side + INTERPOLATION_TAPS, columns), reference.dtype)
    out = np.empty((channels, rows[1] - rows[0], width + LANES), reference.dtype)
    _warp_rows(reference, vectors, level, _filters(), scratch, out, rows[0], limit)
    return out


def compose(
    program: Program,
    straight: np.ndarray,
    references: Sequence[np.ndarray],
    vectors: Sequence[np.ndarray],
    *,
    threads: int = 1,
) -> np.ndarray:
    """Residue plus prediction, (C, H, W) in the synthesis format within +-act_max.

    Args:
        program: a checked network with motion.
        straight: (C + 2, H, W), the result of `codec.fixedpoint.synthesis.synthesise`.
        references: up to two pictures (C, H, W) in [0, 1], the past one first.
        vectors: those of each reference, as `vectors_of` gives them.
    """
    channels, height, width = len(straight) - 2, *straight.shape[1:]
    level, numerics = program.arch.block_level, program.numerics
    step = max(1, SAMPLES_PER_JOB // (width << level)) << level
    out = np.empty((channels, height, width), straight.dtype)

    def job(first: int) -> None:
        rows = (first, min(first + step, height))
        warped = [
            warp(reference, vector, level=level, limit=numerics.act_max, rows=rows)
            for reference, vector in zip(references, vectors, strict=True)
        ]
        past = warped[0] if warped else straight[:, slice(*rows)]
        future = warped[-1] if warped else past
        _compose_rows(
            straight,
            past,
            future,
            len(warped),
            numerics.synth_frac,
            numerics.act_max,
            out,
            first,
        )

    run_parallel(job, range(0, height, step), threads=threads)
    return out
