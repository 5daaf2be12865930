"""Curves of rate over PSNR, and how much more rate one codec needs than another: the BD-rate."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from codec.media.metrics import MAX_PSNR_DB

MIN_OVERLAP_DB = 0.5
# Closer points are one point: a slope between them would be noise.
_SAME_PSNR_DB = 1e-6
# Gauss-Legendre with two nodes integrates cubic polynomials exactly.
_NODE = 1 / math.sqrt(3)


@dataclass(frozen=True)
class BdRate:
    """Mean difference in rate over the PSNRs that two curves share.

    `percent` is negative where the test needs fewer bits, and None where less than
    MIN_OVERLAP_DB is shared; `high_db` is below `low_db` where nothing is.
    """

    percent: float | None
    low_db: float
    high_db: float


class RateCurve:
    """Rate (bits a pixel) as a function of PSNR (dB): monotone cubic pieces of log(rate).

    Points come in any order. Of several with the same PSNR the smallest counts, and points without
    error (MAX_PSNR_DB) do not, since their PSNR is a convention.

    Raises:
        ValueError: no point is left, or a rate is not above 0.
    """

    def __init__(self, points: Iterable[tuple[float, float]]) -> None:
        kept: list[tuple[float, float]] = []
        for psnr_db, bpp in sorted((psnr_db, bpp) for bpp, psnr_db in points):
            if psnr_db >= MAX_PSNR_DB:
                continue
            if kept and psnr_db - kept[-1][0] < _SAME_PSNR_DB:
                kept[-1] = (kept[-1][0], min(kept[-1][1], bpp))
            else:
                kept.append((psnr_db, bpp))
        if not kept or min(bpp for _, bpp in kept) <= 0:
            raise ValueError("a curve needs points with rates above 0")
        self.psnr_db, rates = np.array(kept, np.float64).T
        self.log_rate = np.log(rates)
        self._slopes = pchip_slopes(self.psnr_db, self.log_rate)

    @property
    def low_db(self) -> float:
        """The least PSNR of its points."""
        return float(self.psnr_db[0])

    @property
    def high_db(self) -> float:
        """The greatest PSNR of its points."""
        return float(self.psnr_db[-1])

    def rate_at(self, psnr_db: float) -> float | None:
        """Bits a pixel at a PSNR; None beyond the points."""
        if not self.low_db <= psnr_db <= self.high_db:
            return None
        return math.exp(self._log_rate_at(np.array([psnr_db]))[0])

    def mean_log_rate(self, low_db: float, high_db: float) -> float:
        """Mean of log(rate) over an interval of PSNR that lies within the points."""
        inner = self.psnr_db[(self.psnr_db > low_db) & (self.psnr_db < high_db)]
        edges = np.concatenate([[low_db], inner, [high_db]])
        half, middle = np.diff(edges) / 2, (edges[1:] + edges[:-1]) / 2
        values = self._log_rate_at(middle - _NODE * half) + self._log_rate_at(middle + _NODE * half)
        return float(np.sum(half * values) / (high_db - low_db))

    def _log_rate_at(self, psnr_db: np.ndarray) -> np.ndarray:
        x, y, slopes = self.psnr_db, self.log_rate, self._slopes
        if len(x) == 1:
            return np.full(psnr_db.shape, y[0])
        left = np.clip(np.searchsorted(x, psnr_db, side="right") - 1, 0, len(x) - 2)
        width = x[left + 1] - x[left]
        t = (psnr_db - x[left]) / width
        from_left = (1 + 2 * t) * y[left] + t * width * slopes[left]
        from_right = (3 - 2 * t) * y[left + 1] + (t - 1) * width * slopes[left + 1]
        return (1 - t) ** 2 * from_left + t**2 * from_right


def pchip_slopes(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Slopes at the knots with which cubic Hermite pieces overshoot nowhere.

    Args:
        x: (n,) ascending.
        y: (n,) values.
    Source: Fritsch and Carlson 1980 for the condition; Fritsch and Butland 1984 for the weighted
        harmonic mean within, which meets it; a parabola through three points at the ends, limited.
    """
    if len(x) == 1:
        return np.zeros(1)
    width = np.diff(x)
    secant = np.diff(y) / width
    if len(x) == 2:
        return np.repeat(secant, 2)
    slopes = np.zeros(len(x))
    before, after = 2 * width[1:] + width[:-1], width[1:] + 2 * width[:-1]
    same_sign = secant[:-1] * secant[1:] > 0
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = (before + after) / (before / secant[:-1] + after / secant[1:])
    slopes[1:-1] = np.where(same_sign, mean, 0.0)
    slopes[0] = _end_slope(*width[:2], *secant[:2])
    slopes[-1] = _end_slope(*width[:-3:-1], *secant[:-3:-1])
    return slopes


def _end_slope(width: float, next_width: float, secant: float, next_secant: float) -> float:
    slope = ((2 * width + next_width) * secant - width * next_secant) / (width + next_width)
    if slope * secant <= 0:
        return 0.0
    if secant * next_secant < 0 and abs(slope) > 3 * abs(secant):
        return 3 * secant
    return slope


def bd_rate(test: RateCurve, anchor: RateCurve) -> BdRate:
    """How much more rate `test` needs than `anchor` for the same PSNR, in the geometric mean."""
    low_db, high_db = max(test.low_db, anchor.low_db), min(test.high_db, anchor.high_db)
    if high_db - low_db < MIN_OVERLAP_DB:
        return BdRate(None, low_db, high_db)
    difference = test.mean_log_rate(low_db, high_db) - anchor.mean_log_rate(low_db, high_db)
    return BdRate(100 * math.expm1(difference), low_db, high_db)
