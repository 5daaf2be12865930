"""Convolutions over space and time as a differentiable function, computed by fused kernels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from codec.jit import run_parallel, threads_for
from codec.layers.kernels.conv_kernels import (
    Form,
    Packed,
    convolve_rows,
    fold_rows,
    gradient_margin,
    input_gradient_rows,
    mask_rows,
    pad_rows,
    weight_gradient_rows,
)
from codec.layers.kernels.tiles import TILE, TILE_STEP, pack_layer

_STRIP_PIXELS = 1 << 15


def convolve(
    x: Tensor,
    weights: Tensor,
    bias: Tensor,
    owner: Sequence[int],
    *,
    dilation: int = 1,
    groups: int = 1,
    limits: tuple[float, float] = (-np.inf, np.inf),
    addend: Tensor | None = None,
) -> Tensor:
    """clamp(conv(x; weights of each frame) + bias) + addend, edges of time and space replicated.

    Args:
        x: float32 (T, C, H, W) on the CPU.
        weights: (N, O, C / groups, kt, k, k), kt and k odd: N sets of weights.
        bias: (O,).
        owner: number of the set that makes each output frame, T of them.
        dilation: between taps, in time and space.
        limits: what outputs are held to.
        addend: (T, O, H, W), 0 if it is None.

    Returns:
        (T, O, H, W).
    """
    form = Form(weights.shape[3], weights.shape[4], dilation, groups, *map(float, limits))
    return _Convolve.apply(x, weights, bias, addend, tuple(owner), form)


class _Convolve(torch.autograd.Function):
    @staticmethod
    def forward(  # type: ignore[override]
        ctx, x: Tensor, weights: Tensor, bias: Tensor, addend: Tensor | None, owner, form: Form
    ) -> Tensor:
        ctx.form, ctx.owner, ctx.threads = form, owner, threads_for(x.numel())
        ctx.weights = weights.detach().contiguous().numpy()
        source = x.detach().contiguous().numpy()
        ctx.padded = _pad(source, form.space // 2 * form.dilation, ctx.threads)
        frames, _, height, width = source.shape
        ctx.out = np.empty((frames, len(bias), height, width), np.float32)
        rows = ctx.weights.reshape(*ctx.weights.shape[:2], -1)
        packed = [_pack(one, bias.detach().numpy(), form.groups) for one in rows]
        more = None if addend is None else addend.detach().contiguous().numpy()
        # The gradient depends on where the sums were clamped, so they are kept as they are.
        total = ctx.out if more is None else np.empty_like(ctx.out)

        def job(place: tuple[int, int, int]) -> None:
            t, y0, y1 = place
            convolve_rows(ctx.padded, packed[owner[t]], form, t, y0, y1, ctx.out)
            if more is not None:
                own = (t, slice(None), slice(y0, y1))
                np.add(ctx.out[own], more[own], out=total[own])

        run_parallel(job, _strips(frames, height, width), threads=ctx.threads)
        return torch.from_numpy(total)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        masked = _mask(grad.contiguous().numpy(), ctx.out, ctx.form, ctx.threads)
        weights, bias = _weight_gradients(ctx, masked)
        x_back = _input_gradient(ctx, masked) if ctx.needs_input_grad[0] else None
        return x_back, weights, bias, grad if ctx.needs_input_grad[3] else None, None, None


def _strips(frames: int, height: int, width: int) -> list[tuple[int, int, int]]:
    """(frame, first row, end) of strips of about equal size."""
    rows = max(1, _STRIP_PIXELS // width)
    return [(t, y, min(y + rows, height)) for t in range(frames) for y in range(0, height, rows)]


PlaneStrip = tuple[int, int, int, int]  # frame, channel, first row, end


def _plane_strips(shape: tuple[int, ...]) -> list[PlaneStrip]:
    frames, channels, height, width = shape
    strips = _strips(frames, height, width)
    return [(t, c, y0, y1) for t, y0, y1 in strips for c in range(channels)]


def _with_slack(shape: tuple[int, ...]) -> np.ndarray:
    """An array behind whose end a tile of zeros may be read."""
    size = int(np.prod(shape))
    whole = np.empty(size + TILE, np.float32)
    whole[size:] = 0
    return whole[:size].reshape(shape)


def _pad(source: np.ndarray, margin: int, threads: int) -> np.ndarray:
    frames, channels, height, width = source.shape
    padded = _with_slack((frames, channels, height + 2 * margin, width + 2 * margin))

    def job(place: PlaneStrip) -> None:
        t, c, y0, y1 = place
        pad_rows(source[t, c], padded[t, c], margin, y0, y1)

    run_parallel(job, _plane_strips(padded.shape), threads=threads)
    return padded


def _mask(back: np.ndarray, out: np.ndarray, form: Form, threads: int) -> np.ndarray:
    frames, channels, height, width = out.shape
    margin = gradient_margin(form)
    masked = _with_slack((frames, channels, height, width + 2 * margin + TILE_STEP))
    low, high = np.float32(form.low), np.float32(form.high)

    def job(place: PlaneStrip) -> None:
        t, c, y0, y1 = place
        mask_rows(back[t, c], out[t, c], low, high, masked[t, c], margin, y0, y1)

    run_parallel(job, _plane_strips(out.shape), threads=threads)
    return masked


def _pack(weight: np.ndarray, bias: np.ndarray | None, groups: int) -> Packed:
    """Weights (outputs, taps) of all groups, packed group by group."""
    outputs = len(weight) // groups
    parts = [
        pack_layer(
            weight[g * outputs : (g + 1) * outputs],
            None if bias is None else bias[g * outputs : (g + 1) * outputs],
        )
        for g in range(groups)
    ]
    return Packed(*(np.concatenate(part) for part in zip(*parts, strict=True)))


def _weight_gradients(ctx, masked: np.ndarray) -> tuple[Tensor, Tensor]:
    frames, outputs, height, width = ctx.out.shape
    taps = int(np.prod(ctx.weights.shape[2:]))
    strips = _strips(frames, height, width)
    sums = np.empty((len(strips), outputs, taps + 1), np.float32)

    def job(number: int) -> None:
        out = sums[number].ravel()
        weight_gradient_rows(ctx.padded, masked, ctx.form, *strips[number], out)

    run_parallel(job, range(len(strips)), threads=ctx.threads)
    gradients = np.zeros((len(ctx.weights), outputs, taps + 1), np.float32)
    for number in range(len(gradients)):
        own = [i for i, (t, _, _) in enumerate(strips) if ctx.owner[t] == number]
        gradients[number] = sums[own].sum(axis=0)
    weights = torch.from_numpy(gradients[:, :, :-1].reshape(ctx.weights.shape))
    return weights, torch.from_numpy(gradients[:, :, -1].sum(axis=0))


def _input_gradient(ctx, masked: np.ndarray) -> Tensor:
    form, (frames, channels) = ctx.form, ctx.padded.shape[:2]
    back = np.empty(ctx.padded.shape, np.float32)
    zeros = np.zeros(masked.shape[3] + TILE, np.float32)
    readers = [_readers(t, frames, form) for t in range(frames)]
    packed = [_pack_back(ctx, own) for own in readers]
    sources = [np.array([frame for frame, _ in own], np.int64) for own in readers]

    def job(place: tuple[int, int, int]) -> None:
        t, y0, y1 = place
        input_gradient_rows(masked, packed[t], form, sources[t], y0, y1, zeros, back[t])

    run_parallel(job, _strips(frames, *back.shape[2:]), threads=ctx.threads)
    margin = form.space // 2 * form.dilation
    if margin == 0:
        return torch.from_numpy(back)
    height, width = ctx.out.shape[2:]
    folded = np.empty((frames, channels, height, width), np.float32)

    def fold(place: PlaneStrip) -> None:
        t, c, y0, y1 = place
        fold_rows(back[t, c], folded[t, c], margin, y0, y1)

    run_parallel(fold, _plane_strips(folded.shape), threads=ctx.threads)
    return torch.from_numpy(folded)


def _readers(frame: int, frames: int, form: Form) -> list[tuple[int, int]]:
    """(output frame, time tap) of every tap that reads `frame`, edges replicated."""
    reach = form.time // 2
    return [
        (t, k)
        for t in range(frames)
        for k in range(form.time)
        if min(max(t + (k - reach) * form.dilation, 0), frames - 1) == frame
    ]


def _pack_back(ctx, readers: Sequence[tuple[int, int]]) -> Packed:
    """Weights (channels, (reader, output, row, column)) of every group, for one input frame."""
    groups, space = ctx.form.groups, ctx.form.space
    _, outputs, inputs = ctx.weights.shape[:3]
    by_reader = np.stack([ctx.weights[ctx.owner[t], :, :, k] for t, k in readers])
    grouped = by_reader.reshape(len(readers), groups, outputs // groups, inputs, space, space)
    return _pack(grouped.transpose(1, 3, 0, 2, 4, 5).reshape(groups * inputs, -1), None, groups)
