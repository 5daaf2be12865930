"""Learned x2 interpolation and the filters that latents pass before they join the features.

Both are separable, so each axis is a matrix: linear in the few taps, dense, and applied as one
matrix product, which is faster here than convolutions of single planes.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor, nn

from codec.arch.network import UP_DEFAULT_Q8


class Level(NamedTuple):
    """One level of a descent: its size, and the number of latent grids that join there."""

    level: int
    height: int
    width: int
    num_joining: int


def default_half_kernel(num_taps: int) -> Tensor:
    """Half of the initial x2 kernel, outermost tap first: bilinear (4 taps) or bicubic (8)."""
    return torch.tensor(UP_DEFAULT_Q8[num_taps], dtype=torch.float32) / 256


@lru_cache(maxsize=128)
def interpolation_basis(num_half: int, size: int, cropped: int, device: torch.device) -> Tensor:
    """x2 interpolation along one axis as a matrix for each tap of the half kernel.

    Output 2n + p takes the input at distance 1/4 + i/2 with weight h[num_half - 1 - i]; inputs
    outside the axis are the nearest inside.

    Returns:
        (num_half, cropped, size) of zeros and small counts; cropped <= 2 size.
    """
    basis = torch.zeros(num_half, cropped, size)
    for out in range(cropped):
        n, odd = divmod(out, 2)
        for j in range(-(num_half // 2) + odd, num_half // 2 + odd):
            distance = abs(4 * j - 1) if odd else abs(4 * j + 1)
            tap = num_half - 1 - (distance - 1) // 2
            basis[tap, out, min(max(n + j, 0), size - 1)] += 1
    return basis.to(device)


@lru_cache(maxsize=128)
def filter_basis(num_half: int, size: int, device: torch.device) -> Tensor:
    """A symmetric odd filter (p_0 .. p_c .. p_0) along one axis as a matrix for each tap.

    Returns:
        (num_half, size, size); the last tap is the centre; edges are replicated.
    """
    basis = torch.zeros(num_half, size, size)
    for out in range(size):
        for j in range(1 - num_half, num_half):
            basis[num_half - 1 - abs(j), out, min(max(out + j, 0), size - 1)] += 1
    return basis.to(device)


def apply_separable(x: Tensor, half: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """(B, h, w) planes -> R x C^T for every plane, R and C being sum_i half_i basis_i.

    Args:
        x: (B, h, w).
        half: (m,) taps, outermost first.
        rows: (m, h', h) basis of the vertical axis.
        columns: (m, w', w) basis of the horizontal axis.

    Returns:
        (B, h', w').
    """
    vertical = torch.einsum("m,mij->ij", half, rows)
    horizontal = torch.einsum("m,mij->ij", half, columns)
    return torch.matmul(torch.matmul(vertical, x), horizontal.T)


class Upsampling(nn.Module):
    """The kernels of one network: a x2 kernel for every stage, a filter for every joining level.

    Source: Cool-Chic 4 and 5 (learned separable symmetric upsampling, filters before joining).
    """

    def __init__(
        self, *, up_taps: int, pre_taps: int, stages: tuple[int, ...], filtered: tuple[int, ...]
    ) -> None:
        super().__init__()
        dirac = torch.zeros((pre_taps + 1) // 2)
        dirac[-1] = 1.0
        half = default_half_kernel(up_taps)
        self.up = nn.ParameterDict({str(i): nn.Parameter(half.clone()) for i in stages})
        self.pre = nn.ParameterDict({str(i): nn.Parameter(dirac.clone()) for i in filtered})

    def interpolate(self, x: Tensor, level: int, height: int, width: int) -> Tensor:
        """(S, C, h, w) features of level + 1 -> (S, C, height, width) at `level`."""
        half = self.up[str(level)]
        rows = interpolation_basis(half.numel(), x.shape[2], height, x.device)
        columns = interpolation_basis(half.numel(), x.shape[3], width, x.device)
        y = apply_separable(x.flatten(0, 1), half, rows, columns)
        return y.unflatten(0, x.shape[:2])

    def join(self, latent: Tensor, level: int) -> Tensor:
        """(S, h, w) latents of a grid -> (S, 1, h, w) features that join the stack at `level`."""
        if str(level) not in self.pre:
            return latent.unsqueeze(1)
        half = self.pre[str(level)]
        rows = filter_basis(half.numel(), latent.shape[1], latent.device)
        columns = filter_basis(half.numel(), latent.shape[2], latent.device)
        return apply_separable(latent, half, rows, columns).unsqueeze(1)

    def descend(
        self, block: Tensor | None, levels: Sequence[Level], latents: Sequence[Tensor]
    ) -> Tensor:
        """Bring a block of features down some levels, joined by latents on the way.

        Args:
            block: (S, C, h, w) at the level above the first of `levels`, or None: then it begins
                where the first latents join.
            levels: coarse to fine.
            latents: (S, h, w) of the grids that join, level by level.

        Returns:
            (S, C + joined, height, width) of the last level.
        """
        waiting = iter(latents)
        for level, height, width, num_joining in levels:
            if block is not None:
                block = self.interpolate(block, level, height, width)
            for _ in range(num_joining):
                new = self.join(next(waiting), level)
                block = new if block is None else torch.cat([block, new], dim=1)
        assert block is not None
        return block

    def tensors(self) -> dict[str, Tensor]:
        """Parameters by their names in the stream."""
        named = {f"up.{level}": taps for level, taps in self.up.items()}
        return named | {f"pre.{level}": taps for level, taps in self.pre.items()}
