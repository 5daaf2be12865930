"""Clips out: planes, times and tags come back from what was written."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from media_examples import (
    CLIP,
    assert_same_frames,
    assert_same_planes,
    clip_info,
    random_frames,
    times,
    write_and_read,
)

from codec.errors import InputError, OutputError, UsageError
from codec.media.clip_writer import write_clip
from codec.media.clips import read_clip
from codec.media.frames import Colour, PixelFormat

MILLISECOND = Fraction(1, 1000)

YUV_KINDS = [
    PixelFormat(layout, depth) for layout in ("yuv420", "yuv422", "yuv444") for depth in (8, 10, 12)
]


@pytest.mark.parametrize("kind", YUV_KINDS, ids=str)
@settings(deadline=None, max_examples=4)
@given(width=st.integers(1, 17), height=st.integers(1, 17))
def test_ffv1_keeps_every_sample(
    kind: PixelFormat, width: int, height: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("ffv1") / "a.mkv"
    info = clip_info(kind, width, height, time_base=MILLISECOND, frame_ticks=40)
    frames = random_frames(info, [0, 40, 80])
    clip, read = write_and_read(path, info, frames)
    assert clip.info == info
    assert_same_frames(read, frames)
    assert times(clip, read) == [0, Fraction(40, 1000), Fraction(80, 1000)]


@pytest.mark.parametrize("size", [(63, 47), (351, 287), (1, 300), (300, 2), (719, 3)], ids=str)
def test_ffv1_takes_odd_and_thin_sizes(size: tuple[int, int], tmp_path: Path) -> None:
    info = clip_info(PixelFormat("yuv420", 8), *size)
    frames = random_frames(info, [0, 1])
    _, read = write_and_read(tmp_path / "a.mkv", info, frames)
    assert_same_frames(read, frames)


@pytest.mark.parametrize(
    "kind",
    [
        PixelFormat("gray", 8),
        PixelFormat("gray", 12),
        PixelFormat("yuv420", 16),
    ],
    ids=str,
)
def test_ffv1_keeps_other_formats_that_clips_are_read_as(kind: PixelFormat, tmp_path: Path) -> None:
    info = clip_info(kind, 20, 18, colour=Colour(full_range=True))
    frames = random_frames(info, [0, 1])
    clip, read = write_and_read(tmp_path / "a.mkv", info, frames)
    assert clip.info.format == kind
    assert clip.info.colour.full_range
    assert_same_frames(read, frames)


@pytest.mark.parametrize(
    ("kind", "order"),
    [
        (PixelFormat("rgb", 8), "rgb"),
        (PixelFormat("rgb", 8, alpha=True), "rgba"),
        (PixelFormat("rgb", 12), "gbr"),
        (PixelFormat("yuv444", 8, alpha=True), "yuva"),
    ],
    ids=str,
)
def test_ffv1_keeps_formats_that_only_arrays_have(
    kind: PixelFormat, order: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.mkv"
    info = clip_info(kind, 20, 18)
    (frame,) = random_frames(info, [0])
    write_clip(path, info, [frame])
    with av.open(str(path)) as container:
        decoded = next(container.decode(video=0))
        name = decoded.format.name
    if order == "yuva":
        assert name == "yuva444p"
        planes = [np.frombuffer(p, np.uint8).reshape(18, -1)[:, :20] for p in decoded.planes]
    else:
        array = decoded.to_ndarray(
            format={"gbr": name}.get(order, order + "24"[: 2 * (len(order) == 3)])
        )
        planes = [array[..., index] for index in range(len(order))]
    assert_same_planes(tuple(np.ascontiguousarray(plane) for plane in planes), frame.planes)


@pytest.mark.parametrize(
    ("name", "options"),
    [("a.mkv", {}), ("a.mkv", {"codec": "x264", "crf": 0}), ("a.mp4", {"crf": 0})],
)
@pytest.mark.parametrize("pts_ticks", [[0, 40, 100, 130, 999], [7, 8, 90, 5000, 5001]], ids=str)
def test_variable_frame_times_are_kept(
    name: str, options: dict[str, object], pts_ticks: list[int], tmp_path: Path
) -> None:
    info = clip_info(PixelFormat("yuv420", 8), 32, 24, time_base=MILLISECOND, frame_ticks=40)
    frames = random_frames(info, pts_ticks)
    clip, read = write_and_read(tmp_path / name, info, frames, **options)
    assert times(clip, read) == [ticks * MILLISECOND for ticks in pts_ticks]
    assert_same_frames(read, frames)


@pytest.mark.parametrize("time_base", [Fraction(1001, 30000), Fraction(1, 90000), Fraction(1, 25)])
def test_mp4_keeps_times_in_any_time_base(time_base: Fraction, tmp_path: Path) -> None:
    ticks = round(Fraction(1, 25) / time_base)
    info = clip_info(PixelFormat("yuv420", 8), 32, 24, time_base=time_base, frame_ticks=ticks)
    frames = random_frames(info, [3 * ticks, 4 * ticks, 6 * ticks, 7 * ticks + 1])
    clip, read = write_and_read(tmp_path / "a.mp4", info, frames, crf=0)
    assert times(clip, read) == [frame.pts_ticks * time_base for frame in frames]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.mp4", PixelFormat("yuv420", 8)),
        ("a.mp4", PixelFormat("yuv422", 10)),
        ("a.mp4", PixelFormat("yuv444", 10)),
        ("a.mkv", PixelFormat("yuv420", 10)),
    ],
    ids=str,
)
def test_x264_is_lossless_with_crf_0(name: str, kind: PixelFormat, tmp_path: Path) -> None:
    info = clip_info(kind, 34, 22)
    frames = random_frames(info, range(3))
    _, read = write_and_read(tmp_path / name, info, frames, codec="x264", crf=0)
    assert_same_frames(read, frames)


def test_x264_gets_smaller_with_crf(tmp_path: Path) -> None:
    clip = read_clip(CLIP, limit=3)
    frames = list(clip.frames)
    sizes = []
    for crf in (0, None, 40):
        write_clip(tmp_path / "a.mp4", clip.info, frames, crf=crf)
        sizes.append((tmp_path / "a.mp4").stat().st_size)
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) == 3


@pytest.mark.parametrize(
    ("name", "options"), [("a.mkv", {}), ("a.mkv", {"codec": "x264"}), ("a.mp4", {})]
)
@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
@pytest.mark.parametrize("aspect", [Fraction(11, 12), Fraction(1)])
def test_colour_shape_and_rotation_are_kept(
    name: str, options: dict[str, object], rotation: int, aspect: Fraction, tmp_path: Path
) -> None:
    info = clip_info(
        PixelFormat("yuv420", 8),
        66,
        48,
        colour=Colour(primaries=9, transfer=16, matrix=9, full_range=True),
        pixel_aspect=aspect,
        rotation=rotation,
    )
    clip, read = write_and_read(tmp_path / name, info, random_frames(info, range(3)), **options)
    assert clip.info.colour == info.colour
    assert clip.info.pixel_aspect == aspect
    assert clip.info.rotation == rotation
    assert len(read) == 3


def test_coarse_ticks_are_divided_to_state_the_frame_rate(tmp_path: Path) -> None:
    rate = Fraction(30000, 1001)
    info = clip_info(PixelFormat("yuv420", 8), 32, 24, time_base=1 / rate)
    clip, read = write_and_read(tmp_path / "a.mkv", info, random_frames(info, range(5)))
    assert 1 / (clip.info.frame_ticks * clip.info.time_base) == rate
    assert times(clip, read) == [Fraction(ms, 1000) for ms in (0, 33, 67, 100, 133)]


@pytest.mark.parametrize(
    ("name", "options", "error", "complaint"),
    [
        ("a.avi", {}, OutputError, "use one of .mkv .mp4"),
        ("a.mp4", {"codec": "ffv1"}, UsageError, "use x264"),
        ("a.mkv", {"codec": "h266"}, UsageError, "use ffv1 or x264"),
        ("a.mkv", {"crf": 20}, UsageError, "ffv1 is lossless"),
        ("a.mp4", {"crf": 52}, UsageError, "from 0 to 51"),
        ("none/a.mkv", {}, OutputError, "No such file"),
    ],
)
def test_options_that_do_not_go_together(
    name: str, options: dict[str, object], error: type, complaint: str, tmp_path: Path
) -> None:
    info = clip_info(PixelFormat("yuv420", 8), 32, 32)
    with pytest.raises(error, match=complaint):
        write_clip(tmp_path / name, info, random_frames(info, [0]), **options)


@pytest.mark.parametrize(
    ("name", "kind", "size", "complaint"),
    [
        ("a.mp4", PixelFormat("yuv420", 8), (63, 48), "odd size 63x48"),
        ("a.mp4", PixelFormat("yuv420", 8), (64, 47), "odd size 64x47"),
        ("a.mp4", PixelFormat("yuv422", 8), (63, 48), "odd size 63x48"),
        ("a.mp4", PixelFormat("yuv420", 12), (64, 48), "yuv420 of 12 bit; use .mkv"),
        ("a.mp4", PixelFormat("rgb", 8), (64, 48), "rgb of 8 bit; use .mkv"),
        ("a.mkv", PixelFormat("gray", 16, alpha=True), (64, 48), "gray of 16 bit with alpha"),
    ],
    ids=str,
)
def test_formats_that_a_codec_cannot_hold(
    name: str, kind: PixelFormat, size: tuple[int, int], complaint: str, tmp_path: Path
) -> None:
    info = clip_info(kind, *size)
    with pytest.raises(OutputError, match=complaint):
        write_clip(tmp_path / name, info, random_frames(info, [0]))
    assert not (tmp_path / name).exists()


def test_an_error_in_the_frames_is_passed_on(tmp_path: Path) -> None:
    info = clip_info(PixelFormat("yuv420", 8), 32, 32)

    def broken():
        yield from random_frames(info, range(3))
        raise InputError("the source ends here")

    with pytest.raises(InputError, match="the source ends here"):
        write_clip(tmp_path / "a.mkv", info, broken())
