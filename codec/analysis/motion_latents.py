"""From a field of vectors to the motion latents that make it, and back."""

from __future__ import annotations

import numpy as np

from codec.arch.grids import Grid, grid_shape
from codec.arch.numerics import LATENT_MAX
from codec.fixedpoint.motion import FIELD_FRAC, double_field
from codec.media.convert import area_means

# Residuals below this many quarter samples are not worth their bits.
DEAD_ZONE = 1.5


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
            field = double_field(field, grid_shape(Grid(level), *size))
        if level not in levels:
            continue
        rest = area_means(wanted, 1 << (level - block_level)) - field / (1 << FIELD_FRAC)
        values = np.rint(rest) if level == levels[0] else _sparse(rest)
        values = np.clip(values, -LATENT_MAX, LATENT_MAX).astype(np.int16)
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
