"""Steering of lambda: what it must be for a quality or a rate to be met."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from codec.model.segment import SegmentModel
from codec.options import LAMBDA_RANGE
from codec.training.states import Trained

# What a decade of lambda changes on average, measured on photographs (docs/experiments.md).
DB_PER_DECADE = -6.0
LOG_RATE_PER_DECADE = -1.3
# Before that part of the main phase the picture is too far from its end to judge lambda by it.
SETTLED = 0.25
LARGEST_STEP_DECADES = 0.3
DAMPING = 0.7
LEAST_LATENTS = 0.1  # of the goal, where networks take all of it


@dataclass(frozen=True)
class Goal:
    """What training shall reach: a PSNR in dB, or bits a luma pixel with those of the networks.

    `network_bpp` tells from a model about what its networks cost.
    """

    kind: str
    value: float
    network_bpp: Callable[[SegmentModel], float]

    def decades_off(self, state: Trained) -> float:
        """By how many decades lambda should grow for a state like this to meet the goal."""
        cost = state.cost
        if self.kind == "psnr":
            return (self.value - cost.psnr_db) / DB_PER_DECADE
        wanted = max(self.value - self.network_bpp(state.model), LEAST_LATENTS * self.value)
        return math.log(wanted / max(cost.bpp, LEAST_LATENTS * self.value)) / LOG_RATE_PER_DECADE


def steer(rd_lambda: float, state: Trained, goal: Goal, progress: float) -> float:
    """The next lambda, from the state that the present one gave at `progress` in [0, 1]."""
    off = goal.decades_off(state)
    if progress < SETTLED or not math.isfinite(off):
        return rd_lambda
    return moved(rd_lambda, DAMPING * off)


def moved(rd_lambda: float, decades: float, *, most: float = LARGEST_STEP_DECADES) -> float:
    """A lambda some decades further, at most `most` of them, within its range."""
    step = min(max(decades, -most), most)
    low, high = LAMBDA_RANGE
    return min(max(rd_lambda * 10**step, low), high)
