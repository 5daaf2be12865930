"""Segments of short trainings that start from the networks of the segment before."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fitted_models import IMAGE
from interrupts import Stop, stop_at
from small_pictures import clip

import codec.encoder.encode
import codec.encoder.finish
import codec.encoder.starts
from codec.arch import Architecture
from codec.arch.presets import build_architectures, load_preset
from codec.bitstream.reader import StreamReader
from codec.decoder import open_stream
from codec.encoder import encode_clip
from codec.encoder.starts import LEARNING_SHARE, start_from
from codec.encoder.tasks import make_task
from codec.media.frames import Clip, PixelFormat
from codec.options import EncodeOptions
from codec.training import halving, phase
from codec.training.states import Task
from codec.training.trainer import Trainer

torch.set_num_threads(1)
YUV = PixelFormat("yuv420", 8)
OPTIONS = EncodeOptions(preset="instant", rd_lambda=2e-3, seed=3, steps=30, threads=1, device="cpu")


@pytest.fixture(autouse=True)
def three_frames_a_segment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec.encoder.finish, "MOST_PASSES", 4)
    monkeypatch.setattr(codec.encoder.encode, "segment_length", lambda *size, **memory: 3)


@pytest.fixture
def tasks(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Task]]:
    """Collects what is trained, in its order."""
    made: list[Task] = []

    class Watched(Trainer):
        def run(self, *args, **options):
            made.append(self.task)
            return super().run(*args, **options)

    monkeypatch.setattr(codec.encoder.encode, "Trainer", Watched)
    return made


def nine_frames() -> Clip:
    return clip(YUV, 40, 56, tuple(range(9)))


def encode(source: Clip, call: dict | None = None, **changes) -> bytes:
    file = io.BytesIO()
    encode_clip(source, file, options=replace(OPTIONS, **changes), **(call or {}))
    return file.getvalue()


def test_each_segment_starts_where_the_one_before_ended(tasks: list[Task]) -> None:
    data = encode(nine_frames())
    assert [bool(task.networks) for task in tasks] == [False, True, True]
    assert tasks[1].networks is not tasks[2].networks
    rates = [task.recipe.network_lr for task in tasks]
    assert rates == [rates[0], LEARNING_SHARE * rates[0], LEARNING_SHARE * rates[0]]
    network_ids = [segment.network_id for segment in StreamReader(io.BytesIO(data)).segments()]
    assert network_ids == [0, 1, 2]
    assert len(list(open_stream(data, threads=1).frames())) == 9


def test_long_trainings_start_at_random(tasks: list[Task], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec.encoder.starts, "MOST_STEPS", 2)
    encode(nine_frames(), steps=3)
    assert not any(task.networks for task in tasks)


def test_a_resumed_segment_starts_where_it_would_have(
    tasks: list[Task], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(phase, "SNAPSHOT_EVERY_S", -1.0)
    whole, path = encode(nine_frames()), tmp_path / "x.checkpoint"

    with pytest.raises(Stop):
        encode(nine_frames(), {"checkpoint": path, "on_progress": stop_at("train", 75)})
    del tasks[:]
    assert encode(nine_frames(), {"checkpoint": path, "resume": True}) == whole
    assert [bool(task.networks) for task in tasks] == [True]


def test_segments_of_one_large_frame_start_so_too(
    tasks: list[Task], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(codec.encoder.encode, "segment_length", lambda *size, **memory: 1)
    monkeypatch.setattr(halving, "FEWEST_PIXELS", 40 * 56)
    data = encode(clip(YUV, 40, 56, (0, 1)), steps=12)
    assert [bool(task.networks) for task in tasks] == [False, True]
    assert [halving.is_worth_halving(task) for task in tasks] == [True, False]
    assert len(list(open_stream(data, threads=1).frames())) == 2


def small_task(num_frames: int = 2, known: Sequence[Architecture] = (), **changes) -> Task:
    source, preset = clip(YUV, 40, 56, tuple(range(num_frames))), load_preset("instant")
    how = {"rd_lambda": 1e-3, "seed": 0, "device": torch.device("cpu"), "threads": 1}
    made = make_task(list(source.frames), source.info, preset, preset.clip, **how, known=known)
    return replace(made, **changes)


def new_tensors(task: Task) -> dict[str, torch.Tensor]:
    return Trainer(task, lambda *_: None).new_candidate(1).model.state_dict()


def test_a_task_starts_from_what_was_trained() -> None:
    weights = Trainer(small_task(), lambda *_: None).run(4).model.state_dict()
    own = start_from(small_task(seed=9), weights)
    assert own.recipe.candidates == 1
    other = new_tensors(small_task(seed=9))
    assert any((other[name] != x).any() for name, x in weights.items())
    for name, x in new_tensors(own).items():
        assert torch.equal(weights[name], x), name


def test_what_depends_on_the_number_of_frames_starts_anew() -> None:
    weights = {name: x + 1 for name, x in new_tensors(small_task(2)).items()}
    fresh = new_tensors(small_task(7, seed=9))
    started = new_tensors(small_task(7, seed=9, networks=weights))
    other = {name for name, x in fresh.items() if x.shape != weights[name].shape}
    assert {name.split(".")[-1] for name in other} == {"codes"}
    for name, x in started.items():
        assert torch.equal(x, (fresh if name in other else weights)[name]), name


def test_motion_is_described_as_before_where_that_is_known() -> None:
    plan, size = load_preset("instant").clip, {"num_frames": 2, "height": 40, "width": 56}
    archs = build_architectures(plan, num_channels=3, **size)
    assert len(archs) > 1
    for arch in archs:
        assert small_task(known=[IMAGE, arch]).arch == arch
    assert small_task(known=[IMAGE]).arch == small_task().arch
