"""Where clips are cut: scenes, limits of length and memory, equal parts, and what is read ahead."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate, chain
from pathlib import Path

import numpy as np
import pytest

import codec.segments
from codec.errors import UsageError
from codec.media.frames import Frame
from codec.media.sources import open_source
from codec.segments import (
    BASE_BYTES,
    BYTES_PER_PIXEL,
    LEAST_SCENE_FRAMES,
    MAX_SEGMENT_FRAMES,
    balanced_length,
    cut_frames,
    machine_memory_bytes,
    segment_length,
)
from tests.conftest import ROOT

SAMPLES = ROOT / "samples"


@pytest.fixture(scope="module")
def film() -> list[Frame]:
    """A film's 24 frames of one scene."""
    return list(open_source(SAMPLES / "clip.mkv").frames)


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    """The green plane of a photograph, (300, 451) uint8."""
    (frame,) = open_source(SAMPLES / "photo.png").frames
    return frame.planes[1]


def _pan(photo: np.ndarray, step: int, num_frames: int) -> list[Frame]:
    """A window of 320x180 that goes `step` samples to the right a frame, and back at the end."""
    span = photo.shape[1] - 320
    places = [span - abs(span - t * step % (2 * span)) for t in range(num_frames)]
    return [Frame((photo[60:240, x : x + 320],)) for x in places]


def _starts(frames: list[Frame], *, longest: int = 64, num_frames: int | None = None) -> list[int]:
    """First frames of all segments but the first."""
    lengths = map(len, cut_frames(iter(frames), longest, peak=255, num_frames=num_frames))
    return list(accumulate(lengths))[:-1]


def test_a_new_scene_begins_a_segment(film: list[Frame], photo: np.ndarray) -> None:
    pan = _pan(photo, 3, 20)
    assert _starts(film + pan) == [24]
    assert _starts(pan + film[:7] + pan[:9]) == [20, 27]
    assert _starts(pan + film, longest=16) == [16, 20, 36]


def test_fast_pans_are_one_scene(photo: np.ndarray) -> None:
    assert _starts(_pan(photo, 40, 30)) == []


def test_what_changes_little_is_one_scene(film: list[Frame]) -> None:
    assert _starts(film) == []
    fade = [Frame(((f.planes[0] * (t / 24)).astype(np.uint8),)) for t, f in enumerate(film)]
    assert _starts(fade) == []
    noise = np.random.default_rng(0).integers(100, 104, (12, 50, 60), np.uint8)
    assert _starts([Frame((plane,)) for plane in noise]) == []


def test_a_flash_makes_no_segment_of_its_own(film: list[Frame], photo: np.ndarray) -> None:
    flash = Frame((np.ascontiguousarray(photo[60:240, :320]),))
    starts = _starts([*film[:10], flash, *film[10:]])
    lengths = np.diff([0, *starts, len(film) + 1])
    assert min(lengths) >= LEAST_SCENE_FRAMES
    assert len(starts) <= 1


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (3, 2)])
def test_tiny_frames(size: tuple[int, int]) -> None:
    frames = [Frame((np.full(size, 10 * t, np.uint8),)) for t in range(9)]
    assert _starts(frames) == []


def test_deep_samples_are_cut_alike(film: list[Frame], photo: np.ndarray) -> None:
    both = film[:10] + _pan(photo, 3, 10)
    deep = [Frame((f.planes[0].astype(np.uint16) * 257,)) for f in both]
    lengths = [len(s) for s in cut_frames(iter(deep), 64, peak=65535)]
    assert lengths == [10, 10]


def test_segments_are_of_equal_length_where_the_number_is_known(film: list[Frame]) -> None:
    frames = list(chain(film, film[::-1], film))[:65]
    assert _starts(frames, num_frames=65) == [33]
    assert _starts(frames) == [64]
    assert balanced_length(64, 130) == 44
    assert balanced_length(64, 64) == 64
    assert balanced_length(7, 0) == 7


def test_promises_that_are_not_kept_do_no_harm(film: list[Frame]) -> None:
    assert _starts(film, longest=10, num_frames=100) == [10, 20]
    assert _starts(film, longest=10, num_frames=12) == [6, 12, 22]
    assert list(cut_frames(iter([]), 10, peak=255, num_frames=5)) == []


def test_one_frame_at_most_is_read_ahead(film: list[Frame], photo: np.ndarray) -> None:
    read = 0

    def source() -> Iterator[Frame]:
        nonlocal read
        for frame in film[:8] + _pan(photo, 3, 20):
            read += 1
            yield frame

    segments = cut_frames(source(), 16, peak=255)
    assert (len(next(segments)), read) == (8, 9)
    assert (len(next(segments)), read) == (16, 24)


def test_memory_limits_the_length() -> None:
    cif = 352 * 288
    memory = BASE_BYTES + 10 * cif * BYTES_PER_PIXEL
    assert segment_length(288, 352, max_memory_bytes=memory) == 10
    assert segment_length(288, 352, max_memory_bytes=memory - 1) == 9
    assert segment_length(288, 352, max_memory_bytes=1 << 40) == MAX_SEGMENT_FRAMES


@pytest.mark.parametrize(
    ("machine_bytes", "length"), [(None, 31), (32 << 30, 31), (4 << 30, 10), (100 << 20, 1)]
)
def test_without_a_limit_the_machine_has_one(
    machine_bytes: int | None, length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(codec.segments, "machine_memory_bytes", lambda: machine_bytes)
    assert segment_length(480, 768) == length
    assert segment_length(480, 768, device_type="cuda") == 10
    assert segment_length(9000, 9000) == 1


def test_a_container_has_less_memory_than_its_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(codec.segments, "CONTAINER_LIMIT", limit)
    whole = machine_memory_bytes()
    for text, bytes_ in [("max\n", whole), ("104857600\n", 100 << 20)]:
        limit.write_text(text, encoding="ascii")
        assert machine_memory_bytes() == bytes_


def test_memory_that_is_too_small_is_told_with_what_would_do() -> None:
    with pytest.raises(UsageError, match=r"1920x1080; give [0-9]+MiB or more") as raised:
        segment_length(1080, 1920, max_memory_bytes=100 << 20)
    enough = int(str(raised.value).split("give ")[1].split("MiB")[0]) << 20
    assert segment_length(1080, 1920, max_memory_bytes=enough) == 1


def test_the_command_line_knows_max_memory(modcodec, tmp_path: Path) -> None:
    arguments = ("encode", SAMPLES / "clip.mkv", "-o", tmp_path / "x.modc", "--max-memory")
    for wrong, said in [("many", "800MB or 2GiB"), ("1MB", "or more, or a smaller picture")]:
        done = modcodec(*arguments, wrong)
        assert done.returncode == 2
        assert said in done.stderr
