"""Filters along time and gains of channels as differentiable functions, computed by fused kernels.

Sums over all frames and pixels are taken channel by channel in a fixed order, so that gradients do
not depend on the number of threads.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from codec.jit import inner_float, njit_float, run_parallel, threads_for

_ZERO = np.float32(0.0)


@inner_float
def _add_scaled(target, weight, source):
    """target += weight * source, planes (h, w)."""
    for y in range(target.shape[0]):
        row, other = target[y], source[y]
        for x in range(row.size):
            row[x] += weight * other[x]


@njit_float
def _product(a, b):
    """Sum of a * b over two planes (h, w), float64."""
    total = 0.0
    for y in range(a.shape[0]):
        row, other, part = a[y], b[y], _ZERO
        for x in range(row.size):
            part += row[x] * other[x]
        total += part
    return total


@njit_float
def _filter_channel(x, taps, first_lag, out):
    """out(t) = sum_i taps(i) x(t - first_lag - i) of one channel (T, h, w), x zero outside."""
    frames = x.shape[0]
    out[:] = _ZERO
    for t in range(frames):
        for i in range(taps.size):
            source = t - first_lag - i
            if 0 <= source < frames:
                _add_scaled(out[t], taps[i], x[source])


@njit_float
def _filter_channel_back(x, taps, first_lag, back, x_back, taps_back):
    """Gradients behind `_filter_channel`."""
    frames = x.shape[0]
    x_back[:] = _ZERO
    for t in range(frames):
        for i in range(taps.size):
            source = t - first_lag - i
            if 0 <= source < frames:
                _add_scaled(x_back[source], taps[i], back[t])
                taps_back[i] += _product(back[t], x[source])


def apply_ck(x: Tensor, taps: Tensor, *, first_lag: int) -> Tensor:
    """`layers.temporal.apply_ck`, same arguments and result, float32 on the CPU."""
    return _FilterTime.apply(x, taps, first_lag)


class _FilterTime(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, taps: Tensor, first_lag: int) -> Tensor:  # type: ignore[override]
        ctx.source, ctx.taps = x.detach().contiguous().numpy(), taps.detach().contiguous().numpy()
        ctx.first_lag, ctx.threads = first_lag, threads_for(x.numel())
        out = np.empty_like(ctx.source)

        def job(c: int) -> None:
            _filter_channel(ctx.source[:, c], ctx.taps[c], first_lag, out[:, c])

        run_parallel(job, range(len(ctx.taps)), threads=ctx.threads)
        return torch.from_numpy(out)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor, None]:  # type: ignore[override]
        back = grad.contiguous().numpy()
        x_back, taps_back = np.empty_like(ctx.source), np.zeros(ctx.taps.shape)

        def job(c: int) -> None:
            own = (back[:, c], x_back[:, c], taps_back[c])
            _filter_channel_back(ctx.source[:, c], ctx.taps[c], ctx.first_lag, *own)

        run_parallel(job, range(len(ctx.taps)), threads=ctx.threads)
        return torch.from_numpy(x_back), torch.from_numpy(taps_back.astype(np.float32)), None


def apply_gate(y: Tensor, gate: Tensor) -> Tensor:
    """gate[c] y[:, c] for y (T, C, H, W) and gate (C,), float32 on the CPU."""
    return _Gate.apply(y, gate)


class _Gate(torch.autograd.Function):
    @staticmethod
    def forward(ctx, y: Tensor, gate: Tensor) -> Tensor:  # type: ignore[override]
        ctx.y, ctx.gate = y.detach(), gate.detach()
        return ctx.y * ctx.gate[:, None, None]

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        values, back = ctx.y.contiguous().numpy(), grad.contiguous().numpy()

        def job(c: int) -> float:
            return sum(_product(values[t, c], back[t, c]) for t in range(len(values)))

        sums = run_parallel(job, range(len(ctx.gate)), threads=threads_for(values.size))
        return grad * ctx.gate[:, None, None], grad.new_tensor(sums)
