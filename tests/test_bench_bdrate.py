"""BD-rates: curves whose difference is known, slopes worked out by hand, points in any disorder."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codec.bench.bdrate import MIN_OVERLAP_DB, RateCurve, bd_rate, pchip_slopes
from codec.media.metrics import MAX_PSNR_DB

# PSNRs at least 0.1 dB apart, rates anything: curves need not rise.
PSNRS = st.lists(st.integers(100, 900), min_size=2, max_size=9, unique=True)
RATES = st.floats(0.01, 20)


@st.composite
def curve_points(draw: st.DrawFn) -> list[tuple[float, float]]:
    levels = draw(PSNRS.filter(lambda found: max(found) - min(found) >= 10 * MIN_OVERLAP_DB))
    return [(draw(RATES), level / 10) for level in levels]


@settings(deadline=None)
@given(curve_points(), st.floats(0.05, 20))
def test_a_curve_times_a_factor_differs_by_that_factor(
    points: list[tuple[float, float]], factor: float
) -> None:
    scaled = RateCurve([(factor * bpp, psnr_db) for bpp, psnr_db in points])
    rate = bd_rate(scaled, RateCurve(points))
    assert rate.percent == pytest.approx(100 * (factor - 1), rel=1e-9, abs=1e-9)


@settings(deadline=None)
@given(curve_points(), curve_points())
def test_the_way_back_undoes_the_way_there(
    one: list[tuple[float, float]], other: list[tuple[float, float]]
) -> None:
    there, back = (
        bd_rate(RateCurve(a), RateCurve(b)).percent for a, b in ((one, other), (other, one))
    )
    assert (there is None) == (back is None)
    if there is not None:
        assert (1 + there / 100) * (1 + back / 100) == pytest.approx(1, rel=1e-9)


@settings(deadline=None)
@given(curve_points(), st.randoms(use_true_random=False))
def test_order_and_repetition_do_not_matter(points: list[tuple[float, float]], random) -> None:
    mixed = [*points, *((2 * bpp, psnr_db) for bpp, psnr_db in points)]
    random.shuffle(mixed)
    curve, other = RateCurve(points), RateCurve(mixed)
    assert np.array_equal(curve.psnr_db, other.psnr_db)
    assert np.array_equal(curve.log_rate, other.log_rate)


@settings(deadline=None)
@given(curve_points())
def test_curves_pass_their_points_and_stay_between_neighbours(
    points: list[tuple[float, float]],
) -> None:
    curve, ordered = RateCurve(points), sorted(points, key=lambda point: point[1])
    for bpp, psnr_db in ordered:
        assert curve.rate_at(psnr_db) == pytest.approx(bpp)
    for (bpp, psnr_db), (next_bpp, next_psnr_db) in pairwise(ordered):
        low, high = sorted((bpp, next_bpp))
        for part in (0.2, 0.5, 0.9):
            middle = curve.rate_at(psnr_db + part * (next_psnr_db - psnr_db))
            assert low * (1 - 1e-9) <= middle <= high * (1 + 1e-9)


def test_slopes_worked_out_by_hand() -> None:
    # Secants 1 and 1/2 over widths 1 and 2: weights 2*2+1 and 2+2*1, and parabolas at the ends.
    slopes = pchip_slopes(np.array([0.0, 1.0, 3.0]), np.array([0.0, 1.0, 2.0]))
    assert slopes == pytest.approx([(4 * 1 - 0.5) / 3, 9 / (5 / 1 + 4 / 0.5), (5 * 0.5 - 2) / 3])
    # A turn is flat at the top. The parabola through (0, 0), (1, 1), (2, -9) begins with 6.5.
    assert pchip_slopes(np.array([0.0, 1, 2]), np.array([0.0, 1, -9])).tolist() == [3, 0, -15.5]
    assert pchip_slopes(np.array([0.0, 1, 2]), np.array([0.0, 1, 9])).tolist()[0] == 0


def test_rates_worked_out_by_hand() -> None:
    flat, rising = RateCurve([(1, 30), (1, 40)]), RateCurve([(1, 30), (4, 40)])
    # Two points make a straight line in log(rate): from equal to four times, twice in the mean.
    assert bd_rate(rising, flat).percent == pytest.approx(100)
    assert bd_rate(flat, rising).percent == pytest.approx(-50)
    assert rising.rate_at(35) == pytest.approx(2)
    # Over the upper half alone it is from twice to four times.
    upper = RateCurve([(1, 35), (1, 45)])
    rate = bd_rate(rising, upper)
    assert (rate.low_db, rate.high_db) == (35, 40)
    assert rate.percent == pytest.approx(100 * (math.sqrt(8) - 1))


def test_what_hardly_overlaps_is_not_compared() -> None:
    below, above = RateCurve([(1, 30), (2, 35)]), RateCurve([(1, 34.6), (2, 40)])
    rate = bd_rate(above, below)
    assert rate.percent is None
    assert (rate.low_db, rate.high_db) == (34.6, 35)
    apart = bd_rate(RateCurve([(1, 50)]), below)
    assert apart.percent is None
    assert apart.high_db < apart.low_db
    assert below.rate_at(29.9) is None
    assert below.rate_at(35.1) is None


def test_points_that_say_nothing() -> None:
    curve = RateCurve([(1, 30), (2, 35), (9, MAX_PSNR_DB)])
    assert curve.high_db == 35
    for points in ([], [(5, MAX_PSNR_DB)], [(0, 30), (1, 31)]):
        with pytest.raises(ValueError, match="points with rates above 0"):
            RateCurve(points)
