"""Pictures of 16 bit that Pillow reads as 8 bit without a word, read through FFmpeg."""

from __future__ import annotations

import io

import numpy as np

from codec.errors import InputError
from codec.media import png
from codec.media.files import reason
from codec.media.frames import PixelFormat
from codec.media.planes import PACKINGS, planes_of, readable_name, resampled

# Pillow's formats and modes that may be deeper in the file.
_SUSPECTS = ("TIFF", "PPM", "JPEG2000")
_SHALLOW_COLOUR = ("RGB", "RGBA", "LA")


def is_deep(data: bytes, kind: str | None, mode: str) -> bool:
    """Whether a file that Pillow opens as `kind` and `mode` has samples of more than 8 bit."""
    if kind == "PNG":
        return png.is_deep_colour(data)
    return kind in _SUSPECTS and mode in _SHALLOW_COLOUR and _bits(data) > 8


def read_deep(data: bytes, name: str) -> tuple[PixelFormat, tuple[np.ndarray, ...]]:
    """Grey or RGB samples of a picture file at the depth that it has. Raises InputError."""
    import av

    if data.startswith(png.SIGNATURE) and not png.is_complete(data):
        raise InputError(f"{name}: the picture is truncated")
    try:
        with av.open(io.BytesIO(data), options={"err_detect": "crccheck+explode"}) as container:
            frame = next(container.decode(video=0))
            target = readable_name(frame.format)
            planes = planes_of(frame if target == frame.format.name else resampled(frame, target))
    except (av.error.FFmpegError, IndexError, StopIteration) as error:
        raise InputError(f"{name}: not a picture that can be read: {reason(error)}") from error
    pixel_format = PACKINGS[target].pixel_format
    if pixel_format.layout not in ("gray", "rgb"):
        raise InputError(f"{name}: not a still picture")
    return pixel_format, planes


def _bits(data: bytes) -> int:
    """Bits a sample as FFmpeg sees them; 0 if it cannot read the file."""
    import av

    try:
        with av.open(io.BytesIO(data)) as container:
            components = container.streams.video[0].codec_context.format.components
            return max(component.bits for component in components)
    except (av.error.FFmpegError, IndexError, AttributeError, ValueError):
        return 0
