"""The orientation tag of EXIF: found, applied to planes, and reset in place."""

from __future__ import annotations

import struct

import numpy as np

PREFIX = b"Exif\0\0"
ORIENTATION_TAG = 0x0112
_SHORT = 3
UPRIGHT = 1


def bare(block: bytes) -> bytes:
    """The TIFF block of EXIF data without the prefix that JPEG puts before it."""
    return block.removeprefix(PREFIX)


def orientation(block: bytes) -> int:
    """Value 1..8 of the orientation tag of a TIFF block; 1 (upright) where there is none."""
    place = _orientation_place(block)
    if place is None:
        return UPRIGHT
    value = struct.unpack_from(place[1] + "H", block, place[0])[0]
    return value if 1 <= value <= 8 else UPRIGHT


def with_upright_orientation(block: bytes) -> bytes:
    """The same block with the orientation tag, if there is one, set to upright."""
    place = _orientation_place(block)
    if place is None:
        return block
    offset, endian = place
    return block[:offset] + struct.pack(endian + "H", UPRIGHT) + block[offset + 2 :]


def upright(plane: np.ndarray, value: int) -> np.ndarray:
    """A stored plane as it is to be seen, for orientation `value` (1..8; TIFF 6.0, page 36)."""
    if value in (5, 6, 7, 8):
        plane = plane.T
    # Of the transposed picture (5), 6 is the mirror image, 8 upside down, 7 both.
    if value in (2, 3, 6, 7):
        plane = plane[:, ::-1]
    if value in (3, 4, 7, 8):
        plane = plane[::-1]
    return np.ascontiguousarray(plane)


def _orientation_place(block: bytes) -> tuple[int, str] | None:
    """(offset of the value, byte order for struct) of the tag in the first directory, if any."""
    endian = {b"II": "<", b"MM": ">"}.get(block[:2])
    if endian is None or len(block) < 8:
        return None
    start = struct.unpack_from(endian + "I", block, 4)[0]
    if start + 2 > len(block):
        return None
    count = struct.unpack_from(endian + "H", block, start)[0]
    last = min(start + 2 + 12 * count, len(block) - 11)
    for entry in range(start + 2, last, 12):
        tag, kind = struct.unpack_from(endian + "HH", block, entry)
        if tag == ORIENTATION_TAG and kind == _SHORT:
            return entry + 8, endian
    return None
