"""Prediction from motion latents as the format defines it, plainly: vectors and warp."""

from __future__ import annotations

import numpy as np

from codec.arch import Architecture, Grid, Inter, grid_shape, motion_grids, parse_grids
from codec.arch.motion import INTERPOLATION_FRAC, INTERPOLATION_Q7
from codec.arch.notation import parse_layers


def motion_architecture(motion: str) -> Architecture:
    """A small network for clips with motion grids at these levels."""
    return Architecture(
        grids=parse_grids(dynamic="0-4", motion=motion),
        num_contexts=4,
        ifce_features=0,
        ifce_levels=(0, 0),
        arm_layers=1,
        temporal=(),
        synthesis=parse_layers(["5-1-linear-none", "3-3-residual-none"], num_out=3),
    )


def _doubled(field: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    out = np.zeros(shape, np.int64)
    rows, columns = field.shape
    for y, x in np.ndindex(*shape):
        beside = (
            min(max(y // 2 + (1 if y % 2 else -1), 0), rows - 1),
            min(max(x // 2 + (1 if x % 2 else -1), 0), columns - 1),
        )
        here, there = field[y // 2], field[beside[0]]
        total = 3 * (3 * here[x // 2] + here[beside[1]]) + 3 * there[x // 2] + there[beside[1]]
        out[y, x] = (total + 8) >> 4
    return out


def components(
    latents: list[np.ndarray], arch: Architecture, frame: int, size: tuple[int, int]
) -> list[np.ndarray]:
    """Columns and rows of a, columns and rows of b, each (rows, columns) int64 in 1/16 samples."""
    own = [i for i, grid in enumerate(arch.grids) if grid.motion]
    made = []
    for indices in motion_grids(arch.grids).values():
        slices = {arch.grids[i].level: latents[own.index(i)][frame].astype(int) for i in indices}
        top = max(slices, default=arch.block_level)
        field = np.zeros(grid_shape(Grid(top), *size), np.int64)
        for level in range(top, arch.block_level - 1, -1):
            field = field if level == top else _doubled(field, grid_shape(Grid(level), *size))
            field = field + (slices.get(level, 0) << np.int64(8))
        shift = 4 + arch.vector_frac
        made.append((field + (1 << shift >> 1)) >> shift)
    return made


def warp(
    reference: np.ndarray, columns: np.ndarray, rows: np.ndarray, block_level: int
) -> np.ndarray:
    """(H, W) float: a picture fetched with a vector in 1/16 samples for each block."""
    height, width = reference.shape
    side = 1 << block_level
    right, down = (
        v.repeat(side, axis=0).repeat(side, axis=1)[:height, :width] for v in (columns, rows)
    )
    taps = np.array(INTERPOLATION_Q7) / (1 << INTERPOLATION_FRAC)
    y, x = np.mgrid[:height, :width]
    made = np.zeros((height, width))
    for j in range(taps.shape[1]):
        at_y = np.clip(y + (down >> 4) + j - 3, 0, height - 1)
        for k in range(taps.shape[1]):
            at_x = np.clip(x + (right >> 4) + k - 3, 0, width - 1)
            made += taps[down & 15, j] * taps[right & 15, k] * reference[at_y, at_x]
    return made


def predict(
    luma: np.ndarray, latents: list[np.ndarray], arch: Architecture, inter: Inter
) -> np.ndarray:
    """(H, W) float: a frame predicted from its references (T, H, W), by their mean if two."""
    a_x, a_y, b_x, b_y = components(latents, arch, inter.frame, luma.shape[1:])
    made = warp(luma[inter.past], a_x, a_y, arch.block_level)
    if inter.future == inter.past:
        return made
    to_future = [b - ((inter.ratio_q8 * a + 128) >> 8) for a, b in ((a_x, b_x), (a_y, b_y))]
    return (made + warp(luma[inter.future], *to_future, arch.block_level)) / 2


def errors(
    luma: np.ndarray, latents: list[np.ndarray], arch: Architecture, inter: Inter
) -> tuple[float, float]:
    """Mean squared errors of a frame's prediction, without motion and with it."""
    frame = luma[inter.frame]
    still = (luma[inter.past] + luma[inter.future]) / 2
    moved = predict(luma, latents, arch, inter)
    return float(np.mean((frame - still) ** 2)), float(np.mean((frame - moved) ** 2))
