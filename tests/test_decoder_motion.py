"""Clips whose frames are predicted from others: decoded whole and in parts, measured, refused."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from decoder_streams import CLIP_INFO, Pictures, Pipe, assert_same, make_segment
from fixedpoint_networks import MOVING, architecture, random_latents, random_network, zero_network

from codec.arch import NARROW, prediction_levels, references_of
from codec.bitstream.architecture import read_architecture, write_architecture
from codec.bitstream.elements import Partition, Segment
from codec.bitstream.fields import Cursor, FieldWriter
from codec.bitstream.limits import Limits
from codec.bitstream.writer import StreamWriter
from codec.decoder import open_stream
from codec.decoder.segments import check_segment, segment_samples
from codec.decoder.summary import describe_grids
from codec.errors import BitstreamError, LimitError
from codec.fixedpoint import render
from codec.fixedpoint.pictures import frames_from_channels
from codec.fixedpoint.program import load_network
from codec.freeze.measure import Meter, Target
from codec.media.frames import Frame
from codec.media.metrics import frame_mse


@pytest.fixture(scope="module")
def clip() -> tuple[bytes, Pictures]:
    """Two segments of 9 and 2 frames."""
    network = random_network(MOVING, NARROW, seed=1)
    file, pictures, first = io.BytesIO(), [], 0
    writer = StreamWriter(file, CLIP_INFO)
    writer.network(0, network)
    for seed, count in enumerate((9, 2)):
        segment, made = make_segment(
            network, CLIP_INFO, first_frame=first, num_frames=count, seed=seed
        )
        writer.segment(segment)
        pictures += made
        first += count
    writer.finish()
    return file.getvalue(), pictures


@pytest.mark.parametrize("opened", [bytes, Pipe], ids=["bytes", "pipe"])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_clip(clip: tuple[bytes, Pictures], opened: type, threads: int) -> None:
    data, pictures = clip
    assert len({planes[0].tobytes() for planes in pictures}) == 11
    with open_stream(opened(data), threads=threads) as stream:
        assert_same(list(stream.frames()), pictures)


@pytest.mark.parametrize(("start", "stop"), [(0, 1), (3, 4), (5, 8), (7, 11), (9, None)])
def test_a_range_of_frames(clip: tuple[bytes, Pictures], start: int, stop: int | None) -> None:
    data, pictures = clip
    with open_stream(data, threads=2) as stream:
        assert_same(list(stream.frames(start, stop)), pictures[start:stop])


@pytest.mark.parametrize("threads", [1, 2])
def test_only_references_are_made(monkeypatch: pytest.MonkeyPatch, threads: int) -> None:
    size = {"num_frames": 17, "height": 20, "width": 24}
    program = load_network(random_network(MOVING, NARROW, seed=1), NARROW)
    latents = random_latents(MOVING, **size, seed=2)
    made, make = [], render.make_picture

    def noted(scene, inter, *rest, **options):
        made.append(inter.frame)
        return make(scene, inter, *rest, **options)

    monkeypatch.setattr(render, "make_picture", noted)
    frames = range(5, 7)
    list(render.render(program, latents, {}, **size, frames=frames, threads=threads))
    needed = {
        inter.frame for level in references_of(frames, prediction_levels(17, 32)) for inter in level
    }
    assert sorted(made) == sorted(needed)
    assert needed == {0, 4, 5, 6, 8, 16}


def test_what_is_measured_is_what_is_decoded() -> None:
    size = {"num_frames": 6, "height": 27, "width": 35}
    network = random_network(MOVING, NARROW, seed=1)
    program = load_network(network, NARROW)
    latents = random_latents(MOVING, **size, seed=2)
    shown = [
        Frame(frames_from_channels(picture, CLIP_INFO.format, numerics=NARROW))
        for picture in render.render(program, latents, {}, **size)
    ]
    wanted = shown[::-1]
    target = Target(wanted, CLIP_INFO.format, 27, 35, 1e-3, 0, 2)
    meter = Meter(MOVING, NARROW, latents, target)
    inputs = meter.features(program, {})
    errors = [frame_mse(*pair, CLIP_INFO.format).total for pair in zip(wanted, shown, strict=True)]
    expected = sum(errors) / 6 / 255**2
    assert meter.distortion(program, inputs) == pytest.approx(expected, rel=1e-12)
    maps = meter.error_maps(program, inputs)
    assert sum(float(plane.sum()) for plane in maps) > 0
    assert (
        Meter(MOVING, NARROW, latents, replace(target, frames=shown)).distortion(program, inputs)
        == 0
    )


def test_held_pictures_are_counted() -> None:
    still = architecture(static="0-1", dynamic="2", synthesis=("5-1-linear-none",), num_channels=5)
    moving = architecture(
        static="0-1", dynamic="2", motion="3", synthesis=("5-1-linear-none",), num_channels=3
    )
    size = {"num_frames": 9, "height": 32, "width": 40}
    absent = [False] * len(moving.grids)
    counts = [
        segment_samples(arch, tuple(absent[: len(arch.grids)]), **size) for arch in (still, moving)
    ]
    assert counts[1] - counts[0] == 9 * 3 * 32 * 40


def test_a_huge_clip_is_refused_before_anything_is_allocated() -> None:
    arch = zero_network(MOVING).arch
    segment = Segment(
        first_frame=0,
        num_frames=256,
        rect=(0, 0, 1 << 11, 1 << 11),
        network_id=0,
        grid_present=(False,) * len(arch.grids),
        substreams=(b"",),
        frame_hashes=(0,) * 256,
        pts_ticks=tuple(range(256)),
        codes={},
        noise_seed=0,
        partition=Partition(),
    )
    with pytest.raises(LimitError, match="numbers at once"):
        check_segment(segment, arch, Limits())
    check_segment(replace(segment, num_frames=16), arch, Limits())


def test_motion_grids_survive_their_bytes_and_wrong_ones_are_refused() -> None:
    writer = FieldWriter()
    write_architecture(writer, MOVING)
    data = bytearray(writer.finish())
    assert read_architecture(Cursor(bytes(data), what="test")) == MOVING
    runs = range(5, 5 + 2 * data[4], 2)
    (place,) = (run for run in runs if data[run] >> 4 == 4 and data[run + 1] & 15 == 2)
    for kind in (0x53, 0xC3, 0x42, 0x41, 0x45):
        data[place] = kind
        with pytest.raises(BitstreamError):
            read_architecture(Cursor(bytes(data), what="test"))


def test_a_flipped_byte_is_found(clip: tuple[bytes, Pictures]) -> None:
    data, _ = clip
    rng = np.random.default_rng(1)
    for place in rng.integers(5, len(data), 12):
        damaged = bytearray(data)
        damaged[place] ^= 0x10
        with pytest.raises(BitstreamError):
            list(open_stream(bytes(damaged)).frames())


def test_a_summary_names_the_levels_of_motion() -> None:
    rest = "static 0-1, every 2 frames 1, hyper (each frame) 3, each frame 2"
    assert describe_grids(MOVING) == f"motion (1/4 sample, anchors 32 apart) 2 4, {rest}"
    coarse = replace(MOVING, vector_frac=1, anchor_span=8)
    assert describe_grids(coarse) == f"motion (1/2 sample, anchors 8 apart) 2 4, {rest}"
