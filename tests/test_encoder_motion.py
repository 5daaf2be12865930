"""Clips that move, from their source to the stream and back."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from interrupts import Stop, stop_at
from moving_clips import pan

import codec.encoder.encode
import codec.encoder.finish
from codec.bitstream.reader import StreamReader
from codec.decoder import open_stream
from codec.encoder import encode_clip
from codec.media.frames import Clip, Frame, PixelFormat
from codec.options import EncodeOptions, EncodeReport, Progress
from codec.training import phase

torch.set_num_threads(1)
RGB = PixelFormat("rgb", 8)
RD_LAMBDA = 2e-3
PRESET = """
[image]
steps = 20
static = "0-3"
synthesis = ["6-1-linear-relu", "X-1-linear-none"]
[clip]
steps = 60
static = ""
dynamic = "0-3"
motion = ["3"]
contexts = 8
ifce_features = 2
ifce_levels = "0-1"
arm_layers = 1
synthesis = ["8-1-linear-relu", "X+2-1-linear-none", "X-3-difference-none"]
[training]
candidates = 1
"""
STILL_PRESET = PRESET.replace('motion = ["3"]\n', "").replace("X+2", "X")


@pytest.fixture(scope="module", autouse=True)
def few_passes_over_latents() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(codec.encoder.finish, "MOST_PASSES", 8)
        yield


@pytest.fixture
def a_snapshot_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(phase, "SNAPSHOT_EVERY_S", -1.0)


def encode(
    source: Clip, folder: Path, *, preset: str = PRESET, call: dict | None = None, **changes
) -> tuple[EncodeReport, bytes]:
    """The report and the stream of a clip, with a preset of this text."""
    path, file = folder / "own.toml", io.BytesIO()
    path.write_text(preset, encoding="utf-8")
    options = EncodeOptions(
        preset=str(path), rd_lambda=RD_LAMBDA, seed=3, steps=60, threads=2, device="cpu"
    )
    report = encode_clip(source, file, options=replace(options, **changes), **(call or {}))
    return report, file.getvalue()


def moving(
    pixel_format: PixelFormat = RGB, num_frames: int = 9, height: int = 48, width: int = 64
) -> Clip:
    return pan(pixel_format, height, width, num_frames)


def check_shown(data: bytes, report: EncodeReport, originals: list[Frame], peak: int) -> None:
    """The stream shows as many frames as there were, with the error that was reported."""
    shown = list(open_stream(data, threads=1).frames())
    assert len(shown) == len(originals) == report.num_frames
    errors = [
        np.mean([np.mean((a.astype(float) - b) ** 2) for a, b in zip(x.planes, y.planes,
                                                                     strict=True)])
        for x, y in zip(originals, shown, strict=True)
    ]  # fmt: skip
    for mse, reported in zip(errors, report.frame_psnr_db, strict=True):
        assert reported == pytest.approx(10 * math.log10(peak**2 / mse), abs=1e-6)
    stated = [h for segment in StreamReader(io.BytesIO(data)).segments()
              for h in segment.frame_hashes]  # fmt: skip
    assert report.frame_hashes == tuple(stated)


def j(report: EncodeReport) -> float:
    """D + lambda R of the whole file."""
    return 10 ** (-report.psnr_db / 10) + RD_LAMBDA * report.bpp


def same(first: list[Frame], second: list[Frame]) -> bool:
    return all(
        a.pts_ticks == b.pts_ticks and all(map(np.array_equal, a.planes, b.planes))
        for a, b in zip(first, second, strict=True)
    )


@pytest.fixture(scope="module")
def encoded(tmp_path_factory: pytest.TempPathFactory) -> tuple[EncodeReport, bytes]:
    return encode(moving(), tmp_path_factory.mktemp("moving"))


def test_a_moving_clip_is_shown_as_it_was_reported(encoded) -> None:
    report, data = encoded
    check_shown(data, report, list(moving().frames), peak=255)
    reader = StreamReader(io.BytesIO(data))
    (segment,) = reader.segments()
    arch = reader.network(segment.network_id).arch
    assert arch.has_motion
    assert any(segment.grid_present[: arch.num_motion_grids])
    assert report.psnr_db > 20


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("part", [(0, 1), (4, 5), (3, 8), (8, 9), (7, 9)], ids=str)
def test_a_range_shows_the_frames_of_the_whole(encoded, part, threads) -> None:
    _, data = encoded
    whole = list(open_stream(data, threads=1).frames())
    shown = list(open_stream(data, threads=threads).frames(*part))
    assert same(shown, whole[slice(*part)])


def test_motion_makes_a_pan_cheaper(encoded, tmp_path: Path) -> None:
    without, _ = encode(moving(), tmp_path, preset=STILL_PRESET)
    assert j(encoded[0]) < 0.8 * j(without)


def test_threads_change_nothing(encoded, tmp_path: Path) -> None:
    assert encode(moving(), tmp_path, threads=1)[1] == encoded[1]


@pytest.mark.usefixtures("a_snapshot_every_step")
@pytest.mark.parametrize("stop", [("train", 10), ("train", 25), ("freeze", 60)])
def test_a_resumed_clip_is_the_one_that_was_not_interrupted(encoded, stop, tmp_path: Path) -> None:
    call = {"checkpoint": tmp_path / "x.checkpoint"}
    with pytest.raises(Stop):
        encode(moving(), tmp_path, call={**call, "on_progress": stop_at(*stop)})
    heard: list[Progress] = []
    again = {**call, "resume": True, "on_progress": heard.append}
    report, data = encode(moving(), tmp_path, call=again)
    assert data == encoded[1]
    assert replace(report, seconds=0) == replace(encoded[0], seconds=0)
    # Nothing is trained again, be it of the growth or behind it.
    trained = [progress.step for progress in heard if progress.stage == "train"]
    assert trained[0] == min(stop[1], 58)


@pytest.mark.parametrize(
    "pixel_format",
    [PixelFormat("gray", 8), PixelFormat("yuv444", 10), PixelFormat("gray", 16)],
    ids=str,
)
def test_clips_of_other_formats_move_too(pixel_format: PixelFormat, tmp_path: Path) -> None:
    report, data = encode(moving(pixel_format, 5, 31, 45), tmp_path, steps=20)
    shown, originals = open_stream(data), list(moving(pixel_format, 5, 31, 45).frames)
    assert shown.info.format == pixel_format
    if pixel_format.layout == "gray":
        check_shown(data, report, originals, pixel_format.peak)
    else:
        assert len(list(shown.frames())) == 5
    assert report.psnr_db > 12


@pytest.mark.parametrize(("num_frames", "height", "width"), [(1, 9, 13), (2, 1, 1), (3, 3, 40)])
def test_small_clips_have_motion_too(
    num_frames: int, height: int, width: int, tmp_path: Path
) -> None:
    report, data = encode(moving(RGB, num_frames, height, width), tmp_path, steps=6)
    check_shown(data, report, list(moving(RGB, num_frames, height, width).frames), peak=255)


def test_segments_of_a_moving_clip_are_independent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(codec.encoder.encode, "segment_length", lambda *size, **memory: 3)
    _, data = encode(moving(RGB, 7, 17, 26), tmp_path, steps=8)
    whole = list(open_stream(data, threads=1).frames())
    for part in ((2, 5), (4, 5), (6, 7)):
        assert same(list(open_stream(data).frames(*part)), whole[slice(*part)])


@pytest.mark.slow
def test_a_moving_clip_reaches_its_size(tmp_path: Path) -> None:
    _, data = encode(moving(), tmp_path, rd_lambda=None, target="size=4000", steps=60)
    assert 0.98 * 4000 <= len(data) <= 4000
