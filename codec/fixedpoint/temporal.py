"""Layers on the stack of frames: filters along time, and convolutions."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from codec.arch import Numerics, code_owners, prediction_levels
from codec.fixedpoint.adaptive import Modulated, bake_numbered
from codec.fixedpoint.affine import HIGH, LOW, SHIFT, TAPS, Stack, affine
from codec.fixedpoint.program import Convolution, TimeFilter
from codec.fixedpoint.strips import cut_rows
from codec.jit import inner, njit, run_parallel

_TILE = 1024


@njit
def add_saturated(target, other, limit):
    """target = sat(target + other), flat arrays."""
    for j in range(target.size):
        target[j] = min(max(target[j] + other[j], -limit), limit)


@njit
def _filter_frame(planes, out, rows, first_lag, num_lags, t):
    """Frame t of a depthwise filter along time on (T, C, samples); frames outside read zero."""
    frames, channels, size = planes.shape
    taps, shift, low, high = (
        rows.meta[0, TAPS],
        rows.meta[0, SHIFT],
        rows.meta[0, LOW],
        rows.meta[0, HIGH],
    )
    acc = np.zeros(_TILE, rows.bias.dtype)
    for c in range(channels):
        for start in range(0, size, _TILE):
            length = min(_TILE, size - start)
            for j in range(length):
                acc[j] = rows.bias[c]
            for lag in range(num_lags):
                frame, weight = t - first_lag - lag, rows.weight[c * taps + lag]
                if 0 <= frame < frames and weight != 0:
                    for j in range(length):
                        acc[j] += planes[frame, c, start + j] * weight
            for j in range(length):
                out[t, c, start + j] = min(max(acc[j] >> shift, low), high)


def filter_time(planes: np.ndarray, layer: TimeFilter, *, threads: int) -> np.ndarray:
    """y[t] = sat(rshift(sum_l taps[c][l] x[t - lag(l)], e)) on (T, C, h, w), zero outside."""
    frames, channels = planes.shape[:2]
    flat = planes.reshape(frames, channels, -1)
    out = np.empty_like(flat)

    def job(t: int) -> None:
        _filter_frame(flat, out, layer.rows, layer.first_lag, layer.num_lags, t)

    run_parallel(job, range(frames), threads=threads)
    return out.reshape(planes.shape)


@inner
def _tap_offsets(source_shape, channels, kernel, dilation, t, y, offsets):
    """Where the taps (channel, time, row, column) of output line y of frame t start, replicated."""
    frames, all_channels, height, stride = source_shape
    kernel_time, kernel_space = kernel
    f = 0
    for channel in range(channels):
        for k in range(kernel_time):
            frame = min(max(t + (k - kernel_time // 2) * dilation, 0), frames - 1)
            for dy in range(kernel_space):
                row = min(max(y + (dy - kernel_space // 2) * dilation, 0), height - 1)
                line = ((frame * all_channels + channel) * height + row) * stride
                for dx in range(kernel_space):
                    offsets[f] = line + dx * dilation
                    f += 1


@njit
def _convolve_strip(source, out, rows, shape, t, y0, y1):
    """Lines y0 to y1 of frame t; shape = (kernel time, kernel space, dilation, groups).

    `source` (T, C, h, w + 2 margin) has its lines replicated by the kernel's reach.
    """
    kernel_time, kernel_space, dilation, groups = shape
    _, channels, height, stride = source.shape
    outputs, width = out.shape[1] // groups, out.shape[3]
    flat, target = source.ravel(), out.ravel()
    offsets = np.zeros(rows.meta[0, TAPS], np.int64)
    for y in range(y0, y1):
        _tap_offsets(
            source.shape, channels // groups, (kernel_time, kernel_space), dilation, t, y, offsets
        )
        for g in range(groups):
            first = g * (channels // groups) * height * stride
            start = ((t * out.shape[1] + g * outputs) * height + y) * width
            affine(flat, first, offsets, width, rows, g, target, start, height * width)


@njit
def _gate(planes, gate, half, shift, limit):
    """planes (C, samples) = sat((gate[c] planes + half) >> shift)."""
    for c in range(planes.shape[0]):
        for j in range(planes.shape[1]):
            value = (gate[c] * planes[c, j] + half) >> shift
            planes[c, j] = min(max(value, -limit), limit)


def _runs_of_codes(
    layer: Convolution, codes: np.ndarray | None, num_frames: int
) -> Iterator[tuple[Stack, list[int]]]:
    """Rows, and the frames that they make: one run for each code, the first code is zero."""
    if not isinstance(layer.rows, Modulated):
        yield layer.rows, list(range(num_frames))
        return
    codes = np.zeros((0, layer.layer.code), np.int64) if codes is None else codes
    runs: dict[int, list[int]] = {}
    for t, number in enumerate(
        code_owners(layer.layer, prediction_levels(num_frames, layer.anchor_span))
    ):
        runs.setdefault(number, []).append(t)
    for number, frames in sorted(runs.items()):
        yield bake_numbered(layer.rows, codes, number), frames


def convolve(
    planes: np.ndarray,
    layer: Convolution,
    codes: np.ndarray | None,
    *,
    numerics: Numerics,
    threads: int,
) -> np.ndarray:
    """A convolution with its activation, gate and residual on (T, C, h, w), replicate padding.

    Args:
        planes: activations in the feature format.
        layer: a convolution of the program.
        codes: (count, code) of the segment where the layer has codes that vary.

    Raises:
        BitstreamError: a code under which an accumulator could leave its type.
    """
    frames, channels, height, width = planes.shape
    spec = layer.layer
    margin = spec.kernel_space // 2 * spec.dilation
    source = np.pad(planes, ((0, 0), (0, 0), (0, 0), (margin, margin)), mode="edge")
    shape = (spec.kernel_time, spec.kernel_space, spec.dilation, spec.groups or channels)
    out = np.empty((frames, spec.out, height, width), planes.dtype)

    def finish(t: int) -> None:
        if layer.gate is not None:
            half = (1 << layer.gate_exponent) >> 1
            flat = out[t].reshape(spec.out, -1)
            _gate(flat, layer.gate, half, layer.gate_exponent, numerics.act_max)
        if spec.res:
            add_saturated(out[t].ravel(), planes[t].ravel(), numerics.act_max)

    for rows, run in _runs_of_codes(layer, codes, frames):

        def job(place: tuple[int, int, int], rows: Stack = rows) -> None:
            t, y0, y1 = place
            _convolve_strip(source, out, rows, shape, t, y0, y1)

        jobs = [(t, *strip) for t in run for strip in cut_rows(height, width)]
        run_parallel(job, jobs, threads=threads)
    run_parallel(finish, range(frames), threads=threads)
    return out
