"""Fixed-point arithmetic: rounding shift, saturation, alignment, and the widths of formats."""

from __future__ import annotations

from typing import TypeVar

import numpy as np

from codec.arch import Numerics

Integers = TypeVar("Integers", int, np.ndarray)


def rshift(value: Integers, shift: int) -> Integers:
    """floor(value / 2^shift + 1/2): (value + 2^(shift-1)) >> shift, or value for shift 0."""
    return (value + ((1 << shift) >> 1)) >> shift


def sat(value: Integers, limit: int) -> Integers:
    """value, saturated to [-limit, limit]."""
    if isinstance(value, np.ndarray):
        return np.clip(value, -limit, limit)
    return min(max(value, -limit), limit)


def align(value: Integers, from_frac: int, to_frac: int) -> Integers:
    """The same number with `to_frac` fraction bits instead of `from_frac`, rounded if fewer."""
    if to_frac >= from_frac:
        return value << (to_frac - from_frac)
    return rshift(value, from_frac - to_frac)


def storage_dtype(numerics: Numerics) -> type[np.signedinteger]:
    """Type that activations are stored in: int16 for the narrow format, int32 for the wide one."""
    return np.int16 if numerics.act_max < 1 << 15 else np.int32


def sum_dtype(numerics: Numerics) -> type[np.signedinteger]:
    """Type of accumulators and of the weights that enter them: int32 narrow, int64 wide."""
    return np.int32 if numerics.acc_max < 1 << 31 else np.int64
