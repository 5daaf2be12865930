"""Damaged streams: each is one of our errors with the right exit code, in bounded memory."""

from __future__ import annotations

import contextlib
import io
import re
import tracemalloc
import zlib

import bitstream_examples as examples
import pytest
from bitstream_examples import CLIP_INFO, IMAGE, SOUND, TINY
from hypothesis import given, settings
from hypothesis import strategies as st

from codec.bitstream import chunks
from codec.bitstream.fields import Cursor, FieldWriter
from codec.bitstream.index import SegmentEntry, Totals, read_index, write_index, write_totals
from codec.bitstream.random_access import RandomReader
from codec.bitstream.reader import StreamReader
from codec.bitstream.segment import write_segment
from codec.errors import (
    BitstreamError,
    CodecError,
    NotModcodecError,
    UnsupportedVersionError,
)


def read_all(data):
    reader = StreamReader(io.BytesIO(data))
    return list(reader.segments()), reader


def read_randomly(data):
    reader = RandomReader(io.BytesIO(data))
    return [reader.segment(entry) for entry in reader.segments]


def small_still():
    info = examples.STILL_INFO
    return examples.still_bytes(arch=TINY, info=info, size=9, metadata={"icc": b"profile"})


def small_clip():
    file = io.BytesIO()
    segments = [
        examples.make_segment(TINY, CLIP_INFO, first_frame=2 * i, num_frames=2, size=5)
        for i in range(2)
    ]
    examples.write_clip(file, segments, arch=TINY, audio=SOUND)
    return file.getvalue()


START = chunks.MAGIC + bytes([chunks.VERSION])
STREAMS = pytest.mark.parametrize("data", [small_still(), small_clip()], ids=["still", "clip"])


def expected_error(place):
    if place < 4:
        return NotModcodecError
    return UnsupportedVersionError if place == 4 else BitstreamError


@STREAMS
def test_each_flipped_byte(data):
    assert read_all(data)
    for place in range(len(data)):
        for flip in (0x01, 0x80, 0xFF):
            changed = bytearray(data)
            changed[place] ^= flip
            with pytest.raises(expected_error(place)) as caught:
                read_all(bytes(changed))
            assert "\n" not in str(caught.value)


@STREAMS
def test_each_truncation(data):
    for length in range(len(data)):
        kind = NotModcodecError if length < 4 else BitstreamError
        with pytest.raises(kind):
            read_all(data[:length])


@STREAMS
def test_bytes_after_the_end(data):
    for tail in (b"\0", data, b"\x90\x00" + zlib.crc32(b"\x90\0").to_bytes(4, "little")):
        with pytest.raises(BitstreamError, match="bytes after"):
            read_all(data + tail)


def test_other_files():
    for data in (b"", b"\x89", b"\x89PNG\r\n\x1a\n", b"plain text, a long one\n", bytes(100)):
        with pytest.raises(NotModcodecError):
            read_all(data)
    with pytest.raises(NotModcodecError, match="the file is empty"):
        read_all(b"")
    with pytest.raises(UnsupportedVersionError, match="version 1; this modcodec reads version 4"):
        read_all(chunks.MAGIC + b"\x01")


@pytest.mark.parametrize("length", [1 << 32, (1 << 62) + 5, (1 << 63) - 1])
@pytest.mark.parametrize("kind", [chunks.STILL, chunks.ICC, 0x7F, 0xF0])
def test_absurd_chunk_lengths(kind, length):
    writer = FieldWriter()
    writer.u8(kind)
    writer.varint(length)
    data = START + writer.finish() + bytes(100)
    tracemalloc.start()
    with pytest.raises(BitstreamError, match="the stream ends at byte"):
        read_all(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 << 20


def parts_of(data):
    source = chunks.ChunkSource(io.BytesIO(data))
    source.read_start()
    parts = []
    while (chunk := source.read_chunk()) is not None:
        parts.append((chunk.head.kind, chunk.payload))
    return parts


def stream(parts):
    return START + b"".join(chunks.make_chunk(kind, part) for kind, part in parts)


def totalled(parts):
    """A stream whose end chunk is right whatever its other chunks are; it has no index."""
    body = stream(parts)
    end = write_totals(Totals(4, 2, len(body), 0))
    return body + chunks.make_chunk(chunks.END, end)


def clip_parts():
    """(header, audio, network, first segment, second segment) of a clip without index and end."""
    return [part for part in parts_of(small_clip()) if part[0] not in (chunks.INDEX, chunks.END)]


def test_parts_make_a_clip():
    header, audio, network, extra, first, second = reordered(clip_parts())
    assert len(read_all(totalled([header, audio, network, extra, first, second]))[0]) == 2


def reordered(parts):
    order = (chunks.HEADER, chunks.AUDIO, chunks.NETWORK, chunks.SEGMENT)
    return sorted(parts, key=lambda part: order.index(part[0]))


ORDERS = {
    "end chunk": lambda h, a, n, e, s, t: stream([h, n, s, t]),
    "before the header": lambda h, a, n, e, s, t: totalled([n, h, s, t]),
    "network 0 is not in the stream": lambda h, a, n, e, s, t: totalled([h, s, n, t]),
    "network 0 is there for the second": lambda h, a, n, e, s, t: totalled([h, n, n, s, t]),
    "second time, or too late": lambda h, a, n, e, s, t: totalled([h, h, n, s, t]),
    "(audio) is there for the second": lambda h, a, n, e, s, t: totalled([h, a, a, n, s, t]),
    "(audio) is": lambda h, a, n, e, s, t: totalled([h, n, a, s, t]),
    "(icc) is": lambda h, a, n, e, s, t: totalled([h, n, s, t, (chunks.ICC, b"")]),
    "overlaps another": lambda h, a, n, e, s, t: totalled([h, n, s, s, t]),
    "begins later": lambda h, a, n, e, s, t: totalled([h, n, s, t, s]),
    "leaves frames out": lambda h, a, n, e, s, t: totalled([h, n, t]),
    "the end chunk states": lambda h, a, n, e, s, t: totalled([h, n, s]),
    "has no segment": lambda h, a, n, e, s, t: totalled([h, n]),
    "bytes too many": lambda h, a, n, e, s, t: totalled([(h[0], h[1] + b"\0"), n, s, t]),
}


@pytest.mark.parametrize("message", ORDERS)
def test_chunks_in_a_wrong_order(message):
    with pytest.raises(BitstreamError, match=re.escape(message)):
        read_all(ORDERS[message](*reordered(clip_parts())))


def test_required_and_reserved_things_of_later_versions():
    header, _, network, _, first, second = reordered(clip_parts())
    with pytest.raises(UnsupportedVersionError, match="type 64 at byte"):
        read_all(totalled([header, (0x40, b"new"), network, first, second]))
    for bit, name in ((1, "motion"), (2, "a coding order"), (128, "flag bit 7")):
        payload = bytes([first[1][0] | bit]) + first[1][1:]
        with pytest.raises(UnsupportedVersionError, match=f"{name} in a segment needs a newer"):
            read_all(totalled([header, network, (chunks.SEGMENT, payload), second]))
    with pytest.raises(UnsupportedVersionError, match="layout number 7"):
        read_all(totalled([(chunks.HEADER, b"\x07" + header[1][1:]), network, first, second]))


def test_networks_with_another_number_of_channels():
    data = examples.still_bytes(arch=TINY)
    kind, payload = parts_of(data)[0]
    with_alpha = stream([(kind, bytes([payload[0] | 1 << 5]) + payload[1:])])
    with pytest.raises(BitstreamError, match="makes 3 channels for pictures with 4 planes"):
        read_all(with_alpha)


def test_depth_of_differences_is_one():
    file = io.BytesIO()
    examples.write_clip(file, examples.clip_segments())
    parts = parts_of(file.getvalue())
    place = max(i for i, (kind, _) in enumerate(parts) if kind == chunks.NETWORK)
    assert parts[place][1][:3] == bytes([9, 2, 0])
    second = (chunks.NETWORK, bytes([8, 2, 9]) + parts[place][1][3:])
    self_based = (chunks.NETWORK, bytes([9, 2, 9]) + parts[place][1][3:])
    for changed in ([*parts[: place + 1], second], [*parts[:place], self_based]):
        with pytest.raises(BitstreamError, match="network 9 is the base of another one"):
            read_all(stream(changed))


def test_a_wrong_index():
    parts = parts_of(small_clip())
    place = next(i for i, (kind, _) in enumerate(parts) if kind == chunks.INDEX)
    right, same = parts[place][1], read_randomly(small_clip())
    for at in range(len(right)):
        payload = bytearray(right)
        payload[at] ^= 1
        data = stream([*parts[:place], (chunks.INDEX, bytes(payload)), *parts[place + 1 :]])
        with pytest.raises(BitstreamError):
            read_all(data)
        # It may be wrong about the network that no segment uses.
        with contextlib.suppress(BitstreamError):
            assert read_randomly(data) == same
    with pytest.raises(BitstreamError, match="index"):
        read_all(stream([*parts[:place], *parts[place:][::-1]]))


@pytest.mark.parametrize("missing", [1, 3])
def test_an_index_without_a_segment(missing):
    """Entry 0 is the network, then come two segments with a network of no use between them."""
    parts = parts_of(small_clip())
    place = next(i for i, (kind, _) in enumerate(parts) if kind == chunks.INDEX)
    entries = list(read_index(Cursor(parts[place][1], what="index", offset=1 << 20)))
    assert isinstance(entries.pop(missing), SegmentEntry)
    body = stream([*parts[:place], (chunks.INDEX, write_index(tuple(entries)))])
    index_offset = len(stream(parts[:place]))
    end = write_totals(Totals(4, 2, len(body), index_offset))
    with pytest.raises(BitstreamError, match="counts 2 segments up to frame 3, there are 1"):
        read_randomly(body + chunks.make_chunk(chunks.END, end))


def test_random_access_to_truncated_clips():
    data = small_clip()
    for length in range(5, len(data)):
        with pytest.raises(BitstreamError):
            read_randomly(data[:length])


def test_random_access_to_damaged_clips():
    """It does not look at everything, but what it gives is right."""
    data = small_clip()
    same = read_randomly(data)
    for place in range(len(data)):
        changed = bytearray(data)
        changed[place] ^= 0x55
        try:
            found = read_randomly(bytes(changed))
        except CodecError:
            continue
        assert found == same


PAYLOADS = dict(parts_of(small_clip()))


@settings(deadline=None, max_examples=400)
@given(st.sampled_from(sorted(PAYLOADS)), st.data())
def test_absurd_payloads_with_a_right_crc(kind, data):
    """Bytes of one chunk replaced, removed or put in, with the CRC made right again."""
    payload = PAYLOADS[kind]
    start = data.draw(st.integers(0, len(payload)))
    stop = data.draw(st.integers(start, min(len(payload), start + 4)))
    changed = payload[:start] + data.draw(st.binary(max_size=4)) + payload[stop:]
    parts = [(k, changed if k == kind else part) for k, part in parts_of(small_clip())]
    for read in (read_all, read_randomly):
        with contextlib.suppress(BitstreamError, UnsupportedVersionError):
            read(stream(parts))


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_absurd_stills_with_a_right_crc(data):
    kind, payload = parts_of(examples.still_bytes(arch=IMAGE, size=3))[0]
    start = data.draw(st.integers(0, 40) | st.integers(0, len(payload)))
    changed = payload[:start] + data.draw(st.binary(min_size=1, max_size=4)) + payload[start + 2 :]
    with contextlib.suppress(BitstreamError, UnsupportedVersionError):
        read_all(stream([(kind, changed)]))


def test_declared_counts_do_not_allocate():
    """A billion index entries, packets and frames in a few bytes."""
    many = FieldWriter()
    many.varint(1 << 30)
    count = many.finish()
    header, audio, network, _, first, second = reordered(clip_parts())
    no_packets = audio[1][: audio[1].index(b"\x02\x12\x10") + 3]
    frames = bytes([first[1][0]]) + b"\0" + count + first[1][3:]
    segment = examples.make_segment(TINY, CLIP_INFO, num_frames=2)
    assert write_segment(segment, info=CLIP_INFO, arch=TINY)[:3] == first[1][:3]
    hostile = (
        [header, (chunks.AUDIO, no_packets + count)],
        [header, network, (chunks.SEGMENT, frames)],
        [header, network, first, second, (chunks.INDEX, count)],
    )
    for parts in hostile:
        tracemalloc.start()
        with pytest.raises(BitstreamError):
            read_all(stream(parts))
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
        tracemalloc.stop()
