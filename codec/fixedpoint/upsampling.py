"""The x2 interpolation between levels and the filters of joining grids, both separable."""

from __future__ import annotations

import numpy as np

from codec.fixedpoint.affine import ONE, ZERO, Stack, affine
from codec.fixedpoint.strips import cut_planes
from codec.jit import inner, njit, run_parallel


@inner
def _vertical(src, p, y, stack, index, num_taps, line, reach):
    """Weigh `num_taps` rows of plane p from row y on, replicated, into a line with margins."""
    height, width = src.shape[1:]
    offsets = np.zeros(num_taps, np.int64)
    for i in range(num_taps):
        offsets[i] = min(max(y + i, 0), height - 1) * width
    start = p * height * width
    affine(src.ravel(), start, offsets, width, stack, index, line, reach, ZERO)
    for j in range(reach):
        line[j] = line[reach]
        line[reach + width + j] = line[reach + width - 1]


@njit
def _interpolate(src, dst, active, stage, num_taps, place):
    """Make rows 2 y0 to 2 y1 of planes p0 to p1 of dst, place = (p0, p1, y0, y1), where active."""
    p0, p1, y0, y1 = place
    width, reach = src.shape[2], num_taps >> 1
    across = np.arange(num_taps)
    line = np.zeros(width + 2 * reach, src.dtype)
    evens, odds = np.zeros(width, src.dtype), np.zeros(width, src.dtype)
    for p in range(p0, p1):
        if not active[p]:
            continue
        for y in range(2 * y0, min(2 * y1, dst.shape[1])):
            phase = y & 1
            first = (y >> 1) - reach + phase
            _vertical(src, p, first, stage, phase, num_taps, line, reach)
            affine(line, ZERO, across, width, stage, ZERO, evens, ZERO, ZERO)
            affine(line, ONE, across, width, stage, ONE, odds, ZERO, ZERO)
            for j in range(dst.shape[2] >> 1):
                dst[p, y, 2 * j] = evens[j]
                dst[p, y, 2 * j + 1] = odds[j]
            if dst.shape[2] & 1:
                dst[p, y, dst.shape[2] - 1] = evens[width - 1]


@njit
def _filter(src, dst, active, rows, num_taps, place):
    """Filter rows y0 to y1 of planes p0 to p1, place = (p0, p1, y0, y1), where active."""
    p0, p1, y0, y1 = place
    height, width = src.shape[1:]
    reach = num_taps >> 1
    across = np.arange(num_taps)
    line = np.zeros(width + 2 * reach, src.dtype)
    out = dst.ravel()
    for p in range(p0, p1):
        if not active[p]:
            continue
        for y in range(y0, y1):
            _vertical(src, p, y - reach, rows, ZERO, num_taps, line, reach)
            target = (p * height + y) * width
            affine(line, ZERO, across, width, rows, ZERO, out, target, ZERO)


def interpolate(
    planes: np.ndarray,
    active: np.ndarray,
    stage: Stack,
    *,
    num_taps: int,
    shape: tuple[int, int],
    threads: int,
) -> np.ndarray:
    """Planes (planes, h, w) at twice the size, cropped to `shape` (docs/bitstream.md 5.4).

    Args:
        planes: activations in the feature format.
        active: (planes,) bool; the others are zero and stay so at no cost.
        stage: filters of the even and of the odd outputs, `num_taps` taps each.
        shape: (2 h or 2 h - 1, 2 w or 2 w - 1).
    """
    out = np.zeros((planes.shape[0], *shape), planes.dtype)

    def job(place: tuple[int, int, int, int]) -> None:
        _interpolate(planes, out, active, stage, num_taps, place)

    run_parallel(job, cut_planes(*planes.shape), threads=threads)
    return out


def filter_planes(
    planes: np.ndarray, active: np.ndarray, rows: Stack, *, num_taps: int, threads: int
) -> np.ndarray:
    """Planes (planes, h, w) under a separable filter of `num_taps` taps, replicate padding."""
    out = np.zeros_like(planes)

    def job(place: tuple[int, int, int, int]) -> None:
        _filter(planes, out, active, rows, num_taps, place)

    run_parallel(job, cut_planes(*planes.shape), threads=threads)
    return out
