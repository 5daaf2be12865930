"""3-D convolution whose weights are modulated by a code and demodulated (StyleGAN2, in time)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from codec.errors import UsageError
from codec.layers.conv3d import conv_over_taps


class AdaptiveConv3DMod(nn.Module):
    """Shared 3-D convolution, its weights scaled by a code per input channel.

    W'(o, i, k) = W(o, i, k) · (1 + mod_i), then, with `demod`,
    W'(o) · rsqrt(max(sum_{i,k} W'(o, i, k)^2, eps)). No bias; output of the input's size.

    The modulated weights are never built. The form in use is
    conv(W', x) = d_o · conv(W, (1 + mod_i) x_i), one convolution whatever the batch.

    Args:
        dim: input channels C.
        spatial_kernel, time_kernel: odd kernel sizes.
        dim_out: output channels; `dim` by default.
        demod: whether each output channel's weights are scaled to unit norm.
        eps: lower bound of the squared norm.

    Attributes:
        weights: (dim_out, dim, time_kernel, spatial_kernel, spatial_kernel), normal with standard
            deviation 0.75 / sqrt(fan in).
        padding: zeros added (left, right, top, bottom, before, after).

    Raises:
        UsageError: an even kernel, a channel count below 1, or shapes that do not fit.
    """

    def __init__(
        self,
        dim: int,
        *,
        spatial_kernel: int,
        time_kernel: int,
        dim_out: int | None = None,
        demod: bool = True,
        eps: float = 1e-8,
    ) -> None:
        super().__init__()
        dim_out = dim if dim_out is None else dim_out
        for name, size in (("spatial_kernel", spatial_kernel), ("time_kernel", time_kernel)):
            if size < 1 or size % 2 == 0:
                raise UsageError(f"{name} is {size}: it must be odd")
        if min(dim, dim_out) < 1:
            raise UsageError(f"dim {dim} and dim_out {dim_out} must be at least 1")
        self.dim, self.dim_out = dim, dim_out
        self.spatial_kernel, self.time_kernel = spatial_kernel, time_kernel
        self.demod, self.eps = demod, eps
        self.padding = (spatial_kernel // 2,) * 4 + (time_kernel // 2,) * 2
        shape = (dim_out, dim, time_kernel, spatial_kernel, spatial_kernel)
        self.weights = nn.Parameter(torch.empty(shape))
        nn.init.kaiming_normal_(self.weights, mode="fan_in", nonlinearity="selu")

    def forward(self, fmap: Tensor, mod: Tensor | None = None) -> Tensor:
        """One code per sample: fmap (B, C, T, H, W), mod (B, C) or None to (B, dim_out, T, H, W).

        Raises:
            UsageError: a shape that does not fit.
        """
        self._check(fmap)
        if mod is None:
            scale = fmap.new_ones(1, self.dim)
        elif mod.shape == fmap.shape[:2]:
            scale = mod + 1
            fmap = fmap * scale[:, :, None, None, None]
        else:
            raise UsageError(f"mod must be {tuple(fmap.shape[:2])}, got {tuple(mod.shape)}")
        out = F.conv3d(F.pad(fmap, self.padding), self.weights)
        if not self.demod:
            return out
        return out * demodulation(self.weights, scale, eps=self.eps)[:, :, None, None, None]

    def forward_per_frame(self, fmap: Tensor, mod: Tensor) -> Tensor:
        """One code per sample and output frame: fmap (B, C, T, H, W), mod (B, C, T).

        Frame t of the output is that of `forward` with code mod[:, :, t]: the code of the output
        frame modulates all taps.

        Raises:
            UsageError: a shape that does not fit.
        """
        self._check(fmap)
        batch, num_frames = fmap.shape[0], fmap.shape[2]
        if mod.shape != fmap.shape[:3]:
            raise UsageError(f"mod must be {tuple(fmap.shape[:3])}, got {tuple(mod.shape)}")
        padded = F.pad(fmap, self.padding).transpose(1, 2)
        scale = mod.transpose(1, 2) + 1
        taps = (
            (padded[:, j : j + num_frames] * scale[..., None, None]).flatten(0, 1)
            for j in range(self.time_kernel)
        )
        out = conv_over_taps(taps, self.weights).unflatten(0, (batch, num_frames))
        if self.demod:
            out = out * demodulation(self.weights, scale, eps=self.eps)[..., None, None]
        return out.transpose(1, 2)

    def extra_repr(self) -> str:
        return (
            f"dim={self.dim}, dim_out={self.dim_out}, spatial_kernel={self.spatial_kernel}, "
            f"time_kernel={self.time_kernel}, demod={self.demod}, eps={self.eps}"
        )

    def _check(self, fmap: Tensor) -> None:
        if fmap.ndim != 5 or fmap.shape[1] != self.dim:
            raise UsageError(
                f"AdaptiveConv3DMod expects (B, {self.dim}, T, H, W), got {tuple(fmap.shape)}"
            )


def demodulation(weights: Tensor, scale: Tensor, *, eps: float = 1e-8) -> Tensor:
    """d_o = rsqrt(max(sum_i scale_i^2 · sum_k weights(o, i, k)^2, eps)).

    Args:
        weights: (out, in, kernel_time, k, k).
        scale: (..., in), that is 1 + mod.
        eps: lower bound of the squared norm.

    Returns:
        (..., out).
    """
    energy = weights.square().sum(dim=(2, 3, 4))
    return (scale.square() @ energy.T).clamp(min=eps).rsqrt()
