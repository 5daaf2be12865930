"""What a training step is computed with: PyTorch on any device, or fused kernels on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from codec.jit import set_threads
from codec.layers import error, quantizers
from codec.layers.error import ErrorPlane
from codec.layers.kernels import error as fused_error
from codec.layers.kernels import latents as fused_latents
from codec.model.fused import FusedSegmentModel
from codec.model.segment import SegmentModel
from codec.training.qhadam import QHAdam


class NoisyRounding(Protocol):
    """Latents in bins from parameters: softly rounded, with noise that the seed tells.

    A negative `noise_std` is the noise of the positive one with the other sign.
    """

    def __call__(
        self,
        parameters: Sequence[Tensor],
        *,
        gain: float,
        noise_std: float,
        temperature: float,
        seed: int,
    ) -> list[Tensor]: ...


class LatentOptimizer(Protocol):
    """Makes the optimizer of latents, with the interface of `QHAdam`."""

    def __call__(
        self,
        parameters: Sequence[Tensor],
        *,
        betas: tuple[float, float],
        momentum_share: float,
        eps: float,
    ) -> QHAdam | fused_latents.FusedQHAdam: ...


@dataclass(frozen=True)
class Backend:
    """The parts of a step; those of two backends agree, but for the noise that they draw.

    `use_threads` sets how many threads compute them, for the whole process.
    """

    name: str
    segment_model: type[SegmentModel]
    squared_error: Callable[[Tensor, Sequence[ErrorPlane]], Tensor]
    noisy_rounding: NoisyRounding
    latent_optimizer: LatentOptimizer
    use_threads: Callable[[int], None]


def _plain_rounding(
    parameters: Sequence[Tensor],
    *,
    gain: float,
    noise_std: float,
    temperature: float,
    seed: int,
) -> list[Tensor]:
    generator = torch.Generator(parameters[0].device).manual_seed(seed)
    return [
        quantizers.noisy_softround(
            p * gain,
            torch.randn(p.shape, generator=generator, device=p.device) * noise_std,
            temperature,
        )
        for p in parameters
    ]


def _fused_rounding(
    parameters: Sequence[Tensor],
    *,
    gain: float,
    noise_std: float,
    temperature: float,
    seed: int,
) -> list[Tensor]:
    return fused_latents.noisy_softround(
        parameters, gain=gain, noise_std=noise_std, temperature=temperature, seed=seed
    )


def _fused_threads(count: int) -> None:
    """What PyTorch sums itself then does not depend on the number of threads."""
    set_threads(count)
    torch.set_num_threads(1)


PLAIN = Backend(
    "plain",
    SegmentModel,
    error.squared_error,
    _plain_rounding,
    QHAdam,
    torch.set_num_threads,
)
FUSED = Backend(
    "fused",
    FusedSegmentModel,
    fused_error.squared_error,
    _fused_rounding,
    fused_latents.FusedQHAdam,
    _fused_threads,
)


def backend_for(device: torch.device) -> Backend:
    """Fused kernels on the CPU, PyTorch elsewhere."""
    return FUSED if device.type == "cpu" else PLAIN
