"""Clocks: laps of one run, rounds of several runs in turn, and what is reported of them."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

Laps = Mapping[str, float]


class Stopwatch:
    """Milliseconds by part: each lap is added to the part that it is named after."""

    def __init__(self) -> None:
        self.laps_ms: Counter[str] = Counter()
        self._last = time.perf_counter()

    def lap(self, part: str) -> None:
        """Everything since the last lap was `part`."""
        now = time.perf_counter()
        self.laps_ms[part] += (now - self._last) * 1e3
        self._last = now


@dataclass(frozen=True)
class Times:
    """Least and median time of all rounds, in milliseconds."""

    min_ms: float
    median_ms: float


def summary(times_ms: Sequence[float]) -> Times:
    """What is reported of the times of all rounds."""
    return Times(min(times_ms), statistics.median(times_ms))


def run_rounds(runs: Mapping[str, Callable[[], Laps]], repeat: int) -> dict[str, list[Laps]]:
    """Laps of every run by its name, `repeat` rounds in which each has its turn.

    Noise of the machine that lasts for a while then falls on all runs alike. One more round comes
    first and is not counted: it compiles kernels and touches memory.
    """
    for run in runs.values():
        run()
    rounds: dict[str, list[Laps]] = {name: [] for name in runs}
    for _ in range(repeat):
        for name, run in runs.items():
            rounds[name].append(run())
    return rounds
