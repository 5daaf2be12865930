"""What values cost in the stream, in 2^-16 bits, without running the coder (encoder side only)."""

from __future__ import annotations

import functools

import numpy as np

from codec.arch.numerics import FREQ_BITS, MU_FRAC
from codec.bitstream.laplace import split_mu
from codec.bitstream.tables import load_tables
from codec.jit import njit

COST_FRAC = 16
_NUM_FRACS = 1 << MU_FRAC
_Q31 = 31


def log2_q16(values: np.ndarray) -> np.ndarray:
    """round(2^16 log2 values) of integers from 1 to 2^31 - 1, int64; error below 0.51 units.

    Binary digits of the logarithm by repeated squaring of the mantissa in Q31.
    """
    exponent = np.zeros(np.shape(values), np.int64)
    mantissa = np.asarray(values, np.uint64)
    for shift in (16, 8, 4, 2, 1):
        is_large = mantissa >> np.uint64(shift) != 0
        exponent += np.where(is_large, shift, 0)
        mantissa = np.where(is_large, mantissa >> np.uint64(shift), mantissa)
    mantissa = np.asarray(values, np.uint64) << (np.uint64(_Q31) - exponent.astype(np.uint64))
    for _ in range(COST_FRAC + 1):
        mantissa = (mantissa * mantissa) >> np.uint64(_Q31)
        carry = mantissa >> np.uint64(_Q31 + 1)
        mantissa >>= carry
        exponent = 2 * exponent + carry.astype(np.int64)
    return (exponent + 1) >> 1


@functools.cache
def symbol_costs_q16() -> np.ndarray:
    """Cost of each symbol, int32, laid out as `Tables.cdf`: 2^16 (16 - log2 freq).

    The entry at the end of each row, which is no symbol, is 0.
    """
    tables = load_tables()
    freqs = np.diff(tables.cdf, append=0)
    is_symbol = freqs > 0
    costs = np.zeros(freqs.size, np.int64)
    costs[is_symbol] = (FREQ_BITS << COST_FRAC) - log2_q16(freqs[is_symbol])
    return costs.astype(np.int32)


@njit
def value_cost_q16(costs, row_start, half_width, golomb_order, value, mu_q4, scale_idx):
    """What `laplace.encode_value` spends on `value`, with `costs` from `symbol_costs_q16`."""
    mu_int, frac = split_mu(mu_q4)
    distance = abs(value - mu_int)
    width = half_width[scale_idx]
    row = row_start[scale_idx * _NUM_FRACS + frac + (_NUM_FRACS >> 1)]
    if distance <= width:
        return np.int64(costs[row + value - mu_int + width])
    order = golomb_order[scale_idx]
    coded = distance - width - 1 + (1 << order)
    num_bits = 0
    while coded >> num_bits:
        num_bits += 1
    bits = 1 + 2 * num_bits - order - 1
    return np.int64(costs[row + 2 * width + 1]) + (np.int64(bits) << COST_FRAC)
