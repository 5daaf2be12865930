"""Search of quantization steps: each group of parameters gets the exponent with the least J.

Every trial is measured with the frozen integer program itself, so nothing is estimated.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from codec.arch import Architecture, Numerics, exponent_groups
from codec.arch.network import GROUP_EXPONENTS
from codec.bitstream.elements import Network, Partition
from codec.bitstream.network import network_bits_q16
from codec.bitstream.rate import COST_FRAC
from codec.errors import BitstreamError
from codec.fixedpoint.entropy import latent_rate
from codec.fixedpoint.pictures import frames_from_channels
from codec.fixedpoint.program import Program, load_network
from codec.fixedpoint.render import features, frame_noise
from codec.fixedpoint.stack import Features
from codec.fixedpoint.synthesis import synthesise
from codec.freeze.quantize import START_EXPONENTS, Arrays, quantize_codes, quantize_network
from codec.media.frames import Frame, PixelFormat
from codec.media.metrics import frame_mse

INFINITE = float("inf")
BIT_Q16 = 1 << COST_FRAC
RATE_GROUPS = ("arm.weight", "arm.bias", "ifce.weight", "ifce.bias")
SYNTHESIS_GROUPS = ("synth_in.weight", "synth.weight", "synth.bias")


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


@dataclass
class _Search:
    arch: Architecture
    numerics: Numerics
    arrays: Arrays
    latents: list[np.ndarray]
    target: Target
    exponents: dict[str, int]
    features: list[Features] = field(default_factory=list)

    def network(self) -> Network:
        return quantize_network(self.arch, self.arrays, self.exponents)

    def codes(self) -> Arrays:
        frames = len(self.target.frames)
        return quantize_codes(self.arch, self.arrays, self.exponents, frames)

    def program(self) -> Program | None:
        try:
            return load_network(self.network(), self.numerics)
        except BitstreamError:
            return None

    def latent_bits(self, program: Program) -> float:
        target = self.target
        rates = latent_rate(
            program,
            self.latents,
            **target.size,
            partition=Partition(),
            threads=target.threads,
        )
        return float(rates.sum()) / BIT_Q16

    def make_features(self, program: Program) -> list[Features]:
        target = self.target
        codes, size = self.codes(), target.size
        return list(features(program, self.latents, codes, **size, threads=target.threads))

    def distortion(self, program: Program, inputs: Sequence[Features]) -> float:
        target = self.target
        size = {"height": target.height, "width": target.width, "threads": target.threads}
        total = 0.0
        for t, (feature, frame) in enumerate(zip(inputs, target.frames, strict=True)):
            noise = frame_noise(program, seed=target.noise_seed, frame=t, **size)
            channels = synthesise(
                program, feature.planes, feature.active, noise=noise, threads=target.threads
            )
            planes = frames_from_channels(
                channels, target.format, numerics=self.numerics, threads=target.threads
            )
            total += frame_mse(frame, Frame(planes), target.format).total
        return total / (len(target.frames) * target.format.peak**2)

    def group_cost(self, group: str) -> float:
        """The part of J that changes with the exponent of `group`; infinite if not legal."""
        program = self.program()
        if program is None:
            return INFINITE
        weight = self.target.rd_lambda / self.target.num_pixels
        cost = weight * network_bits_q16(self.network()) / BIT_Q16
        if group in RATE_GROUPS:
            return cost + weight * self.latent_bits(program)
        try:
            if group not in SYNTHESIS_GROUPS:
                return cost + self.distortion(program, self.make_features(program))
            return cost + self.distortion(program, self.features)
        except BitstreamError:
            return INFINITE

    def best_exponent(self, group: str) -> int:
        """Walk from the present exponent downhill, first to coarser steps, then to finer ones."""
        low, high = GROUP_EXPONENTS[group]
        start = self.exponents[group]
        costs = {start: self.group_cost(group)}
        best = start
        for direction in (-1, 1):
            for exponent in _walk(start, direction, low, high):
                self.exponents[group] = exponent
                costs[exponent] = self.group_cost(group)
                if costs[exponent] < costs[best]:
                    best = exponent
                elif costs[exponent] < INFINITE:
                    break
            if best != start:
                break
        return best


def _walk(start: int, direction: int, low: int, high: int) -> Iterator[int]:
    exponent = start + direction
    while low <= exponent <= high:
        yield exponent
        exponent += direction


def freeze(
    arch: Architecture,
    numerics: Numerics,
    arrays: Arrays,
    latents: Sequence[np.ndarray],
    target: Target,
) -> Frozen:
    """Round a trained model to integers with the steps that give the least J = D + lambda R.

    Args:
        arch, numerics: of the decoder.
        arrays: trained tensors by their names in the stream, float64.
        latents: integers (S, h, w) of every grid in coding order.
        target: the pictures and the weight of the rate.

    Raises:
        BitstreamError: no step keeps the accumulators in bounds: the training diverged.
    """
    integers = [np.asarray(latent).astype(np.int16) for latent in latents]
    exponents = {group: START_EXPONENTS[group] for group in exponent_groups(arch)}
    search = _Search(arch, numerics, arrays, integers, target, exponents)
    _make_legal(search)
    groups = exponent_groups(arch)
    for group in [g for g in groups if g in RATE_GROUPS]:
        exponents[group] = search.best_exponent(group)
    for group in [g for g in groups if g not in RATE_GROUPS + SYNTHESIS_GROUPS]:
        exponents[group] = search.best_exponent(group)
    search.features = search.make_features(load_network(search.network(), numerics))
    for group in SYNTHESIS_GROUPS:
        exponents[group] = search.best_exponent(group)
    return _measured(search)


def _make_legal(search: _Search) -> None:
    """Coarsen the steps of all weights together until the accumulators are in bounds."""
    while search.program() is None:
        coarser = {
            group: max(GROUP_EXPONENTS[group][0], exponent - 1)
            for group, exponent in search.exponents.items()
        }
        if coarser == search.exponents:
            load_network(search.network(), search.numerics)
        search.exponents.update(coarser)


def _measured(search: _Search) -> Frozen:
    network, codes = search.network(), search.codes()
    program = load_network(network, search.numerics)
    rate_bits = search.latent_bits(program) + network_bits_q16(network) / BIT_Q16
    distortion = search.distortion(program, search.features)
    return Frozen(network, codes, search.latents, distortion, rate_bits)
