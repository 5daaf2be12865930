"""Rounding of parameters that share a curvature: integers make up for each other's errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from codec.arch import ParamSpec
from codec.arch.numerics import MAX_PARAM
from codec.bitstream.parameters import cost_table_q16, default_values, scale_costs_q16
from codec.freeze.measure import BIT_Q16
from codec.freeze.quantize import Arrays, round_parameter

SCALE_ROUNDS = 4
MOVES_PER_PARAMETER = 8
# Costs are tabulated this far beyond the largest residual.
SPARE_REACH = 64


@dataclass(frozen=True)
class Surface:
    """J around trained parameters, without their own bits: d · curvature · d / 2.

    d are distances from `arrays` of the parameters of `specs`, all in one vector (P,), C order,
    tensor after tensor; `curvature` is (P, P).
    """

    specs: Sequence[ParamSpec]
    arrays: Mapping[str, np.ndarray]
    curvature: np.ndarray


def descend(surface: Surface, exponents: Mapping[str, int], *, bit_weight: float) -> Arrays:
    """Integers of the parameters of a surface for which it and their bits add up to little.

    From the nearest integers on, the change that promises most is made until none promises
    anything: by one, to where the surface is lowest along one parameter, or to the default, which
    costs the fewest bits. The scales of the Laplace distributions follow in rounds.

    Args:
        surface: in units of J.
        exponents: of each group.
        bit_weight: what a bit adds to J.

    Returns:
        int32 arrays by name.
    """
    lattice = _Lattice(surface, exponents)
    budget, scales = MOVES_PER_PARAMETER * lattice.values.size, None
    for _ in range(SCALE_ROUNDS):
        previous, scales = scales, lattice.best_scales()
        if scales == previous:
            break
        lattice.set_costs(scales, bit_weight)
        while budget and lattice.move():
            budget -= 1
    return _unflatten(surface.specs, lattice.values.astype(np.int32))


def _flatten(specs: Sequence[ParamSpec], arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    return np.concatenate([np.ravel(arrays[spec.name]) for spec in specs])


def _unflatten(specs: Sequence[ParamSpec], vector: np.ndarray) -> Arrays:
    parts = np.split(vector, np.cumsum([spec.size for spec in specs])[:-1])
    return {s.name: part.reshape(s.shape) for s, part in zip(specs, parts, strict=True)}


class _Lattice:
    """Integers `values` (P,), and how J changes from them on: in steps of each parameter."""

    def __init__(self, surface: Surface, exponents: Mapping[str, int]) -> None:
        specs, arrays = surface.specs, surface.arrays
        nearest = {s.name: round_parameter(arrays[s.name], exponents[s.group]) for s in specs}
        defaults = {s.name: default_values(s, exponents[s.group]) for s in specs}
        self.values = _flatten(specs, nearest).astype(np.int64)
        self.defaults = _flatten(specs, defaults).astype(np.int64)
        groups = list(dict.fromkeys(spec.group for spec in specs))
        self.group = np.concatenate([np.full(s.size, groups.index(s.group)) for s in specs])
        steps = np.array([2.0 ** -exponents[group] for group in groups])[self.group]
        self.curvature = surface.curvature * steps * steps[:, None]
        # Where nothing bends, what is not coded is best.
        self.bend = np.maximum(np.diag(self.curvature), np.finfo(float).tiny)
        self.slope = self.curvature @ (self.values - _flatten(specs, arrays) / steps)
        self.reach, self.costs = 0, np.zeros((1, 1))

    @property
    def residuals(self) -> np.ndarray:
        """What is coded."""
        return self.values - self.defaults

    def best_scales(self) -> list[int]:
        """The index of the best Laplace scale for the residuals of each group."""
        parts = [self.residuals[self.group == g] for g in range(self.group.max() + 1)]
        return [int(scale_costs_q16([part]).argmin()) for part in parts]

    def set_costs(self, scales: Sequence[int], bit_weight: float) -> None:
        """Code each group with a scale from now on."""
        self.reach = int(np.abs(self.residuals).max()) + SPARE_REACH
        tables = [cost_table_q16(scale, self.reach) for scale in scales]
        self.costs = np.stack(tables) * (bit_weight / BIT_Q16)

    def move(self) -> bool:
        """Make the change of one integer that lowers J most, if there is one that does."""
        residuals = self.residuals
        lowest = np.rint(np.clip(-self.slope / self.bend, -self.reach, self.reach))
        ones = np.ones_like(residuals)
        changes = np.stack([-ones, ones, lowest.astype(np.int64), -residuals])
        gains = changes * (self.slope + 0.5 * self.bend * changes)
        gains += self._cost(residuals + changes) - self._cost(residuals)
        gains[np.abs(self.values + changes) > MAX_PARAM] = 0.0
        which, index = np.unravel_index(gains.argmin(), gains.shape)
        if gains[which, index] >= 0:
            return False
        self.values[index] += changes[which, index]
        self.slope += self.curvature[index] * changes[which, index]
        return True

    def _cost(self, residuals: np.ndarray) -> np.ndarray:
        return self.costs[self.group, np.clip(residuals, -self.reach, self.reach) + self.reach]
