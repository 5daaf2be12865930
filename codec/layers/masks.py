"""Windows that an implicit convolution kernel is multiplied by."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from codec.errors import GridDtypeError, UsageError


class ExponentialModulationND(nn.Module):
    """Exponential window: mask_c(p) = prod_d exp(-|p_d| · |w_dc|).

    The rates w run linearly from slow (channel 0) to fast (last channel), divided by `data_dim`.
    They are constants: part of the state dict, but never trained, whatever `requires_grad` says.

    Args:
        data_dim: coordinates of a grid point.
        num_channels: channels of the kernel.
        fast_decay_pct: rate of the last channel, summed over the axes.
        slow_decay_pct: rate of the first channel, summed over the axes.

    Attributes:
        weight: the rates, (data_dim, num_channels) float32.
    """

    def __init__(
        self,
        data_dim: int,
        num_channels: int,
        fast_decay_pct: float = 13.81,
        slow_decay_pct: float = 2.3,
    ) -> None:
        super().__init__()
        if min(data_dim, num_channels) < 1:
            raise UsageError(
                f"data_dim {data_dim} and num_channels {num_channels} must be at least 1"
            )
        self.data_dim, self.num_channels = data_dim, num_channels
        self.fast_decay_pct, self.slow_decay_pct = fast_decay_pct, slow_decay_pct
        ramp = torch.linspace(slow_decay_pct, fast_decay_pct, num_channels, dtype=torch.float32)
        self.weight = nn.Parameter((ramp / data_dim).repeat(data_dim, 1), requires_grad=False)
        self.weight._no_weight_decay = True

    def __setstate__(self, state: dict[str, Any]) -> None:
        # A copied or unpickled Parameter loses the attributes that were set on it.
        super().__setstate__(state)
        self.weight._no_weight_decay = True

    def forward(self, grid: Tensor, x: Tensor) -> Tensor:
        """Multiply kernel values by the window.

        Args:
            grid: coordinates in [-1, 1], (1, *dims, data_dim) float32.
            x: kernel values, (B, *dims, num_channels), any float type.

        Returns:
            As x.

        Raises:
            GridDtypeError: a grid that is not float32 (neighbours would merge).
            UsageError: a shape that does not fit.
        """
        if grid.dtype != torch.float32:
            raise GridDtypeError(f"the grid must be float32, got {grid.dtype}")
        if grid.shape[-1] != self.data_dim or grid.ndim != self.data_dim + 2:
            dims = ", ".join("?" * self.data_dim)
            raise UsageError(
                f"the grid must be (1, {dims}, {self.data_dim}), got {tuple(grid.shape)}"
            )
        if x.shape[1:] != (*grid.shape[1:-1], self.num_channels):
            raise UsageError(
                f"x must be (B, *{tuple(grid.shape[1:-1])}, {self.num_channels}), "
                f"got {tuple(x.shape)}"
            )
        rates = self.weight.detach().float().abs()
        window = torch.exp(-grid.abs()[..., None] * rates).prod(dim=-2)
        return x * window.to(x.dtype)

    def extra_repr(self) -> str:
        return (
            f"data_dim={self.data_dim}, num_channels={self.num_channels}, "
            f"fast_decay_pct={self.fast_decay_pct}, slow_decay_pct={self.slow_decay_pct}"
        )
