"""y4m streams: read and written exactly, through pipes, and refused where they are broken."""

from __future__ import annotations

import errno
import io
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from media_examples import (
    TINY,
    ShortReads,
    assert_same_frames,
    assert_same_planes,
    clip_info,
    random_frames,
)

from codec.errors import InputError, OutputError
from codec.media.frames import ClipInfo, Colour, PixelFormat
from codec.media.planes import planes_of
from codec.media.y4m import read_y4m, write_y4m

KINDS = [
    PixelFormat(layout, depth)
    for layout in ("gray", "yuv420", "yuv422", "yuv444")
    for depth in (8, 10, 12, 16)
] + [PixelFormat("yuv444", 8, alpha=True)]


def written(info: ClipInfo, num_frames: int) -> bytes:
    file = io.BytesIO()
    write_y4m(file, info, random_frames(info, range(num_frames)))
    return file.getvalue()


def stream(header: str, *frames: bytes) -> io.BytesIO:
    return io.BytesIO(header.encode() + b"\n" + b"".join(b"FRAME\n" + data for data in frames))


@settings(deadline=None, max_examples=60)
@given(
    kind=st.sampled_from(KINDS),
    width=st.integers(1, 17),
    height=st.integers(1, 17),
    num_frames=st.integers(1, 3),
    most=st.integers(1, 50),
    full_range=st.booleans(),
    location=st.integers(0, 3),
    rate=st.sampled_from([Fraction(25), Fraction(30000, 1001), Fraction(1, 2)]),
    aspect=st.sampled_from([Fraction(1), Fraction(16, 11)]),
)
def test_round_trip_through_a_pipe(
    kind: PixelFormat,
    width: int,
    height: int,
    num_frames: int,
    most: int,
    full_range: bool,
    location: int,
    rate: Fraction,
    aspect: Fraction,
) -> None:
    known = location if (kind.layout, kind.depth) == ("yuv420", 8) else 0
    info = clip_info(
        kind,
        width,
        height,
        colour=Colour(full_range=full_range, chroma_location=known),
        time_base=1 / rate,
        pixel_aspect=aspect,
    )
    clip = read_y4m(ShortReads(written(info, num_frames), most))
    assert clip.info == info
    assert clip.num_frames is None
    frames = list(clip.frames)
    assert [frame.pts_ticks for frame in frames] == list(range(num_frames))
    assert_same_frames(frames, random_frames(info, range(num_frames)))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.depth < 16 and not kind.alpha])
def test_ffmpeg_reads_what_is_written(kind: PixelFormat) -> None:
    info = clip_info(kind, 17, 13, time_base=Fraction(1001, 30000), pixel_aspect=Fraction(4, 3))
    with av.open(io.BytesIO(written(info, 3)), format="yuv4mpegpipe") as container:
        video = container.streams.video[0]
        assert video.average_rate == Fraction(30000, 1001)
        assert video.sample_aspect_ratio == Fraction(4, 3)
        frames = [planes_of(frame) for frame in container.decode(video)]
    for planes, frame in zip(frames, random_frames(info, range(3)), strict=True):
        assert_same_planes(planes, frame.planes)


def test_what_ffmpeg_wrote_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.y4m"
    with av.open(str(path), "w", format="yuv4mpegpipe") as output:
        video = output.add_stream("wrapped_avframe", rate=Fraction(24))
        video.width, video.height, video.pix_fmt = 6, 4, "yuv422p"
        frame = av.VideoFrame(6, 4, "yuv422p")
        for level, plane in enumerate(frame.planes):
            np.frombuffer(plane, np.uint8)[:] = 10 + level
        output.mux(video.encode(frame))
        output.mux(video.encode(None))
    with path.open("rb") as file:
        clip = read_y4m(file)
        (only,) = clip.frames
    assert clip.info.format == PixelFormat("yuv422", 8)
    assert clip.info.time_base == Fraction(1, 24)
    assert [np.unique(plane).tolist() for plane in only.planes] == [[10], [11], [12]]


def test_a_file_knows_its_number_of_frames() -> None:
    with TINY.open("rb") as file:
        clip = read_y4m(file)
        assert clip.num_frames == 5
        assert (clip.info.width, clip.info.height) == (63, 47)
        assert len(list(clip.frames)) == 5
    with TINY.open("rb") as file:
        assert read_y4m(file, skip=1, limit=2).num_frames == 2
    with TINY.open("rb") as file:
        assert read_y4m(file, skip=3, limit=9).num_frames == 2


def test_skip_and_limit_take_the_same_frames_from_a_pipe() -> None:
    data = TINY.read_bytes()
    whole = list(read_y4m(io.BytesIO(data)).frames)
    some = list(read_y4m(ShortReads(data, 1000), skip=1, limit=3).frames)
    assert_same_frames(some, whole[1:4])
    assert [frame.pts_ticks for frame in some] == [0, 1, 2]


def test_a_limit_leaves_the_rest_in_the_pipe() -> None:
    data = TINY.read_bytes()
    pipe = io.BytesIO(data)
    list(read_y4m(pipe, limit=2).frames)
    assert pipe.read(6) == b"FRAME\n"


@pytest.mark.parametrize(
    ("tag", "kind", "location"),
    [
        ("", PixelFormat("yuv420", 8), 2),
        (" C420", PixelFormat("yuv420", 8), 0),
        (" C420jpeg", PixelFormat("yuv420", 8), 2),
        (" C420mpeg2", PixelFormat("yuv420", 8), 1),
        (" C420paldv", PixelFormat("yuv420", 8), 3),
        (" Cmono", PixelFormat("gray", 8), 0),
        (" Cmono12", PixelFormat("gray", 12), 0),
        (" C422p10 XYSCSS=422P10", PixelFormat("yuv422", 10), 0),
    ],
)
def test_colour_tags(tag: str, kind: PixelFormat, location: int) -> None:
    info = read_y4m(stream(f"YUV4MPEG2 W2 H2{tag} F0:0 A0:0 XCOLORRANGE=FULL")).info
    assert info.format == kind
    assert info.colour == Colour(full_range=True, chroma_location=location)
    assert (info.time_base, info.pixel_aspect) == (Fraction(1, 25), 1)


def test_interlaced_streams_are_noted() -> None:
    assert read_y4m(stream("YUV4MPEG2 W2 H2 F25:1 It")).notes
    assert not read_y4m(stream("YUV4MPEG2 W2 H2 F25:1 Ip")).notes


def test_parameters_of_a_frame_are_allowed() -> None:
    data = b"YUV4MPEG2 W2 H1 Cmono\nFRAME Ip\n\1\2FRAME\n\3\4"
    frames = list(read_y4m(ShortReads(data)).frames)
    assert [frame.planes[0].tolist() for frame in frames] == [[[1, 2]], [[3, 4]]]


@pytest.mark.parametrize(
    ("header", "complaint"),
    [
        ("RIFF W2 H2", "does not begin with YUV4MPEG2"),
        ("YUV4MPEG2 H2", "tag W"),
        ("YUV4MPEG2 W0 H2", "tag W"),
        ("YUV4MPEG2 W2 H-2", "tag H"),
        ("YUV4MPEG2 W99999 H2", "tag W"),
        ("YUV4MPEG2 W2 H2 Fabc", "tag F"),
        ("YUV4MPEG2 W2 H2 F9999999999:1", "tag F"),
        ("YUV4MPEG2 W2 H2 A1", "tag A"),
        ("YUV4MPEG2 W2 H2 C411", "'411' is not supported"),
        ("YUV4MPEG2 W2 H2 C420p9", "'420p9' is not supported"),
    ],
)
def test_bad_headers(header: str, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint) as caught:
        read_y4m(stream(header), name="in.y4m")
    assert str(caught.value).startswith("in.y4m: ")


def test_a_header_without_end() -> None:
    with pytest.raises(InputError, match="ends in the header"):
        read_y4m(io.BytesIO(b"YUV4MPEG2 W2"))
    with pytest.raises(InputError, match="has no end"):
        read_y4m(io.BytesIO(b"YUV4MPEG2 " + b"X" * 5000))


def test_every_truncation_names_the_frame() -> None:
    info = clip_info(PixelFormat("yuv420", 10), 3, 3)
    data = written(info, 2)
    start = data.index(b"\n") + 1
    each = (len(data) - start) // 2
    for end in range(start, len(data)):
        frames = read_y4m(ShortReads(data[:end]), name="pipe").frames
        if end == start:
            with pytest.raises(InputError, match="has 0 frames"):
                next(frames)
            continue
        if end == start + each:
            assert len(list(frames)) == 1
            continue
        with pytest.raises(InputError, match=rf"^pipe: .*frame {int(end > start + each)}\b"):
            list(frames)


def test_broken_frames() -> None:
    with pytest.raises(InputError, match="frame 0 does not begin with FRAME"):
        list(read_y4m(io.BytesIO(b"YUV4MPEG2 W1 H1 Cmono\nFRAMES\n\0")).frames)
    with pytest.raises(InputError, match="frame 0 has a sample above 1023"):
        list(read_y4m(stream("YUV4MPEG2 W1 H1 Cmono10", b"\0\4")).frames)
    with pytest.raises(InputError, match="has 1 frames, none is left after skipping 4"):
        list(read_y4m(stream("YUV4MPEG2 W1 H1 Cmono", b"\0"), skip=4).frames)


def test_a_huge_declared_size_takes_no_memory() -> None:
    class Watched(io.BytesIO):
        largest = 0

        def read(self, size: int | None = -1) -> bytes:
            Watched.largest = max(Watched.largest, size or 0)
            return super().read(size)

    data = b"YUV4MPEG2 W65535 H65535 C444p16\nFRAME\n" + bytes(100)
    with pytest.raises(InputError, match="frame 0 is truncated"):
        list(read_y4m(Watched(data)).frames)
    assert Watched.largest <= 1 << 20


@pytest.mark.parametrize(
    "kind",
    [PixelFormat("rgb", 8), PixelFormat("yuv420", 8, alpha=True), PixelFormat("gray", 8, True)],
)
def test_what_y4m_cannot_hold(kind: PixelFormat) -> None:
    with pytest.raises(OutputError, match="y4m cannot hold"):
        write_y4m(io.BytesIO(), clip_info(kind, 2, 2), [])


def test_a_full_disk_and_a_closed_pipe() -> None:
    class Failing(io.BytesIO):
        def __init__(self, error: OSError) -> None:
            super().__init__()
            self.error = error

        def write(self, data: bytes) -> int:
            raise self.error

    info = clip_info(PixelFormat("gray", 8), 2, 2)
    full = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(OutputError, match="No space left"):
        write_y4m(Failing(full), info, [])
    with pytest.raises(BrokenPipeError):
        write_y4m(Failing(BrokenPipeError(errno.EPIPE, "Broken pipe")), info, [])
