"""Fused 1x1 layers and the stabiliser of the synthesis as a differentiable function."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from codec.jit import run_parallel
from codec.layers.kernels.chain_kernels import Chain, Span, chain_pixels, chain_pixels_back
from codec.layers.kernels.tiles import TILE, gradient_floats, pack_layer

_SPAN_PIXELS = 1 << 15
# Wider layers take shorter tiles, so that the rows of two of them stay in the first cache.
_WIDE = 24


class Dense(NamedTuple):
    """A 1x1 layer: weight (out, in), bias (out,), the identity added where it is residual."""

    weight: Tensor
    bias: Tensor
    is_residual: bool
    low: float
    high: float


def chain(
    planes: Tensor, layers: Sequence[Dense], stabiliser: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """1x1 layers on features, and a linear map of the same features beside them.

    Args:
        planes: float32 (T, C, H, W) on the CPU.
        layers: in order; without any the first result is `planes`.
        stabiliser: weight (out, C') and bias (out,) of the map, which reads the first C' channels.

    Returns:
        (T, out of the last layer, H, W) and (T, out of the stabiliser, H, W).
    """
    tensors = [tensor for layer in layers for tensor in layer[:2]]
    forms = tuple(layer[2:] for layer in layers)
    trunk, straight = _Chain.apply(planes, forms, *tensors, *stabiliser)
    return (trunk if layers else planes), straight


class _Chain(torch.autograd.Function):
    @staticmethod
    def forward(ctx, planes: Tensor, forms, *tensors: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        arrays = [tensor.detach().contiguous().numpy() for tensor in tensors]
        packed = pack_chain(arrays, forms, planes.shape[1])
        source = planes.detach().contiguous().numpy()
        frames, _, height, width = source.shape
        own = arrays[-4].shape[0] if forms else 0
        trunk = np.empty((frames, own, height, width), np.float32)
        straight = np.empty((frames, len(arrays[-1]), height, width), np.float32)
        ctx.threads = torch.get_num_threads()

        def job(place: tuple[int, Span]) -> None:
            t, span = place
            chain_pixels(packed, source[t].ravel(), trunk[t].ravel(), straight[t].ravel(), span)

        run_parallel(job, _spans(frames, height * width), threads=ctx.threads)
        ctx.packed, ctx.source, ctx.trunk = packed, source, trunk
        ctx.shapes = [array.shape for array in arrays]
        ctx.set_materialize_grads(True)
        return torch.from_numpy(trunk), torch.from_numpy(straight)

    @staticmethod
    def backward(ctx, trunk_back: Tensor, straight_back: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        packed, source = ctx.packed, ctx.source
        trunk_rows, straight_rows = (
            back.contiguous().numpy() for back in (trunk_back, straight_back)
        )
        planes_back = np.empty_like(source)
        spans = _spans(len(source), source[0, 0].size)
        shapes = [(shape[0], shape[1] + 1) for shape in ctx.shapes[::2]]
        sums = np.empty((len(spans), sum(o * i for o, i in shapes)), np.float32)

        def job(number: int) -> None:
            t, span = spans[number]
            chain_pixels_back(
                packed, source[t].ravel(), ctx.trunk[t].ravel(), trunk_rows[t].ravel(),
                straight_rows[t].ravel(), span, planes_back[t].ravel(), sums[number],
            )  # fmt: skip

        run_parallel(job, range(len(spans)), threads=ctx.threads)
        return torch.from_numpy(planes_back), None, *_split(sums.sum(axis=0), shapes)


def _spans(frames: int, size: int) -> list[tuple[int, Span]]:
    starts = range(0, size, _SPAN_PIXELS)
    return [
        (t, Span(size, start, min(start + _SPAN_PIXELS, size)))
        for t in range(frames)
        for start in starts
    ]


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
    backward = [*(weight.T for weight in weights), last]
    rows, parts, place, sums = [], [], 0, 0
    for weight, bias in [*forward, *((weight, None) for weight in backward)]:
        packed, padded = pack_layer(weight, bias)
        rows.append((place, place + packed.size, *weight.shape, sums))
        parts += [packed, padded]
        place += packed.size + padded.size
        if len(rows) <= len(forward):
            sums += int(gradient_floats(weight.shape[0], weight.shape[1] + 1))
    widest = max(weight.shape[0] for weight, _ in forward)
    return Chain(
        weights=np.concatenate(parts),
        layers=np.array(rows, np.int64),
        limits=np.array([form[1:] for form in forms], np.float32).reshape(-1, 2),
        inputs=inputs,
        straight=stabiliser.shape[1],
        tile=TILE // 2 if widest > _WIDE else TILE,
        num_gradients=sums,
    )
