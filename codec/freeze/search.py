"""Search of quantization steps: each group of parameters gets the exponent with the least J.

Every trial is measured with the frozen integer program itself, so nothing is estimated.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from codec.arch import Architecture, Numerics, exponent_groups
from codec.arch.parameters import GROUP_EXPONENTS
from codec.bitstream.elements import Network
from codec.errors import BitstreamError
from codec.fixedpoint.program import Program, load_network
from codec.fixedpoint.stack import Features
from codec.freeze.measure import Frozen, Meter, Target, network_bits
from codec.freeze.quantize import START_EXPONENTS, Arrays, quantize_codes, quantize_network
from codec.freeze.refine import refine

INFINITE = float("inf")
RATE_GROUPS = ("arm.weight", "arm.bias", "ifce.weight", "ifce.bias")
SYNTHESIS_GROUPS = ("synth_in.weight", "synth.weight", "synth.bias")


@dataclass
class _Search:
    meter: Meter
    arrays: Arrays
    exponents: dict[str, int]
    features: list[Features] = field(default_factory=list)

    def network(self) -> Network:
        return quantize_network(self.meter.arch, self.arrays, self.exponents)

    def codes(self) -> Arrays:
        frames = len(self.meter.target.frames)
        return quantize_codes(self.meter.arch, self.arrays, self.exponents, frames)

    def program(self) -> Program | None:
        return self.meter.program(self.network())

    def make_features(self, program: Program) -> list[Features]:
        return self.meter.features(program, self.codes())

    def group_cost(self, group: str) -> float:
        """The part of J that changes with the exponent of `group`; infinite if not legal."""
        network = self.network()
        program = self.meter.program(network)
        if program is None:
            return INFINITE
        weight = self.meter.target.bit_weight
        cost = weight * network_bits(network)
        if group in RATE_GROUPS:
            return cost + weight * self.meter.latent_bits(program)
        try:
            if group not in SYNTHESIS_GROUPS:
                return cost + self.meter.distortion(program, self.make_features(program))
            return cost + self.meter.distortion(program, self.features)
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
    search = _Search(Meter(arch, numerics, integers, target), arrays, exponents)
    _make_legal(search)
    groups = exponent_groups(arch)
    for group in [g for g in groups if g in RATE_GROUPS]:
        exponents[group] = search.best_exponent(group)
    for group in [g for g in groups if g not in RATE_GROUPS + SYNTHESIS_GROUPS]:
        exponents[group] = search.best_exponent(group)
    search.features = search.make_features(load_network(search.network(), numerics))
    for group in [g for g in groups if g in SYNTHESIS_GROUPS]:
        exponents[group] = search.best_exponent(group)
    network = refine(search.meter, search.network(), arrays, search.features)
    return search.meter.frozen(network, search.codes(), integers)


def _make_legal(search: _Search) -> None:
    """Coarsen the steps of all weights together until the accumulators are in bounds."""
    while search.program() is None:
        coarser = {
            group: max(GROUP_EXPONENTS[group][0], exponent - 1)
            for group, exponent in search.exponents.items()
        }
        if coarser == search.exponents:
            load_network(search.network(), search.meter.numerics)
        search.exponents.update(coarser)
