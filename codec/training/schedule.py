"""How learning rates, temperature and noise go through the steps of a training."""

from __future__ import annotations

import math
from dataclasses import dataclass

from codec.arch.presets import Recipe


@dataclass(frozen=True)
class Phases:
    """Steps of the phases: parts of a segment, each candidate, the main phase, the rounded tail."""

    growth_steps: int
    num_candidates: int
    candidate_steps: int
    main_steps: int
    tail_steps: int

    @property
    def total(self) -> int:
        """Steps in all."""
        return self.before_main + self.main_steps + self.tail_steps

    @property
    def before_main(self) -> int:
        """Steps that are made when the main phase begins."""
        return self.growth_steps + self.num_candidates * self.candidate_steps


def plan_steps(recipe: Recipe, steps: int, *, growth_steps: int = 0) -> Phases:
    """Split `steps` (at least 1) into phases; there is one candidate where few steps are left.

    Neither are there more where parts of the segment are trained first.
    """
    tail, candidates = int(steps * recipe.tail_share), max(1, recipe.candidates)
    if growth_steps:
        return Phases(growth_steps, 1, 0, steps - growth_steps - tail, tail)
    each = int(steps * recipe.candidate_share) // candidates
    if candidates == 1 or each < 4:
        candidates, each = 1, 0
    return Phases(0, candidates, each, steps - candidates * each - tail, tail)


def linear(ends: tuple[float, float], progress: float) -> float:
    """From ends[0] at progress 0 to ends[1] at progress 1."""
    return ends[0] + (ends[1] - ends[0]) * progress


def cosine(start: float, end: float, progress: float) -> float:
    """Half a cosine from `start` at progress 0 to `end` at progress 1."""
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * progress))


def warmup_noise(rd_lambda: float) -> float:
    """Standard deviation of the noise in the warm-up, in bins: (0.747 - 0.432 log10 lambda) / 10.

    Source: Cool-Chic 5 intra preset; held to its range of lambdas, 1e-4 to 2e-2.
    """
    return (0.747 - 0.432 * math.log10(min(max(rd_lambda, 1e-4), 2e-2))) / 10
