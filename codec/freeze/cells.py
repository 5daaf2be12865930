"""Cells that a picture is cut into: each holds the same number of latents of one grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# What a latent changes in the picture and in its neighbours' bits lies almost all within a cell
# of CELL x CELL latents if it is MARGIN or more of them away from the border.
CELL = 8
MARGIN = 2


@dataclass(frozen=True)
class Cells:
    """Squares of CELL << level pixels; the first ones begin `offset` << level before the picture.

    `size` are the rows and columns of the picture, `offset` are from 0 to CELL - 1.
    """

    size: tuple[int, int]
    level: int
    offset: tuple[int, int]

    def of(self, y: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Row and column of the cells of latents at (y, x) of the grid."""
        return (y + self.offset[0]) // CELL, (x + self.offset[1]) // CELL

    def inner(self, shape: tuple[int, int]) -> np.ndarray:
        """Which latents of a grid of this shape are not near a border of their cell: bool."""
        rows, columns = (
            ((np.arange(count) + first) % CELL >= MARGIN)
            & ((np.arange(count) + first) % CELL < CELL - MARGIN)
            for count, first in zip(shape, self.offset, strict=True)
        )
        return rows[:, None] & columns

    def sums(self, values: np.ndarray, shifts: tuple[int, int]) -> np.ndarray:
        """Sum in each cell, float64 (rows, columns) of cells.

        Args:
            values: (h, w), of which (y, x) stands for pixel (y << shifts[0], x << shifts[1]).
            shifts: log2 of how much coarser than the picture they are.
        """
        total = np.pad(values, ((1, 0), (1, 0))).cumsum(0).cumsum(1)
        rows, columns = (
            self._borders(axis, shift, count)
            for axis, (shift, count) in enumerate(zip(shifts, values.shape, strict=True))
        )
        return np.diff(np.diff(total[np.ix_(rows, columns)], axis=0), axis=1)

    def _borders(self, axis: int, shift: int, count: int) -> np.ndarray:
        """Where the cells begin, and the last one ends, along an axis of `count` values."""
        latents = (self.size[axis] - 1 >> self.level) + 1
        number = -(-(latents + self.offset[axis]) // CELL)
        pixels = (np.arange(number + 1) * CELL - self.offset[axis]) << self.level
        return np.clip(-(-pixels >> shift), 0, count)
