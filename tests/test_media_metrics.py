"""Errors between pictures, against sums written out sample by sample."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from media_examples import random_planes

from codec.media.frames import Frame, PixelFormat
from codec.media.metrics import (
    MAX_PSNR_DB,
    error_maps,
    frame_mse,
    plane_mse,
    psnr_from_mse,
    sequence_psnr,
)

few = settings(deadline=None, max_examples=25)
sizes = st.integers(1, 9)


def by_hand(one: np.ndarray, other: np.ndarray, counts: np.ndarray) -> float:
    pairs = [
        (int(a) - int(b)) ** 2
        for a, b, counted in zip(one.flat, other.flat, counts.flat, strict=True)
        if counted
    ]
    return sum(pairs) / len(pairs) if pairs else 0.0


@pytest.mark.parametrize("layout", ["gray", "rgb", "yuv420", "yuv422", "yuv444"])
@pytest.mark.parametrize("depth", [8, 10, 16])
@few
@given(height=sizes, width=sizes, seed=st.integers(0, 99))
def test_colour_error_is_the_weighted_mean(
    layout: str, depth: int, height: int, width: int, seed: int
) -> None:
    kind = PixelFormat(layout, depth)
    one, other = (Frame(random_planes(kind, width, height, s)) for s in (seed, seed + 1))
    errors = [by_hand(a, b, np.ones_like(a)) for a, b in zip(one.planes, other.planes, strict=True)]
    weights = [4, 1, 1] if layout.startswith("yuv") else [1] * len(errors)
    expected = sum(w * e for w, e in zip(weights, errors, strict=True)) / sum(weights)
    result = frame_mse(one, other, kind)
    assert result.alpha is None
    assert result.colour == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("layout", ["gray", "rgb", "yuv420", "yuv422", "yuv444"])
@few
@given(height=sizes, width=sizes, seed=st.integers(0, 99))
def test_colour_counts_where_alpha_is_above_zero(
    layout: str, height: int, width: int, seed: int
) -> None:
    kind = PixelFormat(layout, 8, alpha=True)
    one, other = (random_planes(kind, width, height, s) for s in (seed, seed + 1))
    alpha = (np.random.default_rng(seed).random((height, width)) < 0.3).astype(np.uint8) * 7
    one = (*one[:-1], alpha)
    down_y, down_x = kind.chroma_shifts
    errors = []
    for index, (a, b) in enumerate(zip(one[:-1], other[:-1], strict=True)):
        counts = np.zeros_like(a, bool)
        for y, x in np.argwhere(alpha > 0):
            counts[(y >> down_y, x >> down_x) if index else (y, x)] = True
        errors.append(by_hand(a, b, counts))
    weights = [4, 1, 1] if layout.startswith("yuv") else [1] * len(errors)
    expected = sum(w * e for w, e in zip(weights, errors, strict=True)) / sum(weights)
    result = frame_mse(Frame(one), Frame(other), kind)
    assert result.colour == pytest.approx(expected, rel=1e-12)
    assert result.alpha == by_hand(alpha, other[-1], np.ones_like(alpha))


def test_the_largest_error_does_not_overflow() -> None:
    black, white = np.zeros((300, 300), np.uint16), np.full((300, 300), 65535, np.uint16)
    assert plane_mse(black, white) == 65535.0**2


def test_psnr() -> None:
    assert psnr_from_mse(1.0, 255) == pytest.approx(48.1308036, abs=1e-6)
    assert psnr_from_mse(255.0**2, 255) == 0
    assert psnr_from_mse(0.0, 255) == MAX_PSNR_DB
    assert psnr_from_mse(1e-9, 65535) == MAX_PSNR_DB


def test_psnr_of_a_clip_is_that_of_the_mean_error() -> None:
    assert sequence_psnr(iter([1.0, 3.0]), 255) == pytest.approx(psnr_from_mse(2.0, 255))
    apart = (psnr_from_mse(1.0, 255) + psnr_from_mse(3.0, 255)) / 2
    assert not math.isclose(sequence_psnr([1.0, 3.0], 255), apart)


@pytest.mark.parametrize("layout", ["gray", "rgb", "yuv420", "yuv422", "yuv444"])
@pytest.mark.parametrize("alpha", [False, True])
@few
@given(height=sizes, width=sizes, seed=st.integers(0, 99))
def test_maps_of_errors_add_up_to_the_error(
    layout: str, alpha: bool, height: int, width: int, seed: int
) -> None:
    kind = PixelFormat(layout, 8, alpha=alpha)
    one, other = (Frame(random_planes(kind, width, height, s)) for s in (seed, seed + 1))
    maps = error_maps(one, other, kind)
    assert [m.shape for m in maps] == [plane.shape for plane in one.planes]
    total = sum(float(m.sum()) for m in maps)
    assert total == pytest.approx(frame_mse(one, other, kind).total, rel=1e-12)
