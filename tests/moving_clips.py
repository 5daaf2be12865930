"""Networks with motion compensation, and clips that move for them to be tried on."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np

from codec.arch import Architecture, parse_grids, parse_layers
from codec.media.frames import Clip, ClipInfo, Frame, PixelFormat
from codec.media.sources import open_source

PHOTO = Path(__file__).resolve().parent.parent / "samples" / "photo.png"


def moving_architecture(*, num_channels: int = 3, **grids: str) -> Architecture:
    """A small network with motion; `grids` are those of `parse_grids`, beside motion at 8x8."""
    return Architecture(
        grids=parse_grids(**({"dynamic": "0-3", "motion": "3"} | grids)),
        num_contexts=8,
        ifce_features=2,
        ifce_levels=(0, 1),
        arm_layers=1,
        temporal=(),
        synthesis=parse_layers(
            ["8-1-linear-relu", "X+2-1-linear-none", "X-3-difference-none"], num_out=num_channels
        ),
    )


def pan(
    pixel_format: PixelFormat, height: int, width: int, num_frames: int, *, step: int = 3
) -> Clip:
    """A window that moves over the sample photograph by `step` columns a frame, and a row less.

    The planes of a colour format are those of the photograph; chroma is not subsampled.
    """
    (whole,) = open_source(PHOTO).frames
    scale, frames = pixel_format.peak / 255, []
    for t in range(num_frames):
        top, left = 90 + t * (step - 1), 120 + t * step
        planes = (
            np.rint(plane[top : top + height, left : left + width] * scale)
            for plane in whole.planes[: pixel_format.num_planes]
        )
        made = tuple(plane.astype(pixel_format.dtype) for plane in planes)
        frames.append(Frame(made, pts_ticks=t))
    info = ClipInfo(
        pixel_format, width, height, is_still=False, time_base=Fraction(1, 30), frame_ticks=1
    )
    return Clip(info, iter(frames), num_frames=num_frames)
