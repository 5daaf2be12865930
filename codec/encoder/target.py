"""The search for a file of a wanted quality or size, which goes on with what was trained."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from codec.encoder.coding import Coded
from codec.encoder.finish import Finisher
from codec.errors import TargetError
from codec.freeze.measure import Frozen
from codec.media.metrics import sequence_psnr
from codec.training.control import DB_PER_DECADE, LOG_RATE_PER_DECADE, moved
from codec.training.states import Trained
from codec.training.trainer import Trainer

PSNR_TOLERANCE_DB = 0.045
LEAST_SHARE = 0.98  # of the bytes that are allowed
ROUNDS = 6  # of training
TRIALS = 8  # of a lambda for the latents alone, in each round
MOST_LATENT_DECADES = 0.6  # away from the lambda of the training
# A refinement: its share of the steps, and where in the schedules it begins.
REFINE_SHARE, REFINE_FROM, FEWEST_REFINE_STEPS = 1 / 8, 0.7, 8


@dataclass(frozen=True)
class Window:
    """Values that are good enough, and what a decade of lambda changes in them at first."""

    low: float
    high: float
    per_decade: float
    unit: str

    @staticmethod
    def of_psnr(psnr_db: float) -> Window:
        """Around a PSNR in dB."""
        reach = PSNR_TOLERANCE_DB
        return Window(psnr_db - reach, psnr_db + reach, DB_PER_DECADE, "dB")

    @staticmethod
    def of_size(least_bytes: float, most_bytes: float) -> Window:
        """Numbers of bytes; the values are their natural logarithms."""
        low, high = math.log(least_bytes), math.log(most_bytes)
        return Window(low, high, LOG_RATE_PER_DECADE, "bytes")

    def holds(self, value: float) -> bool:
        """Whether a value is good enough."""
        return self.low <= value <= self.high

    @property
    def middle(self) -> float:
        """The value to aim at."""
        return (self.low + self.high) / 2

    def off(self, value: float) -> float:
        """What must be added to a value to be in the middle."""
        return self.middle - value

    def describe(self, value: float) -> str:
        """A value as users know it."""
        return f"{value:.3f} dB" if self.unit == "dB" else f"{round(math.exp(value))} bytes"


@dataclass(frozen=True)
class Tools:
    """How what was trained becomes a segment, and what is measured of it.

    `finish` freezes for a lambda; `code` makes a segment of what was frozen; `measure` gives its
    PSNR in dB, or the logarithm of its bytes.
    """

    finish: Callable[[Trained, float], Finisher]
    code: Callable[[Frozen], Coded]
    measure: Callable[[Coded], float]


@dataclass(frozen=True)
class _Point:
    log_lambda: float
    value: float


def psnr_of(coded: Coded, peak: int) -> float:
    """PSNR of a coded segment as reports state it."""
    return sequence_psnr(coded.errors, peak)


def search(
    trainer: Trainer, trained: Trained, window: Window, *, steps: int, tools: Tools
) -> tuple[Coded, float]:
    """A coded segment in the window, and the lambda that it was made with.

    What was trained is frozen, and its latents are changed for other lambdas. Where that does not
    reach the window, training goes on for a while with another lambda.

    Args:
        trainer, trained: after its run; both are changed.
        window: of the values that `tools` measures.
        steps: of the run; each refinement makes a part of them.
        tools: make and measure segments.

    Raises:
        TargetError: it was not reached; the message names the nearest value.
    """
    seen: list[_Point] = []
    trained_points: list[_Point] = []
    for _ in range(ROUNDS):
        rd_lambda = trainer.rd_lambda
        finisher, points = tools.finish(trained, rd_lambda), []
        while len(points) < TRIALS:
            coded = tools.code(finisher.at(rd_lambda))
            points.append(_Point(math.log10(rd_lambda), tools.measure(coded)))
            if window.holds(points[-1].value):
                return coded, rd_lambda
            if len(points) > 1 and points[-1].value == points[-2].value:
                break
            rd_lambda = next_lambda(window, points)
            if abs(math.log10(rd_lambda / trainer.rd_lambda)) > MOST_LATENT_DECADES:
                break
        seen += points
        trained_points.append(points[0])
        decades = window.off(points[0].value) / _slope(window, trained_points)
        target_lambda = moved(trainer.rd_lambda, decades, most=MOST_LATENT_DECADES)
        again = max(FEWEST_REFINE_STEPS, round(steps * REFINE_SHARE))
        trainer.refine(again, rd_lambda=target_lambda, begin=REFINE_FROM)
    nearest = min(seen, key=lambda point: abs(window.off(point.value)))
    wanted = window.describe(window.high if window.unit == "bytes" else window.middle)
    raise TargetError(
        f"the target of {wanted} was not reached; the nearest was"
        f" {window.describe(nearest.value)} with --rd-lambda {10**nearest.log_lambda:.4g}"
    )


def next_lambda(window: Window, points: Sequence[_Point]) -> float:
    """Between the nearest points on both sides of the window, else where the last two lead."""
    last = points[-1]
    above = [p for p in points if window.off(p.value) < 0]
    below = [p for p in points if window.off(p.value) > 0]
    if above and below:
        high = min(above, key=lambda p: p.value)
        low = max(below, key=lambda p: p.value)
        share = window.off(low.value) / (high.value - low.value)
        share = min(max(share, 0.1), 0.9)
        return 10 ** (low.log_lambda + share * (high.log_lambda - low.log_lambda))
    return moved(10**last.log_lambda, window.off(last.value) / _slope(window, points))


def _slope(window: Window, points: Sequence[_Point]) -> float:
    """What a decade of lambda changes, by the last two points, near what it changes on average."""
    if len(points) < 2:
        return window.per_decade
    before, last = points[-2:]
    if last.log_lambda == before.log_lambda:
        return window.per_decade
    slope = (last.value - before.value) / (last.log_lambda - before.log_lambda)
    least, most = 2 * window.per_decade, window.per_decade / 6
    return min(max(slope, least), most)
