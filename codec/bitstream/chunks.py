"""Chunks: type, length, payload, CRC-32; and the first five bytes of every stream."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from codec.bitstream.fields import MAX_VARINT_BYTES, Cursor, FieldWriter
from codec.errors import BitstreamError, NotModcodecError, UnsupportedVersionError

# No text begins with byte 0x89: it is not ASCII, and UTF-8 has it only inside a character. The line
# feed shows a transfer that rewrote line ends.
MAGIC = b"\x89MC\n"
VERSION = 4

HEADER = 0x01
STILL = 0x02
NETWORK = 0x03
SEGMENT = 0x04
END = 0x05
# Types from 0x80 on are optional: who does not know one skips it.
OPTIONAL = 0x80
ICC = 0x81
EXIF = 0x82
XMP = 0x83
AUDIO = 0x84
INDEX = 0x85

CHUNK_NAMES = {
    HEADER: "header",
    STILL: "still",
    NETWORK: "network",
    SEGMENT: "segment",
    END: "end",
    ICC: "icc",
    EXIF: "exif",
    XMP: "xmp",
    AUDIO: "audio",
    INDEX: "index",
}
METADATA_TYPES = {"icc": ICC, "exif": EXIF, "xmp": XMP}
METADATA_NAMES = {kind: name for name, kind in METADATA_TYPES.items()}

_PIECE_BYTES = 1 << 20
_CRC_BYTES = 4
# Type, length and CRC around a payload of less than 128 bytes.
SMALL_CHUNK_BYTES = 6


@dataclass(frozen=True)
class ChunkHead:
    """Type and length of a chunk, and where in the file it and its payload begin."""

    kind: int
    length: int
    offset: int
    payload_offset: int

    @property
    def name(self) -> str:
        """The type's name, or its number where it has none."""
        return CHUNK_NAMES.get(self.kind, f"type {self.kind}")

    @property
    def end(self) -> int:
        """Where the next chunk begins."""
        return self.payload_offset + self.length + _CRC_BYTES


@dataclass(frozen=True)
class Chunk:
    """A chunk whose CRC is right."""

    head: ChunkHead
    payload: bytes

    def cursor(self) -> Cursor:
        """A cursor at the first byte of the payload."""
        return Cursor(self.payload, what=f"{self.head.name} chunk", offset=self.head.payload_offset)


def make_chunk(kind: int, payload: bytes) -> bytes:
    """Type, varint length, payload, and the CRC-32 of all these."""
    writer = FieldWriter()
    writer.u8(kind)
    writer.sized(payload)
    body = writer.finish()
    return body + zlib.crc32(body).to_bytes(_CRC_BYTES, "little")


class ChunkSource:
    """Reads chunks one after the other from a file, which may be a pipe.

    Memory grows with the bytes that are there, never with a length that is only declared.
    """

    def __init__(self, file: BinaryIO, *, offset: int = 0) -> None:
        self._file = file
        self.offset = offset

    def seek(self, offset: int) -> None:
        """Go on at `offset` of a seekable file."""
        self._file.seek(offset)
        self.offset = offset

    def _pieces(self, count: int) -> Iterator[bytes]:
        """The next `count` bytes, or those up to the end of the file."""
        while count > 0:
            piece = self._file.read(min(count, _PIECE_BYTES))
            if not piece:
                return
            self.offset += len(piece)
            count -= len(piece)
            yield piece

    def _byte(self, where: str) -> int:
        for piece in self._pieces(1):
            return piece[0]
        raise BitstreamError(f"the stream ends at byte {self.offset}, {where}")

    def is_more(self) -> bool:
        """Whether there are bytes left; one of them is consumed."""
        return bool(list(self._pieces(1)))

    def read_start(self) -> None:
        """Check magic and version.

        Raises:
            NotModcodecError: another format, or nothing at all.
            UnsupportedVersionError: another version than VERSION.
            BitstreamError: nothing after the magic.
        """
        magic = b"".join(self._pieces(len(MAGIC)))
        if magic != MAGIC:
            what = "the file is empty" if not magic else "it does not begin as one"
            raise NotModcodecError(f"not a modcodec stream: {what}")
        version = self._byte("before the version")
        if version != VERSION:
            raise UnsupportedVersionError(
                f"the stream has version {version}; this modcodec reads version {VERSION}"
            )

    def read_head(self) -> ChunkHead | None:
        """Type and length of the next chunk, or None at the end of the file.

        Raises:
            BitstreamError: the file ends inside them, or a length that is no varint.
        """
        offset = self.offset
        start = b"".join(self._pieces(1))
        if not start:
            return None
        coded = bytearray()
        while not coded or (coded[-1] > 127 and len(coded) < MAX_VARINT_BYTES):
            coded.append(self._byte("inside the length of a chunk"))
        length = Cursor(coded, what="chunk", offset=offset + 1).varint("its length")
        return ChunkHead(start[0], length, offset, self.offset)

    def read_body(self, head: ChunkHead) -> Chunk:
        """Payload of the chunk whose head was just read.

        A chunk of an unknown optional type is read piece by piece and comes back empty.

        Raises:
            BitstreamError: the file ends before the chunk does, or a wrong CRC.
            UnsupportedVersionError: an unknown type that is not optional.
        """
        writer = FieldWriter()
        writer.u8(head.kind)
        writer.varint(head.length)
        crc = zlib.crc32(writer.finish())
        is_known = head.kind in CHUNK_NAMES
        payload = bytearray()
        for piece in self._pieces(head.length):
            crc = zlib.crc32(piece, crc)
            if is_known:
                payload += piece
        stored = b"".join(self._pieces(_CRC_BYTES))
        if len(stored) < _CRC_BYTES:
            raise BitstreamError(
                f"the stream ends at byte {self.offset}, inside the {head.name} chunk that begins "
                f"at byte {head.offset}"
            )
        if int.from_bytes(stored, "little") != crc:
            raise BitstreamError(f"the {head.name} chunk at byte {head.offset} is damaged (CRC)")
        if not is_known and head.kind < OPTIONAL:
            raise UnsupportedVersionError(
                f"the chunk of type {head.kind} at byte {head.offset} needs a newer version of "
                "modcodec"
            )
        return Chunk(head, bytes(payload))

    def peek(self, head: ChunkHead, count: int) -> Cursor:
        """Up to `count` first bytes of the chunk whose head was just read; its CRC is not checked.

        The source is then inside the chunk.
        """
        data = b"".join(self._pieces(min(count, head.length)))
        return Cursor(data, what=f"{head.name} chunk", offset=head.payload_offset)

    def read_chunk(self) -> Chunk | None:
        """The next chunk, or None at the end of the file; errors as `read_head` and `read_body`."""
        head = self.read_head()
        return None if head is None else self.read_body(head)
