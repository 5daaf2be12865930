"""What training is given and what it makes: the task, costs, and trained states."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from codec.arch import Architecture, Numerics, Prediction
from codec.arch.presets import Recipe
from codec.media.frames import Frame, PixelFormat
from codec.model.segment import SegmentModel


@dataclass(frozen=True)
class Cost:
    """J = D + lambda R: mean squared error on [0, 1], bits a luma pixel, and their weighted sum."""

    distortion: float
    bpp: float
    j: float

    @staticmethod
    def unknown() -> Cost:
        """What a model costs before it was measured."""
        return Cost(math.inf, math.nan, math.inf)

    @staticmethod
    def of(distortion: float, bpp: float, rd_lambda: float) -> Cost:
        """The cost of a measured error and rate; unknown where they are not finite."""
        j = distortion + rd_lambda * bpp
        return Cost(distortion, bpp, j) if math.isfinite(j) else Cost.unknown()

    def at(self, rd_lambda: float) -> Cost:
        """The same error and rate, weighed by another lambda."""
        return Cost.of(self.distortion, self.bpp, rd_lambda)

    @property
    def psnr_db(self) -> float:
        """PSNR of the distortion; NaN before it was measured."""
        if math.isinf(self.distortion):
            return math.nan
        return -10 * math.log10(max(self.distortion, 1e-10))


@dataclass(frozen=True)
class Task:
    """What is fitted: frames, how they are described and weighed, and with which machine."""

    frames: Sequence[Frame]
    format: PixelFormat
    height: int
    width: int
    arch: Architecture
    numerics: Numerics
    rd_lambda: float
    recipe: Recipe
    seed: int
    device: torch.device
    # What networks start from, of a model with the same architecture; random where there is none.
    networks: Mapping[str, Tensor] = field(default_factory=dict)
    noise: Tensor | None = None  # planes of common randomness, (T, C, H, W)
    motion: Sequence[Tensor] = ()  # what motion grids start from, (T, h, w) each in coding order
    # The level of the motion grids that each frame uses; those of other levels stay zero.
    motion_levels: tuple[int, ...] = ()
    # If the frames are not a whole segment: the levels that they are, and the frames that it has.
    prediction: Prediction = ()
    segment_frames: int = 0

    @property
    def num_pixels(self) -> int:
        """Luma pixels of the segment."""
        return len(self.frames) * self.height * self.width


@dataclass
class Trained:
    """A model and its latents in units of bins, with the cost they reached."""

    model: SegmentModel
    latents: list[Tensor]
    cost: Cost


class Best:
    """Copy of the best state that was offered."""

    def __init__(self) -> None:
        self.weights: dict[str, Tensor] = {}
        self.latents: list[Tensor] = []
        self.cost = Cost.unknown()

    def offer(self, state: Trained, rd_lambda: float) -> None:
        """Keep a copy of `state` if its J is less; both are weighed by this lambda."""
        if not self.weights or state.cost.at(rd_lambda).j < self.cost.at(rd_lambda).j:
            self.weights = copy.deepcopy(state.model.state_dict())
            self.latents = [latent.clone() for latent in state.latents]
            self.cost = state.cost

    def restore(self, state: Trained) -> None:
        """Make `state` what was kept, if anything was."""
        if self.weights:
            state.model.load_state_dict(self.weights)
            state.latents, state.cost = self.latents, self.cost
