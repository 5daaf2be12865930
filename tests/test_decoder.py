"""Streams to frames: whole, in ranges, from pipes, in rectangles; what is refused; what is told."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from decoder_streams import (
    CLIP_INFO,
    STILL_ARCH,
    STILL_INFO,
    Pictures,
    Pipe,
    Watched,
    assert_same,
    make_segment,
)
from fixedpoint_networks import CLIP, architecture, random_network, zero_network

from codec.arch import NARROW, WIDE, Architecture
from codec.arch.macs import mac_per_pixel
from codec.bitstream.elements import Segment
from codec.bitstream.limits import Limits
from codec.bitstream.writer import StreamWriter, write_still
from codec.decoder import info, open_stream, verify
from codec.decoder.segments import check_segment, segment_samples
from codec.errors import (
    BitstreamError,
    InputError,
    LimitError,
    NotModcodecError,
    UnsupportedVersionError,
    UsageError,
)
from codec.fixedpoint.pictures import frame_hash
from codec.media.frames import ClipInfo, PixelFormat


@pytest.fixture(scope="module")
def still() -> tuple[bytes, Pictures]:
    network = random_network(STILL_ARCH, WIDE, seed=1)
    segment, pictures = make_segment(network, STILL_INFO, seed=4)
    file = io.BytesIO()
    write_still(file, STILL_INFO, network=network, segment=segment, metadata={"icc": b"profile"})
    return file.getvalue(), pictures


@pytest.fixture(scope="module")
def clip() -> tuple[bytes, Pictures]:
    """Three segments of 4, 3 and 1 frames; the last one has another network."""
    networks = [
        random_network(CLIP, NARROW, seed=1),
        random_network(architecture(static="0-2", common_randomness=True), NARROW, seed=2),
    ]
    file, pictures, first = io.BytesIO(), [], 0
    writer = StreamWriter(file, CLIP_INFO, metadata={"xmp": b"<x/>"})
    for seed, (network_id, count) in enumerate([(0, 4), (0, 3), (1, 1)]):
        if seed != 1:
            writer.network(network_id, networks[network_id])
        segment, made = make_segment(
            networks[network_id],
            CLIP_INFO,
            first_frame=first,
            num_frames=count,
            network_id=network_id,
            seed=seed,
        )
        writer.segment(segment)
        pictures += made
        first += count
    writer.finish()
    return file.getvalue(), pictures


@pytest.mark.parametrize("opened", [bytes, io.BytesIO, Pipe], ids=["bytes", "file", "pipe"])
def test_a_still(still: tuple[bytes, Pictures], opened: Callable) -> None:
    data, pictures = still
    with open_stream(opened(data)) as stream:
        assert stream.info == STILL_INFO
        assert stream.metadata == {"icc": b"profile"}
        assert_same(list(stream.frames()), pictures)


@pytest.mark.parametrize("opened", [bytes, io.BytesIO, Pipe], ids=["bytes", "file", "pipe"])
@pytest.mark.parametrize("threads", [1, 2])
def test_a_clip(clip: tuple[bytes, Pictures], opened: Callable, threads: int) -> None:
    data, pictures = clip
    with open_stream(opened(data), threads=threads) as stream:
        assert stream.info == CLIP_INFO
        assert stream.metadata == {"xmp": b"<x/>"}
        frames = list(stream.frames())
    assert_same(frames, pictures)
    assert [frame.pts_ticks for frame in frames] == [0, 2, 3, 4, 4, 6, 7, 7]


@pytest.mark.parametrize("opened", [bytes, Pipe], ids=["bytes", "pipe"])
@pytest.mark.parametrize(
    ("start", "stop"), [(0, 1), (2, 3), (3, 5), (4, 7), (5, None), (7, 8), (6, 99)]
)
def test_a_range_of_frames(
    clip: tuple[bytes, Pictures], opened: Callable, start: int, stop: int | None
) -> None:
    data, pictures = clip
    with open_stream(opened(data)) as stream:
        assert_same(list(stream.frames(start, stop)), pictures[start:stop])


def test_a_range_reads_only_what_it_needs(clip: tuple[bytes, Pictures]) -> None:
    data, pictures = clip
    file = Watched(data)
    stream = open_stream(file)
    before = file.num_read
    assert_same(list(stream.frames(7, 8)), pictures[7:8])
    assert file.num_read - before < len(data) // 3


def test_a_file_can_be_decoded_again_and_a_pipe_cannot(clip: tuple[bytes, Pictures]) -> None:
    data, pictures = clip
    stream = open_stream(io.BytesIO(data))
    assert_same(list(stream.frames()), pictures)
    assert_same(list(stream.frames(2, 4)), pictures[2:4])
    assert_same(list(stream.frames()), pictures)
    pipe = open_stream(Pipe(data))
    assert_same(list(pipe.frames(2, 4)), pictures[2:4])
    with pytest.raises(UsageError, match="once"):
        pipe.frames()


@pytest.mark.parametrize("opened", [bytes, Pipe], ids=["bytes", "pipe"])
def test_frames_that_are_not_there(clip: tuple[bytes, Pictures], opened: Callable) -> None:
    stream = open_stream(opened(clip[0]))
    with pytest.raises(UsageError, match="no frame in this range"):
        stream.frames(3, 3)
    with pytest.raises(UsageError, match="no frame 8"):
        list(stream.frames(8, 9))


def test_a_path(clip: tuple[bytes, Pictures], tmp_path: Path) -> None:
    path = tmp_path / "clip.modc"
    path.write_bytes(clip[0])
    with open_stream(path) as stream:
        assert_same(list(stream.frames(4, 6)), clip[1][4:6])
    assert verify(str(path)).num_frames == 8
    with pytest.raises(InputError, match=r"missing\.modc"):
        open_stream(tmp_path / "missing.modc")


RECTS = [
    # (first frame, frames, rectangle): left part in two segments, the right one cut in two rows.
    (0, 2, (0, 0, 27, 16)),
    (0, 5, (0, 16, 12, 19)),
    (0, 5, (12, 16, 15, 19)),
    (2, 3, (0, 0, 27, 16)),
]


@pytest.mark.parametrize("opened", [bytes, Pipe], ids=["bytes", "pipe"])
@pytest.mark.parametrize("start", [0, 3])
def test_rectangles_make_whole_frames(opened: Callable, start: int) -> None:
    network = random_network(CLIP, NARROW, seed=1)
    file = io.BytesIO()
    writer = StreamWriter(file, CLIP_INFO)
    writer.network(0, network)
    shapes = CLIP_INFO.format.plane_shapes(27, 35)
    expected = [[np.zeros(shape, np.uint8) for shape in shapes] for _ in range(5)]
    for seed, (first, count, rect) in enumerate(RECTS):
        segment, pictures = make_segment(
            network, CLIP_INFO, first_frame=first, num_frames=count, rect=rect, seed=seed
        )
        times = tuple(range(first, first + count))
        writer.segment(replace(segment, pts_ticks=times))
        for t, picture in enumerate(pictures):
            for index, plane in enumerate(picture):
                down = int(index > 0)
                y, x = rect[0] >> down, rect[1] >> down
                target = expected[first + t][index]
                target[y : y + plane.shape[0], x : x + plane.shape[1]] = plane
    writer.finish()
    frames = list(open_stream(opened(file.getvalue())).frames(start))
    assert_same(frames, expected[start:])


def one_frame(segment_of: Callable[[Segment], Segment]) -> bytes:
    network = random_network(CLIP, NARROW, seed=1)
    file = io.BytesIO()
    writer = StreamWriter(file, CLIP_INFO)
    writer.network(0, network)
    segment, _ = make_segment(network, CLIP_INFO, num_frames=3, seed=2)
    writer.segment(segment_of(segment))
    writer.finish()
    return file.getvalue()


def test_a_wrong_hash_names_the_frame() -> None:
    def spoil(segment: Segment) -> Segment:
        first, second, third = segment.frame_hashes
        return replace(segment, frame_hashes=(first, second ^ 1, third))

    frames = open_stream(one_frame(spoil)).frames()
    next(frames)
    with pytest.raises(BitstreamError, match=r"segment of frames 0 to 2: frame 1 .* hash"):
        next(frames)


def test_damaged_latents_name_the_segment() -> None:
    def spoil(segment: Segment) -> Segment:
        return replace(segment, substreams=tuple(bytes(99) + part for part in segment.substreams))

    with pytest.raises(BitstreamError, match="segment of frames 0 to 2: "):
        verify(one_frame(spoil))


@pytest.mark.parametrize("kind", ["still", "clip"])
def test_a_flipped_byte_is_found(kind: str, request: pytest.FixtureRequest) -> None:
    data, _ = request.getfixturevalue(kind)
    for place in np.linspace(0, len(data) - 1, 60).astype(int):
        damaged = bytearray(data)
        damaged[place] ^= 0x40
        with pytest.raises((BitstreamError, NotModcodecError, UnsupportedVersionError)):
            verify(bytes(damaged))


@pytest.mark.parametrize("kind", ["still", "clip"])
def test_a_truncated_stream_is_found(kind: str, request: pytest.FixtureRequest) -> None:
    data, _ = request.getfixturevalue(kind)
    for length in np.linspace(5, len(data) - 1, 25).astype(int):
        with pytest.raises(BitstreamError):
            verify(data[:length])
    for data in (b"", b"plain text, not a picture"):
        with pytest.raises(NotModcodecError):
            open_stream(data)


def huge_segment(arch: Architecture, *, num_frames: int, side: int) -> Segment:
    return Segment(
        first_frame=0,
        num_frames=num_frames,
        rect=(0, 0, side, side),
        network_id=0,
        grid_present=(False,) * len(arch.grids),
        substreams=(b"",),
        frame_hashes=(0,) * num_frames,
        pts_ticks=tuple(range(num_frames)),
    )


def test_limits_are_checked_before_anything_is_allocated() -> None:
    arch = architecture(
        dynamic="0",
        temporal=("60-1x1-conv-none",),
        synthesis=("X-1-linear-none",),
    )
    segment = huge_segment(arch, num_frames=256, side=8192)
    with pytest.raises(LimitError, match="numbers at once"):
        check_segment(segment, arch, Limits())
    network, clip = zero_network(arch), replace(CLIP_INFO, width=8192, height=8192)
    file = io.BytesIO()
    writer = StreamWriter(file, clip)
    writer.network(0, network)
    writer.segment(segment)
    writer.finish()
    with pytest.raises(LimitError, match="numbers at once"):
        verify(file.getvalue())


def test_too_much_work_a_pixel_is_refused(still: tuple[bytes, Pictures]) -> None:
    macs = int(mac_per_pixel(STILL_ARCH))
    verify(still[0], limits=Limits(max_mac_per_pixel=macs + 1))
    with pytest.raises(LimitError, match="multiplications"):
        verify(still[0], limits=Limits(max_mac_per_pixel=macs - 1))


def test_samples_of_a_segment_are_counted() -> None:
    arch = architecture(static="0,1", dynamic="1", temporal=("5-1x1-conv-none@1/2",))
    # Latents 6x4 + 3x2 + 7 (3x2), stack 7 (2 + 5) (3x2), features 6 of 6x4, channels 3 of 6x4.
    present = (True,) * len(arch.grids)
    expected = (24 + 6 + 42) + 7 * 7 * 6 + (6 + 3) * 24
    found = segment_samples(arch, present, num_frames=7, height=6, width=4)
    assert found == expected


def test_replicated_columns_are_counted() -> None:
    """A column of samples under a kernel that reaches 1785 samples to both sides."""
    arch = architecture(dynamic="0", temporal=("X-1x15-conv-none,dilation=255",))
    inputs = arch.num_features
    segment = replace(huge_segment(arch, num_frames=1, side=1), rect=(0, 0, 1 << 20, 1))
    found = segment_samples(arch, segment.grid_present, num_frames=1, height=1 << 20, width=1)
    assert found > inputs * 3571 << 20
    with pytest.raises(LimitError, match="numbers at once"):
        check_segment(segment, arch, Limits())


def test_rectangles_of_a_frame_share_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    data, num_samples = two_rectangles()
    monkeypatch.setattr("codec.decoder.segments._SAMPLES_PER_PIXEL", 0)
    monkeypatch.setattr("codec.decoder.segments.MAX_SEGMENT_SAMPLES", 2 * num_samples)
    assert verify(data).num_segments == 2
    monkeypatch.setattr("codec.decoder.segments.MAX_SEGMENT_SAMPLES", 2 * num_samples - 1)
    with pytest.raises(LimitError, match=f"{2 * num_samples} numbers at once"):
        verify(data)


def two_rectangles() -> tuple[bytes, int]:
    """A clip of one black frame in two halves, and the numbers that each of them needs."""
    arch = architecture(static="0", num_channels=1, synthesis=("X-1-linear-none",))
    clip = ClipInfo(PixelFormat("gray", 8), 8, 4, is_still=False)
    half = replace(
        huge_segment(arch, num_frames=1, side=4),
        frame_hashes=(frame_hash([np.zeros((4, 4), np.uint8)]),),
    )
    file = io.BytesIO()
    writer = StreamWriter(file, clip)
    writer.network(0, zero_network(arch))
    for left in (0, 4):
        writer.segment(replace(half, rect=(0, left, 4, 4)))
    writer.finish()
    num_samples = segment_samples(arch, half.grid_present, num_frames=1, height=4, width=4)
    return file.getvalue(), num_samples


def test_an_empty_large_picture_needs_little() -> None:
    clip = ClipInfo(PixelFormat("gray", 8), 3000, 2000, is_still=True)
    arch = architecture(static="0-6", num_channels=1, synthesis=("X-1-linear-none",))
    black = frame_hash([np.zeros((2000, 3000), np.uint8)])
    segment = replace(
        huge_segment(arch, num_frames=1, side=1), rect=(0, 0, 2000, 3000), frame_hashes=(black,)
    )
    file = io.BytesIO()
    assert write_still(file, clip, network=zero_network(arch), segment=segment) < 150
    (frame,) = open_stream(file.getvalue()).frames()
    assert not frame.planes[0].any()


def test_what_verify_reports(clip: tuple[bytes, Pictures]) -> None:
    report = verify(Pipe(clip[0]))
    assert (report.num_frames, report.num_segments) == (8, 3)
    assert report.num_bytes <= len(clip[0])


def test_what_info_tells(clip: tuple[bytes, Pictures], still: tuple[bytes, Pictures]) -> None:
    data, _ = clip
    told = info(data)
    assert told.info == CLIP_INFO
    assert told.size_bytes == len(data) == sum(told.part_bytes.values())
    assert [s.num_frames for s in told.segments] == [4, 3, 1]
    assert told.latent_bytes < told.part_bytes["segment"]
    assert told.bpp == 8 * len(data) / (8 * 27 * 35)
    first, second = told.networks
    assert first.grids == "static 0-3, every 2 frames 1-2, hyper (each frame) 3, each frame 1-3"
    assert first.temporal[0] == "2-3x1-ck-none@1/8"
    assert first.entropy_model == "9 contexts, 2 hidden layers, 3 features at levels 0-2"
    assert second.grids == "static 0-2"
    assert second.mac_per_pixel == mac_per_pixel(architecture(static="0-2", common_randomness=True))
    assert json.loads(json.dumps(told.as_dict()))["format"]["layout"] == "yuv420"
    assert info(still[0]).part_bytes["icc"] > len(b"profile")


def test_decoding_does_not_import_torch(clip: tuple[bytes, Pictures], tmp_path: Path) -> None:
    path = tmp_path / "clip.modc"
    path.write_bytes(clip[0])
    program = (
        "import sys; from codec.decoder import verify;"
        f"print(verify({str(path)!r}).num_frames, 'torch' in sys.modules)"
    )
    root = Path(__file__).resolve().parent.parent
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["8", "False"]
