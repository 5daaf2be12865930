"""Targets, time and resuming: encodes that end where they were asked to."""

from __future__ import annotations

import io
import math
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest
from interrupts import Stop, stop_at
from small_pictures import clip
from test_encoder import OPTIONS, SAMPLES, photo

import codec
import codec.encoder.encode
import codec.encoder.finish
import codec.encoder.resume
from codec.encoder import encode_clip
from codec.encoder.pace import Pace, steps_for_time, work_of
from codec.encoder.target import Window, _Point, _slope
from codec.errors import InputError, TargetError, UsageError
from codec.media.frames import Clip, PixelFormat
from codec.media.sources import open_source
from codec.options import (
    EncodeOptions,
    EncodeReport,
    EncodeTarget,
    Progress,
    parse_duration,
    parse_size,
    rd_lambda_for_psnr,
    rd_lambda_of,
)
from codec.training import phase
from codec.training.checkpoint import read_checkpoint, write_checkpoint
from codec.training.control import Goal, moved, steer
from codec.training.states import Cost, Trained

YUV = PixelFormat("yuv420", 8)


def encode(source: Clip, **changes) -> tuple[EncodeReport, bytes]:
    file = io.BytesIO()
    call = {name: changes.pop(name) for name in ("checkpoint", "resume", "on_progress")
            if name in changes}  # fmt: skip
    options = replace(OPTIONS, **changes)
    return encode_clip(source, file, options=options, **call), file.getvalue()


def picture() -> Clip:
    return photo(48, 64)


def five_frames() -> Clip:
    return clip(YUV, 13, 18, (0, 1, 2, 3, 4))


def tiny() -> Clip:
    return open_source(SAMPLES / "tiny_63x47.y4m")


@pytest.fixture(autouse=True)
def few_passes_over_latents(monkeypatch):
    monkeypatch.setattr(codec.encoder.finish, "MOST_PASSES", 15)


@pytest.fixture
def two_frames_a_segment(monkeypatch):
    monkeypatch.setattr(codec.encoder.encode, "segment_length", lambda *size, **memory: 2)


@pytest.fixture
def a_snapshot_every_step(monkeypatch):
    monkeypatch.setattr(phase, "SNAPSHOT_EVERY_S", -1.0)


@pytest.mark.parametrize("step", [12, 21, 30])
def test_a_resumed_picture_is_the_one_that_was_not_interrupted(
    step, tmp_path, a_snapshot_every_step
):
    path = tmp_path / "x.checkpoint"
    _, whole = encode(picture(), steps=30)
    stage = "freeze" if step == 30 else "train"
    with pytest.raises(Stop):
        encode(picture(), steps=30, checkpoint=path, on_progress=stop_at(stage, step))
    heard: list[Progress] = []
    report, resumed = encode(
        picture(), steps=30, checkpoint=path, resume=True, on_progress=heard.append
    )
    assert resumed == whole
    assert report.steps == 30
    trained = [p.step for p in heard if p.stage == "train"]
    assert trained[-1] == 30
    assert trained[0] >= min(step, 29)


@pytest.mark.parametrize("stop", [("train", 14), ("freeze", 24), ("train", 30)])
def test_a_resumed_clip_is_the_one_that_was_not_interrupted(
    stop, tmp_path, two_frames_a_segment, a_snapshot_every_step
):
    path = tmp_path / "x.checkpoint"
    expected, whole = encode(five_frames(), steps=12)
    with pytest.raises(Stop):
        encode(five_frames(), steps=12, checkpoint=path, on_progress=stop_at(*stop))
    heard: list[Progress] = []
    report, resumed = encode(
        five_frames(), steps=12, checkpoint=path, resume=True, on_progress=heard.append
    )
    assert resumed == whole
    assert replace(report, seconds=0) == replace(expected, seconds=0)
    # Nothing that was finished is trained again.
    assert min(p.step for p in heard if p.stage == "train") > 12


def test_without_a_checkpoint_resuming_begins_anew(tmp_path):
    path = tmp_path / "none.checkpoint"
    _, whole = encode(picture(), steps=4)
    assert encode(picture(), steps=4, checkpoint=path, resume=True)[1] == whole
    assert not path.exists()


def test_checkpoints_of_other_encodes_are_refused(
    tmp_path, two_frames_a_segment, a_snapshot_every_step
):
    path = tmp_path / "x.checkpoint"
    with pytest.raises(Stop):
        encode(five_frames(), steps=12, checkpoint=path, on_progress=stop_at("train", 14))
    again = {"checkpoint": path, "resume": True}
    with pytest.raises(UsageError, match="another seed"):
        encode(five_frames(), steps=12, seed=4, **again)
    with pytest.raises(UsageError, match="another rd_lambda"):
        encode(five_frames(), steps=12, rd_lambda=2e-3, **again)
    with pytest.raises(InputError, match="not the one"):
        encode(clip(YUV, 13, 18, (0, 2, 4, 6, 8)), steps=12, **again)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match="not a checkpoint"):
        encode(five_frames(), steps=12, **again)


def test_checkpoints_keep_tensors_and_text(tmp_path: Path):
    import torch

    path = tmp_path / "c"
    tensors = {"a/b": torch.arange(6).reshape(2, 3).T, "empty": torch.zeros(0)}
    write_checkpoint(path, tensors, {"steps": 3, "names": ["ü"]})
    read, about = read_checkpoint(path)
    assert about == {"steps": 3, "names": ["ü"]}
    assert read.keys() == tensors.keys()
    assert all(torch.equal(read[name], tensors[name]) for name in tensors)
    assert [p.name for p in tmp_path.iterdir()] == ["c"]


def test_a_psnr_is_reached():
    report, _ = encode(picture(), steps=150, rd_lambda=None, target="psnr=27")
    assert report.psnr_db == pytest.approx(27, abs=0.05)
    assert report.steps >= 150


@pytest.mark.parametrize("target", ["size=1000B", "bpp=2.5"])
def test_a_size_is_reached_and_not_passed(target):
    _, data = encode(picture(), steps=150, rd_lambda=None, target=target)
    most = 1000 if target.startswith("size") else math.floor(2.5 * 48 * 64 / 8)
    assert 0.98 * most <= len(data) <= most


def test_a_clip_shares_its_bytes_among_segments(two_frames_a_segment):
    report, data = encode(tiny(), steps=80, rd_lambda=None, target="size=2500")
    assert 0.98 * 2500 <= len(data) <= 2500
    assert report.size_bytes == len(data)


def test_targets_out_of_reach_tell_what_was_found():
    with pytest.raises(TargetError, match=r"target of 60 bytes.* nearest was \d+ bytes"):
        encode(picture(), steps=10, rd_lambda=None, target="size=60")
    with pytest.raises(TargetError, match="header and sound alone"):
        encode(five_frames(), steps=5, rd_lambda=None, target="size=40")
    unknown = replace(five_frames(), num_frames=None, expected_frames=None)
    with pytest.raises(UsageError, match="--limit"):
        encode(unknown, rd_lambda=None, target="size=6000")


def test_a_source_with_fewer_frames_than_promised_misses_a_size(monkeypatch):
    def first_try(trainer, trained, window, *, steps, tools):
        rd_lambda = trainer.rd_lambda
        return tools.code(tools.finish(trained, rd_lambda).at(rd_lambda)), rd_lambda

    monkeypatch.setattr(codec.encoder.encode, "search", first_try)
    promised = replace(tiny(), num_frames=None, expected_frames=60)
    with pytest.raises(TargetError, match="with the 5 frames"):
        encode(promised, steps=5, rd_lambda=None, target="size=13000")


def test_an_encode_that_misses_its_target_leaves_nothing(tmp_path, a_snapshot_every_step):
    target = tmp_path / "x.modc"
    with pytest.raises(TargetError):
        codec.encode(
            SAMPLES / "tiny_63x47.y4m",
            target,
            target="size=300",
            steps=2,
            limit=1,
            preset="instant",
        )
    assert list(tmp_path.iterdir()) == []


def test_time_becomes_steps_that_are_told_and_kept():
    heard: list[Progress] = []
    report, data = encode(picture(), steps=None, time_s=3.0, on_progress=heard.append)
    assert heard[0].stage == "estimate"
    assert heard[0].num_steps == report.steps > 1
    assert encode(picture(), steps=report.steps)[1] == data


def test_more_time_is_more_steps():
    for is_search in (False, True):
        work = partial(work_of, is_search=is_search)
        counts = [steps_for_time(t, 0.1, work) for t in (1, 30, 60, 120)]
        assert counts[0] == 1
        assert counts == sorted(set(counts))
        for seconds, steps in zip((30, 60, 120), counts[1:], strict=True):
            assert work(steps) * 0.1 <= seconds < work(steps + 1) * 0.1


def test_the_clock_of_steps_starts_with_the_first_one(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("codec.encoder.pace.time.monotonic", lambda: now[0])
    pace = Pace()
    pace.plan(50.0)
    assert pace.seconds_left(0, 10) == 50.0
    now[0] = 1000.0  # kernels were compiled
    assert pace.seconds_left(1, 10) == 50.0
    now[0] = 1006.0
    assert pace.seconds_left(4, 10) == pytest.approx(12.0)


def test_the_cost_that_is_told_never_rises():
    costs: list[Cost] = []
    source = picture()
    (frame,) = source.frames
    heard: list[Progress] = []
    encode(replace(source, frames=iter([frame])), steps=120, on_progress=heard.append)
    for progress in heard:
        if progress.stage == "train" and math.isfinite(progress.bpp):
            distortion = 10 ** (-progress.psnr_db / 10)
            costs.append(Cost.of(distortion, progress.bpp, 1e-3))
    js = [cost.j for cost in costs]
    assert len(set(js)) > 5
    assert all(b <= a * (1 + 1e-9) for a, b in pairwise(js))


def test_quality_is_even_and_lambda_falls_with_it():
    lambdas = [rd_lambda_of(q) for q in range(101)]
    assert all(a > b for a, b in pairwise(lambdas))
    assert lambdas[0] == pytest.approx(2e-2)
    assert 4e-5 < lambdas[100] < 1e-4
    for rd_lambda, psnr in ((4e-3, 30.9), (1e-3, 34.5), (4e-4, 37.2), (1e-4, 41.2)):
        assert rd_lambda_for_psnr(psnr) == pytest.approx(rd_lambda)
    assert rd_lambda_for_psnr(200.0) == 1e-6
    assert rd_lambda_for_psnr(-200.0) == 1.0


def test_targets_and_times_are_read():
    assert EncodeTarget.parse("psnr=38.5") == EncodeTarget("psnr", 38.5)
    assert EncodeTarget.parse("size=20KiB") == EncodeTarget("size", 20480)
    assert EncodeTarget.parse("SIZE=1.5kB") == EncodeTarget("size", 1500)
    assert EncodeTarget.parse("bpp=.2") == EncodeTarget("bpp", 0.2)
    for wrong in ("psnr", "ssim=3", "psnr=-3", "psnr=38dB", "size=3TB", "bpp=0", "size=", "=3"):
        with pytest.raises(UsageError):
            EncodeTarget.parse(wrong)
    times = {"90": 90, "90s": 90, "1.5m": 90, "2h": 7200, "1:30": 90, "1:02:03": 3723}
    assert {text: parse_duration(text) for text in times} == times
    for wrong in ("", "0", "-3", "1:99", "3 days", "s", "nan"):
        with pytest.raises(UsageError):
            parse_duration(wrong)
    sizes = {"1": 1, "800MB": 800_000_000, "1.5GiB": 3 << 29, " 2 gib": 2 << 30, "64kb": 64_000}
    assert {text: parse_size(text) for text in sizes} == sizes
    for wrong in ("", "GiB", "-1MB", "0.5", "2TB", "1e9"):
        with pytest.raises(UsageError, match="800MB or 2GiB"):
            parse_size(wrong)
    with pytest.raises(UsageError, match="one of them"):
        EncodeOptions(target="psnr=38", quality=3)
    with pytest.raises(UsageError, match="one of them"):
        EncodeOptions(steps=3, time_s=3.0)


def test_lambda_is_steered_towards_the_goal():
    def goal(kind: str, value: float) -> Goal:
        return Goal(kind, value, lambda model: 0.1)

    state = Trained(None, [], Cost.of(1e-3, 0.5, 1e-3))  # 30 dB, 0.6 bpp with the networks
    for kind, more, less in (("psnr", 31.0, 29.0), ("bpp", 0.7, 0.5)):
        assert steer(1e-3, state, goal(kind, more), 0.5) < 1e-3
        assert steer(1e-3, state, goal(kind, less), 0.5) > 1e-3
    assert steer(1e-3, state, goal("bpp", 0.7), 0.1) == 1e-3
    assert steer(1e-3, state, goal("bpp", 0.01), 0.9) > 1e-3
    assert steer(1e-3, Trained(None, [], Cost.unknown()), goal("psnr", 31.0), 0.9) == 1e-3
    assert moved(1e-3, -9.0) == pytest.approx(1e-3 * 10**-0.3)
    assert moved(1.5e-6, -9.0) == 1e-6


def test_the_slope_of_the_search_stays_near_what_is_usual():
    window = Window.of_psnr(30.0)
    assert window.holds(30.04)
    assert not window.holds(30.06)
    points = [_Point(-3.0, 30.0)]
    assert _slope(window, points) == window.per_decade
    assert _slope(window, [*points, _Point(-2.5, 26.0)]) == pytest.approx(-8.0)
    assert _slope(window, [*points, _Point(-2.5, 31.0)]) == window.per_decade / 6
    assert _slope(window, [*points, _Point(-2.9, 20.0)]) == 2 * window.per_decade
    size = Window.of_size(980, 1000)
    assert size.holds(math.log(1000))
    assert size.holds(math.log(981))
    assert not size.holds(math.log(1001))
    assert size.describe(math.log(123)) == "123 bytes"
