"""Small generated pictures and clips: smooth, with an edge that moves, in any sample format."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from codec.media.frames import Clip, ClipInfo, Frame, PixelFormat


def plane(height: int, width: int, *, number: int = 0, time: float = 0.0) -> np.ndarray:
    """Waves and a brighter disc that drifts with `time`, (height, width) on [0, 1]."""
    y = np.linspace(0, 1, height)[:, None]
    x = np.linspace(0, 1, width)[None, :]
    waves = np.sin(3 * x + 2 * y + number + 0.3 * time) + np.cos(5 * y - 4 * x + 2 * number)
    disc = (x - 0.3 - 0.04 * time) ** 2 + (y - 0.55) ** 2 < 0.06
    return np.clip(0.45 + 0.13 * waves + 0.2 * disc, 0, 1)


def alpha_plane(height: int, width: int) -> np.ndarray:
    """Nothing in the upper left corner, growing to opaque, (height, width) on [0, 1]."""
    y = np.linspace(0, 1, height)[:, None]
    x = np.linspace(0, 1, width)[None, :]
    return np.clip(1.5 * (x + y) - 0.7, 0, 1)


def frame(pixel_format: PixelFormat, height: int, width: int, *, time: float = 0.0) -> Frame:
    """One picture; chroma is smaller where the format says so."""
    shapes = pixel_format.plane_shapes(height, width)
    values = [plane(*shape, number=i, time=time) for i, shape in enumerate(shapes)]
    if pixel_format.alpha:
        values[-1] = alpha_plane(height, width)
    return Frame(
        tuple(np.rint(v * pixel_format.peak).astype(pixel_format.dtype) for v in values),
    )


def frames(pixel_format: PixelFormat, height: int, width: int, num_frames: int) -> list[Frame]:
    """Consecutive pictures, PTS 0, 1, 2, ..."""
    pictures = (frame(pixel_format, height, width, time=t) for t in range(num_frames))
    return [Frame(made.planes, pts_ticks=t) for t, made in enumerate(pictures)]


def still(pixel_format: PixelFormat, height: int, width: int) -> Clip:
    """A picture as a source that was opened."""
    info = ClipInfo(pixel_format, width, height, is_still=True)
    return Clip(info, iter(frames(pixel_format, height, width, 1)), num_frames=1)


def clip(
    pixel_format: PixelFormat,
    height: int,
    width: int,
    pts: tuple[int, ...],
    *,
    frame_ticks: int = 1,
) -> Clip:
    """A clip with these presentation times as a source that was opened."""
    pictures = frames(pixel_format, height, width, len(pts))
    timed = [Frame(f.planes, pts_ticks=ticks) for f, ticks in zip(pictures, pts, strict=True)]
    info = ClipInfo(
        pixel_format,
        width,
        height,
        is_still=False,
        time_base=Fraction(1, 30),
        frame_ticks=frame_ticks,
    )
    return Clip(info, iter(timed), num_frames=len(pts))
