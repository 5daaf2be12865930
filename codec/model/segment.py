"""The float model of one segment: entropy model, picture model and the latents they share."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from codec.arch import Architecture, Numerics, Prediction
from codec.model.entropy import EntropyModel
from codec.model.picture import PictureModel, latent_shapes


class SegmentModel(nn.Module):
    """Networks of one segment of `num_frames` frames of `height` x `width` samples.

    If the frames are not a whole segment, `prediction` has the levels that they are, the first of a
    segment of `segment_frames` frames. The networks are the same for all levels.
    """

    entropy_model = EntropyModel
    picture_model = PictureModel

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
        self.arch = arch
        shape = {"num_frames": num_frames, "height": height, "width": width}
        self.shapes = latent_shapes(arch, **shape)
        self.entropy = self.entropy_model(arch, **shape)
        self.picture = self.picture_model(
            arch,
            numerics=numerics,
            prediction=prediction,
            segment_frames=segment_frames,
            **shape,
        )

    def zero_latents(self, device: torch.device) -> list[nn.Parameter]:
        """Latents before training: zeros, (S, h, w) for each grid in coding order."""
        return [nn.Parameter(torch.zeros(shape, device=device)) for shape in self.shapes]

    def forward(self, latents: Sequence[Tensor], noise: Tensor | None) -> tuple[Tensor, Tensor]:
        """Integer or noisy latents -> (T, channels, H, W) samples on [0, 1], and their bits."""
        return self.picture(latents, noise), self.entropy(latents)

    def tensors(self) -> dict[str, Tensor]:
        """Everything the stream transmits beside latents, by name of `param_specs` and codes."""
        return self.entropy.tensors() | self.picture.tensors()

    def trained_parameters(self) -> list[nn.Parameter]:
        """Network parameters the optimizer may change."""
        return [p for p in self.parameters() if p.requires_grad and p.numel()]
