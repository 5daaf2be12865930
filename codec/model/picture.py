"""From latents to picture channels: upsampling pyramid, temporal layers, synthesis."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from codec.arch import (
    Architecture,
    Numerics,
    Prediction,
    code_owners,
    frames_of,
    grid_shape,
    motion_grids,
    num_codes,
    pre_levels,
    synthesis_inputs,
    temporal_at,
    temporal_inputs,
    up_stages,
)
from codec.arch.network import NUM_WEIGHTS
from codec.layers import Synthesis, TemporalAdaptive, TemporalCK, TemporalConv
from codec.layers.motion import motion_vectors, predict, split_vectors
from codec.layers.synthesis import make_layer, replicate_conv2d
from codec.layers.upsampling import Level, Upsampling

Blocks = dict[int, Tensor]


def build_temporal(
    arch: Architecture, index: int, *, prediction: Prediction, segment_frames: int
) -> nn.Module:
    """The block of one temporal layer for these levels of a segment of `segment_frames` frames.

    Its parameters have the shapes that they have for the whole segment.
    """
    layer, inputs = arch.temporal[index], temporal_inputs(arch, index)
    if layer.kind == "ck":
        return TemporalCK(
            inputs, time_kernel=layer.kernel_time, is_causal=layer.causal, num_frames=segment_frames
        )
    common = {
        "dim_out": layer.out,
        "spatial_kernel": layer.kernel_space,
        "time_kernel": layer.kernel_time,
        "residual": layer.res,
        "gated": layer.gate,
        "relu": layer.relu,
    }
    if layer.kind == "conv":
        groups = layer.groups or inputs
        return TemporalConv(inputs, **common, groups=groups, dilation=layer.dilation)
    return TemporalAdaptive(
        inputs,
        **common,
        demod=layer.demod,
        code_dim=layer.code,
        owners=code_owners(layer, prediction),
        num_codes=num_codes(layer, segment_frames, arch.anchor_span),
    )


def build_filters(arch: Architecture) -> nn.ModuleList:
    """The layers of the synthesis behind the prediction; none without motion."""
    return nn.ModuleList(
        make_layer(layer, synthesis_inputs(arch, i))
        for i, layer in enumerate(arch.synthesis)
        if i >= arch.num_trunk
    )


def expand_frames(block: Tensor, time_stride: int, num_frames: int) -> Tensor:
    """(S, C, h, w) slices -> (T, C, h, w): frame t has slice floor(t / stride), 0 if static."""
    if time_stride == 1:
        return block
    if time_stride == 0:
        return block.expand(num_frames, -1, -1, -1)
    return block.repeat_interleave(time_stride, dim=0)[:num_frames]


def block_order(strides: Iterable[int]) -> list[int]:
    """Time strides in the order of their channels: static, then slow, then dynamic ones."""
    return sorted(strides, key=lambda stride: -stride if stride else -(1 << 30))


def stack_frames(blocks: Blocks, num_frames: int) -> Tensor:
    """All blocks as one (T, C, h, w), in the order of `block_order`."""
    order = block_order(blocks)
    parts = [expand_frames(blocks[stride], stride, num_frames) for stride in order]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def _picked(parts: Sequence[Tensor] | Mapping[int, Tensor], numbers: Iterable[int]) -> Tensor:
    """Some of the parts as one tensor, along a new first axis."""
    return torch.stack([parts[number] for number in numbers])


class PictureModel(nn.Module):
    """Everything after the entropy decoder, in float.

    Temporal and synthesis layers saturate, at the limits of the widest feature format.
    Interpolation and the filters before joining do not, which would cost a pass over all features.
    What a narrower format cuts off is measured when the network is frozen, which chooses the
    format.

    The frames are those of the first levels of a segment of `segment_frames` frames where
    `prediction` is given, otherwise all of it.
    """

    def __init__(
        self,
        arch: Architecture,
        *,
        numerics: Numerics,
        num_frames: int,
        height: int,
        width: int,
        prediction: Prediction = (),
        segment_frames: int = 0,
    ) -> None:
        super().__init__()
        self.arch, self.numerics = arch, numerics
        self.prediction = prediction or arch.prediction(num_frames)
        self.num_frames, self.height, self.width = num_frames, height, width
        self.upsampling = Upsampling(
            up_taps=arch.up_taps,
            pre_taps=arch.pre_taps,
            stages=up_stages(arch),
            filtered=pre_levels(arch),
        )
        self.temporal = nn.ModuleList(
            build_temporal(
                arch,
                i,
                prediction=self.prediction,
                segment_frames=segment_frames or num_frames,
            )
            for i in range(len(arch.temporal))
        )
        self.synthesis = Synthesis(
            arch.num_inputs,
            arch.synthesis[: arch.num_trunk],
            flag_common_randomness=arch.common_randomness,
            is_balanced=arch.has_motion,
        ).to(memory_format=torch.channels_last)
        self.filters = build_filters(arch)

    def features(self, latents: Sequence[Tensor]) -> Tensor:
        """(S, h, w) latents of every grid -> (T, C, H, W) features, before the noise planes."""
        return stack_frames(self._blocks_at(0, latents), self.num_frames)

    def _blocks_at(self, end: int, latents: Sequence[Tensor]) -> Blocks:
        """Features at level `end` by time stride, behind the temporal layers there."""
        arch, blocks, above = self.arch, Blocks(), self.arch.max_level + 1
        stops = {layer.level for layer in arch.temporal if layer.level > end} | {end}
        for last in sorted(stops, reverse=True):
            levels = range(above - 1, last - 1, -1)
            joining = {grid.time_stride for grid in arch.latent_grids if grid.level in levels}
            blocks = {
                stride: self._descend(blocks.get(stride), *self._joining(stride, levels, latents))
                for stride in {*blocks, *joining}
            }
            for index in temporal_at(arch, last):
                x = stack_frames(blocks, self.num_frames)
                limit = self.numerics.feature_limit
                blocks = {1: F.hardtanh(self._run_temporal(index, x), -limit, limit)}
            above = last
        return blocks

    def _joining(
        self, stride: int, levels: range, latents: Sequence[Tensor]
    ) -> tuple[list[Level], list[Tensor]]:
        """The levels of a descent, and the latents of this time stride that join there."""
        grids = list(zip(self.arch.grids, latents, strict=True))
        steps, joining = [], []
        for level in levels:
            own = [
                x for g, x in grids if (g.level, g.time_stride, g.hyper) == (level, stride, False)
            ]
            size = (-(-self.height >> level), -(-self.width >> level))
            steps.append(Level(level, *size, len(own)))
            joining += own
        return steps, joining

    def _descend(
        self, block: Tensor | None, levels: Sequence[Level], latents: Sequence[Tensor]
    ) -> Tensor:
        return self.upsampling.descend(block, levels, latents)

    def _run_temporal(self, index: int, x: Tensor) -> Tensor:
        return self.temporal[index](x)

    def synthesise(self, features: Tensor) -> Tensor:
        """(T, inputs, H, W) features (and noise planes) -> (T, num_straight, H, W)."""
        features = features.contiguous(memory_format=torch.channels_last)
        y = features
        for conv, bias, limits in self._trunk():
            y = F.hardtanh(replicate_conv2d(y, conv.kernel(), bias), *limits)
        stabiliser = self.synthesis.stabiliser_branch
        return y + stabiliser(features[:, : self.synthesis.stabiliser_ft])

    def _trunk(self) -> list[tuple[nn.Module, Tensor, tuple[float, float]]]:
        """The layers of the trunk, with their biases and limits."""
        convs = self.synthesis.main_branch[::2]
        biases = self.synthesis.biases(self.numerics.synth_limit)
        return list(zip(convs, biases, self._limits()[: len(convs)], strict=True))

    def _limits(self) -> list[tuple[float, float]]:
        """What each layer of the synthesis is held to."""
        limit = self.numerics.synth_limit
        return [(0.0 if layer.relu else -limit, limit) for layer in self.arch.synthesis]

    def _compose(self, trunk: Tensor, latents: Sequence[Tensor]) -> Tensor:
        """Pictures (T, C, H, W) from what the trunk made, each predicted from earlier ones."""
        # Parts of an indexed tensor would each make a gradient of its whole size.
        trunks, vectors = trunk.unbind(), self._vectors(latents).unbind()
        frames = frames_of(self.prediction)
        place = {frame: t for t, frame in enumerate(frames)}
        pictures: dict[int, Tensor] = {}
        references: dict[int, Tensor] = {}
        for level in self.prediction:
            own = [place[inter.frame] for inter in level]
            used = sorted({frame for inter in level for frame in inter[1:]} - {-1})
            number = {frame: i for i, frame in enumerate(used)} | {-1: -1}
            for frame in used:
                if frame not in references:
                    references[frame] = F.hardtanh(pictures[frame], 0.0, 1.0)
            composed = self._predict(
                _picked(trunks, own),
                _picked(references, used) if used else trunk[:0, :-NUM_WEIGHTS],
                [number[inter.past] for inter in level],
                [number[inter.future] for inter in level],
                *split_vectors(_picked(vectors, own), [inter.ratio_q8 for inter in level]),
                block_level=self.arch.block_level,
            )
            for inter, picture in zip(level, self._filter(composed), strict=True):
                pictures[inter.frame] = picture
        return _picked(pictures, frames)

    def _vectors(self, latents: Sequence[Tensor]) -> Tensor:
        arch = self.arch
        return motion_vectors(
            [
                [(arch.grids[i].level, latents[i]) for i in own]
                for own in motion_grids(arch.grids).values()
            ],
            num_frames=self.num_frames,
            height=self.height,
            width=self.width,
            block_level=arch.block_level,
            vector_frac=arch.vector_frac,
        )

    def _predict(self, *args: Tensor | list[int], block_level: int) -> Tensor:
        return predict(*args, block_level=block_level)

    def _filter(self, composed: Tensor) -> Tensor:
        limits = self._limits()[self.arch.num_trunk :]
        for conv, own in zip(self.filters, limits, strict=True):
            composed = F.hardtanh(conv(composed), *own)
        return composed

    def forward(self, latents: Sequence[Tensor], noise: Tensor | None = None) -> Tensor:
        """Latents (and (T, C, H, W) noise planes) -> (T, channels, H, W) samples on [0, 1]."""
        features = self.features(latents)
        if noise is not None:
            features = torch.cat([features, noise], dim=1)
        made = self.synthesise(features)
        return self._compose(made, latents) if self.arch.has_motion else made

    def tensors(self) -> dict[str, Tensor]:
        """Parameters and segment codes by their names in the stream."""
        named = self.upsampling.tensors()
        for index, block in enumerate(self.temporal):
            for name, tensor in block.tensors().items():
                if tensor.numel():
                    named[f"temporal.{index}.{name}"] = tensor
        return named | synthesis_tensors(self.synthesis, self.filters)


def synthesis_tensors(synthesis: Synthesis, filters: Iterable[nn.Module]) -> dict[str, Tensor]:
    """The parameters of a synthesis and of the layers behind it by their names in the stream."""
    layers = dict(enumerate([*synthesis.main_branch[::2], *filters]))
    layers |= {"stab": synthesis.stabiliser_branch}
    return {
        f"synth.{name}.{kind}": tensor
        for name, layer in layers.items()
        for kind in ("weight", "bias")
        if (tensor := getattr(layer, kind)) is not None
    }


def latent_shapes(
    arch: Architecture, *, num_frames: int, height: int, width: int
) -> list[tuple[int, int, int]]:
    """(slices, rows, columns) of every grid, in coding order."""
    return [(g.num_slices(num_frames), *grid_shape(g, height, width)) for g in arch.grids]
