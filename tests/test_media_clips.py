"""Clips in: the planes, times and tags that a file has, whatever its format."""

from __future__ import annotations

import gc
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
import numpy as np
import pytest
from media_examples import (
    CLIP,
    assert_same_frames,
    clip_info,
    encoded_clip,
    random_frames,
    random_planes,
    remux,
    times,
)

from codec.errors import InputError
from codec.media.clip_writer import write_clip
from codec.media.clips import read_clip
from codec.media.frames import Colour, Frame, PixelFormat


def test_planes_are_those_that_pyav_decodes() -> None:
    with av.open(str(CLIP)) as container:
        expected = [frame.to_ndarray() for frame in islice(container.decode(video=0), 5)]
    frames = list(read_clip(CLIP, limit=5).frames)
    for frame, flat in zip(frames, expected, strict=True):
        np.testing.assert_array_equal(
            np.concatenate([plane.ravel() for plane in frame.planes]), flat.ravel()
        )


def test_a_limit_beyond_the_end_cuts_nothing() -> None:
    clip = read_clip(CLIP, limit=1000)
    assert len(list(clip.frames)) == 24
    assert clip.audio == read_clip(CLIP).audio


def test_delayed_video_keeps_its_delay(tmp_path: Path) -> None:
    clip = read_clip(encoded_clip(tmp_path / "a.mkv", audio="aac", first_pts=3))
    assert times(clip, list(clip.frames))[0] == Fraction(3, 25)


@pytest.mark.parametrize(
    ("pixel_name", "kind", "note"),
    [
        ("yuv410p", PixelFormat("yuv420", 8), "yuv410p is converted to yuv420p"),
        ("yuv440p10le", PixelFormat("yuv444", 10), "yuv440p10le is converted to yuv444p10le"),
        ("bgr0", PixelFormat("yuv444", 8), "converted to YUV 4:4:4"),
        ("gbrp12le", PixelFormat("yuv444", 12), "converted to YUV 4:4:4"),
        ("bgra", PixelFormat("yuv444", 8), "alpha is left out"),
        ("yuva422p", PixelFormat("yuv422", 8), "alpha is left out"),
    ],
)
def test_other_formats_are_converted_with_a_note(
    pixel_name: str, kind: PixelFormat, note: str, tmp_path: Path
) -> None:
    clip = read_clip(encoded_clip(tmp_path / "a.mkv", pixel_name=pixel_name, num_frames=2))
    assert clip.info.format == kind
    assert any(note in text for text in clip.notes)
    for frame in clip.frames:
        shapes = [plane.shape for plane in frame.planes]
        assert shapes == kind.plane_shapes(32, 32)


def test_rgb_becomes_the_yuv_that_its_tags_say(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    planes = random_planes(PixelFormat("rgb", 8), 16, 8)
    write_clip(path, clip_info(PixelFormat("rgb", 8), 16, 8), [Frame(planes)])
    clip = read_clip(path)
    (frame,) = clip.frames
    assert clip.info.colour == Colour(primaries=1, transfer=13, matrix=6, full_range=True)
    red, green, blue = (plane.astype(float) for plane in planes)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    assert np.abs(frame.planes[0] - luma).max() <= 0.5 + 1e-9
    assert np.abs(frame.planes[1] - (128 + (blue - luma) / 1.772)).max() <= 0.5 + 1e-9


def test_full_range_formats_of_old(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    info = clip_info(PixelFormat("yuv420", 8), 32, 32, colour=Colour(full_range=True))
    write_clip(path, info, random_frames(info, [0]), codec="x264", crf=0)
    with av.open(str(path)) as container:
        assert container.streams.video[0].codec_context.pix_fmt == "yuvj420p"
    clip = read_clip(path)
    assert clip.info.format == PixelFormat("yuv420", 8)
    assert clip.info.colour.full_range
    assert_same_frames(clip.frames, random_frames(info, [0]))


def test_a_clip_that_nobody_reads_leaves_nothing_open() -> None:
    read_clip(CLIP)
    started = read_clip(CLIP).frames
    next(started)
    del started
    gc.collect()


def test_damaged_frames_are_named(tmp_path: Path) -> None:
    path = tmp_path / "damaged.mkv"
    info = clip_info(PixelFormat("yuv420", 8), 64, 64)
    write_clip(tmp_path / "a.mkv", info, random_frames(info, range(4)))
    remux(tmp_path / "a.mkv", path, lambda index, data: data[:3] if index == 2 else data)
    frames = read_clip(path).frames
    assert len([next(frames), next(frames)]) == 2
    with pytest.raises(InputError, match=r"damaged\.mkv: frame 2 is damaged"):
        next(frames)


def test_a_size_that_changes_is_refused(tmp_path: Path) -> None:
    parts = []
    for size in (32, 48):
        info = clip_info(PixelFormat("yuv420", 8), size, 32)
        write_clip(tmp_path / "part.mkv", info, random_frames(info, range(2)), codec="x264")
        remux(tmp_path / "part.mkv", tmp_path / "part.ts")
        parts.append((tmp_path / "part.ts").read_bytes())
    path = tmp_path / "both.ts"
    path.write_bytes(b"".join(parts))
    with pytest.raises(InputError, match=r"frame 2 is 48x32 yuv420p after 32x32 yuv420p"):
        list(read_clip(path).frames)


def test_what_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="none is left after skipping 24"):
        read_clip(CLIP, skip=24)
    remux(encoded_clip(tmp_path / "a.mkv", audio="flac"), tmp_path / "sound.mkv", kind="audio")
    with pytest.raises(InputError, match="no video"):
        read_clip(tmp_path / "sound.mkv")


def test_a_gap_that_no_stream_holds_is_an_error(tmp_path: Path) -> None:
    info = clip_info(PixelFormat("yuv420", 8), 16, 16, time_base=Fraction(1, 1000), frame_ticks=40)
    path = tmp_path / "a.mkv"
    write_clip(path, info, random_frames(info, (0, 40, (1 << 31) + 40)))
    with pytest.raises(InputError, match="frame 2 comes 2147483648 ticks after"):
        list(read_clip(path).frames)
