"""Payloads of the index and end chunks: where segments and networks are, and how many."""

from __future__ import annotations

from dataclasses import dataclass

from codec.bitstream.chunks import SMALL_CHUNK_BYTES
from codec.bitstream.fields import MAX_VARINT_BYTES, Cursor, FieldWriter
from codec.bitstream.segment import MAX_NETWORK_ID, read_range

_MIN_ENTRY_BYTES = 2
# Four varints and a length, inside a chunk.
MAX_END_BYTES = 4 * MAX_VARINT_BYTES + 1 + SMALL_CHUNK_BYTES


@dataclass(frozen=True)
class SegmentEntry:
    """Where the chunk of a segment begins, and the frames it holds."""

    offset: int
    first_frame: int
    num_frames: int


@dataclass(frozen=True)
class NetworkEntry:
    """Where the chunk of a network begins."""

    offset: int
    network_id: int


Entry = SegmentEntry | NetworkEntry


@dataclass(frozen=True)
class Totals:
    """What the end chunk counts: `num_bytes` lie before it; `index_offset` 0 is no index."""

    num_frames: int
    num_segments: int
    num_bytes: int
    index_offset: int


def write_index(entries: tuple[Entry, ...]) -> bytes:
    """Distances between chunks with a bit for their kind, then first frame and count, or id."""
    writer = FieldWriter()
    writer.varint(len(entries))
    before = 0
    for entry in entries:
        is_segment = isinstance(entry, SegmentEntry)
        writer.varint(entry.offset - before << 1 | is_segment)
        before = entry.offset
        if isinstance(entry, SegmentEntry):
            writer.varint(entry.first_frame)
            writer.varint(entry.num_frames)
        else:
            writer.varint(entry.network_id)
    return writer.finish()


def read_index(cursor: Cursor) -> tuple[Entry, ...]:
    """Inverse of `write_index`; consumes the whole payload.

    Raises:
        BitstreamError: a damaged payload.
    """
    count = cursor.varint("number of index entries")
    if count * _MIN_ENTRY_BYTES > cursor.remaining:
        raise cursor.error(f"{count} index entries need more than {cursor.remaining} bytes")
    entries: list[Entry] = []
    offset = 0
    for _ in range(count):
        distance = cursor.varint("place of a chunk")
        offset += distance >> 1
        if distance < 2 or offset >= cursor.offset:
            raise cursor.error("the index names places that are not in order before it")
        if distance & 1:
            entries.append(SegmentEntry(offset, *read_range(cursor)))
        else:
            entries.append(NetworkEntry(offset, cursor.varint("network id", high=MAX_NETWORK_ID)))
    cursor.must_be_empty()
    return tuple(entries)


def write_totals(totals: Totals) -> bytes:
    """Payload of the end chunk; its last byte is its length, so that it can be found backwards."""
    writer = FieldWriter()
    writer.varint(totals.num_frames)
    writer.varint(totals.num_segments)
    writer.varint(totals.num_bytes)
    writer.varint(totals.num_bytes - totals.index_offset if totals.index_offset else 0)
    writer.u8(len(writer.finish()) + 1)
    return writer.finish()


def read_totals(cursor: Cursor) -> Totals:
    """Inverse of `write_totals`; consumes the whole payload.

    Raises:
        BitstreamError: a damaged payload.
    """
    size = cursor.remaining
    num_frames = cursor.varint("number of frames")
    num_segments = cursor.varint("number of segments")
    num_bytes = cursor.varint("number of bytes")
    distance = cursor.varint("distance to the index", high=num_bytes)
    if cursor.u8("length of the end chunk") != size:
        raise cursor.error("the end chunk states another length")
    cursor.must_be_empty()
    return Totals(num_frames, num_segments, num_bytes, num_bytes - distance if distance else 0)
