"""What a frozen model costs, measured with the integer program itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from codec.arch import Architecture, Numerics
from codec.bitstream.elements import Network, Partition
from codec.bitstream.network import network_bits_q16
from codec.bitstream.rate import COST_FRAC
from codec.errors import BitstreamError
from codec.fixedpoint.entropy import latent_rate
from codec.fixedpoint.pictures import frames_from_channels
from codec.fixedpoint.program import Program, load_network
from codec.fixedpoint.render import Scene, draw, frame_noise, make_scene
from codec.fixedpoint.stack import Features
from codec.freeze.quantize import Arrays
from codec.media.frames import Frame, PixelFormat
from codec.media.metrics import error_maps, frame_mse

BIT_Q16 = 1 << COST_FRAC


@dataclass(frozen=True)
class Target:
    """What a frozen model is measured against."""

    frames: Sequence[Frame]
    format: PixelFormat
    height: int
    width: int
    rd_lambda: float
    noise_seed: int
    threads: int

    @property
    def num_pixels(self) -> int:
        """Luma pixels of the segment."""
        return len(self.frames) * self.height * self.width

    @property
    def size(self) -> dict[str, int]:
        """Arguments of the integer program."""
        return {"num_frames": len(self.frames), "height": self.height, "width": self.width}

    @property
    def bit_weight(self) -> float:
        """What a bit of the segment adds to J = D + lambda R."""
        return self.rd_lambda / self.num_pixels

    def j(self, frozen: Frozen) -> float:
        """J = D + lambda R."""
        return frozen.distortion + self.bit_weight * frozen.rate_bits


@dataclass(frozen=True)
class Frozen:
    """A network and codes in integers, the latents they go with, and what they cost.

    `distortion` is the mean squared error on [0, 1] of the decoded planes, `rate_bits` the latents
    and the network.
    """

    network: Network
    codes: Arrays
    latents: list[np.ndarray]
    distortion: float
    rate_bits: float


def network_bits(network: Network) -> float:
    """Bits of a complete network."""
    return network_bits_q16(network) / BIT_Q16


@dataclass(frozen=True)
class Meter:
    """Measures networks with integer latents (S, h, w), one array a grid in coding order."""

    arch: Architecture
    numerics: Numerics
    latents: Sequence[np.ndarray]
    target: Target

    def program(self, network: Network) -> Program | None:
        """The program of a network; None if it is not legal."""
        try:
            return load_network(network, self.numerics)
        except BitstreamError:
            return None

    def latent_bits(self, program: Program) -> float:
        """Bits of all latents."""
        rates = latent_rate(
            program,
            self.latents,
            **self.target.size,
            partition=Partition(),
            threads=self.target.threads,
        )
        return float(rates.sum()) / BIT_Q16

    def features(self, program: Program, codes: Mapping[str, np.ndarray]) -> list[Features]:
        """What the synthesis of each frame reads.

        Raises:
            BitstreamError: a code under which an accumulator could leave its type.
        """
        target = self.target
        scene = make_scene(program, self.latents, codes, **target.size, threads=target.threads)
        return [scene.features_at(t, target.threads) for t in range(scene.num_frames)]

    def frozen(self, network: Network, codes: Arrays, latents: Sequence[np.ndarray]) -> Frozen:
        """A network, codes and latents with what they cost; the meter's own latents do not matter.

        Raises:
            BitstreamError: a network that is not legal.
        """
        own, program = replace(self, latents=latents), load_network(network, self.numerics)
        distortion = own.distortion(program, own.features(program, codes))
        rate_bits = own.latent_bits(program) + network_bits(network)
        return Frozen(network, codes, list(latents), distortion, rate_bits)

    def noise(self, program: Program, frame: int) -> np.ndarray | None:
        """Noise planes (C, H, W) of a frame, or None where the architecture has none."""
        target = self.target
        size = {"height": target.height, "width": target.width, "threads": target.threads}
        return frame_noise(program, seed=target.noise_seed, frame=frame, **size)

    def distortion(self, program: Program, inputs: Sequence[Features]) -> float:
        """Mean squared error on [0, 1] of the planes made from the features of each frame."""
        made = zip(self.target.frames, self._decoded(program, inputs), strict=True)
        total = sum(frame_mse(*frames, self.target.format).total for frames in made)
        return total * self._error_scale

    def error_maps(self, program: Program, inputs: Sequence[Features]) -> list[np.ndarray]:
        """Where the distortion is, all frames together: for each plane float64 (height, width)."""
        made = zip(self.target.frames, self._decoded(program, inputs), strict=True)
        maps = [error_maps(*frames, self.target.format) for frames in made]
        return [sum(planes) * self._error_scale for planes in zip(*maps, strict=True)]

    @property
    def _error_scale(self) -> float:
        return 1 / (len(self.target.frames) * self.target.format.peak**2)

    def _decoded(self, program: Program, inputs: Sequence[Features]) -> Iterator[Frame]:
        """The pictures made from the features of each frame."""
        target = self.target

        def shown(picture: np.ndarray, threads: int) -> Frame:
            planes = frames_from_channels(
                picture, target.format, numerics=self.numerics, threads=threads
            )
            return Frame(planes)

        scene = Scene(
            program=program,
            latents=self.latents,
            noise_seed=target.noise_seed,
            features_at=lambda frame, _: inputs[frame],
            **target.size,
        )
        return draw(scene, shown, threads=target.threads)
