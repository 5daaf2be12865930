"""Animated WebP, which FFmpeg does not decode, read through Pillow as a clip."""

from __future__ import annotations

import io
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from codec.errors import InputError
from codec.media.convert import RGB_CLIP_COLOUR, rgb_to_yuv444
from codec.media.frames import Clip, ClipInfo, Frame, PixelFormat
from codec.media.stills import pillow_guard

if TYPE_CHECKING:
    from PIL import Image

_TIME_BASE = Fraction(1, 1000)


def read_animation(path: Path, *, skip: int = 0, limit: int | None = None) -> Clip:
    """The frames of an animated picture as YUV 4:4:4 (BT.601, full range), decoded on demand.

    PTS are in milliseconds, at 0 for the first frame that is kept. Raises InputError, while frames
    are taken too.
    """
    from PIL import Image

    with pillow_guard(str(path)):
        image = Image.open(io.BytesIO(path.read_bytes()))
    stop = image.n_frames if limit is None else min(image.n_frames, skip + limit)
    if skip >= stop:
        raise InputError(f"{path}: has {image.n_frames} frames, none is left after skipping {skip}")
    durations_ms = _durations_ms(image, path)
    info = ClipInfo(
        PixelFormat("yuv444", 8),
        *image.size,
        is_still=False,
        colour=RGB_CLIP_COLOUR,
        time_base=_TIME_BASE,
        frame_ticks=min(durations_ms),
    )
    notes = ["RGB is converted to YUV 4:4:4 (BT.601, full range)"]
    if image.has_transparency_data:
        notes.append("alpha is left out")
    frames = _frames(image, range(skip, stop), durations_ms, path)
    return Clip(info, frames, stop - skip, notes=tuple(notes))


def _durations_ms(image: Image.Image, path: Path) -> list[int]:
    """How long each picture is shown; 1 at least, so that times increase."""
    durations = []
    for index in range(image.n_frames):
        _load(image, index, path)
        durations.append(max(1, int(image.info.get("duration", 0))))
    return durations


def _frames(
    image: Image.Image, indices: range, durations_ms: list[int], path: Path
) -> Iterator[Frame]:
    pts_ticks = 0
    matrix, full_range = RGB_CLIP_COLOUR.matrix, RGB_CLIP_COLOUR.full_range
    for index in indices:
        _load(image, index, path)
        rgb = tuple(np.moveaxis(np.asarray(image.convert("RGB")), 2, 0))
        planes = rgb_to_yuv444(rgb, depth=8, matrix=matrix, full_range=full_range)
        yield Frame(planes, pts_ticks)
        pts_ticks += durations_ms[index]


def _load(image: Image.Image, index: int, path: Path) -> None:
    with pillow_guard(f"{path}: frame {index}"):
        image.seek(index)
        image.load()
