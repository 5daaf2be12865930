"""YUV4MPEG2 (.y4m), the format of video pipes: read and written frame by frame, without seeking."""

from __future__ import annotations

import io
import os
import re
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from typing import BinaryIO

import numpy as np

from codec.errors import InputError, OutputError
from codec.media.files import reason
from codec.media.frames import Clip, ClipInfo, Colour, Frame, PixelFormat

MAGIC = b"YUV4MPEG2"
_MAX_LINE_BYTES = 4096
_MAX_SIDE = 1 << 16
_MAX_TERM = (1 << 31) - 1
_READ_BYTES = 1 << 20
# Chroma locations of H.273 plus one, by name in the C tag; plain 420 says nothing about it.
_LOCATIONS = {"420jpeg": 2, "420mpeg2": 1, "420paldv": 3}


@dataclass(frozen=True)
class _Header:
    info: ClipInfo
    notes: tuple[str, ...]
    num_bytes: int


def read_y4m(
    file: BinaryIO, *, name: str = "standard input", skip: int = 0, limit: int | None = None
) -> Clip:
    """A clip from a binary file or pipe; at most `limit` frames after leaving out `skip`.

    Frames are read as they are asked for. PTS count from 0 in frames. The number of frames is known
    for regular files only. `file` is not closed. Raises InputError, while frames are taken too:
    a truncated input is one, named with the frame where it ends.
    """
    header = _read_header(file, name)
    num_frames = _frames_in_file(file, header)
    if num_frames is not None:
        num_frames = max(0, num_frames - skip)
        num_frames = num_frames if limit is None else min(num_frames, limit)
    frames = _read_frames(file, header.info, name, skip)
    return Clip(header.info, islice(frames, limit), num_frames, notes=header.notes)


def write_y4m(file: BinaryIO, info: ClipInfo, frames: Iterable[Frame]) -> None:
    """Writes grey or YUV frames without alpha (YUV 4:4:4 of 8 bit may have it) to a file or pipe.

    The frame rate is 1 / (frame_ticks time_base); y4m has no time of its own for each frame.
    Raises OutputError for formats that y4m cannot hold and for a file that cannot be written.
    """
    header = _header_line(info)
    try:
        file.write(header)
        for frame in frames:
            file.write(b"FRAME\n")
            for plane in frame.planes:
                file.write(np.ascontiguousarray(plane, plane.dtype.newbyteorder("<")).data)
        file.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(f"y4m output: {reason(error)}") from error


def _read_header(file: BinaryIO, name: str) -> _Header:
    line = _read_line(file, name, "the header")
    words = line.decode("ascii", "replace").split(" ")
    if words[0] != MAGIC.decode():
        raise InputError(f"{name}: not a y4m stream (it does not begin with YUV4MPEG2)")
    tags = {word[0]: word[1:] for word in words[1:] if word and word[0] != "X"}
    extra = [word[1:] for word in words[1:] if word.startswith("X")]
    pixel_format, location = _pixel_format(tags.get("C", "420jpeg"), name)
    full_range = "COLORRANGE=FULL" in extra
    if pixel_format.layout == "gray":
        full_range = "COLORRANGE=LIMITED" not in extra
    info = ClipInfo(
        pixel_format,
        width=_side(tags, "W", name),
        height=_side(tags, "H", name),
        is_still=False,
        colour=Colour(full_range=full_range, chroma_location=location),
        time_base=1 / _ratio(tags, "F", Fraction(25), name),
        pixel_aspect=_ratio(tags, "A", Fraction(1), name),
    )
    interlaced = tags.get("I", "p") in ("t", "b", "m")
    notes = ("interlaced fields are coded as they lie in the frames",) if interlaced else ()
    return _Header(info, notes, len(line) + 1)


def _side(tags: dict[str, str], letter: str, name: str) -> int:
    text = tags.get(letter, "")
    if not re.fullmatch(r"[0-9]{1,5}", text) or not 1 <= int(text) <= _MAX_SIDE:
        raise InputError(f"{name}: y4m header: tag {letter} must be a size from 1 to {_MAX_SIDE}")
    return int(text)


def _ratio(tags: dict[str, str], letter: str, default: Fraction, name: str) -> Fraction:
    """The value of a tag like F30000:1001; 0:0 means unknown, and so does no tag."""
    match = re.fullmatch(r"([0-9]{1,10}):([0-9]{1,10})", tags.get(letter, "0:0"))
    if match is None:
        raise InputError(f"{name}: y4m header: tag {letter} must be a ratio like 25:1")
    above, below = int(match[1]), int(match[2])
    if max(above, below) > _MAX_TERM:
        raise InputError(f"{name}: y4m header: tag {letter} has a number above {_MAX_TERM}")
    return Fraction(above, below) if above and below else default


def _pixel_format(tag: str, name: str) -> tuple[PixelFormat, int]:
    """(format, chroma location) of a C tag."""
    if tag == "444alpha":
        return PixelFormat("yuv444", 8, alpha=True), 0
    location = _LOCATIONS.get(tag, 0)
    plain = "420" if location else tag
    match = re.fullmatch(r"(mono|420|422|444)(?:p?(10|12|16))?", plain)
    if match is None:
        known = "420, 422, 444, mono, their 10, 12 and 16 bit forms, and 444alpha"
        raise InputError(f"{name}: y4m colour space '{tag}' is not supported (only {known})")
    layout = "gray" if match[1] == "mono" else f"yuv{match[1]}"
    return PixelFormat(layout, int(match[2] or 8)), location


def _header_line(info: ClipInfo) -> bytes:
    rate = 1 / (info.frame_ticks * info.time_base)
    aspect = info.pixel_aspect
    words = [
        MAGIC.decode(),
        f"W{info.width}",
        f"H{info.height}",
        f"F{rate.numerator}:{rate.denominator}",
        "Ip",
        f"A{aspect.numerator}:{aspect.denominator}",
        f"C{_colour_tag(info)}",
        f"XCOLORRANGE={'FULL' if info.colour.full_range else 'LIMITED'}",
    ]
    return " ".join(words).encode() + b"\n"


def _colour_tag(info: ClipInfo) -> str:
    layout, depth = info.format.layout, info.format.depth
    if info.format == PixelFormat("yuv444", 8, alpha=True):
        return "444alpha"
    if layout == "rgb" or info.format.alpha:
        kind = "alpha" if info.format.alpha else "RGB"
        raise OutputError(f"y4m cannot hold {kind} samples of this kind; use .mkv or .png files")
    if layout == "gray":
        return "mono" if depth == 8 else f"mono{depth}"
    if depth > 8:
        return f"{layout[3:]}p{depth}"
    names = {location: name for name, location in _LOCATIONS.items()}
    return names.get(info.colour.chroma_location, "420") if layout == "yuv420" else layout[3:]


def _frames_in_file(file: BinaryIO, header: _Header) -> int | None:
    """Frames in a regular file whose frame headers are all of the shortest form, else None."""
    try:
        status = os.fstat(file.fileno())
    except (OSError, AttributeError, io.UnsupportedOperation):
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    each = len(b"FRAME\n") + _frame_bytes(header.info)
    count, rest = divmod(status.st_size - header.num_bytes, each)
    return count if rest == 0 else None


def _frame_bytes(info: ClipInfo) -> int:
    samples = sum(high * wide for high, wide in info.format.plane_shapes(info.height, info.width))
    return samples * np.dtype(info.format.dtype).itemsize


def _read_frames(file: BinaryIO, info: ClipInfo, name: str, skip: int) -> Iterator[Frame]:
    index = 0
    while first := _read_up_to(file, 1):
        line = first + _read_line(file, name, f"the header of frame {index}")
        if not re.match(rb"FRAME( |$)", line):
            raise InputError(f"{name}: frame {index} does not begin with FRAME")
        planes = _read_planes(file, info, f"{name}: frame {index}")
        if index >= skip:
            yield Frame(planes, index - skip)
        index += 1
    if index <= skip:
        raise InputError(f"{name}: has {index} frames, none is left after skipping {skip}")


def _read_planes(file: BinaryIO, info: ClipInfo, where: str) -> tuple[np.ndarray, ...]:
    little = np.dtype(info.format.dtype).newbyteorder("<")
    planes = []
    for high, wide in info.format.plane_shapes(info.height, info.width):
        wanted = high * wide * little.itemsize
        data = _read_up_to(file, wanted)
        if len(data) < wanted:
            raise InputError(f"{where} is truncated (a plane has {len(data)} of {wanted} bytes)")
        plane = np.frombuffer(data, little).reshape(high, wide)
        if plane.max() > info.format.peak:
            raise InputError(f"{where} has a sample above {info.format.peak}")
        planes.append(plane.astype(info.format.dtype))
    return tuple(planes)


def _read_line(file: BinaryIO, name: str, what: str) -> bytes:
    """A line without its end. Byte by byte, since a pipe must not be read beyond what is needed."""
    line = bytearray()
    while len(line) < _MAX_LINE_BYTES:
        byte = _read_up_to(file, 1)
        if byte == b"\n":
            return bytes(line)
        if not byte:
            raise InputError(f"{name}: y4m stream ends in {what}")
        line += byte
    raise InputError(f"{name}: not a y4m stream ({what} has no end)")


def _read_up_to(file: BinaryIO, count: int) -> bytearray:
    """`count` bytes, or fewer at the end of the stream only: pipes return less at a time.

    Read in bounded pieces, so that memory follows what is there, not what a header claims.
    """
    data = bytearray()
    while len(data) < count:
        piece = file.read(min(count - len(data), _READ_BYTES))
        if not piece:
            break
        data += piece
    return data
