"""Depthwise long convolution whose kernel is a small network of the coordinates (CKConv)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from codec.errors import UsageError
from codec.layers.masks import ExponentialModulationND

GRID_TYPES = ("double", "single")
FFT_PADDINGS = ("zero", "circular")


class SIREN(nn.Module):
    """Implicit kernel: an MLP with sine activations from coordinates to channels.

    h_0 = sin(W_0 p + b_0), h_j = sin(W_j h_{j-1} + b_j), out = V h + c, evaluated on 2n - 1
    evenly spaced points from -1 to 1 an axis (a single point is 0). Biases start at 0,
    W_0 ~ U(±2π·omega_0 / data_dim), W_j ~ U(±sqrt(6 / fan in)), V likewise but scaled by
    length^(-data_dim / 2), so that a kernel of `length` points an axis keeps the signal's
    variance. Random numbers come from torch's global generator.
    Source: Sitzmann et al. 2020 (arXiv:2006.09661), Romero et al. 2022 (arXiv:2102.02611).

    Args:
        data_dim: coordinates of a point.
        out_dim: channels of the kernel.
        hidden_dims: widths of the sine layers, at least one.
        omega_0: highest initial frequency, in cycles per unit of a coordinate.
        length: points an axis that the initial scale is meant for.

    Raises:
        UsageError: a size below 1.
    """

    def __init__(
        self,
        data_dim: int,
        out_dim: int,
        *,
        hidden_dims: Sequence[int] = (32, 32, 32),
        omega_0: float = 10.0,
        length: int = 32,
    ) -> None:
        super().__init__()
        widths = (data_dim, *hidden_dims)
        if len(widths) < 2 or min(*widths, out_dim, length) < 1:
            raise UsageError(
                f"SIREN sizes must be at least 1: data_dim {data_dim}, out_dim {out_dim}, "
                f"hidden_dims {tuple(hidden_dims)}, length {length}"
            )
        self.data_dim, self.omega_0 = data_dim, omega_0
        self.hidden = nn.ModuleList(
            nn.Linear(fan_in, fan_out) for fan_in, fan_out in pairwise(widths)
        )
        self.out = nn.Linear(widths[-1], out_dim)
        bounds = [2 * math.pi * omega_0 / data_dim] + [math.sqrt(6 / n) for n in widths[1:]]
        bounds[-1] *= length ** (-data_dim / 2)
        for layer, bound in zip((*self.hidden, self.out), bounds, strict=True):
            nn.init.uniform_(layer.weight, -bound, bound)
            nn.init.zeros_(layer.bias)

    def forward(self, lens: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Kernel values (1, *dims, out_dim) and their grid (1, *dims, data_dim) float32.

        Args:
            lens: n for each axis; dims are 2n - 1.

        Raises:
            UsageError: not one length of at least 1 for each axis.
        """
        if len(lens) != self.data_dim or min(lens) < 1:
            raise UsageError(
                f"a {self.data_dim}-D kernel needs {self.data_dim} lengths of at least 1, "
                f"got {tuple(lens)}"
            )
        grid = coordinate_grid(lens, device=self.out.weight.device)
        values = grid.to(self.out.weight.dtype)
        for layer in self.hidden:
            values = torch.sin(layer(values))
        return self.out(values), grid


class CKConvND(nn.Module):
    """Depthwise long convolution in 1, 2 or 3 dimensions: y = x * k + shortcut ⊙ x.

    y(n) = sum_m x(m) k(n - m) + shortcut · x(n), where the centre of the kernel is displacement 0.
    The kernel is `mask(grid, kernel(lens))`, evaluated for the size of the input and applied by
    FFT. An axis of N samples is either

    - 'double' with 'zero': 2N - 1 kernel points, linear convolution, every output sees every input;
    - 'single' with 'circular': N kernel points, or N - 1 when N is even (the displacement N/2 has
      no mirror image and stays out), periodic convolution;
    - 'single' with 'zero': the same points, zeros outside.

    Args:
        data_dim: number of axes, 1 to 3.
        hidden_dim: channels C.
        kernel: module from lens, n for each axis, to (values (1, *dims, C), grid
            (1, *dims, data_dim)) with dims = 2n - 1; a SIREN by default.
        mask: module called as mask(grid=grid, x=values); an ExponentialModulationND by default,
            `nn.Identity()` for none.
        grid_type: 'double' or 'single', or a sequence of them, one an axis.
        fft_padding: 'zero' or 'circular', or a sequence of them, one an axis; then a `grid_type`
            left at 'double' means 'single' on the circular axes.
        is_causal: 1-D, zero padding only: displacements below 0 are dropped.

    Attributes:
        shortcut: (hidden_dim,), starts as U(±1 / sqrt(hidden_dim)).

    Raises:
        UsageError: a combination that does not exist, or shapes that do not fit.
    """

    def __init__(
        self,
        data_dim: int,
        hidden_dim: int,
        *,
        kernel: nn.Module | None = None,
        mask: nn.Module | None = None,
        grid_type: str | Sequence[str] = "double",
        fft_padding: str | Sequence[str] = "zero",
        is_causal: bool = False,
    ) -> None:
        super().__init__()
        if data_dim not in (1, 2, 3) or hidden_dim < 1:
            raise UsageError(
                f"CKConvND works in 1 to 3 dimensions on at least 1 channel, "
                f"got data_dim {data_dim}, hidden_dim {hidden_dim}"
            )
        self.data_dim, self.hidden_dim, self.is_causal = data_dim, hidden_dim, is_causal
        self.fft_padding = _per_axis("fft_padding", fft_padding, FFT_PADDINGS, data_dim)
        if grid_type == "double" and not isinstance(fft_padding, str):
            grid_type = ["single" if mode == "circular" else "double" for mode in self.fft_padding]
        self.grid_type = _per_axis("grid_type", grid_type, GRID_TYPES, data_dim)
        self._check_modes()
        self.kernel = SIREN(data_dim, hidden_dim) if kernel is None else kernel
        self.mask = ExponentialModulationND(data_dim, hidden_dim) if mask is None else mask
        bound = hidden_dim**-0.5
        self.shortcut = nn.Parameter(torch.empty(hidden_dim).uniform_(-bound, bound))

    def kernel_values(self, dims: Sequence[int]) -> Tensor:
        """The masked kernel that an input of size `dims` meets: (C, *kernel_dims).

        Displacement 0 is at the middle of each axis; of a causal kernel it is the first value.

        Raises:
            UsageError: not one size of at least 1 for each axis, or a kernel of another shape.
        """
        if len(dims) != self.data_dim or min(dims) < 1:
            raise UsageError(
                f"a {self.data_dim}-D kernel needs {self.data_dim} sizes of at least 1, "
                f"got {tuple(dims)}"
            )
        lens = [
            size if kind == "double" else (size + 1) // 2
            for size, kind in zip(dims, self.grid_type, strict=True)
        ]
        values, grid = self.kernel(lens)
        if not isinstance(self.mask, nn.Identity):
            values = self.mask(grid=grid, x=values)
        if (values.ndim, values.shape[0], values.shape[-1]) != (
            self.data_dim + 2,
            1,
            self.hidden_dim,
        ):
            raise UsageError(
                f"the kernel module must give (1, *dims, {self.hidden_dim}), "
                f"got {tuple(values.shape)}"
            )
        values = values[0].movedim(-1, 0)
        return values[:, values.shape[1] // 2 :] if self.is_causal else values

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, *dims) to (B, C, *dims), the type of x; sums are float32 at least.

        Raises:
            UsageError: a shape that does not fit.
        """
        if x.ndim != self.data_dim + 2 or x.shape[1] != self.hidden_dim:
            dims = ", ".join("?" * self.data_dim)
            raise UsageError(
                f"CKConvND expects (B, {self.hidden_dim}, {dims}), got {tuple(x.shape)}"
            )
        kernel = self.kernel_values(x.shape[2:])
        wide = torch.promote_types(x.dtype, torch.float32)
        centre = tuple(
            0 if self.is_causal else _centre(size, mode)
            for size, mode in zip(kernel.shape[1:], self.fft_padding, strict=True)
        )
        out = fft_convolution(
            x.to(wide), kernel.to(wide), centre=centre, fft_padding=self.fft_padding
        )
        shortcut = self.shortcut.to(wide).view(-1, *(1,) * self.data_dim)
        return (out + shortcut * x).to(x.dtype)

    def extra_repr(self) -> str:
        return (
            f"data_dim={self.data_dim}, hidden_dim={self.hidden_dim}, "
            f"grid_type={self.grid_type}, fft_padding={self.fft_padding}, "
            f"is_causal={self.is_causal}"
        )

    def _check_modes(self) -> None:
        if ("double", "circular") in zip(self.grid_type, self.fft_padding, strict=True):
            raise UsageError(
                "fft_padding 'circular' needs grid_type 'single': the kernel is one period long"
            )
        if self.is_causal and (self.data_dim != 1 or self.fft_padding != ("zero",)):
            raise UsageError("a causal CKConvND is 1-D with fft_padding 'zero'")


def coordinate_grid(lens: Sequence[int], *, device: torch.device | None = None) -> Tensor:
    """2n - 1 even steps from -1 to 1 an axis (0 where n is 1): (1, *dims, axes) float32."""
    options = {"dtype": torch.float32, "device": device}
    axes = [
        torch.linspace(-1, 1, 2 * n - 1, **options) if n > 1 else torch.zeros(1, **options)
        for n in lens
    ]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)[None]


def fft_convolution(
    x: Tensor, kernel: Tensor, *, centre: Sequence[int], fft_padding: Sequence[str]
) -> Tensor:
    """Depthwise convolution y(n) = sum_m x(m) kernel(centre + n - m) through one FFT of each.

    Args:
        x: (B, C, *dims) float32 or float64.
        kernel: (C, *kernel_dims), same type.
        centre: index of displacement 0, one an axis.
        fft_padding: 'zero' (x is 0 outside) or 'circular' (x is periodic), one an axis.

    Returns:
        As x.

    Raises:
        UsageError: a kernel longer than the period of a circular axis.
    """
    dims, axes = x.shape[2:], tuple(range(-len(centre), 0))
    sizes = [
        _fft_size(size, taps, middle, mode)
        for size, taps, middle, mode in zip(
            dims, kernel.shape[1:], centre, fft_padding, strict=True
        )
    ]
    pads = [(0, full - taps) for full, taps in zip(sizes, kernel.shape[1:], strict=True)]
    wrapped = F.pad(kernel, [side for pad in reversed(pads) for side in pad])
    # Displacement 0 goes to index 0 and negative ones to the far end, so no crop offset is needed.
    wrapped = wrapped.roll([-middle for middle in centre], axes)
    spectrum = torch.fft.rfftn(x, sizes, axes) * torch.fft.rfftn(wrapped, sizes, axes)
    out = torch.fft.irfftn(spectrum, sizes, axes)
    return out[(..., *(slice(size) for size in dims))]


def _centre(taps: int, mode: str) -> int:
    return (taps - 1) // 2 if mode == "circular" else taps // 2


def _fft_size(size: int, taps: int, centre: int, mode: str) -> int:
    """Transform length that keeps wrapped-around sums out of the outputs."""
    if mode == "zero":
        return _smooth(max(taps, size + max(centre, taps - 1 - centre)))
    if taps > size:
        raise UsageError(
            f"a circular axis of {size} takes at most {size} kernel points, got {taps}"
        )
    return size


def _smooth(size: int) -> int:
    """The next length that has no prime factor above 5, for which FFTs are fast."""
    while True:
        rest = size
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return size
        size += 1


def _per_axis(
    name: str, value: str | Sequence[str], words: tuple[str, ...], data_dim: int
) -> tuple[str, ...]:
    is_sequence = isinstance(value, Sequence) and not isinstance(value, str)
    modes = tuple(value) if is_sequence else (value,) * data_dim
    if len(modes) != data_dim or any(mode not in words for mode in modes):
        raise UsageError(
            f"{name} is {value!r}: it is one of {', '.join(map(repr, words))}, "
            f"or a sequence of {data_dim}, one an axis"
        )
    return modes
