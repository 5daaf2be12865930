"""Chunks of PNG files: what Pillow does not tell about them, and metadata written into them."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from codec.media.frames import Colour

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY = 0
_XMP_KEYWORD = b"XML:com.adobe.xmp"
_KEPT = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")


def chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(type, payload) of each complete chunk of a PNG file, up to and including IEND."""
    position = len(SIGNATURE)
    while position + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + 8 + length
        if end + 4 > len(data):
            return
        yield kind, data[position + 8 : end]
        if kind == b"IEND":
            return
        position = end + 4


def is_deep_colour(data: bytes) -> bool:
    """Whether a file is a 16-bit PNG other than plain grey: those that Pillow reads as 8 bit."""
    if not data.startswith(SIGNATURE):
        return False
    found = dict(chunks(data))
    header = found.get(b"IHDR", b"")
    if len(header) != 13 or header[8] != 16:
        return False
    return header[9] != _GREY or b"tRNS" in found


def is_complete(data: bytes) -> bool:
    """Whether the last chunk of a PNG file is there."""
    return any(kind == b"IEND" for kind, _ in chunks(data))


def stated_colour(data: bytes) -> Colour | None:
    """The code points of a cICP chunk (PNG specification, third edition, 11.3.2.6), if any."""
    payload = dict(chunks(data)).get(b"cICP", b"") if data.startswith(SIGNATURE) else b""
    if len(payload) != 4:
        return None
    primaries, transfer, matrix, full_range = payload
    return Colour(primaries, transfer, matrix, bool(full_range))


def with_metadata(data: bytes, metadata: dict[str, bytes], colour: Colour) -> bytes:
    """The picture of a PNG file with exactly this metadata: cICP, iCCP, eXIf and an iTXt of XMP."""
    added = list(_metadata_chunks(metadata, colour))
    header, *rest = [(kind, payload) for kind, payload in chunks(data) if kind in _KEPT]
    return SIGNATURE + b"".join(_chunk(*chunk) for chunk in [header, *added, *rest])


def _metadata_chunks(metadata: dict[str, bytes], colour: Colour) -> Iterator[tuple[bytes, bytes]]:
    # 2 stands for unspecified; a chunk that says nothing is not written.
    if (colour.primaries, colour.transfer) != (2, 2):
        yield b"cICP", bytes((colour.primaries, colour.transfer, 0, 1))
    if "icc" in metadata:
        yield b"iCCP", b"ICC Profile\0\0" + zlib.compress(metadata["icc"], 9)
    if "exif" in metadata:
        yield b"eXIf", metadata["exif"]
    if "xmp" in metadata:
        # Keyword, no compression, no language, no translated keyword.
        yield b"iTXt", _XMP_KEYWORD + b"\0" + b"\0\0" + b"\0" + b"\0" + metadata["xmp"]


def _chunk(kind: bytes, payload: bytes) -> bytes:
    body = kind + payload
    return struct.pack(">I", len(payload)) + body + struct.pack(">I", zlib.crc32(body))
