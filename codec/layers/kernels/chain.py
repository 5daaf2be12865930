"""The last doubling of features and the 1x1 layers on them as one differentiable function."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from codec.jit import run_parallel, threads_for
from codec.layers.kernels.chain_kernels import (
    Chain,
    Inputs,
    add_planes,
    chain_rows,
    chain_rows_back,
)
from codec.layers.kernels.pyramid import phase_taps, phase_taps_gradient
from codec.layers.kernels.tiles import pack_layers

# Rows of a strip: doubling reads two rows beyond it, which must not reach the strip after the next.
_STRIP_ROWS = 32
_TAP_SUMS = 16  # rows or columns, two phases, four taps


class Dense(NamedTuple):
    """A 1x1 layer: weight (out, in), bias (out,), the identity added where it is residual."""

    weight: Tensor
    bias: Tensor
    is_residual: bool
    low: float
    high: float


class Channel(NamedTuple):
    """An input channel: which plane serves each frame, and whether that has half the size."""

    is_doubled: bool
    planes: tuple[int, ...]


def chain(
    doubled: Tensor,
    plain: Tensor,
    channels: Sequence[Channel],
    taps: Tensor,
    layers: Sequence[Dense],
    stabiliser: tuple[Tensor, Tensor],
) -> tuple[Tensor, Tensor]:
    """1x1 layers on features, and a linear map of the same features beside them.

    Args:
        doubled: float32 (D, h, w) on the CPU, planes that are brought to twice their size.
        plain: float32 (P, H, W), planes of full size.
        channels: the inputs of the first layer.
        taps: half kernel of the doubling, outermost tap first.
        layers: in order; without any the first result has no channels.
        stabiliser: weight (out, C') and bias (out,) of the map, which reads the first C' channels.

    Returns:
        (T, out of the last layer, H, W) and (T, out of the stabiliser, H, W).
    """
    tensors = [tensor for layer in layers for tensor in layer[:2]]
    forms = tuple(layer[2:] for layer in layers)
    return _Chain.apply(tuple(channels), forms, doubled, plain, taps, *tensors, *stabiliser)


class _Chain(torch.autograd.Function):
    @staticmethod
    def forward(ctx, channels, forms, *tensors: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        doubled, plain, taps, *arrays = (t.detach().contiguous().numpy() for t in tensors)
        frames, (height, width) = len(channels[0].planes), plain.shape[1:]
        ctx.packed, ctx.taps = pack_chain(arrays, forms, len(channels)), taps
        ctx.channels, ctx.threads = channels, threads_for(frames * height * width)
        ctx.inputs = [_inputs_of(t, channels, doubled, plain, taps) for t in range(frames)]
        ctx.trunk = np.empty((frames, len(arrays[-4]) if forms else 0, height, width), np.float32)
        straight = np.empty((frames, len(arrays[-1]), height, width), np.float32)

        def job(place: tuple[int, int, int]) -> None:
            t, y0, y1 = place
            chain_rows(ctx.packed, ctx.inputs[t], y0, y1, ctx.trunk[t], straight[t])

        strips = [strip for phase in _strips(frames, height) for strip in phase]
        run_parallel(job, strips, threads=ctx.threads)
        ctx.shapes = [array.shape for array in arrays]
        return torch.from_numpy(ctx.trunk), torch.from_numpy(straight)

    @staticmethod
    def backward(ctx, trunk_back: Tensor, straight_back: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        backs = [back.contiguous().numpy() for back in (trunk_back, straight_back)]
        doubled, plain = ctx.inputs[0].doubled, ctx.inputs[0].plain
        slots, shared = _slots(ctx.channels, len(doubled), len(plain))
        planes = [
            np.zeros((len(own) + sum(map(len, shares.values())), *own.shape[1:]), np.float32)
            for own, shares in zip((doubled, plain), shared, strict=True)
        ]
        shapes = [(shape[0], shape[1] + 1) for shape in ctx.shapes[::2]]
        phases = _strips(len(ctx.inputs), plain.shape[1])
        size = sum(o * i for o, i in shapes) + _TAP_SUMS
        sums = np.zeros((sum(map(len, phases)), size), np.float32)

        def job(numbered: tuple[int, tuple[int, int, int]]) -> None:
            number, (t, y0, y1) = numbered
            own = (ctx.trunk[t], backs[0][t], backs[1][t], *planes, slots[t], sums[number])
            chain_rows_back(ctx.packed, ctx.inputs[t], y0, y1, *own)

        first = 0
        for phase in phases:
            run_parallel(job, list(enumerate(phase, first)), threads=ctx.threads)
            first += len(phase)
        made = [
            torch.from_numpy(_join(own, shares, ctx.threads))
            for own, shares in zip(planes, shared, strict=True)
        ]
        total = sums.sum(axis=0)
        by_axis = total[-_TAP_SUMS:].reshape(2, *ctx.inputs[0].phases.shape)
        taps = phase_taps_gradient(by_axis.sum(axis=0), len(ctx.taps))
        return None, None, *made, taps, *_split(total, shapes)


def _inputs_of(
    frame: int, channels: Sequence[Channel], doubled: np.ndarray, plain: np.ndarray, taps
) -> Inputs:
    numbers = [c.planes[frame] if c.is_doubled else -1 - c.planes[frame] for c in channels]
    return Inputs(doubled, plain, np.array(numbers, np.int64), phase_taps(taps))


def _strips(frames: int, height: int) -> list[list[tuple[int, int, int]]]:
    """(frame, first row, end) of strips, in two phases: none is beside another of its phase."""
    starts = range(0, height, _STRIP_ROWS)
    return [
        [(t, y, min(y + _STRIP_ROWS, height)) for t in range(frames) for y in starts[phase::2]]
        for phase in range(2)
    ]


Shares = dict[int, list[int]]


def _slots(
    channels: Sequence[Channel], num_doubled: int, num_plain: int
) -> tuple[list[np.ndarray], tuple[Shares, Shares]]:
    """Where the gradients of each frame's channels go, so that no two frames share a place.

    The first user of a plane gets the place of the plane's own number, later ones get places behind
    all planes.

    Returns:
        For each frame (channels,) int64; for doubled and for plain planes the later places of
        each plane.
    """
    frames = len(channels[0].planes)
    slots = [np.zeros(len(channels), np.int64) for _ in range(frames)]
    used, ends = (set(), set()), [num_doubled, num_plain]
    shares: tuple[Shares, Shares] = ({}, {})
    for t in range(frames):
        for c, channel in enumerate(channels):
            kind, plane = int(not channel.is_doubled), channel.planes[t]
            slots[t][c] = plane
            if plane in used[kind]:
                slots[t][c] = ends[kind]
                shares[kind].setdefault(plane, []).append(ends[kind])
                ends[kind] += 1
            used[kind].add(plane)
    return slots, shares


def _join(planes: np.ndarray, shares: Shares, threads: int) -> np.ndarray:
    """Add the gradients in the later places of each plane to its own; gives the planes alone."""

    def job(item: tuple[int, list[int]]) -> None:
        plane, places = item
        add_planes(planes, plane, np.array(places, np.int64))

    run_parallel(job, list(shares.items()), threads=threads)
    return planes[: len(planes) - sum(map(len, shares.values()))]


def _split(flat: np.ndarray, shapes: Sequence[tuple[int, int]]) -> list[Tensor]:
    """Gradients of weights and biases, from those of all layers in one array."""
    tensors, place = [], 0
    for outputs, inputs in shapes:
        rows = torch.from_numpy(flat[place : place + outputs * inputs].reshape(outputs, inputs))
        tensors += [rows[:, :-1], rows[:, -1]]
        place += outputs * inputs
    return tensors


def pack_chain(
    arrays: Sequence[np.ndarray], forms: Sequence[tuple[bool, float, float]], inputs: int
) -> Chain:
    """Layers (weight, bias, ...) and the stabiliser at the end, as kernels read them."""
    weights = [
        weight + np.eye(len(weight), dtype=np.float32) if is_residual else weight
        for weight, (is_residual, _, _) in zip(arrays[:-2:2], forms, strict=True)
    ]
    stabiliser = arrays[-2]
    straight = np.zeros((len(stabiliser), inputs), np.float32)
    straight[:, : stabiliser.shape[1]] = stabiliser
    first = [weights[0].T] if weights else []
    last = np.concatenate([*first, straight.T], axis=1)
    forward = [*zip(weights, arrays[1:-2:2], strict=True), (stabiliser, arrays[-1])]
    packed, table, sums = pack_layers(forward, [*(weight.T for weight in weights[1:]), last])
    return Chain(
        weights=packed,
        layers=table,
        limits=np.array([form[1:] for form in forms], np.float32).reshape(-1, 2),
        inputs=inputs,
        straight=stabiliser.shape[1],
        num_gradients=sums,
    )
