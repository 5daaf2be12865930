"""The plain twin of what makes samples of a picture, in numpy int64."""

from __future__ import annotations

import numpy as np

from codec.arch import Numerics
from codec.fixedpoint.formats import rshift
from codec.media.frames import PixelFormat


def frames_reference(
    channels: np.ndarray, pixel_format: PixelFormat, *, numerics: Numerics
) -> list[np.ndarray]:
    """Twin of `codec.fixedpoint.pictures.frames_from_channels`, one sample at a time."""
    height, width = channels.shape[1:]
    peak = 2**pixel_format.coded_depth - 1
    planes = []
    for number, shape in enumerate(pixel_format.plane_shapes(height, width)):
        dy, dx = pixel_format.chroma_shifts if number in (1, 2) else (0, 0)
        plane = np.zeros(shape, np.int64)
        for y, x in np.ndindex(*shape):
            rows = [min((y << dy) + i, height - 1) for i in range(1 << dy)]
            columns = [min((x << dx) + i, width - 1) for i in range(1 << dx)]
            total = sum(int(channels[number, row, column]) for row in rows for column in columns)
            value = rshift(total * peak, numerics.synth_frac + dy + dx)
            plane[y, x] = min(max(value, 0), peak)
        if pixel_format.depth == 16:
            plane = (plane * 65535 + 8191) // 16383
        planes.append(plane)
    return planes
