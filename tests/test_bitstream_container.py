"""Whole streams: what is written comes back, from files and pipes, and costs few bytes."""

from __future__ import annotations

import io
import os
import threading
from dataclasses import replace
from fractions import Fraction

import bitstream_examples as examples
import numpy as np
import pytest
from bitstream_examples import CLIP, CLIP_INFO, IMAGE, SOUND, STILL_INFO, TINY
from hypothesis import given, settings
from hypothesis import strategies as st

from codec.bitstream import chunks
from codec.bitstream.audio import read_audio, write_audio
from codec.bitstream.coverage import Coverage
from codec.bitstream.elements import Partition
from codec.bitstream.fields import Cursor, FieldWriter
from codec.bitstream.header import MAX_TIME, read_info, write_info
from codec.bitstream.index import NetworkEntry, SegmentEntry, Totals
from codec.bitstream.limits import Limits
from codec.bitstream.network import write_network
from codec.bitstream.random_access import RandomReader
from codec.bitstream.reader import StreamReader
from codec.bitstream.segment import read_segment, write_segment
from codec.bitstream.writer import StreamWriter, write_still
from codec.errors import BitstreamError, LimitError, UsageError
from codec.media.frames import DEPTHS, LAYOUTS, ClipInfo, Colour, PixelFormat

METADATA = {"icc": bytes(range(256)) * 9, "exif": b"MM", "xmp": b""}


def same_segments(found, expected):
    """Equal in all fields; codes are arrays, which dataclasses do not compare."""
    found, expected = list(found), list(expected)
    assert [replace(segment, codes={}) for segment in found] == [
        replace(segment, codes={}) for segment in expected
    ]
    for one, other in zip(found, expected, strict=True):
        assert one.codes.keys() == other.codes.keys()
        assert all(np.array_equal(one.codes[name], other.codes[name]) for name in one.codes)
    return True


def same_network(one, other):
    return (one.arch, one.exponents) == (other.arch, other.exponents) and all(
        np.array_equal(one.values[name], other.values[name]) for name in other.values
    )


def test_still():
    segment = examples.make_segment(IMAGE, STILL_INFO)
    data = examples.still_bytes(metadata=METADATA)
    reader = StreamReader(io.BytesIO(data))
    assert reader.info == STILL_INFO
    assert reader.metadata == METADATA
    assert same_segments(reader.segments(), [segment])
    assert same_network(reader.network(0), examples.make_network(IMAGE))
    assert reader.totals == Totals(1, 1, len(data), 0)
    assert reader.num_bytes.total() == len(data)
    assert reader.num_bytes["network"] == len(write_network(examples.make_network(IMAGE)))


@pytest.mark.parametrize("colour", [Colour(), Colour(1, 13, 0, True)])
def test_fixed_bytes_of_a_still(colour):
    """All but the network and the latents: at most 32 bytes, for 768x512 in RGB."""
    info = replace(STILL_INFO, colour=colour)
    network = examples.make_network(IMAGE)
    segment = replace(examples.make_segment(IMAGE, info), substreams=(bytes(20_000),))
    file = io.BytesIO()
    size = write_still(file, info, network=network, segment=segment)
    assert size == len(file.getvalue())
    fixed = size - 20_000 - len(write_network(network))
    assert fixed <= 32
    assert fixed == (27 if colour == Colour() else 31)


def test_clip():
    segments = examples.clip_segments()
    data = examples.clip_bytes(metadata=METADATA, audio=SOUND)
    reader = StreamReader(io.BytesIO(data))
    assert reader.info == CLIP_INFO
    assert same_segments(reader.segments(), segments)
    assert reader.metadata == METADATA
    assert reader.audio == SOUND
    base = examples.make_network(CLIP)
    assert same_network(reader.network(0), base)
    assert same_network(reader.network(9), examples.shifted(base))
    assert reader.totals.num_frames == 16
    assert reader.totals.num_segments == 3
    assert reader.num_bytes.total() == len(data)


def chunk_bytes(data, kind):
    """All bytes of the chunks of a kind."""
    source = chunks.ChunkSource(io.BytesIO(data))
    source.read_start()
    heads = []
    while (chunk := source.read_chunk()) is not None:
        heads.append(chunk.head)
    return sum(head.end - head.offset for head in heads if head.kind == kind)


@pytest.mark.parametrize("num_frames", [16, 64])
@pytest.mark.parametrize("num_segments", [1, 2, 50])
def test_fixed_bytes_of_a_clip(num_segments, num_frames):
    """All but networks and latents: at most 24 bytes a segment and 6 a frame."""
    segments = [
        examples.make_segment(
            TINY,
            CLIP_INFO,
            first_frame=index * num_frames,
            num_frames=num_frames,
            size=700,
            partition=Partition(split_frames=index % 2 == 1),
        )
        for index in range(num_segments)
    ]
    file = io.BytesIO()
    writer = StreamWriter(file, CLIP_INFO)
    writer.network(0, examples.make_network(TINY))
    for segment in segments:
        writer.segment(segment)
    writer.finish()
    networks = chunk_bytes(file.getvalue(), chunks.NETWORK)
    latents = sum(len(stream) for segment in segments for stream in segment.substreams)
    fixed = len(file.getvalue()) - networks - latents
    assert fixed <= 24 * num_segments + 6 * num_frames * num_segments


def test_fixed_bytes_of_a_segment_deep_in_a_film():
    """Late frames, 14 grids of which some are empty, and the entry of the index: 24 + 4 a frame."""
    info = replace(CLIP_INFO, width=1920, height=1080)
    arch = replace(CLIP, temporal=(), common_randomness=False)
    segment = examples.make_segment(arch, info, first_frame=200_000, num_frames=32, size=40_000)
    payload = write_segment(segment, info=info, arch=arch)
    chunk = chunks.make_chunk(chunks.SEGMENT, payload)
    entry_bytes = 3 + 3 + 1
    assert len(chunk) - 40_000 + entry_bytes <= 24 + 4 * 32


class Pipe(io.RawIOBase):
    """Reads a few bytes at a time and cannot seek."""

    def __init__(self, data, step):
        self.data, self.step, self.place = data, step, 0

    def readable(self):
        return True

    def read(self, size=-1):
        size = min(size, self.step) if size >= 0 else self.step
        self.place += size
        return self.data[self.place - size : self.place]

    def seek(self, *_):
        raise OSError("a pipe")


@pytest.mark.parametrize("step", [1, 7, 100_000])
def test_pipes_with_short_reads(step):
    reader = StreamReader(Pipe(examples.clip_bytes(audio=SOUND), step))
    assert same_segments(reader.segments(), examples.clip_segments())


def test_a_real_pipe_both_ways():
    read_end, write_end = os.pipe()

    def write():
        with open(write_end, "wb") as file:
            examples.write_clip(file, examples.clip_segments())

    thread = threading.Thread(target=write)
    thread.start()
    with open(read_end, "rb") as file:
        assert same_segments(StreamReader(file).segments(), examples.clip_segments())
    thread.join()


def test_random_access_by_the_index():
    expected = examples.clip_segments()
    data = examples.clip_bytes(metadata=METADATA, audio=SOUND)
    reader = RandomReader(io.BytesIO(data))
    assert (reader.info, reader.metadata, reader.audio) == (CLIP_INFO, METADATA, SOUND)
    assert [entry.first_frame for entry in reader.segments] == [0, 10, 13]
    for entry, segment in reversed(list(zip(reader.segments, expected, strict=True))):
        assert same_segments([reader.segment(entry)], [segment])
    assert same_network(reader.network(9), examples.shifted(examples.make_network(CLIP)))
    assert same_network(reader.network(5), examples.make_network(CLIP, seed=5, spread=2.0))
    with pytest.raises(BitstreamError, match="network 6 is not in the stream"):
        reader.network(6)
    sequential = StreamReader(io.BytesIO(data))
    list(sequential.segments())
    assert reader.totals == sequential.totals


def test_random_access_without_an_index():
    """One segment has no index; a chunk of an unknown optional type lies between."""
    segment = examples.make_segment(CLIP, CLIP_INFO, num_frames=4)
    file = io.BytesIO()
    examples.write_clip(file, [segment])
    data = file.getvalue()
    reader = RandomReader(io.BytesIO(data))
    assert reader.totals.index_offset == 0
    assert [(e.first_frame, e.num_frames) for e in reader.segments] == [(0, 4)]
    assert same_segments([reader.segment(reader.segments[0])], [segment])


def test_random_access_refuses_a_still():
    with pytest.raises(UsageError, match="a still has no segments"):
        RandomReader(io.BytesIO(examples.still_bytes()))


def rewrapped(data, change):
    """The same stream with its list of (type, payload) changed, and the CRCs right."""
    source = chunks.ChunkSource(io.BytesIO(data))
    source.read_start()
    parts = []
    while (chunk := source.read_chunk()) is not None:
        parts.append((chunk.head.kind, chunk.payload))
    return data[:5] + b"".join(chunks.make_chunk(kind, part) for kind, part in change(parts))


def test_unknown_optional_chunks_are_skipped():
    data = rewrapped(
        examples.still_bytes(), lambda parts: [(0xFF, bytes(3_000_000)), (0x90, b""), *parts]
    )
    reader = StreamReader(io.BytesIO(data))
    assert same_segments(reader.segments(), [examples.make_segment(IMAGE, STILL_INFO)])
    assert reader.num_bytes["type 255"] > 3_000_000


TIMES = st.integers(1, 300) | st.integers(1, MAX_TIME)
FRACTIONS = st.builds(Fraction, TIMES, TIMES)
INFOS = st.builds(
    ClipInfo,
    format=st.builds(PixelFormat, st.sampled_from(LAYOUTS), st.sampled_from(DEPTHS), st.booleans()),
    width=st.integers(1, 8192),
    height=st.integers(1, 8192),
    is_still=st.just(False),
    colour=st.builds(Colour, *[st.integers(0, 255)] * 3, st.booleans(), st.integers(0, 6)),
    time_base=FRACTIONS,
    frame_ticks=TIMES,
    pixel_aspect=FRACTIONS,
    rotation=st.sampled_from([0, 90, 180, 270]),
)


@settings(deadline=None, max_examples=80)
@given(INFOS)
def test_any_header(info):
    for wanted in (info, replace(info, is_still=True, time_base=Fraction(1, 25), frame_ticks=1)):
        writer = FieldWriter()
        write_info(writer, wanted)
        cursor = Cursor(writer.finish(), what="test")
        assert read_info(cursor, is_still=wanted.is_still, limits=Limits()) == wanted
        cursor.must_be_empty()


def test_bytes_of_a_header():
    writer = FieldWriter()
    write_info(writer, CLIP_INFO)
    expected = "ca e0 02 9f 02 01 01 01 02 0c 0b 01 01 b0 ea 01 e9 07"
    assert writer.finish().hex(" ") == expected


def test_any_audio():
    cursor = Cursor(write_audio(SOUND), what="test")
    assert read_audio(cursor) == SOUND
    for name in ("a\x1b[31m", "x" * 65):
        with pytest.raises(BitstreamError, match="audio codec is no name"):
            read_audio(Cursor(write_audio(replace(SOUND, codec=name)), what="test"))


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_any_segment(data):
    num_frames = data.draw(st.integers(1, 9))
    top, left = data.draw(st.integers(0, 100)) * 2, data.draw(st.integers(0, 100)) * 2
    steps = data.draw(st.lists(st.integers(1, 4000), min_size=num_frames, max_size=num_frames))
    segment = examples.make_segment(
        CLIP,
        CLIP_INFO,
        first_frame=data.draw(st.integers(0, 1 << 32)) if data.draw(st.booleans()) else 0,
        num_frames=num_frames,
        size=data.draw(st.integers(0, 3)),
        rect=(top, left, CLIP_INFO.height - top, 2),
        network_id=data.draw(st.integers(0, 1 << 31)),
        grid_present=tuple(data.draw(st.booleans()) for _ in CLIP.grids),
        noise_seed=data.draw(st.integers(0, (1 << 32) - 1)),
        pts_ticks=tuple(int(p) for p in np.cumsum(steps) - data.draw(st.integers(0, 99999))),
        partition=Partition(data.draw(st.booleans()), data.draw(st.integers(1, 16))),
    )
    if segment.first_frame >> 32:
        segment = replace(segment, first_frame=(1 << 32) - 1)
    payload = write_segment(segment, info=CLIP_INFO, arch=CLIP)

    def parse(data):
        cursor = Cursor(data, what="test")
        return read_segment(
            cursor, info=CLIP_INFO, limits=Limits(), find_arch={segment.network_id: CLIP}.get
        )

    assert same_segments([parse(payload)], [segment])
    for length in range(len(payload) - len(segment.substreams[-1])):
        with pytest.raises(BitstreamError):
            parse(payload[:length])


def test_rectangles_cover_a_clip():
    """Two frames cut into four, then one frame whole, then one cut across time."""
    coverage = Coverage(replace(CLIP_INFO, width=8, height=8))
    for rect in ((0, 0, 4, 4), (0, 4, 4, 4), (4, 0, 4, 8)):
        coverage.add(first_frame=0, num_frames=2, rect=rect)
    coverage.add(first_frame=2, num_frames=1, rect=(0, 0, 8, 8))
    coverage.add(first_frame=3, num_frames=2, rect=(0, 0, 8, 4))
    coverage.add(first_frame=3, num_frames=1, rect=(0, 4, 8, 4))
    with pytest.raises(BitstreamError, match="leave out parts"):
        coverage.finish()
    coverage.add(first_frame=4, num_frames=1, rect=(0, 4, 8, 4))
    coverage.finish()
    assert (coverage.num_frames, coverage.num_segments) == (5, 7)
    with pytest.raises(BitstreamError, match="overlaps"):
        coverage.add(first_frame=4, num_frames=1, rect=(7, 7, 1, 1))
    with pytest.raises(BitstreamError, match="begins later"):
        coverage.add(first_frame=3, num_frames=5, rect=(0, 0, 8, 8))
    with pytest.raises(BitstreamError, match="leaves frames out after frame 4"):
        coverage.add(first_frame=6, num_frames=1, rect=(0, 0, 8, 8))


def test_rectangles_are_limited():
    coverage = Coverage(replace(CLIP_INFO, width=1000, height=1))
    for left in range(256):
        coverage.add(first_frame=0, num_frames=1, rect=(0, left, 1, 1))
    with pytest.raises(BitstreamError, match="more than 256 rectangles"):
        coverage.add(first_frame=0, num_frames=1, rect=(0, 256, 1, 1))


@pytest.mark.parametrize("rect", [(1, 0, 286, 352), (0, 0, 287, 351), (0, 2, 101, 350)])
def test_rectangles_do_not_cut_chroma_samples(rect):
    segment = examples.make_segment(CLIP, CLIP_INFO, rect=rect)
    payload = write_segment(segment, info=CLIP_INFO, arch=CLIP)
    with pytest.raises(BitstreamError, match="cut through chroma samples"):
        read_segment(
            Cursor(payload, what="test"), info=CLIP_INFO, limits=Limits(), find_arch=lambda _: CLIP
        )


def test_limits():
    still = examples.still_bytes()
    with pytest.raises(LimitError, match="768x512 samples is larger than the 393215 allowed"):
        StreamReader(io.BytesIO(still), limits=Limits(max_pixels=768 * 512 - 1))
    StreamReader(io.BytesIO(still), limits=Limits(max_pixels=768 * 512))
    reader = StreamReader(io.BytesIO(examples.clip_bytes()), limits=Limits(max_frames=9))
    with pytest.raises(LimitError, match="10 frames; 9 are allowed"):
        next(reader.segments())
    reader = StreamReader(io.BytesIO(still), limits=Limits(max_grids=9))
    with pytest.raises(LimitError, match="grids"):
        next(reader.segments())


def test_writer_guards_the_coverage():
    writer = StreamWriter(io.BytesIO(), CLIP_INFO)
    writer.network(0, examples.make_network(CLIP))
    with pytest.raises(BitstreamError, match="no segment"):
        writer.finish()
    writer.segment(examples.make_segment(CLIP, CLIP_INFO, num_frames=2))
    with pytest.raises(BitstreamError, match="overlaps"):
        writer.segment(examples.make_segment(CLIP, CLIP_INFO, first_frame=1))
    assert isinstance(writer.finish(), Totals)


def test_entries_of_the_index():
    data = examples.clip_bytes()
    reader = RandomReader(io.BytesIO(data))
    file = io.BytesIO(data)
    source = chunks.ChunkSource(file)
    source.read_start()
    kinds = []
    while (chunk := source.read_chunk()) is not None:
        kinds.append((chunk.head.kind, chunk.head.offset))
    places = [offset for kind, offset in kinds if kind == chunks.SEGMENT]
    assert [entry.offset for entry in reader.segments] == places
    assert reader.segments[1] == SegmentEntry(places[1], 10, 3)
    assert kinds[-1] == (chunks.END, reader.totals.num_bytes)
    assert kinds[-2] == (chunks.INDEX, reader.totals.index_offset)
    assert NetworkEntry(kinds[1][1], 0) == NetworkEntry(reader._networks_at[0], 0)
