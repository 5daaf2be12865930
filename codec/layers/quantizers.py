"""Differentiable stand-ins for rounding latents to integers."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from codec.arch.numerics import LATENT_MAX


def softround(x: Tensor, temperature: float) -> Tensor:
    """floor(x) + 1/2 + tanh((x - floor(x) - 1/2) / t) / (2 tanh(1 / (2 t))).

    Tends to rounding for t -> 0 and to the identity for large t; any shape, in quantization bins.

    Source: Agustsson and Theis, "Universally quantized neural compression" (2020), section 4.1.
    """
    base = torch.floor(x)
    scale = 1.0 / (2.0 * math.tanh(0.5 / temperature))
    return base + 0.5 + torch.tanh((x - base - 0.5) / temperature) * scale


def noisy_softround(x: Tensor, noise: Tensor, temperature: float) -> Tensor:
    """softround(softround(x) + n): rounding with noise n in bins, clamped to the latent range.

    Source: C3 (Kim et al., 2024), section 3.2; Cool-Chic 5 training presets.
    """
    y = softround(softround(x, temperature) + noise, temperature)
    return y.clamp(-LATENT_MAX, LATENT_MAX)


def hard_round(x: Tensor) -> Tensor:
    """Integers as the stream holds them: rounded (half to even) and clamped; no gradient."""
    return torch.round(x.detach()).clamp(-LATENT_MAX, LATENT_MAX)
