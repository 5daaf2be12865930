"""The squared error of a picture, plane by plane, as training measures it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor


class ErrorPlane(NamedTuple):
    """What one channel is compared with.

    `target` (T, h, w); `weight` multiplies the mean error of the plane; `mask` (T, h, w) multiplies
    errors, or is None; `halvings` (rows, columns), 0 or 1 each, say in which axes the target has
    half the samples.
    """

    target: Tensor
    weight: float
    mask: Tensor | None
    halvings: tuple[int, int]


def squared_error(channels: Tensor, planes: Sequence[ErrorPlane]) -> Tensor:
    """Sum over channels of weight * mean of (box mean of samples - target)^2 * mask.

    Args:
        channels: (T, C, H, W).
        planes: one for each channel.

    Returns:
        A scalar.
    """
    total = channels.new_zeros(())
    for samples, plane in zip(channels.unbind(1), planes, strict=True):
        if plane.halvings != (0, 0):
            samples = box_mean(samples, *plane.halvings)
        error = (samples - plane.target) ** 2
        total = total + plane.weight * (error if plane.mask is None else error * plane.mask).mean()
    return total


def box_mean(plane: Tensor, down_y: int, down_x: int) -> Tensor:
    """(T, H, W) -> means over 2^down_y x 2^down_x samples, odd last rows and columns replicated."""
    rows, columns = 1 << down_y, 1 << down_x
    pad_y, pad_x = -plane.shape[1] % rows, -plane.shape[2] % columns
    if pad_y or pad_x:
        plane = F.pad(plane.unsqueeze(1), (0, pad_x, 0, pad_y), mode="replicate").squeeze(1)
    return F.avg_pool2d(plane, (rows, columns))
