"""Rounding of networks by what J says: coarser steps whose errors make up for each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from codec.arch import Architecture, ParamSpec, param_specs
from codec.arch.parameters import GROUP_EXPONENTS
from codec.bitstream.elements import Network
from codec.errors import BitstreamError
from codec.fixedpoint.program import Program, load_network
from codec.fixedpoint.stack import Features
from codec.freeze.curvature import entropy_curvature, synthesis_curvature
from codec.freeze.descent import Surface, descend
from codec.freeze.measure import Meter, network_bits
from codec.freeze.quantize import Arrays

# Curvatures come from samples: this share of their mean is added to all, against what those miss.
DAMPING = 3e-3
# Larger matrices would take longer than the training.
MAX_PARAMETERS = 4000


@dataclass(frozen=True)
class _Block:
    """Parameters that are rounded together, and the part of J that they change."""

    surface: Surface
    cost: Callable[[Program], float]

    @property
    def groups(self) -> list[str]:
        """The groups of the parameters, in the order of the stream."""
        return list(dict.fromkeys(spec.group for spec in self.surface.specs))


def refine(meter: Meter, network: Network, arrays: Arrays, features: Sequence[Features]) -> Network:
    """A network with the same or a lower J than `network`: better integers and coarser steps.

    Only ARM and synthesis change, with the latents as they are.

    Args:
        meter: measures J.
        network: rounded to the nearest.
        arrays: the parameters before they were rounded, by name.
        features: of each frame, which stay as they are.
    """
    for block in _blocks(meter, network, arrays, features):
        network, _ = _better(meter, network, block, network.exponents)
        for group in block.groups:
            network = _coarsened(meter, network, block, group)
    return network


def _blocks(
    meter: Meter, network: Network, arrays: Arrays, features: Sequence[Features]
) -> Iterator[_Block]:
    weight, program = meter.target.bit_weight, load_network(network, meter.numerics)
    if arm := _specs(meter.arch, ("motion_arm.", "arm.")):
        bends = _damped(entropy_curvature(meter, arrays, arm))
        yield _Block(Surface(arm, arrays, bends), lambda p: weight * meter.latent_bits(p))
    if synth := _specs(meter.arch, "synth."):
        bends = _damped(synthesis_curvature(meter, program, arrays, features, synth))
        yield _Block(Surface(synth, arrays, bends), lambda p: meter.distortion(p, features))


def _specs(arch: Architecture, prefix: str | tuple[str, ...]) -> list[ParamSpec]:
    """Parameters whose names start so; none if they are too many."""
    specs = [spec for spec in param_specs(arch) if spec.name.startswith(prefix)]
    return specs if sum(spec.size for spec in specs) <= MAX_PARAMETERS else []


def _damped(curvature: np.ndarray) -> np.ndarray:
    bends = np.diag(curvature)
    # What changes nothing at all is free to become what costs no bits.
    return curvature + DAMPING * bends.mean() * np.diag(bends > 0)


def _coarsened(meter: Meter, network: Network, block: _Block, group: str) -> Network:
    """The network with the block rounded again to coarser steps of a group, while that helps."""
    is_better = True
    while is_better and network.exponents[group] > GROUP_EXPONENTS[group][0]:
        exponents = {**network.exponents, group: network.exponents[group] - 1}
        network, is_better = _better(meter, network, block, exponents)
    return network


def _better(
    meter: Meter, network: Network, block: _Block, exponents: dict[str, int]
) -> tuple[Network, bool]:
    """The network with the block rounded anew, if it costs less; and whether it does."""
    made = descend(block.surface, exponents, bit_weight=meter.target.bit_weight)
    candidate = replace(network, exponents=exponents, values={**network.values, **made})
    is_better = _cost(meter, candidate, block) < _cost(meter, network, block)
    return (candidate if is_better else network), is_better


def _cost(meter: Meter, network: Network, block: _Block) -> float:
    """The part of J that changes with a block; infinite if the network is not legal."""
    program = meter.program(network)
    if program is None:
        return float("inf")
    try:
        return block.cost(program) + meter.target.bit_weight * network_bits(network)
    except BitstreamError:
        return float("inf")
