"""Picture format, colour and timing: what the header chunk, or the start of a still, says."""

from __future__ import annotations

import math
from fractions import Fraction

from codec.bitstream.fields import Cursor, FieldWriter
from codec.bitstream.limits import Limits
from codec.errors import LimitError
from codec.media.frames import DEPTHS, LAYOUTS, ClipInfo, Colour, PixelFormat

MAX_SIDE = 1 << 20
MAX_TIME = (1 << 31) - 1
MAX_CHROMA_LOCATION = 6

_ALPHA = 1 << 5
_COLOUR = 1 << 6
_DISPLAY = 1 << 7


def write_info(writer: FieldWriter, info: ClipInfo) -> None:
    """All of `info`; of a still the timing is left out."""
    colour, aspect, rotation = info.colour, info.pixel_aspect, info.rotation
    is_displayed_plain = aspect == 1 and rotation == 0
    writer.u8(
        LAYOUTS.index(info.format.layout)
        | DEPTHS.index(info.format.depth) << 3
        | (_ALPHA if info.format.alpha else 0)
        | (_COLOUR if colour != Colour() else 0)
        | (0 if is_displayed_plain else _DISPLAY)
    )
    writer.varint(info.width)
    writer.varint(info.height)
    if colour != Colour():
        for code_point in (colour.primaries, colour.transfer, colour.matrix):
            writer.u8(code_point)
        writer.u8(int(colour.full_range) | colour.chroma_location << 1)
    if not is_displayed_plain:
        write_fraction(writer, aspect)
        writer.u8(rotation // 90)
    if not info.is_still:
        write_fraction(writer, info.time_base)
        writer.varint(info.frame_ticks)


def read_info(cursor: Cursor, *, is_still: bool, limits: Limits) -> ClipInfo:
    """Inverse of `write_info`.

    Raises:
        BitstreamError: fields outside their ranges.
        LimitError: more pixels than `limits.max_pixels`.
    """
    flags = cursor.u8("picture format")
    if flags & 7 >= len(LAYOUTS):
        raise cursor.unsupported(f"sample layout number {flags & 7}")
    width = cursor.varint("width", low=1, high=MAX_SIDE)
    height = cursor.varint("height", low=1, high=MAX_SIDE)
    if width * height > limits.max_pixels:
        raise LimitError(
            f"a frame of {width}x{height} samples is larger than the {limits.max_pixels} allowed"
        )
    colour = _read_colour(cursor) if flags & _COLOUR else Colour()
    aspect, rotation = Fraction(1), 0
    if flags & _DISPLAY:
        aspect, rotation = read_fraction(cursor, "pixel aspect"), cursor.u8("rotation")
        if rotation > 3:
            raise cursor.error("a rotation is from 0 to 3 quarters of a turn")
    timing = {} if is_still else _read_timing(cursor)
    layout, depth = LAYOUTS[flags & 7], DEPTHS[flags >> 3 & 3]
    return ClipInfo(
        format=PixelFormat(layout, depth, bool(flags & _ALPHA)),
        width=width,
        height=height,
        is_still=is_still,
        colour=colour,
        pixel_aspect=aspect,
        rotation=90 * rotation,
        **timing,
    )


def _read_colour(cursor: Cursor) -> Colour:
    primaries, transfer, matrix = (
        cursor.u8(name) for name in ("primaries", "transfer characteristics", "matrix")
    )
    last = cursor.u8("range and chroma location")
    if last >> 1 > MAX_CHROMA_LOCATION:
        raise cursor.error(f"there is no chroma location number {last >> 1}")
    return Colour(primaries, transfer, matrix, bool(last & 1), last >> 1)


def _read_timing(cursor: Cursor) -> dict[str, Fraction | int]:
    time_base = read_fraction(cursor, "time base")
    return {
        "time_base": time_base,
        "frame_ticks": cursor.varint("frame duration", low=1, high=MAX_TIME),
    }


def write_fraction(writer: FieldWriter, value: Fraction) -> None:
    """Numerator and denominator of a positive fraction in lowest terms."""
    writer.varint(value.numerator)
    writer.varint(value.denominator)


def read_fraction(cursor: Cursor, name: str) -> Fraction:
    """Inverse of `write_fraction`; both numbers are below 2^31."""
    numerator = cursor.varint(f"numerator of the {name}", low=1, high=MAX_TIME)
    denominator = cursor.varint(f"denominator of the {name}", low=1, high=MAX_TIME)
    if math.gcd(numerator, denominator) != 1:
        raise cursor.error(f"the {name} is not in lowest terms")
    return Fraction(numerator, denominator)
