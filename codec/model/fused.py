"""The float model of a segment computed by fused kernels: float32, on the CPU.

The parameters are those of the plain model; every method here has its twin there.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from codec.arch import Architecture
from codec.layers import TemporalAdaptive, TemporalCK
from codec.layers.arm import Arm
from codec.layers.kernels.chain import Channel, Dense, chain
from codec.layers.kernels.conv import convolve
from codec.layers.kernels.filters import apply_ck
from codec.layers.kernels.motion import predict as fused_predict
from codec.layers.kernels.pyramid import descend
from codec.layers.kernels.rate import latent_bits
from codec.layers.kernels.rate_layout import make_layout
from codec.layers.kernels.temporal import apply_adaptive, apply_conv
from codec.layers.upsampling import Level
from codec.model.entropy import EntropyModel
from codec.model.picture import PictureModel, block_order
from codec.model.segment import SegmentModel


class FusedEntropyModel(EntropyModel):
    """Bits of all latents in one pass."""

    def __init__(self, arch: Architecture, *, num_frames: int, height: int, width: int) -> None:
        shape = {"num_frames": num_frames, "height": height, "width": width}
        super().__init__(arch, **shape)
        self.layouts = [make_layout(arch, part, **shape) for _, part in self.arms]

    def forward(self, latents: Sequence[Tensor]) -> Tensor:
        """Total bits of the latents, one (S, h, w) tensor per grid in coding order; a scalar."""
        return sum(
            latent_bits(layout, latents[part.start : part.stop], self._tensors_for(arm))
            for layout, (arm, part) in zip(self.layouts, self.arms, strict=True)
        )

    def _tensors_for(self, arm: Arm) -> dict[str, Tensor]:
        """What the grids of an ARM are coded with, by names that do not say which ARM it is."""
        named = {f"arm.{name}": tensor for name, tensor in arm.tensors().items()}
        return named | (self.ifce_tensors() if arm is self.arm else {})


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
            return apply_ck(x, block.tensors()["taps"], first_lag=block.first_lag)
        apply = apply_adaptive if isinstance(block, TemporalAdaptive) else apply_conv
        return apply(x, **block.tensors(), **block.options())

    def forward(self, latents: Sequence[Tensor], noise: Tensor | None = None) -> Tensor:
        """Latents (and (T, C, H, W) noise planes) -> (T, channels, H, W) samples on [0, 1].

        Unless a temporal layer works at full resolution, features stay at half of it: the first
        layers of the synthesis double them row by row.
        """
        made = self._synthesise_stack(self._stack(latents, noise))
        return self._compose(made, latents) if self.arch.has_motion else made

    def _stack(self, latents: Sequence[Tensor], noise: Tensor | None) -> _Stack:
        """What enters the synthesis."""
        stack = _Stack(self.num_frames, (self.height, self.width))
        if self._needs_whole_features():
            features = self.features(latents)
            whole = features if noise is None else torch.cat([features, noise], dim=1)
            stack.add_plain(whole, 1)
            return stack
        blocks = self._blocks_at(1, latents)
        joining = {g.time_stride for g in self.arch.latent_grids if g.level == 0}
        for stride in block_order({*blocks, *joining}):
            if stride in blocks:
                stack.add_doubled(blocks[stride], stride)
            if stride in joining:
                levels, own = self._joining(stride, range(1), latents)
                stack.add_plain(self._descend(None, levels, own), stride)
        if noise is not None:
            stack.add_plain(noise, 1)
        return stack

    def _predict(self, *args: Tensor | list[int], block_level: int) -> Tensor:
        return fused_predict(*args, block_level=block_level)

    def _filter(self, composed: Tensor) -> Tensor:
        limits = self._limits()[self.arch.num_trunk :]
        frames = [0] * len(composed)
        for conv, own in zip(self.filters, limits, strict=True):
            composed = convolve(
                composed, _stack_kernel(conv), _or_zeros(conv.bias, conv), frames, limits=own
            )
        return composed

    def _needs_whole_features(self) -> bool:
        arch = self.arch
        is_temporal = any(layer.level == 0 for layer in arch.temporal)
        return arch.max_level == 0 or is_temporal or arch.synthesis[0].kernel_space > 1

    def _synthesise_stack(self, stack: _Stack) -> Tensor:
        trunk = self._trunk()
        larger = (i for i, (conv, _, _) in enumerate(trunk) if conv.kernel_size > 1)
        count = next(larger, len(trunk))
        layers = [
            Dense(conv.weight[:, :, 0, 0], bias, conv.kind == "residual", *own)
            for conv, bias, own in trunk[:count]
        ]
        taps = self.upsampling.up["0"] if "0" in self.upsampling.up else torch.zeros(4)
        stabiliser = self.synthesis.stabiliser_branch
        beside = (stabiliser.weight[:, :, 0, 0], _or_zeros(stabiliser.bias, stabiliser))
        y, straight = chain(stack.doubled(), stack.plain(), stack.channels, taps, layers, beside)
        if not count:
            y = stack.plain().unflatten(0, (self.num_frames, -1))
        if count == len(trunk):
            return y + straight
        frames = [0] * self.num_frames
        *inner, last = trunk[count:]
        for conv, bias, own in inner:
            y = convolve(y, _stack_kernel(conv), _or_zeros(bias, conv), frames, limits=own)
        conv, bias, own = last
        bias = _or_zeros(bias, conv)
        return convolve(y, _stack_kernel(conv), bias, frames, limits=own, addend=straight)


class _Stack:
    """The channels that enter the synthesis, as planes of full and of half size."""

    def __init__(self, num_frames: int, size: tuple[int, int]) -> None:
        self.num_frames, self.size = num_frames, size
        self.channels: list[Channel] = []
        self.parts: tuple[list[Tensor], list[Tensor]] = ([], [])

    def _add(self, block: Tensor, time_stride: int, *, is_doubled: bool) -> None:
        parts, count = self.parts[is_doubled], block.shape[1]
        base = sum(map(len, parts))
        slices = [t // time_stride if time_stride else 0 for t in range(self.num_frames)]
        for c in range(count):
            numbers = tuple(base + number * count + c for number in slices)
            self.channels.append(Channel(is_doubled, numbers))
        parts.append(block.flatten(0, 1))

    def add_doubled(self, block: Tensor, time_stride: int) -> None:
        """Channels of a block (S, C, h, w) of half size."""
        self._add(block, time_stride, is_doubled=True)

    def add_plain(self, block: Tensor, time_stride: int) -> None:
        """Channels of a block (S, C, H, W)."""
        self._add(block, time_stride, is_doubled=False)

    def doubled(self) -> Tensor:
        """All planes of half size."""
        return _joined(self.parts[True], (1, 1))

    def plain(self) -> Tensor:
        """All planes of full size."""
        return _joined(self.parts[False], self.size)


def _joined(parts: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
    if not parts:
        return torch.zeros(0, *size)
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))


def _stack_kernel(conv: nn.Module) -> Tensor:
    """The kernel of a layer as one of a stack of frames, (1, out, in, 1, k, k)."""
    return conv.kernel()[None, :, :, None]


def _or_zeros(bias: Tensor | None, conv: nn.Module) -> Tensor:
    return conv.weight.new_zeros(len(conv.weight)) if bias is None else bias


class FusedSegmentModel(SegmentModel):
    """SegmentModel with the fused entropy and picture models."""

    entropy_model = FusedEntropyModel
    picture_model = FusedPictureModel
