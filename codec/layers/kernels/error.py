"""The squared error of a picture as a differentiable function, computed by a fused kernel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from codec.jit import inner_float, njit_float, run_parallel, threads_for
from codec.layers.error import ErrorPlane

_STRIP_SAMPLES = 1 << 15
_ZERO, _HALF, _TWO = np.float32(0.0), np.float32(0.5), np.float32(2.0)


@inner_float
def _full_row(values, target, mask, factor, back):
    """Sum of squared errors of a row; `back` gets 2 factor * error."""
    total = _ZERO
    if mask.size:
        for x in range(values.size):
            error = values[x] - target[x]
            total += error * error * mask[x]
            back[x] = factor * error * mask[x]
    else:
        for x in range(values.size):
            error = values[x] - target[x]
            total += error * error
            back[x] = factor * error
    return total


@inner_float
def _box_row(upper, lower, target, mask, factor, back, scratch):
    """As `_full_row` for means over two columns of two rows; `back` gets what a sample gets.

    `scratch` (target.size,) is for the errors. An odd last column is replicated.
    """
    width, total = upper.size, _ZERO
    pairs = width >> 1
    for x in range(pairs):
        mean = (upper[2 * x] + upper[2 * x + 1] + lower[2 * x] + lower[2 * x + 1]) * _HALF * _HALF
        scratch[x] = mean - target[x]
    if width & 1:
        scratch[pairs] = (upper[width - 1] + lower[width - 1]) * _HALF - target[pairs]
    for x in range(target.size):
        weight = mask[x] if mask.size else np.float32(1.0)
        total += scratch[x] * scratch[x] * weight
        scratch[x] = scratch[x] * weight * factor * _HALF * _HALF
    for x in range(pairs):
        back[2 * x] = scratch[x]
        back[2 * x + 1] = scratch[x]
    if width & 1:
        back[width - 1] = _TWO * scratch[pairs]
    return total


@njit_float
def error_rows(values, target, mask, halvings, factor, y0, y1, back):
    """Sum of squared errors over rows y0 to y1 of a target (h, w), float64.

    Args:
        values: (H, W) samples, of which the target has a box mean.
        mask: (h, w), or empty.
        factor: of the error in the gradient.
        back: (H, W), gets the gradients of the samples.
    """
    total, height = 0.0, values.shape[0]
    scratch, none = np.empty(target.shape[1], np.float32), np.empty(0, np.float32)
    for y in range(y0, y1):
        weights = mask[y] if mask.size else none
        if halvings[1] == 0:
            total += _full_row(values[y], target[y], weights, factor, back[y])
            continue
        first = y << halvings[0]
        second = min(first + halvings[0], height - 1)
        total += _box_row(
            values[first], values[second], target[y], weights, factor, back[first], scratch
        )
        if second > first:
            back[second, :] = back[first]
        else:
            back[first, :] *= _TWO
    return total


def squared_error(channels: Tensor, planes: Sequence[ErrorPlane]) -> Tensor:
    """`layers.error.squared_error`, same arguments and result, float32 on the CPU."""
    return _SquaredError.apply(channels, tuple(planes))


class _SquaredError(torch.autograd.Function):
    @staticmethod
    def forward(ctx, channels: Tensor, planes: tuple[ErrorPlane, ...]) -> Tensor:  # type: ignore[override]
        values = channels.detach().contiguous().numpy()
        back = np.empty_like(values)
        arrays = [
            (plane.target.numpy(), np.empty((len(values), 0, 0), np.float32))
            if plane.mask is None
            else (plane.target.numpy(), plane.mask.numpy())
            for plane in planes
        ]

        def job(place: tuple[int, int, int, int]) -> float:
            t, c, y0, y1 = place
            target, mask = arrays[c]
            scale = planes[c].weight / target.size
            factor, halvings = np.float32(2 * scale), planes[c].halvings
            own = (values[t, c], target[t], mask[t], halvings, factor, y0, y1, back[t, c])
            return scale * error_rows(*own)

        jobs = [
            (t, c, y, min(y + rows, target.shape[1]))
            for t in range(len(values))
            for c, (target, _) in enumerate(arrays)
            for rows in [max(1, _STRIP_SAMPLES // target.shape[2])]
            for y in range(0, target.shape[1], rows)
        ]
        total = sum(run_parallel(job, jobs, threads=threads_for(values.size)))
        ctx.back = torch.from_numpy(back)
        return channels.new_tensor(total)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        # The loss is this error and a rate, so the gradient is 1 but in tests.
        return ctx.back if grad.item() == 1 else ctx.back * grad, None
