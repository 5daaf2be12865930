"""Temporal convolutions of `layers.temporal` with their sums computed by fused kernels."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from codec.layers.adaptive import demodulation
from codec.layers.kernels.conv import convolve
from codec.layers.kernels.filters import apply_gate
from codec.layers.temporal import code_scales

INFINITE = float("inf")


def apply_adaptive(
    x: Tensor,
    *,
    weight: Tensor,
    bias: Tensor,
    gate: Tensor | None = None,
    code_map: Tensor | None = None,
    codes: Tensor | None = None,
    owners: Sequence[int] = (),
    demod: bool = True,
    residual: bool = False,
    relu: bool = False,
    eps: float = 1e-8,
) -> Tensor:
    """`layers.temporal.apply_adaptive`, same arguments and result, float32 on the CPU.

    Each code makes a set of weights, as the decoder bakes them, and the kernel takes for a frame
    the set of its code.
    """
    num_frames = x.shape[0]
    if code_map is None or codes is None or not owners:
        scale, owners = weight.new_ones(1, weight.shape[1]), [0] * num_frames
    else:
        scale = code_scales(code_map, codes, owners, num_frames=num_frames)
    weights = weight * scale[:, None, :, None, None, None]
    if demod:
        weights = weights * demodulation(weight, scale, eps=eps)[:, :, None, None, None, None]
    out = convolve(x, weights, bias, owners, limits=(0.0 if relu else -INFINITE, INFINITE))
    return _finish(out, x, gate=gate, residual=residual)


def apply_conv(
    x: Tensor,
    *,
    weight: Tensor,
    bias: Tensor,
    gate: Tensor | None = None,
    dilation: int = 1,
    groups: int = 1,
    residual: bool = False,
    relu: bool = False,
) -> Tensor:
    """`layers.temporal.apply_conv`, same arguments and result, float32 on the CPU."""
    out = convolve(
        x,
        weight.unsqueeze(0),
        bias,
        [0] * x.shape[0],
        dilation=dilation,
        groups=groups,
        limits=(0.0 if relu else -INFINITE, INFINITE),
    )
    return _finish(out, x, gate=gate, residual=residual)


def _finish(out: Tensor, x: Tensor, *, gate: Tensor | None, residual: bool) -> Tensor:
    gated = out if gate is None else apply_gate(out, gate)
    return gated + x if residual else gated
