"""Layers on the stack of frames: filters along time, and convolutions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from codec.arch import Numerics
from codec.fixedpoint.adaptive import Modulated, bake_codes
from codec.fixedpoint.affine import HIGH, LOW, SHIFT, TAPS, Stack, affine
from codec.fixedpoint.program import Convolution, TimeFilter
from codec.fixedpoint.strips import cut_rows
from codec.jit import njit, run_parallel

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
            acc[:length] = rows.bias[c]
            for lag in range(num_lags):
                frame, weight = t - first_lag - lag, rows.weight[c * taps + lag]
                if 0 <= frame < frames and weight != 0:
                    line = planes[frame, c, start : start + length]
                    for j in range(length):
                        acc[j] += line[j] * weight
            target = out[t, c, start : start + length]
            for j in range(length):
                target[j] = min(max(acc[j] >> shift, low), high)


def filter_time(planes: np.ndarray, layer: TimeFilter, *, threads: int) -> np.ndarray:
    """y[t] = sat(rshift(sum_l taps[c][l] x[t - lag(l)], e)) on (T, C, h, w), zero outside."""
    frames, channels = planes.shape[:2]
    flat = planes.reshape(frames, channels, -1)
    out = np.empty_like(flat)

    def job(t: int) -> None:
        _filter_frame(flat, out, layer.rows, layer.first_lag, layer.num_lags, t)

    run_parallel(job, range(frames), threads=threads)
    return out.reshape(planes.shape)


@njit
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
    acc = np.zeros(width, rows.bias.dtype)
    for y in range(y0, y1):
        _tap_offsets(
            source.shape, channels // groups, (kernel_time, kernel_space), dilation, t, y, offsets
        )
        for g in range(groups):
            first = g * (channels // groups) * height * stride
            start = ((t * out.shape[1] + g * outputs) * height + y) * width
            affine(flat, first, offsets, width, rows, g, acc, target, start, height * width)


@njit
def _gate(planes, gate, half, shift, limit):
    """planes (C, samples) = sat((gate[c] planes + half) >> shift)."""
    for c in range(planes.shape[0]):
        for j in range(planes.shape[1]):
            value = (gate[c] * planes[c, j] + half) >> shift
            planes[c, j] = min(max(value, -limit), limit)


def rows_of_frames(layer: Convolution, codes: np.ndarray | None, num_frames: int) -> list[Stack]:
    """The rows that make each output frame; frame t takes code floor(t / every), the first is zero.

    Args:
        layer: a convolution of the program.
        codes: (count, code) of the segment where the layer has codes that vary.

    Raises:
        BitstreamError: a code under which an accumulator could leave its type.
    """
    if not isinstance(layer.rows, Modulated):
        return [layer.rows] * num_frames
    modulated = layer.rows
    if codes is None:
        codes = np.zeros((0, modulated.code_map.shape[1]), np.int64)
    baked = bake_codes(modulated, codes)
    every = layer.layer.every or num_frames
    return [baked[t // every] for t in range(num_frames)]


def convolve(
    planes: np.ndarray,
    layer: Convolution,
    rows: Sequence[Stack],
    *,
    numerics: Numerics,
    threads: int,
) -> np.ndarray:
    """A convolution with its activation, gate and residual on (T, C, h, w), replicate padding.

    `rows` are those of each output frame, from `rows_of_frames`.
    """
    frames, channels, height, width = planes.shape
    spec = layer.layer
    margin = spec.kernel_space // 2 * spec.dilation
    source = np.pad(planes, ((0, 0), (0, 0), (0, 0), (margin, margin)), mode="edge")
    shape = (spec.kernel_time, spec.kernel_space, spec.dilation, spec.groups or channels)
    out = np.empty((frames, spec.out, height, width), planes.dtype)
    half = (1 << layer.gate_exponent) >> 1

    def job(place: tuple[int, int, int]) -> None:
        t, y0, y1 = place
        _convolve_strip(source, out, rows[t], shape, t, y0, y1)

    def finish(t: int) -> None:
        if layer.gate is not None:
            flat = out[t].reshape(spec.out, -1)
            _gate(flat, layer.gate, half, layer.gate_exponent, numerics.act_max)
        if spec.res:
            add_saturated(out[t].ravel(), planes[t].ravel(), numerics.act_max)

    jobs = [(t, *strip) for t in range(frames) for strip in cut_rows(height, width)]
    run_parallel(job, jobs, threads=threads)
    run_parallel(finish, range(frames), threads=threads)
    return out
