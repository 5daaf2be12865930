"""Other codecs at a given size: the search, and that what it reports is what a decoder sees."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cli.peers import clip_peers, largest_within, still_peers
from codec.arrays import clip_of
from codec.errors import UsageError
from codec.media.sources import open_source

SAMPLES = Path(__file__).resolve().parent.parent / "samples"


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, 50), min_size=1, max_size=30).map(sorted), st.integers(0, 60))
def test_the_largest_that_fits_is_found(sizes: list[int], budget: int) -> None:
    found = largest_within(lambda setting: bytes(sizes[setting]), range(len(sizes)), budget)
    fitting = [setting for setting, size in enumerate(sizes) if size <= budget]
    assert found == ((fitting[-1], bytes(sizes[fitting[-1]])) if fitting else None)


def test_pictures_are_measured_as_decoded() -> None:
    with Image.open(SAMPLES / "photo.png") as image:
        crop = image.crop((100, 60, 228, 156))
    array = np.asarray(crop)
    points = {point.name: point for point in still_peers(clip_of(array), 3000)}
    assert all(0 < point.size_bytes <= 3000 for point in points.values())
    buffer = io.BytesIO()
    crop.save(buffer, "WEBP", quality=int(points["WebP"].setting.split()[1]), method=6)
    assert points["WebP"].size_bytes == len(buffer.getvalue())
    decoded = np.asarray(Image.open(buffer).convert("RGB"), float)
    expected = 10 * np.log10(255**2 / np.mean((decoded - array) ** 2))
    assert points["WebP"].psnr_db == pytest.approx(expected)


def test_nothing_fits_into_nothing() -> None:
    points = list(still_peers(clip_of(np.zeros((8, 8), np.uint8)), 10))
    assert [point.size_bytes for point in points] == [None] * 3


def test_pictures_that_others_cannot_hold() -> None:
    for array in (np.zeros((4, 4), np.uint16), np.zeros((4, 4, 4), np.uint8)):
        with pytest.raises(UsageError, match="8-bit picture without alpha"):
            list(still_peers(clip_of(array), 100))


def test_clips_fit_and_improve_with_the_budget() -> None:
    small, large = (
        {p.name: p for p in clip_peers(open_source(SAMPLES / "tiny_63x47.y4m"), budget)}
        for budget in (1500, 4000)
    )
    assert set(small) == {"x264 medium", "x265 medium"}
    for name in small:
        assert small[name].size_bytes <= 1500 < large[name].size_bytes <= 4000
        assert 25 < small[name].psnr_db < large[name].psnr_db


def test_clips_are_measured_without_padding() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (2, 33, 65, 1), dtype=np.uint8)
    points = {p.name: p for p in clip_peers(clip_of(noise), 1_000_000)}
    assert points["x264 medium"].setting == points["x265 medium"].setting == "crf 0"
    assert all(point.psnr_db > 45 for point in points.values())


def test_formats_that_clip_codecs_do_not_take() -> None:
    points = list(clip_peers(clip_of(np.zeros((2, 8, 8, 1), np.uint16)), 100))
    assert [point.size_bytes for point in points] == [None, None]
    assert all("cannot hold it: gray of 16 bit" in point.setting for point in points)
