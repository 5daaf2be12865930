"""Latents that change by one where that lowers J: many trials at a time, each in its own cell.

What a change gives is not estimated, but measured in its cell by the integer program. Estimates
only say which latent of a cell is tried.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from codec.arch.numerics import LATENT_MAX
from codec.bitstream.rate import COST_FRAC
from codec.fixedpoint.entropy import latent_costs
from codec.fixedpoint.program import load_network
from codec.freeze.cells import CELL, Cells
from codec.freeze.measure import Frozen, Meter

SEED = 1
# A grid is tried again while half of what it gave last and half of what it was expected to give
# are more than this share of J.
LEAST_GAIN = 1e-5


class _Measured(NamedTuple):
    """J by place in layers that add up to it, and what latents cost: see `latent_costs`.

    A layer (h, w) has, at (y, x), what belongs to pixel (y << dy, x << dx); (dy, dx) is its key.
    """

    layers: dict[tuple[int, int], np.ndarray]
    costs: list[np.ndarray]

    @property
    def j(self) -> float:
        """J without the bits of the network."""
        return float(sum(layer.sum() for layer in self.layers.values()))


def change_latents(
    meter: Meter, frozen: Frozen, slopes: Sequence[np.ndarray], *, passes: int
) -> Frozen:
    """What was frozen, with other latents and a lower J, or as it was.

    Args:
        meter: measures J.
        frozen: stays as it is but for its latents.
        slopes: derivatives of the distortion by latents, (S, h, w) of each grid.
        passes: how often to try one latent in each cell of a grid; that is two measurements.
    """
    trials, rng = _Trials(meter, frozen, slopes), np.random.default_rng(SEED)
    least = LEAST_GAIN * trials.now.j
    # Finest first, which change what lies in most cells.
    expected = {k: np.inf for k in reversed(range(len(slopes))) if frozen.latents[k].any()}
    for _ in range(passes):
        grid = max(expected, key=expected.get, default=None)
        if grid is None or expected[grid] < least:
            break
        gain = trials.step(grid, rng)
        expected[grid] = gain if np.isinf(expected[grid]) else (expected[grid] + gain) / 2
    changed = meter.frozen(frozen.network, frozen.codes, trials.latents)
    return min(frozen, changed, key=meter.target.j)


class _Trials:
    """Latents, what they cost where, and which changes of them were tried before.

    `tried` has bool (2, S, h, w) for each grid: one less, and one more.
    """

    def __init__(self, meter: Meter, frozen: Frozen, slopes: Sequence[np.ndarray]) -> None:
        self.meter, self.codes, self.slopes = meter, frozen.codes, slopes
        self.program = load_network(frozen.network, meter.numerics)
        self.latents = list(frozen.latents)
        self.tried = [np.stack([x == -LATENT_MAX, x == LATENT_MAX]) for x in self.latents]
        self.now = self._measure(self.latents)

    def step(self, grid: int, rng: np.random.Generator) -> float:
        """Try one change in each cell of a grid, and keep those that lower J: by how much."""
        target, level = self.meter.target, self.meter.arch.grids[grid].level
        offset = tuple(rng.integers(CELL, size=2))
        cells = Cells((target.height, target.width), level, offset)
        more, places = self._candidates(grid, cells)
        self.tried[grid][(more, *places)] = True
        if not more.size:
            return 0.0
        made = self._measure(self._with(grid, places, 2 * more - 1))
        change = self._change(made, cells)[cells.of(*places[1:])]
        better = change < 0
        if not better.any():
            return 0.0
        places = tuple(axis[better] for axis in places)
        latents = self._with(grid, places, 2 * more[better] - 1)
        made = self._measure(latents)
        gain = self.now.j - made.j
        if gain <= 0:
            return 0.0
        self.tried[grid][:, *places] = True
        self.latents, self.now = latents, made
        return gain

    def _measure(self, latents: list[np.ndarray]) -> _Measured:
        meter = replace(self.meter, latents=latents)
        target, program = meter.target, self.program
        maps = meter.error_maps(program, meter.features(program, self.codes))
        costs = latent_costs(program, latents, **target.size, threads=target.threads)
        weight = target.bit_weight / (1 << COST_FRAC)
        chroma = target.format.chroma_shifts
        parts = [(chroma if p in (1, 2) else (0, 0), values) for p, values in enumerate(maps)]
        for grid, cost in zip(meter.arch.grids, costs, strict=True):
            parts.append(((grid.level, grid.level), cost[1].sum(0) * weight))
        layers = {}
        for shifts, values in parts:
            layers[shifts] = layers.get(shifts, 0) + values
        return _Measured(layers, costs)

    def _candidates(self, grid: int, cells: Cells) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
        """The most promising change in each cell that has one: 0 (less) or 1 (more), and where."""
        weight, slope = self.meter.target.bit_weight / (1 << COST_FRAC), self.slopes[grid]
        less, same, more = self.now.costs[grid].astype(np.float64)
        change = weight * (np.stack([less, more]) - same) + np.stack([-slope, slope])
        change[self.tried[grid] | ~cells.inner(slope.shape[1:])] = np.inf
        places = np.nonzero(change < 0)
        order = np.argsort(change[places], kind="stable")
        more, *places = (axis[order] for axis in places)
        rows, columns = cells.of(*places[1:])
        _, first = np.unique(rows * (columns.max(initial=0) + 1) + columns, return_index=True)
        return more[first], tuple(axis[first] for axis in places)

    def _with(
        self, grid: int, places: tuple[np.ndarray, ...], change: np.ndarray
    ) -> list[np.ndarray]:
        latents = list(self.latents)
        latents[grid] = latents[grid].copy()
        latents[grid][places] += change.astype(np.int16)
        return latents

    def _change(self, made: _Measured, cells: Cells) -> np.ndarray:
        """By how much more than now J is in each cell: (rows, columns)."""
        return sum(
            cells.sums(values - self.now.layers[shifts], shifts)
            for shifts, values in made.layers.items()
        )
