"""The upsampling pyramid as a differentiable function, computed by fused kernels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from codec.jit import run_parallel, threads_for
from codec.layers.kernels.pyramid_kernels import (
    FILTER_TAPS,
    PHASE_TAPS,
    filter_rows,
    filter_rows_back,
    interpolate_rows,
    interpolate_rows_back,
)
from codec.layers.upsampling import Level

# Which tap of the half kernel, outermost first, each tap of the even and the odd phase is.
PHASES = np.array([[0, 2, 3, 1], [1, 3, 2, 0]])
MIRRORED = np.array([0, 1, 2, 3, 2, 1, 0])
_HALF_FILTER = 4
# Rows of a strip: filters read some rows beyond it, which must not reach the strip after the next.
_STRIP_ROWS = 64

Strip = tuple[int, int, int, int]  # slice, channel, first row, end


def descend(
    block: Tensor | None,
    levels: Sequence[Level],
    latents: Sequence[Tensor],
    taps: Mapping[str, Tensor],
) -> Tensor:
    """Bring a block of features down some levels; the fused form of `Upsampling.descend`.

    Args:
        block: float32 (S, C, h, w) at the level above the first of `levels`, or None: then it
            begins where the first latents join.
        levels: coarse to fine.
        latents: (S, h, w) of the grids that join, level by level.
        taps: half kernels by their names in the stream; a level without `pre` joins unfiltered.

    Returns:
        (S, C + joined, height, width) of the last level.
    """
    while block is None and not levels[0].num_joining:
        levels = levels[1:]
    names = tuple(taps)
    start = () if block is None else (block,)
    return _Descend.apply(tuple(levels), len(start), names, *start, *latents, *taps.values())


def _padded_half(half: np.ndarray, count: int) -> np.ndarray:
    """A half kernel with zeros before its outermost tap, `count` in all."""
    return np.concatenate([np.zeros(count - len(half), np.float32), half]).astype(np.float32)


def phase_taps(half: np.ndarray) -> np.ndarray:
    """Taps of the even and the odd phase, (2, 4), from a half kernel, outermost tap first."""
    return _padded_half(half, PHASE_TAPS)[PHASES]


def phase_taps_gradient(gradient: np.ndarray, taps: int) -> Tensor:
    """Gradients of the `taps` of a half kernel from those (2, 4) of its phases."""
    return _collect(gradient, PHASES, PHASE_TAPS, taps)


def _filter(half: np.ndarray) -> np.ndarray:
    taps = _padded_half(half, _HALF_FILTER)[MIRRORED]
    return np.append(taps, np.zeros(FILTER_TAPS - len(taps), np.float32))


def _collect(gradient: np.ndarray, places: np.ndarray, count: int, taps: int) -> Tensor:
    """Gradients of the taps of a half kernel from those of the places where they are used."""
    whole = np.zeros(count)
    np.add.at(whole, places, gradient)
    return torch.from_numpy(whole[count - taps :].astype(np.float32))


class _Descend(torch.autograd.Function):
    @staticmethod
    def forward(ctx, levels, num_blocks, names, *inputs: Tensor) -> Tensor:  # type: ignore[override]
        arrays = [tensor.detach().contiguous().numpy() for tensor in inputs]
        count = len(arrays) - len(names)
        taps = dict(zip(names, arrays[count:], strict=True))
        block = arrays[0] if num_blocks else None
        latents = arrays[num_blocks:count]
        ctx.levels, ctx.num_blocks, ctx.names, ctx.taps = levels, num_blocks, names, taps
        ctx.latents, ctx.blocks = latents, [block]
        first = 0
        for level in levels:
            joining = latents[first : first + level.num_joining]
            ctx.blocks.append(_step(ctx.blocks[-1], level, joining, taps))
            first += level.num_joining
        return torch.from_numpy(ctx.blocks.pop())

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        back, taps = grad.contiguous().numpy(), {}
        latents: list[Tensor] = []
        end = len(ctx.latents)
        for level, block in zip(ctx.levels[::-1], ctx.blocks[::-1], strict=True):
            first = end - level.num_joining
            joining = ctx.latents[first:end]
            back, joined = _step_back(back, block, level, joining, ctx.taps, taps)
            latents[:0] = map(torch.from_numpy, joined)
            end = first
        start = [] if back is None else [torch.from_numpy(back)]
        return None, None, None, *start, *latents, *(taps.get(name) for name in ctx.names)


def _step(
    block: np.ndarray | None,
    level: Level,
    joining: Sequence[np.ndarray],
    taps: Mapping[str, np.ndarray],
) -> np.ndarray:
    """The block of a level, from that of the level above and the latents that join."""
    channels = 0 if block is None else block.shape[1]
    slices = len(joining[0]) if block is None else len(block)
    out = np.empty((slices, channels + len(joining), level.height, level.width), np.float32)
    up, pre = taps.get(f"up.{level.level}"), taps.get(f"pre.{level.level}")
    phases = None if block is None else phase_taps(up)
    kernel = None if pre is None else _filter(pre)

    def job(place: Strip) -> None:
        number, channel, y0, y1 = place
        target = out[number, channel]
        if channel < channels:
            interpolate_rows(block[number, channel], target, phases, y0, y1)
        elif kernel is None:
            target[y0:y1] = joining[channel - channels][number, y0:y1]
        else:
            filter_rows(joining[channel - channels][number], target, kernel, y0, y1)

    for strips in _strips(out.shape):
        run_parallel(job, strips, threads=threads_for(out.size))
    return out


def _strips(shape: tuple[int, ...]) -> list[list[Strip]]:
    """Strips of planes (S, C, h, w), in two phases: none is beside another of its phase."""
    slices, channels, height, _ = shape
    starts = range(0, height, _STRIP_ROWS)
    return [
        [
            (s, c, y, min(y + _STRIP_ROWS, height))
            for s in range(slices)
            for c in range(channels)
            for y in starts[phase::2]
        ]
        for phase in range(2)
    ]


def _step_back(
    back: np.ndarray,
    block: np.ndarray | None,
    level: Level,
    joining: Sequence[np.ndarray],
    taps: Mapping[str, np.ndarray],
    gradients: dict[str, Tensor],
) -> tuple[np.ndarray | None, list[np.ndarray]]:
    """Gradients of the block above and of the joining latents; those of taps go to `gradients`."""
    total = back.shape[1]
    channels = total - len(joining)
    up, pre = taps.get(f"up.{level.level}"), taps.get(f"pre.{level.level}")
    phases = None if block is None else phase_taps(up)
    kernel = None if pre is None else _filter(pre)
    block_back = None if block is None else np.zeros_like(block)
    joining_back = [np.zeros_like(latent) for latent in joining]
    phased = _strips(back.shape)
    numbers = {strip: n for n, strip in enumerate(strip for part in phased for strip in part)}
    up_sums = np.zeros((len(numbers), 2, 2, PHASE_TAPS))
    pre_sums = np.zeros((len(numbers), 2, FILTER_TAPS))

    def job(strip: Strip) -> None:
        number, channel, y0, y1 = strip
        own, index = back[number, channel], numbers[strip]
        if channel < channels:
            source, target = block[number, channel], block_back[number, channel]
            interpolate_rows_back(source, own, target, phases, y0, y1, up_sums[index])
            return
        source = joining[channel - channels][number]
        target = joining_back[channel - channels][number]
        if kernel is None:
            target[y0:y1] = own[y0:y1]
        else:
            filter_rows_back(source, own, target, kernel, y0, y1, pre_sums[index])

    for strips in phased:
        run_parallel(job, strips, threads=threads_for(back.size))
    if block is not None:
        sums = up_sums.sum(axis=(0, 1))
        gradients[f"up.{level.level}"] = phase_taps_gradient(sums, len(up))
    if kernel is not None and joining:
        sums = pre_sums.sum(axis=(0, 1))[: len(MIRRORED)]
        gradients[f"pre.{level.level}"] = _collect(sums, MIRRORED, _HALF_FILTER, len(pre))
    return block_back, joining_back
