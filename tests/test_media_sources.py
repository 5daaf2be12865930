"""The two doors: any file to a still or a clip, and frames to any file."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from media_examples import (
    CLIP,
    PHOTO,
    SAMPLES,
    TINY,
    assert_same_frames,
    assert_same_planes,
    clip_info,
    random_frames,
)
from PIL import Image

from codec.errors import InputError, OutputError, UsageError
from codec.media.clips import read_clip
from codec.media.frames import PixelFormat
from codec.media.sinks import is_sequence, write_output
from codec.media.sources import open_source
from codec.media.stills import read_still

ROOT = SAMPLES.parent
GREY = PixelFormat("gray", 8)


def animation(path: Path, **options: object) -> Path:
    """Three pictures of 9x7, shown for 100, 50 and 200 ms."""
    pictures = [Image.new("RGB", (9, 7), colour) for colour in ("red", "lime", "blue")]
    pictures[0].save(
        path, save_all=True, append_images=pictures[1:], duration=[100, 50, 200], **options
    )
    return path


def test_samples_are_told_apart() -> None:
    photo, clip, tiny = (open_source(path) for path in (PHOTO, CLIP, TINY))
    assert photo.info.is_still
    assert (photo.info.width, photo.info.height) == (451, 300)
    assert not clip.info.is_still
    assert clip.audio is not None
    assert (tiny.info.format, tiny.num_frames) == (PixelFormat("yuv420", 8), 5)
    assert [frame.pts_ticks for frame in tiny.frames] == [0, 1, 2, 3, 4]


def test_content_counts_and_not_the_name(tmp_path: Path) -> None:
    for source in (PHOTO, CLIP, TINY):
        copy = tmp_path / "file.xyz"
        copy.write_bytes(source.read_bytes())
        assert open_source(copy).info == open_source(source).info


def test_names_are_taken_literally(tmp_path: Path) -> None:
    for name in ("a%03d.mkv", "http:b.mkv", "concat:c.mkv"):
        copy = tmp_path / name
        copy.write_bytes(CLIP.read_bytes())
        clip = open_source(copy, limit=1)
        output = tmp_path / f"out-{name.replace('%', '')}"
        write_output(output, clip.info, clip.frames)
        assert output.is_file()


@pytest.mark.parametrize("path", [CLIP, TINY], ids=["mkv", "y4m"])
def test_skip_and_limit(path: Path) -> None:
    whole = list(open_source(path).frames)
    some = list(open_source(path, skip=1, limit=3).frames)
    assert_same_frames(some, whole[1:4])
    assert some[0].pts_ticks == 0


@pytest.mark.parametrize(
    ("name", "options", "tolerance"),
    [
        ("a.gif", {}, 1),
        ("a.png", {}, 1),
        ("a.webp", {"lossless": True}, 1),
        ("a.avif", {"quality": 90}, 12),
    ],
)
def test_animated_pictures_are_clips(
    name: str, options: dict[str, object], tolerance: int, tmp_path: Path
) -> None:
    clip = open_source(animation(tmp_path / name, **options))
    frames = list(clip.frames)
    assert not clip.info.is_still
    assert [frame.pts_ticks * clip.info.time_base for frame in frames] == [
        0,
        Fraction(100, 1000),
        Fraction(150, 1000),
    ]
    # Y of the primaries in BT.601, full range.
    for frame, luma in zip(frames, (76, 150, 29), strict=True):
        assert np.abs(frame.planes[0].astype(int) - luma).max() <= tolerance
    middle = list(open_source(tmp_path / name, skip=1, limit=1).frames)
    assert len(middle) == 1
    assert_same_planes(middle[0].planes, frames[1].planes)


@pytest.mark.parametrize("name", ["a.gif", "a.png", "a.webp"])
def test_one_picture_that_could_be_animated_is_a_still(name: str, tmp_path: Path) -> None:
    Image.new("RGB", (9, 7), "red").save(tmp_path / name)
    clip = open_source(tmp_path / name)
    assert clip.info.is_still
    assert clip.num_frames == 1


def test_animated_webp_is_selected_by_frames(tmp_path: Path) -> None:
    path = animation(tmp_path / "a.webp")
    assert open_source(path).num_frames == 3
    assert open_source(path, skip=2, limit=9).num_frames == 1
    with pytest.raises(InputError, match="none is left after skipping 3"):
        open_source(path, skip=3)


def test_of_several_pages_the_first_is_read(tmp_path: Path) -> None:
    clip = open_source(animation(tmp_path / "a.tif"))
    assert clip.info.is_still
    assert clip.notes == ("only the first of its 3 pictures is read",)
    (frame,) = clip.frames
    assert [int(plane[0, 0]) for plane in frame.planes] == [255, 0, 0]


def unreadable_files(folder: Path) -> dict[Path, str]:
    texts = {
        "letter.txt": "Dear Sir or Madam,\n" * 99,
        "list.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nother.mkv\n#EXT-X-ENDLIST\n",
        "concat.txt": "ffconcat version 1.0\nfile other.mkv\n",
        "data.json": '{"a": 1}',
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
    (folder / "other.mkv").write_bytes(CLIP.read_bytes())
    (folder / "empty.png").touch()
    (folder / "head.mkv").write_bytes(CLIP.read_bytes()[:200])
    (folder / "head.png").write_bytes(PHOTO.read_bytes()[:200])
    os.mkfifo(folder / "pipe")
    wrong = dict.fromkeys((folder / name for name in texts), "not a picture or clip")
    return wrong | {
        folder / "none.png": "no such file",
        folder: "is a directory",
        folder / "empty.png": "the file is empty",
        folder / "head.mkv": "be",
        folder / "head.png": "damaged or unsupported picture",
        folder / "pipe": "not a regular file",
    }


def test_unreadable_files_are_named_in_one_line(tmp_path: Path) -> None:
    for path, complaint in unreadable_files(tmp_path).items():
        with pytest.raises(InputError) as caught:
            open_source(path)
        message = str(caught.value)
        assert message.startswith(f"{path}: ")
        assert complaint in message
        assert "\n" not in message


def test_a_file_without_permission(tmp_path: Path) -> None:
    path = tmp_path / "secret.png"
    path.write_bytes(PHOTO.read_bytes())
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("permissions do not bind this user")
    with pytest.raises(InputError, match="no permission"):
        open_source(path)


def test_selections_that_make_no_sense() -> None:
    with pytest.raises(UsageError, match="must not be negative"):
        open_source(CLIP, skip=-1)
    with pytest.raises(UsageError, match="at least 1"):
        open_source(CLIP, limit=0)
    with pytest.raises(UsageError, match="single picture"):
        open_source(PHOTO, skip=1)
    with pytest.raises(InputError, match="none is left after skipping 5"):
        list(open_source(TINY, skip=5).frames)


@pytest.fixture(scope="module")
def small_files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("small")
    paths = [animation(folder / f"a.{kind}") for kind in ("gif", "png", "webp", "avif")]
    for kind in ("png", "jpg", "webp", "tif"):
        Image.linear_gradient("L").resize((40, 30)).convert("RGB").save(folder / f"s.{kind}")
        paths.append(folder / f"s.{kind}")
    clip = read_clip(CLIP, limit=2)
    frames = list(clip.frames)
    for name in ("c.mkv", "c.mp4"):
        write_output(folder / name, clip.info, frames, audio=clip.audio, codec="x264")
        paths.append(folder / name)
    return [*paths, TINY]


@settings(deadline=None, max_examples=150)
@given(data=st.data())
def test_damaged_files_raise_our_errors_only(
    data: st.DataObject, small_files: list[Path], tmp_path_factory: pytest.TempPathFactory
) -> None:
    source = data.draw(st.sampled_from(small_files))
    content = bytearray(source.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, min(len(content), 3000) - 1))
        content[place] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / f"damaged{source.suffix}"
    path.write_bytes(content[: data.draw(st.integers(1, len(content)))])
    with contextlib.suppress(InputError):
        clip = open_source(path)
        for frame, _ in zip(clip.frames, range(3), strict=False):
            assert len(frame.planes) == clip.info.format.num_planes


def test_outputs_by_extension(tmp_path: Path) -> None:
    clip = open_source(TINY)
    frames = list(clip.frames)
    for name in ("a.mkv", "a.y4m", "A.MKV"):
        assert write_output(tmp_path / name, clip.info, frames) == ()
        again = open_source(tmp_path / name)
        assert again.info.format == clip.info.format
        assert_same_frames(again.frames, frames)


def test_numbered_pictures(tmp_path: Path) -> None:
    clip = open_source(TINY)
    frames = list(clip.frames)
    write_output(tmp_path / "f_%03d.png", clip.info, frames)
    (tmp_path / "folder").mkdir()
    write_output(tmp_path / "folder", clip.info, frames)
    names = [f"f_{number:03d}.png" for number in range(1, 6)]
    assert sorted(path.name for path in tmp_path.glob("*.png")) == names
    for number, name in enumerate(names, 1):
        one, other = (
            read_still(path)
            for path in (tmp_path / name, tmp_path / "folder" / f"{number:06d}.png")
        )
        assert (one.info.format, one.info.width, one.info.height) == (
            PixelFormat("rgb", 8),
            63,
            47,
        )
        assert_same_frames(one.frames, other.frames)


def test_deep_clips_become_pictures_of_16_bit(tmp_path: Path) -> None:
    info = clip_info(PixelFormat("yuv422", 10), 8, 6)
    write_output(tmp_path / "%d.png", info, random_frames(info, range(2)))
    assert read_still(tmp_path / "2.png").info.format == PixelFormat("rgb", 16)


def test_one_frame_goes_into_one_picture(tmp_path: Path) -> None:
    info = clip_info(GREY, 4, 3)
    frames = random_frames(info, range(2))
    write_output(tmp_path / "a.png", info, frames[:1])
    assert_same_frames(read_still(tmp_path / "a.png").frames, frames[:1])
    with pytest.raises(OutputError, match=r"more frames; use b_%04d\.png"):
        write_output(tmp_path / "b.png", info, iter(frames))
    assert not (tmp_path / "b.png").exists()


def test_what_an_output_does_not_hold_is_said(tmp_path: Path) -> None:
    clip = open_source(CLIP, limit=2)
    frames = list(clip.frames)
    for name in ("a.y4m", "a%d.png"):
        notes = write_output(tmp_path / name, clip.info, frames, audio=clip.audio)
        assert notes == ("the sound is left out",)
    notes = write_output(
        tmp_path / "a.mkv", clip.info, frames, audio=clip.audio, metadata={"xmp": b"x"}
    )
    assert notes == ("metadata (ICC, EXIF, XMP) is left out",)


@pytest.mark.parametrize(
    ("name", "options", "error", "complaint"),
    [
        ("a.xyz", {}, OutputError, r"cannot write '\.xyz' files; use one of \.mkv"),
        ("a", {}, OutputError, "use one of"),
        ("a_%s.png", {}, OutputError, "exactly one number"),
        ("a_%d_%d.png", {}, OutputError, "exactly one number"),
        ("a.y4m", {"crf": 3}, UsageError, "codec and crf are for"),
        ("a.png", {"codec": "x264"}, UsageError, "codec and crf are for"),
        ("none/a.y4m", {}, OutputError, "No such file"),
        ("none/a%d.png", {}, OutputError, "No such file"),
        ("a%d.xyz", {}, OutputError, "cannot write pictures as"),
    ],
)
def test_outputs_that_cannot_be_written(
    name: str, options: dict[str, object], error: type, complaint: str, tmp_path: Path
) -> None:
    info = clip_info(GREY, 4, 3)
    with pytest.raises(error, match=complaint):
        write_output(tmp_path / name, info, random_frames(info, [0]), **options)


def test_names_of_sequences(tmp_path: Path) -> None:
    assert is_sequence(tmp_path)
    assert is_sequence(tmp_path / "a_%04d.png")
    assert not is_sequence(tmp_path / "a.png")


def test_metadata_of_a_photograph_is_kept(tmp_path: Path) -> None:
    clip = open_source(PHOTO)
    frames = list(clip.frames)
    write_output(tmp_path / "a.png", clip.info, frames, metadata={"xmp": b"<x/>"})
    assert read_still(tmp_path / "a.png").metadata == {"xmp": b"<x/>"}


def test_what_a_frame_is_needs_no_media_library() -> None:
    code = (
        "import sys; import codec.media.frames, codec.media.metrics, codec.media.convert, "
        "codec.media.y4m, codec.media.sinks, codec.media.sources; "
        "print(sorted({'av', 'PIL', 'imageio', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
