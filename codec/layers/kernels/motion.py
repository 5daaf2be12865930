"""Prediction of frames from their references, of `layers.motion`, computed by fused kernels.

Warped references are computed again on the way back: reading them would take about as long. A task
of the forward pass and of the gradients of trunk and vectors owns rows of blocks of one frame; a
task of the gradients of references owns one plane and goes through the frames that were predicted
from it in their order.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from codec.arch.motion import MAX_VECTOR
from codec.jit import run_parallel, threads_for
from codec.layers.kernels.motion_kernels import (
    ALONE,
    FUTURE,
    PAST,
    Frame,
    gradient_rows,
    predict_rows,
    spread_frame,
)
from codec.layers.motion import interpolation_taps

_STRIP_SAMPLES = 1 << 14


def predict(
    trunk: Tensor,
    references: Tensor,
    pasts: Sequence[int],
    futures: Sequence[int],
    first: Tensor,
    second: Tensor,
    *,
    block_level: int,
) -> Tensor:
    """`layers.motion.predict`, same arguments and result, float32 on the CPU."""
    frames = tuple(zip(pasts, futures, strict=True))
    return _Predict.apply(trunk, references, first, second, frames, block_level)


@lru_cache(maxsize=1)
def _tables() -> tuple[np.ndarray, np.ndarray]:
    """(2, 16, 8) float32: taps and their derivatives; taps, and taps from last to first."""
    plain, slopes = interpolation_taps().astype(np.float32)
    return np.stack([plain, slopes]), np.stack([plain, plain[:, ::-1]])


def _rounded(vectors: np.ndarray) -> np.ndarray:
    # Vectors of a training that diverged must not become addresses.
    finite = np.nan_to_num(vectors, nan=0.0)
    return np.floor(finite.clip(-MAX_VECTOR, MAX_VECTOR) + np.float32(0.5)).astype(np.int32)


class _Predict(torch.autograd.Function):
    @staticmethod
    def forward(  # type: ignore[override]
        ctx, trunk: Tensor, references: Tensor, first: Tensor, second: Tensor, frames, level: int
    ) -> Tensor:
        inputs = [x.detach().contiguous().numpy() for x in (trunk, references, first, second)]
        ctx.trunk, ctx.references, *ctx.vectors = inputs
        ctx.frames, ctx.level, ctx.threads = frames, level, threads_for(trunk.numel())
        first, second = (_rounded(vectors) for vectors in ctx.vectors)
        ctx.own = [
            Frame(ctx.trunk[n], ctx.references, *pair, first[n], second[n])
            for n, pair in enumerate(frames)
        ]
        number, channels, height, width = ctx.trunk.shape
        out = np.empty((number, channels - 2, height, width), np.float32)

        def job(place: tuple[int, int, int]) -> None:
            n, y0, y1 = place
            predict_rows(ctx.own[n], _tables()[0], level, y0, y1, out[n])

        run_parallel(job, _strips(out.shape, level), threads=ctx.threads)
        return torch.from_numpy(out)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        back = grad.contiguous().numpy()
        trunk, *vectors = _own_gradients(ctx, back)
        references = _reference_gradients(ctx, back) if ctx.needs_input_grad[1] else None
        return trunk, references, *vectors, None, None


def _strips(shape: tuple[int, ...], level: int) -> list[tuple[int, int, int]]:
    """(frame, first row, end) of whole rows of blocks, strips of about equal size."""
    number, _, height, width = shape
    rows = max(1, _STRIP_SAMPLES // (width << level)) << level
    return [(n, y, min(y + rows, height)) for n in range(number) for y in range(0, height, rows)]


def _own_gradients(ctx, back: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of the trunk and of both sets of vectors."""
    trunk = np.empty_like(ctx.trunk)
    first, second = (np.zeros_like(vectors) for vectors in ctx.vectors)

    def job(place: tuple[int, int, int]) -> None:
        n, y0, y1 = place
        targets = trunk[n], (first[n], second[n])
        gradient_rows(ctx.own[n], back[n], _tables()[0], ctx.level, y0, y1, *targets)

    run_parallel(job, _strips(back.shape, ctx.level), threads=ctx.threads)
    for vectors, gradient in zip(ctx.vectors, (first, second), strict=True):
        gradient[np.abs(vectors) > MAX_VECTOR] = 0
    return torch.from_numpy(trunk), torch.from_numpy(first), torch.from_numpy(second)


def _reference_gradients(ctx, back: np.ndarray) -> Tensor:
    references = np.zeros_like(ctx.references)
    users: list[list[tuple[int, int]]] = [[] for _ in references]
    for n, (past, future) in enumerate(ctx.frames):
        if past >= 0:
            users[past].append((n, ALONE if future == past else PAST))
        if future != past:
            users[future].append((n, FUTURE))

    def job(place: tuple[int, int]) -> None:
        r, c = place
        for n, share in users[r]:
            own = ctx.own[n]
            vectors = own.second if share == FUTURE else own.first
            gradient = (_tables()[1], ctx.level, references[r, c])
            spread_frame(own.trunk, back[n, c], vectors, share, *gradient)

    planes = [(r, c) for r, own in enumerate(users) if own for c in range(back.shape[1])]
    run_parallel(job, planes, threads=ctx.threads)
    return torch.from_numpy(references)
