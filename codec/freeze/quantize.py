"""Rounding of float parameters to q * 2^-e, and the network they make."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from torch import Tensor

from codec.arch import Architecture, ParamSpec, exponent_groups, param_specs, segment_specs
from codec.arch.numerics import MAX_PARAM
from codec.arch.parameters import GROUP_EXPONENTS
from codec.bitstream.elements import Network
from codec.errors import CodecError

# Where the search of exponents starts: fine enough to change little.
START_EXPONENTS = {
    "features": 9,
    "arm.weight": 8,
    "arm.bias": 9,
    "ifce.weight": 8,
    "ifce.bias": 7,
    "up": 9,
    "temporal.weight": 8,
    "temporal.bias": 8,
    "temporal.code": 8,
    "synth_in.weight": 11,
    "synth.weight": 9,
    "synth.bias": 10,
}
assert all(low <= START_EXPONENTS[g] <= high for g, (low, high) in GROUP_EXPONENTS.items())

Arrays = dict[str, np.ndarray]


def to_arrays(tensors: Mapping[str, Tensor]) -> Arrays:
    """Float64 copies of trained tensors, by their names in the stream.

    Raises:
        CodecError: a tensor that is not finite.
    """
    arrays = {name: t.detach().cpu().numpy().astype(np.float64) for name, t in tensors.items()}
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise CodecError(f"the training diverged at {name}; another --seed may not")
    return arrays


def round_parameter(values: np.ndarray, exponent: int) -> np.ndarray:
    """int32 q = round(value * 2^exponent), held to the range of a coded parameter."""
    scaled = np.rint(np.ldexp(values, exponent))
    return np.clip(scaled, -MAX_PARAM, MAX_PARAM).astype(np.int32)


def _rounded(specs: tuple[ParamSpec, ...], arrays: Arrays, exponents: Mapping[str, int]) -> Arrays:
    return {s.name: round_parameter(arrays[s.name], exponents[s.group]) for s in specs}


def quantize_network(arch: Architecture, arrays: Arrays, exponents: Mapping[str, int]) -> Network:
    """The network with every parameter rounded to the step of its group."""
    values = _rounded(param_specs(arch), arrays, exponents)
    return Network(arch, {g: exponents[g] for g in exponent_groups(arch)}, values)


def quantize_codes(
    arch: Architecture, arrays: Arrays, exponents: Mapping[str, int], num_frames: int
) -> Arrays:
    """The modulation codes of a segment, rounded to the step of their group."""
    return _rounded(segment_specs(arch, num_frames), arrays, exponents)
