"""Reading a stream from its first byte to its last, without seeking."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import BinaryIO

from codec.arch.network import Architecture
from codec.bitstream import chunks
from codec.bitstream.audio import read_audio
from codec.bitstream.chunks import METADATA_NAMES, Chunk, ChunkSource
from codec.bitstream.coverage import Coverage
from codec.bitstream.elements import Network, Segment
from codec.bitstream.fields import Cursor
from codec.bitstream.header import read_info
from codec.bitstream.index import (
    Entry,
    NetworkEntry,
    SegmentEntry,
    Totals,
    read_index,
    read_totals,
)
from codec.bitstream.limits import Limits
from codec.bitstream.segment import MAX_NETWORK_ID, read_segment
from codec.bitstream.stores import NetworkStore
from codec.errors import BitstreamError
from codec.media.frames import AudioTrack, ClipInfo


class StreamReader:
    """A stream, read in order from a file or pipe.

    The constructor reads up to the header. `segments` reads the rest; metadata and audio, which
    come before the first segment, are complete when it gives that, `totals` when it ends.

    Args:
        file: opened for reading bytes; needs no seeking.
        limits: what the stream may ask for.

    Attributes:
        info: format, colour and timing.
        metadata: 'icc', 'exif', 'xmp', as far as read.
        audio: the sound, if there is any.
        totals: counts of the whole stream, once it has been read.
        num_bytes: bytes of each kind of chunk, by name; parts of a still by the same names.

    Raises:
        NotModcodecError: another format, or an empty file.
        UnsupportedVersionError: another version, or a required chunk that this version lacks.
        LimitError: more than the limits allow.
        BitstreamError: anything else that is wrong.
    """

    def __init__(self, file: BinaryIO, *, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._source = ChunkSource(file)
        self._payloads: dict[int, Cursor] = {}
        self._entries: list[Entry] = []
        self._index: tuple[int, tuple[Entry, ...]] | None = None
        self.metadata: dict[str, bytes] = {}
        self.audio: AudioTrack | None = None
        self.totals: Totals | None = None
        self.num_bytes: Counter[str] = Counter()
        self._source.read_start()
        self.num_bytes["header"] = self._source.offset
        self._head_chunk = self._read_up_to_head()
        self._head_cursor = self._head_chunk.cursor()
        is_still = self._head_chunk.head.kind == chunks.STILL
        self.info: ClipInfo = read_info(self._head_cursor, is_still=is_still, limits=self._limits)
        self._networks = NetworkStore(self._payload, info=self.info, limits=self._limits)

    def network(self, network_id: int) -> Network:
        """The network that a segment names; errors as the class."""
        return self._networks.get(network_id)

    def segments(self) -> Iterator[Segment]:
        """All segments, to be iterated once; the checks of the whole stream run at its end.

        Raises:
            BitstreamError, LimitError, UnsupportedVersionError: as the class.
        """
        if self.info.is_still:
            yield self._still()
        else:
            yield from self._clip()

    def _next_chunk(self, wanted: str) -> Chunk:
        chunk = self._source.read_chunk()
        if chunk is None:
            raise BitstreamError(f"the stream ends at byte {self._source.offset}, before {wanted}")
        self.num_bytes[chunk.head.name] += chunk.head.end - chunk.head.offset
        return chunk

    def _read_up_to_head(self) -> Chunk:
        while True:
            chunk = self._next_chunk("the header")
            kind = chunk.head.kind
            if kind in (chunks.HEADER, chunks.STILL):
                return chunk
            if kind in METADATA_NAMES:
                self._read_metadata(chunk)
            elif kind in chunks.CHUNK_NAMES:
                raise self._misplaced(chunk, "before the header")

    def _misplaced(self, chunk: Chunk, where: str) -> BitstreamError:
        return BitstreamError(f"a chunk at byte {chunk.head.offset} ({chunk.head.name}) is {where}")

    def _read_metadata(self, chunk: Chunk) -> None:
        name = METADATA_NAMES[chunk.head.kind]
        if name in self.metadata:
            raise self._misplaced(chunk, "there for the second time, or too late")
        self.metadata[name] = chunk.payload

    def _payload(self, network_id: int) -> Cursor:
        if network_id not in self._payloads:
            raise BitstreamError(f"network {network_id} is not in the stream before its first use")
        return self._payloads[network_id].copy()

    def _still(self) -> Segment:
        """A still ends the stream: size of the network, network, segment."""
        cursor = self._head_cursor
        size = cursor.varint("size of the network")
        self._payloads[0] = cursor.part(size, "network")
        self.network(0)
        part_bytes = cursor.remaining
        segment = read_segment(
            cursor, info=self.info, limits=self._limits, find_arch=self._find_arch
        )
        whole = self.num_bytes.pop("still")
        self.num_bytes.update(network=size, segment=part_bytes, header=whole - size - part_bytes)
        self._must_be_over("the still")
        self.totals = Totals(1, 1, self._source.offset, 0)
        return segment

    def _find_arch(self, network_id: int) -> Architecture:
        return self.network(network_id).arch

    def _must_be_over(self, what: str) -> None:
        offset = self._source.offset
        if self._source.is_more():
            raise BitstreamError(f"there are bytes after {what}, from byte {offset} on")

    def _clip(self) -> Iterator[Segment]:
        self._head_cursor.must_be_empty()
        coverage = Coverage(self.info)
        while True:
            chunk = self._next_chunk("the end chunk")
            kind = chunk.head.kind
            if kind == chunks.SEGMENT:
                yield self._segment(chunk, coverage)
            elif kind == chunks.NETWORK:
                self._add_network(chunk)
            elif kind == chunks.END:
                self._finish(chunk, coverage)
                return
            else:
                self._side_chunk(chunk)

    def _side_chunk(self, chunk: Chunk) -> None:
        kind = chunk.head.kind
        if kind not in chunks.CHUNK_NAMES:
            return
        if kind == chunks.INDEX and self._index is None:
            self._index = (chunk.head.offset, read_index(chunk.cursor()))
        elif kind == chunks.AUDIO and self.audio is None and not self._entries:
            self.audio = read_audio(chunk.cursor())
        elif kind in METADATA_NAMES and not self._entries:
            self._read_metadata(chunk)
        else:
            raise self._misplaced(chunk, "there for the second time, or too late")

    def _add_network(self, chunk: Chunk) -> None:
        cursor = chunk.cursor()
        network_id = cursor.varint("network id", high=MAX_NETWORK_ID)
        if network_id in self._payloads:
            raise cursor.error(f"network {network_id} is there for the second time")
        self._payloads[network_id] = cursor
        self._entries.append(NetworkEntry(chunk.head.offset, network_id))
        self.network(network_id)

    def _segment(self, chunk: Chunk, coverage: Coverage) -> Segment:
        segment = read_segment(
            chunk.cursor(), info=self.info, limits=self._limits, find_arch=self._find_arch
        )
        coverage.add(
            first_frame=segment.first_frame, num_frames=segment.num_frames, rect=segment.rect
        )
        self._entries.append(
            SegmentEntry(chunk.head.offset, segment.first_frame, segment.num_frames)
        )
        return segment

    def _finish(self, chunk: Chunk, coverage: Coverage) -> None:
        coverage.finish()
        index_offset, index = self._index or (0, tuple(self._entries))
        found = Totals(coverage.num_frames, coverage.num_segments, chunk.head.offset, index_offset)
        stated = read_totals(chunk.cursor())
        if stated != found:
            raise BitstreamError(f"the end chunk states {stated}, the stream has {found}")
        if index != tuple(self._entries):
            raise BitstreamError("the index is not that of the chunks before it")
        self._must_be_over("the end chunk")
        self.totals = found
