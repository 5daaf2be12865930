"""From a field of vectors to the motion latents that make it, and back."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from codec.arch import Architecture
from codec.arch.grids import MOTION_COMPONENTS, Grid, grid_shape

MAX_LATENT = 255
FIELD_FRAC = 8  # bits behind the point of vectors that grow out of latents

# From what coarser levels make of the smallest blocks, what that leaves to be wanted at a level,
# and how many of these blocks a latent is for, per axis: latents (rows, columns, 4) int32, and the
# error that they leave.
Choose = Callable[[np.ndarray, np.ndarray, int], tuple[np.ndarray, float]]


def area_means(field: np.ndarray, side: int) -> np.ndarray:
    """Means over squares of `side`, cut off at the edges: (H, W, 4) to (H / side, W / side, 4)."""
    starts = (np.arange(0, field.shape[0], side), np.arange(0, field.shape[1], side))
    sums = np.add.reduceat(np.add.reduceat(field, starts[0], 0), starts[1], 1)
    heights, widths = (
        np.diff(first, append=size) for first, size in zip(starts, field.shape[:2], strict=True)
    )
    return sums / (heights[:, None] * widths)[:, :, None]


def repeated(field: np.ndarray, times: int, shape: tuple[int, int]) -> np.ndarray:
    """Each vector for a square of `times` blocks, cropped to `shape`."""
    return field.repeat(times, axis=0).repeat(times, axis=1)[: shape[0], : shape[1]]


def doubled(field: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The field (H, W, 4) int32 one level finer: bilinear with weights 9, 3, 3, 1, rounded."""
    padded = np.pad(field, ((1, 1), (1, 1), (0, 0)), mode="edge")
    rows, columns, depth = field.shape
    tall = np.empty((2 * rows, columns + 2, depth), np.int32)
    tall[0::2] = 3 * padded[1:-1] + padded[:-2]
    tall[1::2] = 3 * padded[1:-1] + padded[2:]
    both = np.empty((2 * rows, 2 * columns, depth), np.int32)
    both[:, 0::2] = 3 * tall[:, 1:-1] + tall[:, :-2]
    both[:, 1::2] = 3 * tall[:, 1:-1] + tall[:, 2:]
    return ((both + 8) >> 4)[: shape[0], : shape[1]]


def fit_latents(
    wanted: np.ndarray, level: int, arch: Architecture, size: tuple[int, int], choose: Choose
) -> tuple[dict[int, np.ndarray], np.ndarray]:
    """Latents whose vectors come near those of a field, coarse to fine.

    Args:
        wanted: (rows, columns, 4) int32, the components in quarter samples for blocks of 2^level.
        level: at most the block level of `arch`.
        size: (height, width) of the picture.
        choose: decides which latents a level gets.
    Returns:
        int16 latents within +-255 by the index of their grid, and the components that they make,
        like `wanted` but with FIELD_FRAC bits behind the point.
    """
    motion = {i: grid for i, grid in enumerate(arch.grids) if grid.motion}
    top = max(grid.level for grid in motion.values())
    latents: dict[int, np.ndarray] = {}
    field = np.zeros((*grid_shape(Grid(top), *size), MOTION_COMPONENTS), np.int32)
    for here in range(top, arch.block_level - 1, -1):
        field = field if here == top else doubled(field, grid_shape(Grid(here), *size))
        present = {grid.motion - 1: i for i, grid in motion.items() if grid.level == here}
        if not present:
            continue
        base = _grown(field, here, arch.block_level, level, size)
        rest = area_means(wanted - base / (1 << FIELD_FRAC), 1 << (here - level))
        rest[:, :, [c for c in range(MOTION_COMPONENTS) if c not in present]] = 0
        values, _ = choose(base, np.rint(rest).astype(np.int32), 1 << (here - level))
        values = np.clip(values, -MAX_LATENT, MAX_LATENT)
        field = field + (values << FIELD_FRAC)
        latents |= {i: values[:, :, c].astype(np.int16) for c, i in present.items()}
    return latents, _grown(field, arch.block_level, arch.block_level, level, size)


def _grown(
    field: np.ndarray, here: int, block_level: int, level: int, size: tuple[int, int]
) -> np.ndarray:
    """A field of level `here` doubled to the block level, then for each block of 2^level."""
    for finer in range(here - 1, block_level - 1, -1):
        field = doubled(field, grid_shape(Grid(finer), *size))
    return repeated(field, 1 << (block_level - level), grid_shape(Grid(level), *size))
