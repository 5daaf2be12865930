"""3-D convolution with PyTorch's arguments and one-line errors, and as a sum over time taps."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from codec.errors import UsageError

AXES = ("time", "height", "width")
PADDING_MODES = ("zeros", "reflect", "replicate", "circular")

IntOrTriple = int | Sequence[int]


class Conv3d(nn.Conv3d):
    """Cross-correlation over (time, height, width), as `torch.nn.Conv3d`.

    out(o) = bias(o) + sum_i weight(o, i) ⋆ x(i), output size per axis
    floor((n + 2·padding - dilation·(kernel - 1) - 1) / stride) + 1. Weights and bias start as
    U(-sqrt k, sqrt k) with k = groups / (in_channels · kernel volume).

    Args:
        in_channels, out_channels: channels, both multiples of `groups`.
        kernel_size, stride, dilation: one number or (time, height, width).
        padding: samples added on both sides of each axis, or 'same' (needs stride 1; of an odd
            number the larger half comes last) or 'valid' (none).
        groups: independent blocks of channels; `groups=in_channels` is depthwise.
        bias: whether a bias is learned.
        padding_mode: 'zeros', 'reflect', 'replicate' or 'circular'.

    Raises:
        UsageError: an argument, or the shape of an input, that the layer cannot work with.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: IntOrTriple,
        stride: IntOrTriple = 1,
        padding: str | IntOrTriple = 0,
        dilation: IntOrTriple = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
    ) -> None:
        kernel = _triple("kernel_size", kernel_size, low=1)
        steps = _triple("stride", stride, low=1)
        spread = _triple("dilation", dilation, low=1)
        _check_channels(in_channels, out_channels, groups)
        if padding_mode not in PADDING_MODES:
            raise UsageError(
                f"padding_mode is {padding_mode!r}: it is one of {', '.join(PADDING_MODES)}"
            )
        super().__init__(
            in_channels,
            out_channels,
            kernel,
            stride=steps,
            padding=_padding(padding, stride=steps),
            dilation=spread,
            groups=groups,
            bias=bias,
            padding_mode=padding_mode,
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, T, H, W) or (in_channels, T, H, W) to the same with out_channels.

        Raises:
            UsageError: a shape that does not fit.
        """
        if x.ndim not in (4, 5) or x.shape[-4] != self.in_channels:
            raise UsageError(
                f"Conv3d expects (B, {self.in_channels}, T, H, W), got {tuple(x.shape)}"
            )
        for axis, size in enumerate(x.shape[-3:]):
            self._check_axis(axis, size)
        return super().forward(x)

    def _check_axis(self, axis: int, size: int) -> None:
        span = self.dilation[axis] * (self.kernel_size[axis] - 1) + 1
        if self.padding == "same":
            before, after = (span - 1) // 2, span // 2
        else:
            before = after = 0 if self.padding == "valid" else self.padding[axis]
        most = {"reflect": size - 1, "circular": size}.get(self.padding_mode, after)
        if size < 1 or after > most:
            raise UsageError(
                f"{self.padding_mode} padding of {after} does not fit {AXES[axis]} {size}: "
                f"it adds at most {max(0, most)}; use 'replicate' or a larger input"
            )
        if size + before + after < span:
            raise UsageError(
                f"{AXES[axis]} {size} padded by {after} is smaller than the kernel's span of {span}"
            )


def conv_over_taps(
    taps: Iterable[Tensor], weight: Tensor, *, dilation: int = 1, groups: int = 1
) -> Tensor:
    """3-D convolution as a sum of 2-D ones: sum_j conv2d(taps[j], weight[:, :, j]).

    Args:
        taps: for each time tap j the frames it reads, (N, C, H + pad, W + pad), in output order.
        weight: (out, C / groups, kernel_time, k, k).
        dilation: between spatial taps.
        groups: as in a convolution.

    Returns:
        (N, out, H, W).
    """
    parts = (
        F.conv2d(frames, weight[:, :, j], dilation=dilation, groups=groups)
        for j, frames in enumerate(taps)
    )
    total = next(parts)
    for part in parts:
        total = total + part
    return total


def _triple(name: str, value: IntOrTriple, *, low: int) -> tuple[int, int, int]:
    numbers = tuple(value) if isinstance(value, Sequence) else (value,) * 3
    if len(numbers) != 3 or not all(isinstance(n, int) and n >= low for n in numbers):
        raise UsageError(
            f"{name} is {value!r}: it is a whole number of at least {low}, or three of them"
        )
    return numbers


def _check_channels(in_channels: int, out_channels: int, groups: int) -> None:
    if min(in_channels, out_channels, groups) < 1:
        raise UsageError(
            f"in_channels {in_channels}, out_channels {out_channels} and groups {groups} "
            "must be at least 1"
        )
    if in_channels % groups or out_channels % groups:
        raise UsageError(
            f"groups {groups} must divide in_channels {in_channels} and out_channels {out_channels}"
        )


def _padding(padding: str | IntOrTriple, *, stride: tuple[int, ...]) -> str | tuple[int, int, int]:
    if not isinstance(padding, str):
        return _triple("padding", padding, low=0)
    if padding not in ("same", "valid"):
        raise UsageError(f"padding is {padding!r}: it is 'same', 'valid' or whole numbers")
    if padding == "same" and stride != (1, 1, 1):
        raise UsageError(f"padding 'same' needs stride 1, got {stride}")
    return padding
