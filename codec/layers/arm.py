"""The autoregressive entropy model: contexts, IFCE, the ARM itself, and the bits of a latent."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from codec.arch.network import CONTEXT_ORDER, CONTEXT_REACH_SIDE, CONTEXT_REACH_UP
from codec.arch.numerics import (
    CONTEXT_ACT_MAX,
    CONTEXT_FRAC,
    LATENT_MAX,
    LOG_SCALE_MAX,
    LOG_SCALE_MIN,
    LOG_SCALE_OFFSET,
)

ACT_LIMIT = CONTEXT_ACT_MAX / (1 << CONTEXT_FRAC)
MIN_PROBABILITY = 2.0**-16


class _GatherContexts(torch.autograd.Function):
    """Shifted copies of padded planes; the backward pass adds into one padded plane in place."""

    @staticmethod
    def forward(ctx, latent: Tensor, num_contexts: int) -> Tensor:  # type: ignore[override]
        slices, height, width = latent.shape
        ctx.shape, ctx.num_contexts = latent.shape, num_contexts
        padded = F.pad(latent, (CONTEXT_REACH_SIDE, CONTEXT_REACH_SIDE, CONTEXT_REACH_UP, 0))
        out = latent.new_empty(num_contexts, slices, height, width)
        for n, view in enumerate(_views(padded, num_contexts, height, width)):
            out[n].copy_(view)
        return out

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        slices, height, width = ctx.shape
        rows, columns = height + CONTEXT_REACH_UP, width + 2 * CONTEXT_REACH_SIDE
        padded = grad.new_zeros(slices, rows, columns)
        for n, view in enumerate(_views(padded, ctx.num_contexts, height, width)):
            view.add_(grad[n])
        side = CONTEXT_REACH_SIDE
        return padded[:, CONTEXT_REACH_UP:, side : side + width], None


def _views(padded: Tensor, num_contexts: int, height: int, width: int) -> list[Tensor]:
    views = []
    for dy, dx in CONTEXT_ORDER[:num_contexts]:
        top, left = CONTEXT_REACH_UP + dy, CONTEXT_REACH_SIDE + dx
        views.append(padded[:, top : top + height, left : left + width])
    return views


def gather_contexts(latent: Tensor, num_contexts: int) -> Tensor:
    """Causal neighbours of every latent, zero outside the slice.

    Args:
        latent: (S, h, w), S slices of one grid.
        num_contexts: how many positions of CONTEXT_ORDER.

    Returns:
        (num_contexts, S, h, w).
    """
    return _GatherContexts.apply(latent, num_contexts)


def upsample_nearest(plane: Tensor, shift: int, height: int, width: int) -> Tensor:
    """out[..., y, x] = plane[..., y >> shift, x >> shift], cropped; plane is (B, C, h, w)."""
    if shift == 0:
        return plane
    wide = F.interpolate(plane, scale_factor=float(1 << shift), mode="nearest")
    return wide[..., :height, :width]


class Ifce(nn.Module):
    """Inter-feature context extractor: a linear map from coarser grids at half resolution.

    Source: Cool-Chic 5; integer form in docs/bitstream.md, "entropy model".
    """

    def __init__(self, num_sources: int, num_features: int) -> None:
        super().__init__()
        weight = torch.randn(num_features, num_sources) / num_features**2
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(torch.zeros(num_features))

    def forward(self, sources: Tensor) -> Tensor:
        """(S, num_sources, h', w') latents at half resolution -> (num_features, S, h', w')."""
        slices, count, height, width = sources.shape
        flat = sources.permute(1, 0, 2, 3).reshape(count, -1)
        out = torch.addmm(self.bias[:, None], self.weight, flat)
        return F.hardtanh(out, -ACT_LIMIT, ACT_LIMIT).view(-1, slices, height, width)


class Arm(nn.Module):
    """Residual MLP with a parallel linear stabiliser, from contexts to location and log-scale.

    h <- relu(W h + b + h) for each hidden layer; (mu, s) = W_out h + W_stab x + b.

    Source: Cool-Chic 5 (notation of docs/bitstream.md, "entropy model").
    """

    def __init__(self, width: int, num_layers: int) -> None:
        super().__init__()
        self.weights = nn.ParameterList(torch.zeros(width, width) for _ in range(num_layers))
        self.biases = nn.ParameterList(torch.zeros(width) for _ in range(num_layers))
        self.out_weight = nn.Parameter(torch.randn(2, width) / 4)
        self.out_bias = nn.Parameter(torch.zeros(2))
        self.stab_weight = nn.Parameter(torch.randn(2, width) / 4) if num_layers else None

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(width, M) contexts -> location (M) and log-scale (M), clamped as in the stream."""
        eye = torch.eye(x.shape[0], dtype=x.dtype, device=x.device)
        hidden = x
        for weight, bias in zip(self.weights, self.biases, strict=True):
            hidden = F.hardtanh(torch.addmm(bias[:, None], weight + eye, hidden), 0.0, ACT_LIMIT)
        out = torch.addmm(self.out_bias[:, None], self.out_weight, hidden)
        if self.stab_weight is not None:
            out = torch.addmm(out, self.stab_weight, x)
        mu = F.hardtanh(out[0], -LATENT_MAX, LATENT_MAX)
        return mu, F.hardtanh(out[1] + LOG_SCALE_OFFSET, LOG_SCALE_MIN, LOG_SCALE_MAX)

    def tensors(self) -> dict[str, Tensor]:
        """Parameters by their names in the stream, without the leading `arm.`."""
        named: dict[str, Tensor] = {}
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            named[f"{i}.weight"], named[f"{i}.bias"] = weight, bias
        named |= {"out.weight": self.out_weight, "out.bias": self.out_bias}
        if self.stab_weight is not None:
            named["stab.weight"] = self.stab_weight
        return named


def laplace_bits(value: Tensor, mu: Tensor, log_scale: Tensor) -> Tensor:
    """-log2 of the Laplace(mu, e^log_scale) mass of [value - 1/2, value + 1/2], at most 16 bits.

    With d = |value - mu|, b = e^log_scale: e^(-d/b) sinh(1/(2b)) for d >= 1/2, otherwise
    1 - e^(-1/(2b)) cosh(d/b). All tensors of one shape; result in bits, same shape.
    """
    inverse = torch.exp(-log_scale)
    distance = (value - mu).abs()
    half = 0.5 * inverse
    near = torch.exp((distance - 0.5).clamp(max=0.5) * inverse)
    far = torch.exp(-(distance + 0.5) * inverse)
    # The exponentials are written so that no argument is positive on the side that is used.
    outside = 0.5 * torch.exp(-(distance - 0.5).clamp(min=0) * inverse) * -torch.expm1(-2 * half)
    inside = 1 - 0.5 * (near.clamp(max=1.0) + far)
    mass = torch.where(distance >= 0.5, outside, inside)
    return -torch.log(mass.clamp(min=MIN_PROBABILITY)) * (1 / math.log(2))
