"""Synthesis: a small convolutional network from features to pictures, with a linear stabiliser."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from codec.arch import Layer, parse_layer
from codec.errors import UsageError

SYNTHESIS_KINDS = ("linear", "residual")
PARAMETERS = ("weight", "bias")
HIDDEN_BOUND = 0.1


class SynthesisConv2d(nn.Module):
    """2-D convolution with replicate padding: conv(x), or conv(x) + x if residual.

    Biases start at 0. Weights start at 0 if residual (the layer begins as the identity), else
    as U(-a, a) with a = 1 / (out^2 · sqrt(in · k^2)).

    Args:
        in_channels, out_channels: channels; equal if residual.
        kernel_size: odd size k of the square kernel.
        kind: 'linear' or 'residual'.
        bias: whether it has one; `bias` is None without.

    Raises:
        UsageError: an argument, or the shape of an input, that does not fit.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        kind: str = "linear",
        bias: bool = True,
    ) -> None:
        super().__init__()
        if min(in_channels, out_channels) < 1 or kernel_size < 1 or kernel_size % 2 == 0:
            raise UsageError(
                f"a synthesis layer has at least 1 channel and an odd kernel, got {in_channels} to "
                f"{out_channels} channels, kernel {kernel_size}"
            )
        if kind not in SYNTHESIS_KINDS:
            raise UsageError(f"a synthesis layer is {' or '.join(SYNTHESIS_KINDS)}, not {kind!r}")
        if kind == "residual" and in_channels != out_channels:
            raise UsageError(
                f"a residual layer keeps the number of channels: {in_channels} come in, "
                f"so {out_channels} cannot go out"
            )
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel_size, self.kind = kernel_size, kind
        shape = (out_channels, in_channels, kernel_size, kernel_size)
        self.weight = nn.Parameter(torch.empty(shape))
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the initial values again."""
        if self.bias is not None:
            nn.init.zeros_(self.bias)
        if self.kind == "residual":
            nn.init.zeros_(self.weight)
            return
        fan_in = self.in_channels * self.kernel_size**2
        bound = 1 / (self.out_channels**2 * math.sqrt(fan_in))
        nn.init.uniform_(self.weight, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) to (B, out_channels, H, W).

        Raises:
            UsageError: another number of channels.
        """
        if x.ndim != 4 or x.shape[1] != self.in_channels:
            raise UsageError(
                f"the synthesis layer expects (B, {self.in_channels}, H, W), got {tuple(x.shape)}"
            )
        return replicate_conv2d(x, self.kernel(), self.bias)

    def kernel(self) -> Tensor:
        """What the convolution is with, (out, in, k, k): of a residual layer, the sum included."""
        if self.kind != "residual":
            return self.weight
        return self.weight + identity_kernel(self.weight)

    def extra_repr(self) -> str:
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, "
            f"kind={self.kind!r}"
        )


class DifferenceConv2d(nn.Module):
    """A filter that leaves constant pictures as they are: x + sum of w_k (x_k - x), no bias.

    x_k are the samples around x in all channels, edges replicated, as in the adaptive loop filter
    of VVC. Weights (out, in, k^2 - 1) are those of the square in raster order without its centre;
    they start at 0.

    Args:
        channels: that come in and go out.
        kernel_size: odd size k of the square kernel, 3 at least.
    """

    def __init__(self, channels: int, kernel_size: int) -> None:
        super().__init__()
        self.channels, self.kernel_size = channels, kernel_size
        self.weight = nn.Parameter(torch.zeros(channels, channels, kernel_size**2 - 1))
        self.bias = None

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) to the same."""
        return replicate_conv2d(x, self.kernel(), None)

    def kernel(self) -> Tensor:
        """What the convolution is with, (channels, channels, k, k)."""
        centre, side = self.weight.shape[2] // 2, self.kernel_size
        before, behind = self.weight[..., :centre], self.weight[..., centre:]
        whole = torch.cat([before, -self.weight.sum(2, keepdim=True), behind], dim=2)
        whole = whole.unflatten(2, (side, side))
        return whole + identity_kernel(whole)

    def extra_repr(self) -> str:
        return f"{self.channels}, kernel_size={self.kernel_size}"


class Synthesis(nn.Module):
    """Trunk of layers plus a parallel linear stabiliser: y = trunk(x) + stabiliser(x).

    Each trunk layer is a SynthesisConv2d and its non-linearity, which comes after the residual
    sum. The stabiliser is one 1x1 layer from inputs to outputs. Where the first layer is 1x1 with a
    ReLU and there is no noise, each of its units starts with one weight for all inputs.

    Args:
        input_ft: input channels, the common-randomness half included.
        layers: descriptions such as `48-1-linear-relu` or `3-3-residual-none`, or parsed Layers.
        flag_linear_stabiliser: whether there is a stabiliser.
        flag_common_randomness: whether the second half of the inputs is noise; the stabiliser
            does not see it.
        is_balanced: whether the last layer has, instead of a parameter, the bias with which inputs
            of zero make zero, and the stabiliser has none. The layers are 1x1 then.

    Attributes:
        main_branch: layer i is at 2i, its non-linearity at 2i + 1.
        stabiliser_branch: the stabiliser, or None.

    Raises:
        NotationError: a description that does not parse.
        UsageError: no layers, temporal ones, or channels that do not fit.
    """

    def __init__(
        self,
        input_ft: int,
        layers: Sequence[str | Layer],
        flag_linear_stabiliser: bool = True,
        flag_common_randomness: bool = False,
        is_balanced: bool = False,
    ) -> None:
        super().__init__()
        parsed = [parse_layer(layer) if isinstance(layer, str) else layer for layer in layers]
        if not parsed:
            raise UsageError("a synthesis needs at least one layer")
        if flag_common_randomness and input_ft % 2:
            raise UsageError(
                f"with common randomness half of the inputs are noise: input_ft {input_ft} is odd"
            )
        self.input_ft, self.output_ft = input_ft, parsed[-1].out
        self.flag_linear_stabiliser = flag_linear_stabiliser
        self.flag_common_randomness = flag_common_randomness
        self.stabiliser_ft = input_ft // 2 if flag_common_randomness else input_ft
        self.stabiliser_branch = (
            SynthesisConv2d(self.stabiliser_ft, self.output_ft, 1, bias=not is_balanced)
            if flag_linear_stabiliser
            else None
        )
        self.is_balanced = is_balanced
        self.main_branch = nn.Sequential(*_trunk(input_ft, parsed, is_balanced))
        if parsed[0].makes_units and not flag_common_randomness:
            self._start_alike()

    @torch.no_grad()
    def _start_alike(self) -> None:
        """Give each unit of the first layer one weight for all inputs, of at most HIDDEN_BOUND.

        Inputs that the units hardly see at first are left behind: nothing asks for latents there,
        and zeros ask for no weights (docs/experiments.md, "grids that were left behind").
        """
        weight = self.main_branch[0].weight
        each = torch.empty(len(weight), 1, 1, 1).uniform_(-HIDDEN_BOUND, HIDDEN_BOUND)
        weight.copy_(each.expand_as(weight))

    def forward(self, x: Tensor) -> Tensor:
        """(B, input_ft, H, W) to (B, output_ft, H, W).

        Raises:
            UsageError: another number of channels.
        """
        if x.ndim != 4 or x.shape[1] != self.input_ft:
            raise UsageError(
                f"the synthesis expects (B, {self.input_ft}, H, W), got {tuple(x.shape)}"
            )
        y, branch = x, self.main_branch
        for conv, act, bias in zip(branch[::2], branch[1::2], self.biases(), strict=True):
            y = act(replicate_conv2d(y, conv.kernel(), bias))
        if self.stabiliser_branch is None:
            return y
        return y + self.stabiliser_branch(x[:, : self.stabiliser_ft])

    def biases(self, limit: float = math.inf) -> list[Tensor | None]:
        """Of each layer, whose outputs are held to +-limit; the last one may follow from others."""
        biases = [conv.bias for conv in self.main_branch[::2]]
        if self.is_balanced:
            biases[-1] = self._balancing_bias(limit)
        return biases

    def _balancing_bias(self, limit: float) -> Tensor:
        *inner, last = self.main_branch[::2]
        hidden = last.weight.new_zeros(self.input_ft)
        for conv, act in zip(inner, self.main_branch[1::2], strict=False):
            hidden = act(conv.kernel()[:, :, 0, 0] @ hidden + conv.bias).clamp(-limit, limit)
        return -(last.kernel()[:, :, 0, 0] @ hidden)

    def get_param(self, which: str | None = None) -> OrderedDict[str, Tensor]:
        """Copies of the parameters by name, in order: all, or the weights or biases only.

        Raises:
            UsageError: `which` is not None, 'weight' or 'bias'.
        """
        if which is not None and which not in PARAMETERS:
            raise UsageError(f"get_param gives 'weight', 'bias' or all (None), not {which!r}")
        return OrderedDict(
            (name, value.detach().clone())
            for name, value in self.named_parameters()
            if which is None or name.endswith(which)
        )


def identity_kernel(like: Tensor) -> Tensor:
    """The kernel (channels, channels, k, k) that changes nothing."""
    kernel = torch.zeros_like(like)
    middle = kernel.shape[-1] // 2
    kernel[:, :, middle, middle] = torch.eye(len(kernel), dtype=like.dtype, device=like.device)
    return kernel


def make_layer(layer: Layer, in_channels: int, *, bias: bool = True) -> nn.Module:
    """The module of one layer of a synthesis, without its non-linearity."""
    if layer.kind == "difference":
        return DifferenceConv2d(layer.out, layer.kernel_space)
    return SynthesisConv2d(in_channels, layer.out, layer.kernel_space, kind=layer.kind, bias=bias)


def replicate_conv2d(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Convolution of the same size as its input, edges replicated.

    Args:
        x: (B, in, H, W).
        weight: (out, in, k, k), k odd.
        bias: (out,).

    Returns:
        (B, out, H, W).
    """
    pad = weight.shape[-1] // 2
    padded = F.pad(x, (pad,) * 4, mode="replicate") if pad else x
    return F.conv2d(padded, weight, bias)


def _trunk(input_ft: int, layers: Sequence[Layer], is_balanced: bool) -> list[nn.Module]:
    modules: list[nn.Module] = []
    for index, layer in enumerate(layers):
        if layer.is_temporal:
            raise UsageError(f"synthesis layer {index + 1} is a temporal ({layer.kind}) layer")
        bias = not is_balanced or index < len(layers) - 1
        act = nn.ReLU() if layer.relu else nn.Identity()
        modules += [make_layer(layer, input_ft, bias=bias), act]
        input_ft = layer.out
    return modules
