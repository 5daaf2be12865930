"""How long steps take, and how many of them go into a given time."""

from __future__ import annotations

import math
import time
from bisect import bisect_right
from collections.abc import Callable

# Measured with preset `medium` (docs/experiments.md): evaluations and, later, passes over latents
# make a step this much longer; rounding, coding and checking take as long as so many steps.
EVALUATIONS = 1.15
FREEZE_STEPS = 50
# A search for a target makes some refinements, each a sixteenth of the steps, and freezes again.
TARGET_FACTOR, TARGET_FREEZES = 1.25, 4


def work_of(steps: int, *, is_search: bool) -> float:
    """All work of a segment with so many steps, in units of a plain step."""
    if is_search:
        return EVALUATIONS * TARGET_FACTOR * steps + TARGET_FREEZES * FREEZE_STEPS
    return EVALUATIONS * steps + FREEZE_STEPS


def steps_for_time(seconds: float, step_seconds: float, work: Callable[[int], float]) -> int:
    """Most steps whose `work`, in units of a plain step, takes at most `seconds`; at least 1."""
    plain = seconds / step_seconds
    return max(1, bisect_right(range(1, math.floor(plain) + 1), plain, key=work))


class Pace:
    """When an encode will end, by a calibration at first and then by the steps that were made."""

    def __init__(self) -> None:
        self.is_planned = False
        self._seconds_expected = math.nan
        self._first: tuple[int, float] | None = None

    def plan(self, seconds_expected: float) -> None:
        """What the whole encode will take."""
        self.is_planned, self._seconds_expected = True, seconds_expected

    def seconds_left(self, step: int, num_steps: int) -> float:
        """From step number `step` of `num_steps` on; the first step only starts the clock."""
        now = time.monotonic()
        if step and self._first is None:
            self._first = (step, now)
        if self._first is None or step <= self._first[0]:
            return self._seconds_expected
        first_step, started = self._first
        return (now - started) / (step - first_step) * max(0, num_steps - step)
