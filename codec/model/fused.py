"""The float model of a segment computed by fused kernels: float32, on the CPU.

The parameters are those of the plain model; every method here has its twin there.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from codec.arch import Architecture
from codec.arch.network import CONTEXT_ORDER
from codec.layers import TemporalAdaptive, TemporalCK
from codec.layers.kernels.chain import Dense, chain
from codec.layers.kernels.conv import convolve
from codec.layers.kernels.pyramid import descend
from codec.layers.kernels.rate import latent_bits
from codec.layers.kernels.rate_layout import make_layout
from codec.layers.kernels.temporal import apply_adaptive, apply_conv
from codec.layers.synthesis import SynthesisConv2d
from codec.layers.upsampling import Level
from codec.model.entropy import EntropyModel
from codec.model.picture import PictureModel
from codec.model.segment import SegmentModel


class FusedEntropyModel(EntropyModel):
    """Bits of all latents in one pass."""

    def __init__(self, arch: Architecture, *, num_frames: int, height: int, width: int) -> None:
        shape = {"num_frames": num_frames, "height": height, "width": width}
        super().__init__(arch, **shape)
        contexts = np.array(CONTEXT_ORDER[: arch.num_contexts], np.int64)
        self.layout = make_layout(arch, contexts, **shape)

    def forward(self, latents: Sequence[Tensor]) -> Tensor:
        """Total bits of the latents, one (S, h, w) tensor per grid in coding order; a scalar."""
        return latent_bits(self.layout, latents, self.tensors())


class FusedPictureModel(PictureModel):
    """Upsampling, temporal convolutions and synthesis as kernels."""

    def _descend(
        self, block: Tensor | None, levels: Sequence[Level], latents: Sequence[Tensor]
    ) -> Tensor:
        taps = self.upsampling.tensors()
        used = {name for level in levels for name in (f"up.{level.level}", f"pre.{level.level}")}
        return descend(block, levels, latents, {n: t for n, t in taps.items() if n in used})

    def _run_temporal(self, index: int, x: Tensor) -> Tensor:
        block = self.temporal[index]
        if isinstance(block, TemporalCK):
            return block(x)
        apply = apply_adaptive if isinstance(block, TemporalAdaptive) else apply_conv
        return apply(x, **block.tensors(), **block.options())

    def synthesise(self, features: Tensor) -> Tensor:
        """(T, inputs, H, W) features (and noise planes) -> (T, channels, H, W), about [0, 1]."""
        limit = self.numerics.synth_limit
        convs = list(self.synthesis.main_branch)[::2]
        limits = [(0.0 if layer.relu else -limit, limit) for layer in self.arch.synthesis]
        count = next((i for i, conv in enumerate(convs) if conv.kernel_size > 1), len(convs))
        layers = [
            Dense(conv.weight[:, :, 0, 0], conv.bias, conv.kind == "residual", *limits[i])
            for i, conv in enumerate(convs[:count])
        ]
        stabiliser = self.synthesis.stabiliser_branch
        y, straight = chain(features, layers, (stabiliser.weight[:, :, 0, 0], stabiliser.bias))
        frames = [0] * features.shape[0]
        for conv, own in zip(convs[count:], limits[count:], strict=True):
            y = convolve(y, _weights(conv), conv.bias, frames, limits=own)
        return y + straight


def _weights(conv: SynthesisConv2d) -> Tensor:
    """Weights (1, out, in, 1, k, k) with the skip of a residual layer as a weight of one."""
    weight = conv.weight
    if conv.kind == "residual":
        identity = torch.zeros_like(weight)
        middle = conv.kernel_size // 2
        identity[:, :, middle, middle] = torch.eye(len(weight))
        weight = weight + identity
    return weight[None, :, :, None]


class FusedSegmentModel(SegmentModel):
    """SegmentModel with the fused entropy and picture models."""

    entropy_model = FusedEntropyModel
    picture_model = FusedPictureModel
