"""How learning rates, temperature and noise go through the steps of a training."""

from __future__ import annotations

import math
from dataclasses import dataclass

from codec.arch.presets import Recipe


@dataclass(frozen=True)
class Phases:
    """Steps of the three phases: each candidate, the main phase, the tail with rounded latents."""

    num_candidates: int
    candidate_steps: int
    main_steps: int
    tail_steps: int

    @property
    def total(self) -> int:
        """Steps in all."""
        return self.num_candidates * self.candidate_steps + self.main_steps + self.tail_steps


def plan_steps(recipe: Recipe, steps: int, *, grows: bool = False) -> Phases:
    """Split `steps` (at least 1) into phases; short trainings have a single candidate.

    A segment that grows has one, with the steps of all its stages.
    """
    if grows:
        growth, tail = int(steps * recipe.growth_share), int(steps * recipe.tail_share)
        return Phases(1, growth, steps - growth - tail, tail)
    candidates = max(1, recipe.candidates)
    each = int(steps * recipe.candidate_share) // candidates
    if candidates == 1 or each < 4:
        candidates, each = 1, 0
    tail = int(steps * recipe.tail_share)
    return Phases(candidates, each, steps - candidates * each - tail, tail)


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
