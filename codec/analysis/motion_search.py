"""Motion of a segment before training: latents whose vectors predict its frames from each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import NamedTuple

import numpy as np

from codec.analysis.motion_choice import residue_cost, vector_bits
from codec.analysis.motion_kernels import (
    FILTER_MARGIN,
    refine,
    search_everywhere,
    settle,
    window_errors,
)
from codec.analysis.motion_latents import fit_latents
from codec.arch import Architecture, motion_grids
from codec.arch.grids import Grid, grid_shape
from codec.arch.motion import (
    INTERPOLATION_FRAC,
    INTERPOLATION_Q7,
    INTERPOLATION_TAPS,
    Inter,
)
from codec.fixedpoint.motion import FIELD_FRAC
from codec.jit import run_parallel
from codec.media.convert import area_means

# Blocks and windows of pictures with at least so many rows, and of smaller ones.
LARGE_HEIGHT = 200
LARGE, SMALL = (3, 16), (2, 8)  # log2 of a block's side, side of its window
COARSEST_HEIGHT = 16
SEARCH_FRAC = 2  # the search is in quarter samples
REACH = 8  # samples of the coarsest picture
WHOLE_STEPS = np.array([8, 4])  # two samples and one
FINE_STEPS = np.array([2, 1])
# What a quarter sample more between neighbours costs, as absolute difference of each sample.
SMOOTHNESS = 0.0024
# The same for the second vector of a frame, against one that goes on from the first.
ADDED = 0.25
# A frame gets no vectors that leave more than this share of the error without any.
STILL = 0.95


class Motion(NamedTuple):
    """Motion latents to start training from, and what they and the residue would cost.

    `latents` has int16 (T, rows, columns) within +-255 for each motion grid, in coding order; zero
    in frames where motion hardly helps, and in grids of other levels than that of `levels`, (T,),
    which is the only one that a frame uses. `j` is an estimate of J of the segment without its
    first frame, in units of a frame.
    """

    latents: list[np.ndarray]
    levels: tuple[int, ...]
    j: float


class _FrameMotion(NamedTuple):
    """The latents of one frame, (rows, columns) for each motion grid, the level of those that it
    uses, and J of its residue."""

    latents: list[np.ndarray]
    level: int
    j: float


def search_motion(
    luma: np.ndarray, archs: Sequence[Architecture], *, rd_lambda: float, threads: int = 1
) -> list[Motion]:
    """Motion for each of several architectures, by block matching between frames of a segment.

    Args:
        luma: (T, H, W) float32 on [0, 1].
        archs: whose motion grids are filled.
        rd_lambda: what a bit costs in the estimates.
        threads: do not change the result.
    """
    pyramids = [_pyramid(picture) for picture in luma]
    orders = [_inters(arch, len(luma)) for arch in archs]
    # Most frames have the same references whatever the span, and the same motion then.
    kinds = [replace(arch, anchor_span=1) for arch in archs]
    inters, own = list(dict.fromkeys(chain(*orders))), list(dict.fromkeys(kinds))
    search = partial(_search_frame, pyramids, own, rd_lambda)
    found = dict(zip(inters, run_parallel(search, inters, threads=threads), strict=True))
    return [
        _joined(kind, {i.frame: found[i][own.index(kind)] for i in order}, luma.shape, rd_lambda)
        for kind, order in zip(kinds, orders, strict=True)
    ]


def _inters(arch: Architecture, num_frames: int) -> list[Inter]:
    """The predicted frames of a segment."""
    return [inter for level in arch.prediction(num_frames)[1:] for inter in level]


def _joined(
    arch: Architecture, parts: dict[int, _FrameMotion], shape: tuple[int, ...], rd_lambda: float
) -> Motion:
    """The motion of a segment from that of its frames."""
    num_frames, *size = shape
    grids = [grid for grid in arch.grids if grid.motion]
    latents = [np.zeros((num_frames, *grid_shape(grid, *size)), np.int16) for grid in grids]
    levels = [arch.block_level] * num_frames
    for frame, part in parts.items():
        levels[frame] = part.level
        for grid, values in zip(latents, part.latents, strict=True):
            grid[frame] = values
    bits = sum(vector_bits(grid[1:]) for grid in latents)
    residues = sum(part.j for part in parts.values())
    return Motion(latents, tuple(levels), residues + rd_lambda * bits / (size[0] * size[1]))


def _halved(picture: np.ndarray) -> np.ndarray:
    """Means of 2x2 samples, the last row or column repeated where it is odd."""
    height, width = picture.shape
    even = np.pad(picture, ((0, height % 2), (0, width % 2)), mode="edge")
    rows = even[0::2] + even[1::2]
    return np.float32(0.25) * (rows[:, 0::2] + rows[:, 1::2])


def _pyramid(picture: np.ndarray) -> list[np.ndarray]:
    """The picture and its halves, down to about COARSEST_HEIGHT rows or columns."""
    pictures = [picture]
    while min(pictures[-1].shape) >= 2 * COARSEST_HEIGHT:
        pictures.append(_halved(pictures[-1]))
    return pictures


def _at_least(picture: np.ndarray, side: int) -> np.ndarray:
    """The picture with its last row and column repeated until a window fits."""
    missing = [(0, max(0, side - size)) for size in picture.shape]
    return np.ascontiguousarray(np.pad(picture, missing, mode="edge"))


def _half_further(picture: np.ndarray, axis: int) -> np.ndarray:
    """The picture half a sample further along an axis."""
    taps = INTERPOLATION_Q7[8]
    before = INTERPOLATION_TAPS // 2 - 1
    pads = [(0, 0), (0, 0)]
    pads[axis] = (before, INTERPOLATION_TAPS - 1 - before)
    padded = np.pad(picture, pads, mode="edge")
    size = picture.shape[axis]
    pieces = (
        np.float32(tap / (1 << INTERPOLATION_FRAC))
        * (padded[k : k + size] if axis == 0 else padded[:, k : k + size])
        for k, tap in enumerate(taps)
    )
    return sum(pieces)


def _planes(picture: np.ndarray, side: int, *, fine: bool) -> np.ndarray:
    """(2, 2, rows, columns) as the kernels fetch from, with half samples only if `fine`."""
    whole = np.pad(_at_least(picture, side), side + FILTER_MARGIN, mode="edge")
    planes = np.empty((2, 2, *whole.shape), np.float32)
    planes[0, 0] = whole
    if fine:
        planes[0, 1] = _half_further(whole, 1)
        planes[1, 0] = _half_further(whole, 0)
        planes[1, 1] = _half_further(planes[0, 1], 0)
    return planes


def _global_shift(picture: np.ndarray, reference: np.ndarray) -> tuple[int, int]:
    """(columns, rows) within REACH by which most of a picture has moved."""
    height, width = picture.shape
    best, least = (0, 0), np.inf
    for dy in range(-min(REACH, height // 2), min(REACH, height // 2) + 1):
        for dx in range(-min(REACH, width // 2), min(REACH, width // 2) + 1):
            here = picture[max(0, -dy) : height - max(0, dy), max(0, -dx) : width - max(0, dx)]
            there = reference[max(0, dy) : height + min(0, dy), max(0, dx) : width + min(0, dx)]
            error = np.abs(here - there).mean()
            if error < least:
                best, least = (dx, dy), error
    return best


def _doubled_field(field: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Vectors of the next finer picture: twice those of the parent blocks."""
    grown = 2 * field.repeat(2, axis=0).repeat(2, axis=1)
    return np.ascontiguousarray(grown[: shape[0], : shape[1]])


def _match(
    pictures: list[np.ndarray], references: list[np.ndarray], block: int, side: int
) -> np.ndarray:
    """Vectors in quarter samples from each block of a picture into another, (rows, columns, 2)."""
    weight = np.float32(SMOOTHNESS * side * side)
    field = None
    for picture, reference in zip(reversed(pictures), reversed(references), strict=True):
        shape = tuple(-(-size // block) for size in picture.shape)
        planes = _planes(reference, side, fine=False)
        enough = _at_least(picture, side)
        if field is None:
            field = np.empty((*shape, 2), np.int32)
            field[:] = 4 * np.array(_global_shift(picture, reference))
            search_everywhere(enough, planes, field, block, side, weight, REACH)
        else:
            field = _doubled_field(field, shape)
        refine(enough, planes, field, block, side, WHOLE_STEPS, weight)
    return field


def _search_frame(
    pyramids: list[list[np.ndarray]], archs: list[Architecture], rd_lambda: float, inter: Inter
) -> list[_FrameMotion]:
    """The motion of one frame for each architecture."""
    pictures = pyramids[inter.frame]
    size = pictures[0].shape
    level, side = LARGE if size[0] >= LARGE_HEIGHT else SMALL
    block = 1 << level
    weight = np.float32(SMOOTHNESS * side * side)
    picture = _at_least(pictures[0], side)
    fields, planes = [], []
    for frame in dict.fromkeys((inter.past, inter.future)):
        fields.append(_match(pictures, pyramids[frame], block, side))
        planes.append(_planes(pyramids[frame][0], side, fine=True))
        refine(picture, planes[-1], fields[-1], block, side, FINE_STEPS, weight)
    pair = (planes[0], planes[-1], np.int32(inter.ratio_q8))
    if len(fields) == 2:
        fields[1] += (inter.ratio_q8 * fields[0] + 128) >> 8
        weights = np.array([weight, ADDED * weight], np.float32)
        settle(picture, pair, tuple(fields), block, side, weights)

    # What counts is the block, without what is around it in its window.
    around = slice(side - block, block - side)
    inner = [np.ascontiguousarray(own[:, :, around, around]) for own in (planes[0], planes[-1])]
    inner_pair = (*inner, pair[2])

    def errors(made: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        return window_errors(picture, inner_pair, made, block, block) / (block * block)

    still = errors(tuple(np.zeros_like(field) for field in (fields[0], fields[-1])))

    def motion(arch: Architecture, grid_level: int) -> _FrameMotion:
        latents, made = _latents(fields, arch, grid_level, size, level)
        left = errors(made)
        if left.sum() > STILL * still.sum():
            latents, left = [np.zeros_like(values) for values in latents], still
        cost = residue_cost(left, num_references=len(fields), rd_lambda=rd_lambda)
        return _FrameMotion(latents, grid_level, cost)

    def j(found: _FrameMotion) -> float:
        bits = sum(vector_bits(values[None]) for values in found.latents)
        return found.j + rd_lambda * bits / (size[0] * size[1])

    return [min((motion(arch, own) for own in _levels(arch)), key=j) for arch in archs]


def _levels(arch: Architecture) -> list[int]:
    """Levels of motion grids, fine to coarse."""
    return sorted({grid.level for grid in arch.grids if grid.motion})


def _resampled(field: np.ndarray, levels: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
    """A component of blocks of 2^levels[0] samples on those of 2^levels[1], as float."""
    have, want = levels
    if want >= have:
        return area_means(field, 1 << (want - have))
    times = 1 << (have - want)
    rows, columns = grid_shape(Grid(want), *size)
    return field.repeat(times, axis=0).repeat(times, axis=1)[:rows, :columns].astype(np.float64)


def _latents(
    fields: list[np.ndarray],
    arch: Architecture,
    grid_level: int,
    size: tuple[int, int],
    level: int,
) -> tuple[list[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Latents of each motion grid in order, and the two fields in quarter samples they make.

    Only grids of `grid_level` are used. A frame with one field has one reference, which both of the
    returned ones lead to.
    """
    latents = [np.zeros(grid_shape(grid, *size), np.int16) for grid in arch.grids if grid.motion]
    made = []
    unit = 2.0 ** (SEARCH_FRAC - arch.vector_frac)
    there = (arch.block_level, level)
    for component in range(2 * len(fields)):
        wanted = _resampled(fields[component // 2][:, :, component % 2], there[::-1], size) / unit
        values, field = fit_latents(wanted, grid_level, arch.block_level, size)
        for i in motion_grids(arch.grids)[component]:
            if arch.grids[i].level == grid_level:
                latents[i] = values
        field = _resampled(field, there, size) * (unit / (1 << FIELD_FRAC))
        made.append(np.rint(field).astype(np.int32))
    pairs = [np.stack(made[k : k + 2], axis=2) for k in range(0, len(made), 2)]
    return latents, (pairs[0], pairs[-1])
