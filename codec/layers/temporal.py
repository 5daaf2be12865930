"""Temporal layers of one segment as functions of the tensors that are transmitted for them.

Features x are (T, C, H, W), frames first. Convolutions replicate the edges of time and space.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from codec.errors import UsageError
from codec.layers.adaptive import demodulation
from codec.layers.conv3d import conv_over_taps


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
    """A TemporalAdaptive block from its tensors.

    The code of the output frame modulates all taps:
    y(t) = d(t) · sum_j conv2d((1 + m(t)) x(t + j - kt // 2), W_j), m(t) = code_map @ code(t).

    Args:
        x: (T, in, H, W), T >= 1.
        weight: (out, in, kt, k, k).
        bias, gate: (out,).
        code_map: (in, d).
        codes: (n, d), the codes after the first, which is zero.
        owners: number of the code of each frame, T of them; none if all have code 0.
        demod: whether d(t) scales modulated weights to unit norm; 1 otherwise.
        residual, relu: as in TemporalAdaptive.
        eps: lower bound of a squared norm.

    Returns:
        (T, out, H, W).

    Raises:
        UsageError: shapes that do not fit, or owners that are not T or beyond the codes.
    """
    _check_features(x, weight.shape[1])
    taps = _tap_frames(x, weight.shape[2:4])
    if code_map is None or codes is None or not owners:
        if demod:
            unmodulated = weight.new_ones(weight.shape[1])
            weight = weight * demodulation(weight, unmodulated, eps=eps)[:, None, None, None, None]
        out = conv_over_taps(taps, weight)
    else:
        scale = code_scales(code_map, codes, owners, num_frames=x.shape[0])
        # A product instead of an index: codes that no frame has get gradients of zero.
        member = F.one_hot(torch.tensor(owners, device=x.device), len(scale)).to(scale.dtype)
        per_frame = (member @ scale)[:, :, None, None]
        out = conv_over_taps((frames * per_frame for frames in taps), weight)
        if demod:
            out = out * (member @ demodulation(weight, scale, eps=eps))[:, :, None, None]
    out = out + bias[:, None, None]
    return _finish(out.relu() if relu else out, x, gate=gate, residual=residual)


def apply_ck(x: Tensor, taps: Tensor, *, first_lag: int | None = None) -> Tensor:
    """A TemporalCK block from its taps: y(t) = sum_i taps(i) x(t - first_lag - i), x zero outside.

    Args:
        x: (T, C, H, W), T >= 1.
        taps: (C, n).
        first_lag: lag of the first tap, in frames; by default the middle tap has lag 0.

    Returns:
        (T, C, H, W).

    Raises:
        UsageError: shapes that do not fit.
    """
    _check_features(x, taps.shape[0])
    num_frames, channels = x.shape[:2]
    first = -(taps.shape[1] // 2) if first_lag is None else first_lag
    reach = num_frames - 1
    # A matrix product with the Toeplitz matrix (C, T, T) of each channel's taps is several times
    # faster than a depthwise convolution; taps at lags that no frame has are cropped.
    by_lag = F.pad(taps, (reach + first, reach - (first + taps.shape[1] - 1)))
    toeplitz = by_lag.flip(1).unfold(1, num_frames, 1).flip(1)
    out = toeplitz @ x.transpose(0, 1).reshape(channels, num_frames, -1)
    return out.view(channels, num_frames, *x.shape[2:]).transpose(0, 1)


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
    """A TemporalConv block from its tensors.

    Args:
        x: (T, in, H, W), T >= 1.
        weight: (out, in / groups, kt, k, k).
        bias, gate: (out,).
        dilation, groups, residual, relu: as in TemporalConv.

    Returns:
        (T, out, H, W).

    Raises:
        UsageError: shapes that do not fit.
    """
    _check_features(x, weight.shape[1] * groups)
    taps = _tap_frames(x, weight.shape[2:4], dilation=dilation)
    out = conv_over_taps(taps, weight, dilation=dilation, groups=groups) + bias[:, None, None]
    return _finish(out.relu() if relu else out, x, gate=gate, residual=residual)


def _check_features(x: Tensor, channels: int) -> None:
    if x.ndim != 4 or x.shape[0] < 1 or x.shape[1] != channels:
        raise UsageError(f"a temporal layer expects (T, {channels}, H, W), got {tuple(x.shape)}")


def _tap_frames(x: Tensor, kernel: torch.Size, *, dilation: int = 1) -> Iterator[Tensor]:
    """For each time tap the frames it reads, edges replicated: (T, C, H + 2·pad, W + 2·pad)."""
    num_taps, pad = kernel[0], dilation * (kernel[1] // 2)
    before = dilation * (num_taps // 2)
    padded = F.pad(x, (pad,) * 4, mode="replicate") if pad else x
    if before:
        first = padded[:1].expand(before, -1, -1, -1)
        last = padded[-1:].expand(before, -1, -1, -1)
        padded = torch.cat((first, padded, last))
    for tap in range(num_taps):
        yield padded[tap * dilation : tap * dilation + x.shape[0]]


def code_scales(
    code_map: Tensor, codes: Tensor, owners: Sequence[int], *, num_frames: int
) -> Tensor:
    """1 + m of each code, the zero one first: (n + 1, in).

    Raises:
        UsageError: `owners` are not one for each frame, or beyond the codes.
    """
    if len(owners) != num_frames or not 0 <= min(owners) <= max(owners) <= len(codes):
        raise UsageError(
            f"{num_frames} frames have codes {list(owners)}, the layer has 0 to {len(codes)}"
        )
    return torch.cat((codes.new_zeros(1, codes.shape[1]), codes)) @ code_map.T + 1


def _finish(out: Tensor, x: Tensor, *, gate: Tensor | None, residual: bool) -> Tensor:
    if gate is not None:
        out = out * gate[:, None, None]
    return out + x if residual else out
