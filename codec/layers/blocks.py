"""Temporal layers of one segment as modules: their parameters and what is transmitted of them.

A block works on features x (T, C, H, W), frames first. Its `tensors()` are what the stream carries;
`forward_with` computes it from any such tensors, so that rounded ones meet the same mathematics.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from codec.errors import UsageError
from codec.layers.adaptive import AdaptiveConv3DMod
from codec.layers.ckconv import SIREN, CKConvND
from codec.layers.conv3d import Conv3d
from codec.layers.temporal import apply_adaptive, apply_ck, apply_conv

CODE_STD = 0.1


class TemporalAdaptive(nn.Module):
    """AdaptiveConv3DMod with bias, activation, gate and skip, its codes held in time.

    y = gate ⊙ act(conv(x; W, 1 + m) + bias) (+ x), m(t) = code_map @ code(owners(t)).
    Code 0 is tied to zero; the others start small and random, the map and the gate at zero.

    Args:
        dim: input channels.
        dim_out: output channels; `dim` by default.
        spatial_kernel, time_kernel: odd kernel sizes.
        demod: whether the modulated weights of an output channel are scaled to unit norm.
        residual: whether x is added; then `dim_out` is `dim`.
        gated: whether there is a learned gain for each output channel.
        relu: whether the activation is a ReLU; none otherwise.
        code_dim: numbers in a code; 0 for no modulation.
        owners: number of the code of each frame that comes in; none if all have code 0.
        num_codes: codes of the whole segment, also those that none of these frames has.

    Raises:
        UsageError: an argument, or the shape of an input, that does not fit.
    """

    def __init__(
        self,
        dim: int,
        *,
        spatial_kernel: int,
        time_kernel: int,
        dim_out: int | None = None,
        demod: bool = True,
        residual: bool = False,
        gated: bool = False,
        relu: bool = False,
        code_dim: int = 0,
        owners: Sequence[int] = (),
        num_codes: int = 1,
    ) -> None:
        super().__init__()
        dim_out = dim if dim_out is None else dim_out
        _check_skip(dim, dim_out, residual=residual)
        if code_dim < 0 or num_codes < 1:
            raise UsageError(
                f"code_dim {code_dim} must be at least 0, num_codes {num_codes} at least 1"
            )
        self.conv = AdaptiveConv3DMod(
            dim,
            spatial_kernel=spatial_kernel,
            time_kernel=time_kernel,
            dim_out=dim_out,
            demod=demod,
        )
        self.residual, self.relu, self.owners = residual, relu, tuple(owners)
        self.bias = nn.Parameter(torch.zeros(dim_out))
        self.gate = nn.Parameter(torch.zeros(dim_out)) if gated else None
        self.code_map = nn.Parameter(torch.zeros(dim, code_dim)) if code_dim else None
        # The map starts at zero, so the codes must not: the gradient of a product of zeros is zero.
        codes = torch.randn(num_codes - 1, code_dim) * CODE_STD
        self.codes = nn.Parameter(codes) if code_dim else None

    def tensors(self) -> dict[str, Tensor]:
        """'weight' (out, in, kt, k, k) and 'bias' (out); if gated, 'gate' (out).

        If modulated, 'code_map' (in, d) and 'codes' (n, d), which leaves out code 0.
        """
        named = {
            "weight": self.conv.weights,
            "bias": self.bias,
            "gate": self.gate,
            "code_map": self.code_map,
            "codes": self.codes,
        }
        return {name: tensor for name, tensor in named.items() if tensor is not None}

    def forward(self, x: Tensor) -> Tensor:
        """(T, dim, H, W) to (T, dim_out, H, W)."""
        return self.forward_with(x, self.tensors())

    def forward_with(self, x: Tensor, tensors: Mapping[str, Tensor]) -> Tensor:
        """The block with `tensors` (keys and shapes of `tensors()`) in place of its own."""
        return apply_adaptive(x, **tensors, **self.options())

    def options(self) -> dict[str, tuple[int, ...] | bool]:
        """What `apply_adaptive` must know beside the tensors."""
        return {
            "owners": self.owners,
            "demod": self.conv.demod,
            "residual": self.residual,
            "relu": self.relu,
        }


class TemporalCK(nn.Module):
    """CKConvND along time, as taps by lag in frames: y(t) = sum_lag taps(lag) x(t - lag).

    Frames outside the segment count as zero. The block starts as the identity: the network of the
    kernel gives zero, the shortcut is one.

    Args:
        dim: channels.
        time_kernel: odd number of taps 2L + 1, lags -L to L.
        is_causal: whether lags below 0 are zero.
        num_frames: frames of the longest segment; taps it cannot reach are zero and cost nothing.

    Raises:
        UsageError: an argument, or the shape of an input, that does not fit.
    """

    def __init__(
        self, dim: int, *, time_kernel: int, is_causal: bool = False, num_frames: int = 256
    ) -> None:
        super().__init__()
        if time_kernel < 1 or time_kernel % 2 == 0 or num_frames < 1:
            raise UsageError(
                f"time_kernel {time_kernel} must be odd and num_frames {num_frames} at least 1"
            )
        self.max_lag, self.num_frames = time_kernel // 2, num_frames
        # Frequencies up to one cycle in two frames, the highest that taps can hold.
        siren = SIREN(1, dim, omega_0=max(1.0, self.max_lag / 2), length=time_kernel)
        nn.init.zeros_(siren.out.weight)
        self.ck = CKConvND(1, dim, kernel=siren, is_causal=is_causal)
        nn.init.ones_(self.ck.shortcut)

    @property
    def first_lag(self) -> int:
        """Lag of the first transmitted tap: -L, or 0 if causal."""
        return 0 if self.ck.is_causal else -self.max_lag

    def taps(self) -> Tensor:
        """The taps in effect, shortcut included, by lag from -L to L: (C, 2L + 1)."""
        return F.pad(self.tensors()["taps"], (self.max_lag + self.first_lag, 0))

    def tensors(self) -> dict[str, Tensor]:
        """'taps' (C, 2L + 1) by lag from -L to L, or (C, L + 1) from 0 to L if causal."""
        kernel = self.ck.kernel_values((self.max_lag + 1,))
        lags = torch.arange(self.first_lag, self.max_lag + 1, device=kernel.device)
        centre = (lags == 0).to(kernel.dtype)
        reached = (lags.abs() < self.num_frames).to(kernel.dtype)
        return {"taps": kernel * reached + self.ck.shortcut[:, None] * centre}

    def forward(self, x: Tensor) -> Tensor:
        """(T, dim, H, W) to (T, dim, H, W)."""
        return self.forward_with(x, self.tensors())

    def forward_with(self, x: Tensor, tensors: Mapping[str, Tensor]) -> Tensor:
        """The block with `tensors` (keys and shapes of `tensors()`) in place of its own."""
        return apply_ck(x, tensors["taps"], first_lag=self.first_lag)


class TemporalConv(nn.Module):
    """Conv3d of stride 1 with replicated edges, activation, gate and skip.

    y = gate ⊙ act(conv(x) + bias) (+ x); the gate starts at zero.

    Args:
        dim: input channels.
        dim_out: output channels; `dim` by default.
        spatial_kernel, time_kernel: odd kernel sizes.
        dilation: between taps, in time and space.
        groups: independent blocks of channels; `dim` for depthwise.
        residual: whether x is added; then `dim_out` is `dim`.
        gated: whether there is a learned gain for each output channel.
        relu: whether the activation is a ReLU; none otherwise.

    Raises:
        UsageError: an argument, or the shape of an input, that does not fit.
    """

    def __init__(
        self,
        dim: int,
        *,
        spatial_kernel: int,
        time_kernel: int,
        dim_out: int | None = None,
        dilation: int = 1,
        groups: int = 1,
        residual: bool = False,
        gated: bool = False,
        relu: bool = False,
    ) -> None:
        super().__init__()
        dim_out = dim if dim_out is None else dim_out
        _check_skip(dim, dim_out, residual=residual)
        if spatial_kernel % 2 == 0 or time_kernel % 2 == 0:
            raise UsageError(
                f"spatial_kernel {spatial_kernel} and time_kernel {time_kernel} must be odd kernels"
            )
        self.conv = Conv3d(
            dim,
            dim_out,
            (time_kernel, spatial_kernel, spatial_kernel),
            padding="same",
            dilation=dilation,
            groups=groups,
            padding_mode="replicate",
        )
        self.residual, self.relu = residual, relu
        self.gate = nn.Parameter(torch.zeros(dim_out)) if gated else None

    def tensors(self) -> dict[str, Tensor]:
        """'weight' (out, in / groups, kt, k, k), 'bias' (out) and, if gated, 'gate' (out)."""
        named = {"weight": self.conv.weight, "bias": self.conv.bias, "gate": self.gate}
        return {name: tensor for name, tensor in named.items() if tensor is not None}

    def forward(self, x: Tensor) -> Tensor:
        """(T, dim, H, W) to (T, dim_out, H, W)."""
        return self.forward_with(x, self.tensors())

    def forward_with(self, x: Tensor, tensors: Mapping[str, Tensor]) -> Tensor:
        """The block with `tensors` (keys and shapes of `tensors()`) in place of its own."""
        return apply_conv(x, **tensors, **self.options())

    def options(self) -> dict[str, int | bool]:
        """What `apply_conv` must know beside the tensors."""
        return {
            "dilation": self.conv.dilation[0],
            "groups": self.conv.groups,
            "residual": self.residual,
            "relu": self.relu,
        }


def _check_skip(dim: int, dim_out: int, *, residual: bool) -> None:
    if residual and dim != dim_out:
        raise UsageError(
            f"a residual layer keeps the number of channels: {dim} come in, "
            f"so {dim_out} cannot go out"
        )
