"""Pictures and clips as numpy arrays, for programs that have no file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction

import numpy as np

from codec.errors import UsageError
from codec.media.convert import RGB_CLIP_COLOUR, RGB_COLOUR, as_picture, rgb_to_yuv444
from codec.media.frames import Clip, ClipInfo, Colour, Frame, PixelFormat

_SHAPES = "(H, W), (H, W, C) or (T, H, W, C)"
_TICKS_PER_SECOND = 90_000
# As a fraction of whole numbers up to 90 000 it still fits a stream.
_MAX_FRAME_RATE = 20_000


def clip_of(array: np.ndarray, *, frame_rate: Fraction | float = 25) -> Clip:
    """A picture or clip of an array.

    Args:
        array: uint8 or uint16; (H, W) and (H, W, C) are pictures, (T, H, W, C) is a clip; C = 1 is
            grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha. Clips have no alpha, and RGB clips are
            coded as YUV 4:4:4 (BT.601, full range).
        frame_rate: frames a second of a clip.
    Raises:
        UsageError: another shape or type, or nothing in it.
    """
    if array.dtype not in (np.uint8, np.uint16):
        raise UsageError(f"arrays must be uint8 or uint16, not {array.dtype}")
    is_still = array.ndim in (2, 3)
    frames = array[..., np.newaxis] if array.ndim == 2 else array
    frames = frames[np.newaxis] if is_still else frames
    num_channels = frames.shape[-1] if frames.ndim == 4 else 0
    allowed = (1, 2, 3, 4) if is_still else (1, 3)
    if num_channels not in allowed or not array.size:
        raise UsageError(f"arrays must be {_SHAPES} with C in {allowed}, not {array.shape}")
    if is_still:
        return _still(frames[0])
    return _clip(frames, Fraction(frame_rate).limit_denominator(_TICKS_PER_SECOND))


def array_of(info: ClipInfo, frames: Iterable[Frame]) -> np.ndarray:
    """The frames as `clip_of` takes them: RGB or grey, uint8, or uint16 scaled to 16 bit."""
    pictures = [_samples(info, frame) for frame in frames]
    if info.is_still:
        return pictures[0][..., 0] if pictures[0].shape[-1] == 1 else pictures[0]
    return np.stack(pictures)


def _depth(array: np.ndarray) -> int:
    return 8 * array.dtype.itemsize


def _planes(frame: np.ndarray) -> tuple[np.ndarray, ...]:
    return tuple(np.ascontiguousarray(frame[..., c]) for c in range(frame.shape[-1]))


def _still(frame: np.ndarray) -> Clip:
    height, width, num_channels = frame.shape
    layout = "gray" if num_channels < 3 else "rgb"
    colour = Colour(full_range=True) if layout == "gray" else RGB_COLOUR
    pixel_format = PixelFormat(layout, _depth(frame), alpha=num_channels in (2, 4))
    info = ClipInfo(pixel_format, width, height, is_still=True, colour=colour)
    return Clip(info, iter([Frame(_planes(frame))]), num_frames=1)


def _clip(frames: np.ndarray, frame_rate: Fraction) -> Clip:
    if not 0 < frame_rate <= _MAX_FRAME_RATE:
        raise UsageError(
            f"the frame rate must be above 0 and at most {_MAX_FRAME_RATE}, not {frame_rate}"
        )
    num_frames, height, width, num_channels = frames.shape
    is_grey = num_channels == 1
    info = ClipInfo(
        PixelFormat("gray" if is_grey else "yuv444", _depth(frames)),
        width,
        height,
        is_still=False,
        colour=Colour(full_range=True) if is_grey else RGB_CLIP_COLOUR,
        time_base=1 / frame_rate,
    )
    return Clip(info, _clip_frames(frames), num_frames)


def _clip_frames(frames: np.ndarray) -> Iterator[Frame]:
    colour = RGB_CLIP_COLOUR
    for index, frame in enumerate(frames):
        planes = _planes(frame)
        if len(planes) == 3:
            planes = rgb_to_yuv444(
                planes,
                depth=_depth(frames),
                matrix=colour.matrix,
                full_range=colour.full_range,
            )
        yield Frame(planes, pts_ticks=index)


def _samples(info: ClipInfo, frame: Frame) -> np.ndarray:
    _, picture = as_picture(info, frame)
    return np.stack(picture.planes, axis=-1)
