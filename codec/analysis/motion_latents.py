"""From a field of vectors to the motion latents that make it, and back."""

from __future__ import annotations

import numpy as np

from codec.arch.grids import Grid, grid_shape

MAX_LATENT = 255
# Residuals below this many quarter samples are not worth their bits.
DEAD_ZONE = 1.5
FIELD_FRAC = 8  # bits behind the point of vectors that grow out of latents


def area_means(field: np.ndarray, side: int) -> np.ndarray:
    """Means over squares of `side`, cut off at the edges: (H, W) float to (H / side, W / side)."""
    starts = (np.arange(0, field.shape[0], side), np.arange(0, field.shape[1], side))
    sums = np.add.reduceat(np.add.reduceat(field, starts[0], 0), starts[1], 1)
    heights, widths = (
        np.diff(first, append=size) for first, size in zip(starts, field.shape, strict=True)
    )
    return sums / (heights[:, None] * widths)


def doubled(field: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The field one level finer: bilinear with weights 9, 3, 3, 1, rounded; (H, W) int32."""
    padded = np.pad(field, 1, mode="edge")
    rows, columns = field.shape
    wide = np.empty((2 * rows, columns + 2), np.int32)
    wide[0::2] = 3 * padded[1:-1] + padded[:-2]
    wide[1::2] = 3 * padded[1:-1] + padded[2:]
    both = np.empty((2 * rows, 2 * columns), np.int32)
    both[:, 0::2] = 3 * wide[:, 1:-1] + wide[:, :-2]
    both[:, 1::2] = 3 * wide[:, 1:-1] + wide[:, 2:]
    return ((both + 8) >> 4)[: shape[0], : shape[1]]


def fit_latents(
    wanted: np.ndarray, levels: tuple[int, ...], block_level: int, size: tuple[int, int]
) -> tuple[list[np.ndarray], np.ndarray]:
    """Latents of one component of the vectors, and what they make of it.

    Args:
        wanted: (rows, columns) float, in quarter samples, at the block level.
        levels: of the grids, coarse to fine.
        size: (height, width) of the picture.
    Returns:
        int16 latents of each grid within +-255, and (rows, columns) int32 with FIELD_FRAC bits.
    """
    top = max(levels, default=block_level)
    latents, field = [], np.zeros(grid_shape(Grid(top), *size), np.int32)
    for level in range(top, block_level - 1, -1):
        if level < top:
            field = doubled(field, grid_shape(Grid(level), *size))
        if level not in levels:
            continue
        rest = area_means(wanted, 1 << (level - block_level)) - field / (1 << FIELD_FRAC)
        values = np.rint(rest) if level == levels[0] else _sparse(rest)
        values = np.clip(values, -MAX_LATENT, MAX_LATENT).astype(np.int16)
        field = field + (values.astype(np.int32) << FIELD_FRAC)
        latents.append(values)
    return latents, field


def _sparse(rest: np.ndarray) -> np.ndarray:
    """Whole numbers from residuals: small ones are zero, as is a lonely one of 1."""
    values = np.where(np.abs(rest) < DEAD_ZONE, 0, np.rint(rest))
    padded = np.pad(values != 0, 1)
    rows, columns = values.shape
    company = sum(
        padded[1 + dy : 1 + dy + rows, 1 + dx : 1 + dx + columns].astype(int)
        for dy, dx in ((-1, 0), (1, 0), (0, -1), (0, 1))
    )
    return np.where((np.abs(values) == 1) & (company == 0), 0, values)
