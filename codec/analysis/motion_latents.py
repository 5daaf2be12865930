"""From a field of vectors to the motion latents that make it, and back."""

from __future__ import annotations

import numpy as np

from codec.arch.grids import Grid, grid_shape
from codec.arch.numerics import LATENT_MAX
from codec.fixedpoint.motion import FIELD_FRAC, double_field
from codec.media.convert import area_means


def fit_latents(
    wanted: np.ndarray, level: int, block_level: int, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Latents of one component of the vectors in the grid of one level, and what they make of it.

    Args:
        wanted: (rows, columns) float, in units of a latent, at the block level.
        level: of the grid, the block level at least.
        size: (height, width) of the picture.

    Returns:
        int16 latents within +-255, and (rows, columns) int32 with FIELD_FRAC bits.
    """
    means = area_means(wanted, 1 << (level - block_level))
    latents = np.clip(np.rint(means), -LATENT_MAX, LATENT_MAX).astype(np.int16)
    field = latents.astype(np.int32) << FIELD_FRAC
    for finer in range(level - 1, block_level - 1, -1):
        field = double_field(field, grid_shape(Grid(finer), *size))
    return latents, field
