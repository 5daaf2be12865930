"""Writing a stream from its first byte to its last, without seeking."""

from __future__ import annotations

from collections.abc import Mapping
from typing import BinaryIO

from codec.arch.network import Architecture
from codec.bitstream import chunks
from codec.bitstream.audio import write_audio
from codec.bitstream.chunks import MAGIC, METADATA_TYPES, VERSION, make_chunk
from codec.bitstream.coverage import Coverage
from codec.bitstream.elements import Network, Segment
from codec.bitstream.fields import FieldWriter
from codec.bitstream.header import write_info
from codec.bitstream.index import (
    Entry,
    NetworkEntry,
    SegmentEntry,
    Totals,
    write_index,
    write_totals,
)
from codec.bitstream.network import write_network, write_network_difference
from codec.bitstream.segment import full_rect, write_segment
from codec.media.frames import AudioTrack, ClipInfo


def _start(metadata: Mapping[str, bytes]) -> bytes:
    parts = [make_chunk(METADATA_TYPES[name], data) for name, data in metadata.items()]
    return MAGIC + bytes([VERSION]) + b"".join(parts)


def write_still(
    file: BinaryIO,
    info: ClipInfo,
    *,
    network: Network,
    segment: Segment,
    metadata: Mapping[str, bytes] | None = None,
) -> int:
    """Write a whole still and return its size in bytes.

    Args:
        file: opened for writing bytes; needs no seeking.
        info: with `is_still` set.
        network: of any id.
        segment: one frame that fills the picture; its network id and time are not written.
        metadata: 'icc', 'exif', 'xmp'.
    """
    assert info.is_still
    assert (segment.first_frame, segment.num_frames) == (0, 1)
    assert segment.rect == full_rect(info)
    writer = FieldWriter()
    write_info(writer, info)
    writer.sized(write_network(network))
    writer.raw(write_segment(segment, info=info, arch=network.arch))
    data = _start(metadata or {}) + make_chunk(chunks.STILL, writer.finish())
    file.write(data)
    return len(data)


class StreamWriter:
    """Writes a clip chunk by chunk.

    Networks come before the first segment that uses them, segments by rising first frame.

    Args:
        file: opened for writing bytes; needs no seeking.
        info: format, colour and timing; not of a still.
        metadata: 'icc', 'exif', 'xmp'.
        audio: the sound.
    """

    def __init__(
        self,
        file: BinaryIO,
        info: ClipInfo,
        *,
        metadata: Mapping[str, bytes] | None = None,
        audio: AudioTrack | None = None,
    ) -> None:
        assert not info.is_still
        self._file = file
        self._info = info
        self._offset = 0
        self._entries: list[Entry] = []
        self._archs: dict[int, Architecture] = {}
        self._coverage = Coverage(info)
        writer = FieldWriter()
        write_info(writer, info)
        self._write(_start(metadata or {}))
        self._write(make_chunk(chunks.HEADER, writer.finish()))
        if audio is not None:
            self._write(make_chunk(chunks.AUDIO, write_audio(audio)))

    def network(self, network_id: int, network: Network) -> None:
        """Write a complete network under an id that is not in use yet."""
        self._network(network_id, network.arch, write_network(network))

    def network_difference(
        self, network_id: int, network: Network, *, base: Network, base_id: int
    ) -> None:
        """Write a network by its differences from the complete one written as `base_id`."""
        payload = write_network_difference(network, base=base, base_id=base_id)
        self._network(network_id, network.arch, payload)

    def segment(self, segment: Segment) -> None:
        """Write a segment.

        Raises:
            BitstreamError: it overlaps another, comes out of order, or leaves frames out.
        """
        payload = write_segment(segment, info=self._info, arch=self._archs[segment.network_id])
        self._coverage.add(
            first_frame=segment.first_frame, num_frames=segment.num_frames, rect=segment.rect
        )
        self._entries.append(SegmentEntry(self._offset, segment.first_frame, segment.num_frames))
        self._write(make_chunk(chunks.SEGMENT, payload))

    def size_of(self, network_id: int, network: Network, segment: Segment) -> int:
        """Bytes that a complete network and a segment with it would take."""
        writer = FieldWriter()
        writer.varint(network_id)
        writer.raw(write_network(network))
        payload = write_segment(segment, info=self._info, arch=network.arch)
        chunk_sizes = [
            len(make_chunk(chunks.NETWORK, writer.finish())),
            len(make_chunk(chunks.SEGMENT, payload)),
        ]
        return sum(chunk_sizes)

    def finish(self) -> Totals:
        """Write the index (of two or more segments) and the end chunk.

        Raises:
            BitstreamError: the segments do not cover the clip.
        """
        self._coverage.finish()
        index_offset = 0
        if self._coverage.num_segments > 1:
            index_offset = self._offset
            self._write(make_chunk(chunks.INDEX, write_index(tuple(self._entries))))
        totals = Totals(
            self._coverage.num_frames, self._coverage.num_segments, self._offset, index_offset
        )
        self._write(make_chunk(chunks.END, write_totals(totals)))
        return totals

    @property
    def num_bytes(self) -> int:
        """Bytes written so far."""
        return self._offset

    def _network(self, network_id: int, arch: Architecture, payload: bytes) -> None:
        assert network_id not in self._archs, f"network {network_id} is there already"
        self._archs[network_id] = arch
        writer = FieldWriter()
        writer.varint(network_id)
        writer.raw(payload)
        self._entries.append(NetworkEntry(self._offset, network_id))
        self._write(make_chunk(chunks.NETWORK, writer.finish()))

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self._offset += len(data)
