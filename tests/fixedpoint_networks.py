"""Random legal networks, latents and codes for the tests of the integer program."""

from __future__ import annotations

import numpy as np

from codec.arch import (
    Architecture,
    Numerics,
    exponent_groups,
    grid_shape,
    param_specs,
    parse_grids,
    parse_layers,
    segment_specs,
)
from codec.arch.notation import parse_layer
from codec.arch.parameters import GROUP_EXPONENTS
from codec.bitstream.elements import Network
from codec.errors import BitstreamError
from codec.fixedpoint.program import load_network

# Exponents at which random values give activations that move and saturate.
EXPONENTS = {
    "features": 6,
    "arm.weight": 6,
    "arm.bias": 8,
    "ifce.weight": 6,
    "ifce.bias": 7,
    "up": 8,
    "temporal.weight": 8,
    "temporal.bias": 6,
    "temporal.code": 8,
    "synth_in.weight": 7,
    "synth.weight": 8,
    "synth.bias": 9,
}


def architecture(
    *,
    synthesis: tuple[str, ...] = ("6-1-linear-relu", "X-1-linear-none", "X-3-residual-none"),
    num_channels: int = 3,
    temporal: tuple[str, ...] = (),
    contexts: int = 9,
    ifce_features: int = 3,
    ifce_levels: tuple[int, int] = (0, 2),
    arm_layers: int = 2,
    up_taps: int = 8,
    pre_taps: int = 7,
    common_randomness: bool = False,
    **grids: str,
) -> Architecture:
    """A small architecture; `grids` are those of `parse_grids`."""
    return Architecture(
        grids=parse_grids(**(grids or {"static": "0-3", "hyper": "2-3"})),
        num_contexts=contexts,
        ifce_features=ifce_features,
        ifce_levels=ifce_levels,
        arm_layers=arm_layers,
        temporal=tuple(parse_layer(text, num_out=1) for text in temporal),
        synthesis=parse_layers(synthesis, num_out=num_channels),
        up_taps=up_taps,
        pre_taps=pre_taps,
        common_randomness=common_randomness,
    )


CLIP = architecture(
    static="0-3",
    slow="2:1-2",
    dynamic="1-3",
    hyper="3",
    temporal=(
        "2-3x1-ck-none@1/8",
        "7-3x3-conv-relu@1/4,gate=1",
        "7-3x1-adaptive-none@1/4,res=1,gate=1,code=2,every=2",
    ),
)

MOVING = architecture(
    static="0-1",
    slow="2:1",
    dynamic="2",
    hyper="3",
    motion="2,4",
    synthesis=("6-1-linear-relu", "5-1-linear-none", "X-3-linear-relu", "X-3-residual-none"),
)


def check_network(network: Network, numerics: Numerics) -> str | None:
    """Why `network` is not legal, or None if it is: `load_network` without the exception."""
    try:
        load_network(network, numerics)
    except BitstreamError as error:
        return str(error)
    return None


def random_network(
    arch: Architecture, numerics: Numerics, *, seed: int, magnitude: int = 60
) -> Network:
    """A legal network of random values up to `magnitude`, or less where a bound asks for it."""
    rng = np.random.default_rng(seed)
    exponents = {group: EXPONENTS[group] for group in exponent_groups(arch)}
    while True:
        values = {
            spec.name: rng.integers(-magnitude, magnitude + 1, spec.shape).astype(np.int32)
            for spec in param_specs(arch)
        }
        for name in values:
            # Filters that pass the picture on, so that what comes after them has something to do.
            if name.startswith(("up.", "pre.")):
                values[name][-1] += 150
        network = Network(arch, exponents, values)
        if check_network(network, numerics) is None:
            return network
        magnitude //= 2
        assert magnitude, "no legal network of this shape"


def zero_network(arch: Architecture) -> Network:
    """All parameters zero, exponents as low as they go."""
    exponents = {group: GROUP_EXPONENTS[group][0] for group in exponent_groups(arch)}
    values = {spec.name: np.zeros(spec.shape, np.int32) for spec in param_specs(arch)}
    return Network(arch, exponents, values)


def random_latents(
    arch: Architecture,
    *,
    num_frames: int,
    height: int,
    width: int,
    seed: int,
    limit: int = 3,
) -> list[np.ndarray]:
    """Latents up to `limit`, int16 (slices, h, w) of each grid."""
    rng = np.random.default_rng(seed)
    return [
        rng.integers(
            -limit,
            limit + 1,
            (grid.num_slices(num_frames), *grid_shape(grid, height, width)),
        ).astype(np.int16)
        for grid in arch.grids
    ]


def random_codes(arch: Architecture, *, num_frames: int, seed: int) -> dict[str, np.ndarray]:
    """Codes of a segment, by name."""
    rng = np.random.default_rng(seed)
    return {
        spec.name: rng.integers(-200, 201, spec.shape).astype(np.int32)
        for spec in segment_specs(arch, num_frames)
    }
