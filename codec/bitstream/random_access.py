"""Reading single segments of a clip from a seekable file, by the index or by chunk heads."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import BinaryIO

from codec.arch.network import Architecture
from codec.bitstream import chunks
from codec.bitstream.audio import read_audio
from codec.bitstream.chunks import METADATA_NAMES, SMALL_CHUNK_BYTES, Chunk, ChunkHead, ChunkSource
from codec.bitstream.elements import Network, Segment
from codec.bitstream.fields import Cursor
from codec.bitstream.header import read_info
from codec.bitstream.index import (
    MAX_END_BYTES,
    Entry,
    NetworkEntry,
    SegmentEntry,
    Totals,
    read_index,
    read_totals,
)
from codec.bitstream.limits import Limits
from codec.bitstream.segment import MAX_NETWORK_ID, read_range, read_segment
from codec.bitstream.stores import NetworkStore
from codec.errors import BitstreamError, UsageError
from codec.media.frames import AudioTrack, ClipInfo

_SEEKABLE = (chunks.NETWORK, chunks.SEGMENT, chunks.INDEX, chunks.END)
_PEEK_BYTES = 32


class RandomReader:
    """A clip whose segments can be read in any order.

    The constructor reads the header, metadata, audio, the end chunk, and the index; where there is
    none, the heads of all chunks. What it does not read it does not check: only a `StreamReader`
    that reached its end has seen that a stream is whole.

    Args:
        file: a clip, seekable.
        limits: what the stream may ask for.

    Attributes:
        info, metadata, audio, totals: as those of `StreamReader`.
        segments: where the segments are, by rising first frame.

    Raises:
        UsageError: the stream is a still.
        BitstreamError and others: as `StreamReader`.
    """

    def __init__(self, file: BinaryIO, *, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._source = ChunkSource(file)
        self.metadata: dict[str, bytes] = {}
        self.audio: AudioTrack | None = None
        self._source.read_start()
        first_offset = self._read_side_chunks()
        self.totals = self._read_totals(file)
        entries = self._entries(first_offset)
        segments = (entry for entry in entries if isinstance(entry, SegmentEntry))
        self.segments = tuple(sorted(segments, key=lambda entry: entry.first_frame))
        end = max((entry.first_frame + entry.num_frames for entry in self.segments), default=0)
        if (end, len(self.segments)) != (self.totals.num_frames, self.totals.num_segments):
            raise BitstreamError(
                f"the end chunk counts {self.totals.num_segments} segments up to frame "
                f"{self.totals.num_frames - 1}, there are {len(self.segments)} up to {end - 1}"
            )
        self._networks_at = {
            entry.network_id: entry.offset for entry in entries if isinstance(entry, NetworkEntry)
        }
        self._networks = NetworkStore(self._payload, info=self.info, limits=self._limits)

    def network(self, network_id: int) -> Network:
        """The network that a segment names; errors as `StreamReader`."""
        return self._networks.get(network_id)

    def segment(self, entry: SegmentEntry) -> Segment:
        """Read one of `segments`.

        Raises:
            BitstreamError: it is damaged, or not what the index says.
        """
        cursor = self._chunk_at(entry.offset, chunks.SEGMENT).cursor()
        segment = read_segment(
            cursor, info=self.info, limits=self._limits, find_arch=self._find_arch
        )
        if (segment.first_frame, segment.num_frames) != (entry.first_frame, entry.num_frames):
            raise BitstreamError(f"the index is wrong about the segment at byte {entry.offset}")
        return segment

    def _find_arch(self, network_id: int) -> Architecture:
        return self.network(network_id).arch

    def _read_side_chunks(self) -> int:
        """Read up to the first network or segment; returns where that begins."""
        info: ClipInfo | None = None
        while True:
            head = self._source.read_head()
            if head is None:
                raise BitstreamError("the stream ends before its first network")
            if info and head.kind in _SEEKABLE:
                self.info = info
                return head.offset
            chunk = self._source.read_body(head)
            if head.kind == chunks.STILL:
                raise UsageError("a still has no segments to choose from: read it as a whole")
            if head.kind == chunks.HEADER:
                info = read_info(chunk.cursor(), is_still=False, limits=self._limits)
            elif head.kind in METADATA_NAMES:
                self.metadata[METADATA_NAMES[head.kind]] = chunk.payload
            elif head.kind == chunks.AUDIO:
                self.audio = read_audio(chunk.cursor())

    def _read_totals(self, file: BinaryIO) -> Totals:
        """The end chunk, found by the length that ends its payload."""
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - MAX_END_BYTES))
        tail = file.read(MAX_END_BYTES)
        offset = size - SMALL_CHUNK_BYTES - tail[-5]
        if size - offset > len(tail) or tail[offset - size] != chunks.END:
            raise BitstreamError("the stream does not end with an end chunk: it may be truncated")
        chunk = self._chunk_at(offset, chunks.END)
        totals = read_totals(chunk.cursor())
        if totals.num_bytes != offset or chunk.head.end != size:
            raise BitstreamError(f"the end chunk at byte {offset} states another place or length")
        return totals

    def _chunk_at(self, offset: int, kind: int) -> Chunk:
        self._source.seek(offset)
        head = self._source.read_head()
        if head is None or head.kind != kind:
            name = chunks.CHUNK_NAMES[kind]
            raise BitstreamError(f"there is no {name} chunk at byte {offset}, where one should be")
        return self._source.read_body(head)

    def _entries(self, first_offset: int) -> tuple[Entry, ...]:
        if self.totals.index_offset:
            index = self._chunk_at(self.totals.index_offset, chunks.INDEX)
            return read_index(index.cursor())
        return tuple(self._scan(first_offset))

    def _scan(self, offset: int) -> Iterator[Entry]:
        """Entries from the heads of the chunks and the first fields of their payloads."""
        while offset < self.totals.num_bytes:
            self._source.seek(offset)
            head = self._source.read_head()
            if head is None or head.end > self.totals.num_bytes:
                raise BitstreamError(f"the chunk at byte {offset} reaches over the end chunk")
            if head.kind in (chunks.SEGMENT, chunks.NETWORK):
                yield self._peek(head)
            offset = head.end

    def _peek(self, head: ChunkHead) -> Entry:
        cursor = self._source.peek(head, _PEEK_BYTES)
        if head.kind == chunks.NETWORK:
            return NetworkEntry(head.offset, cursor.varint("network id", high=MAX_NETWORK_ID))
        cursor.u8("flags of the segment")
        return SegmentEntry(head.offset, *read_range(cursor))

    def _payload(self, network_id: int) -> Cursor:
        if network_id not in self._networks_at:
            raise BitstreamError(f"network {network_id} is not in the stream")
        cursor = self._chunk_at(self._networks_at[network_id], chunks.NETWORK).cursor()
        if cursor.varint("network id") != network_id:
            raise BitstreamError(f"the index is wrong about network {network_id}")
        return cursor
