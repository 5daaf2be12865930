"""The parameters of a network chunk, checked to be in their ranges."""

from __future__ import annotations

import numpy as np

from codec.arch import exponent_groups, param_specs
from codec.arch.numerics import MAX_PARAM
from codec.arch.parameters import GROUP_EXPONENTS
from codec.bitstream.elements import Network
from codec.errors import BitstreamError
from codec.fixedpoint.formats import align


class Parameters:
    """Values by name in int64, and the exponent of each one's group.

    Raises:
        BitstreamError: one that is outside its range.
    """

    def __init__(self, network: Network) -> None:
        arch = network.arch
        for group in exponent_groups(arch):
            low, high = GROUP_EXPONENTS[group]
            if not low <= network.exponents[group] <= high:
                raise BitstreamError(
                    f"network: the exponent of {group} is {network.exponents[group]}, "
                    f"outside {low} to {high}"
                )
        self._exponents = network.exponents
        self._values: dict[str, np.ndarray] = {}
        for spec in param_specs(arch):
            value = network.values[spec.name].astype(np.int64)
            assert value.shape == spec.shape, f"{spec.name}: {value.shape}, not {spec.shape}"
            if np.abs(value).max() > MAX_PARAM:
                raise BitstreamError(f"network: {spec.name}: a value is beyond {MAX_PARAM}")
            self._values[spec.name] = value

    def exponent(self, group: str) -> int:
        """Parameters of the group are in units of 2^-exponent."""
        return self._exponents[group]

    def value(self, name: str) -> np.ndarray:
        """A tensor."""
        return self._values[name]

    def aligned(self, name: str, group: str, to_frac: int) -> np.ndarray:
        """A bias in the format of an accumulator."""
        return align(self._values[name], self._exponents[group], to_frac)
