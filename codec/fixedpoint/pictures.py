"""From synthesis output to samples: scaling, chroma reduction, 16-bit rescaling, frame hashes."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np

from codec.arch import Numerics
from codec.fixedpoint.strips import cut_rows
from codec.jit import njit, run_parallel
from codec.media.frames import MAX_CODED_DEPTH, PixelFormat

_PEAK_CODED = (1 << MAX_CODED_DEPTH) - 1


@njit
def _sample_rows(channel, out, down, scale, y0, y1):
    """Rows y0 to y1 of a plane: clamp((sum of 2^(dy+dx) values * peak + half) >> shift, 0, peak).

    down = (dy, dx), log2 of the reduction; scale = (peak, shift). The last row and column of the
    channel are replicated where the plane needs one more.
    """
    (dy, dx), (peak, shift) = down, scale
    height, width = channel.shape
    half = (1 << shift) >> 1
    for y in range(y0, y1):
        upper = channel[y << dy]
        lower = channel[min((y << dy) + dy, height - 1)]
        for x in range(out.shape[1]):
            left = x << dx
            right = min(left + dx, width - 1)
            total = np.int64(upper[left])
            if dx:
                total += upper[right]
            if dy:
                total += lower[left]
            if dx and dy:
                total += lower[right]
            out[y, x] = min(max((total * peak + half) >> shift, 0), peak)


def rescale_16(plane: np.ndarray) -> np.ndarray:
    """Samples of 14 bits at 16 bits, uint16: (v 65535 + 8191) // 16383."""
    return ((plane.astype(np.int64) * 65535 + 8191) // _PEAK_CODED).astype(np.uint16)


def frames_from_channels(
    channels: np.ndarray, pixel_format: PixelFormat, *, numerics: Numerics, threads: int = 1
) -> tuple[np.ndarray, ...]:
    """The planes of one picture from the output of the synthesis.

    Args:
        channels: (C, H, W) in the synthesis format, one channel to a plane.
        pixel_format: of the planes; chroma is the mean of the values that it covers.

    Returns:
        Planes of `pixel_format.dtype`.
    """
    assert len(channels) == pixel_format.num_planes
    peak = (1 << pixel_format.coded_depth) - 1
    planes = []
    for number, shape in enumerate(pixel_format.plane_shapes(*channels.shape[1:])):
        down = pixel_format.chroma_shifts if number in (1, 2) else (0, 0)
        scale = (peak, numerics.synth_frac + sum(down))
        plane = np.empty(shape, pixel_format.dtype)

        def job(
            strip: tuple[int, int],
            channel: np.ndarray = channels[number],
            plane: np.ndarray = plane,
            down: tuple[int, int] = down,
            scale: tuple[int, int] = scale,
        ) -> None:
            _sample_rows(channel, plane, down, scale, *strip)

        run_parallel(job, cut_rows(*shape), threads=threads)
        planes.append(rescale_16(plane) if pixel_format.depth > MAX_CODED_DEPTH else plane)
    return tuple(planes)


def frame_hash(planes: Sequence[np.ndarray]) -> int:
    """CRC-32 over the planes in order: 8-bit samples as bytes, deeper ones as little-endian u16."""
    crc = 0
    for plane in planes:
        wire = plane if plane.dtype == np.uint8 else plane.astype("<u2")
        crc = zlib.crc32(np.ascontiguousarray(wire), crc)
    return crc
