"""Integers coded with a discretised Laplace distribution; an escape makes every value codable.

A value v with location mu (in 1/16) is coded as k = v - round(mu) in the row of its scale and of
the fraction that rounding left; |k| beyond the row's half width follows an escape symbol as sign
and Exp-Golomb code.
"""

from __future__ import annotations

import numpy as np

from codec.arch.numerics import MU_FRAC
from codec.bitstream.rangecoder import (
    ERROR,
    ERROR_GOLOMB,
    decode_advance,
    decode_bits,
    decode_quantile,
    encode,
    encode_bits,
)
from codec.jit import inner, njit

MAX_GOLOMB_PREFIX = 24
# Bytes that a caller reserves for a value: a symbol of 16 bits, sign, prefix and suffix.
MAX_VALUE_BYTES = 12

_NUM_FRACS = 1 << MU_FRAC
_HALF = _NUM_FRACS >> 1
# Up to this half width a symbol is looked for from the middle on: most are there.
_NARROW = 16


@njit(forceinline=True)
def split_mu(mu_q4):
    """(nearest integer, fraction in 1/16 from -8 to 7) of a location; halves round up."""
    mu_int = (mu_q4 + _HALF) >> MU_FRAC
    return mu_int, mu_q4 - (mu_int << MU_FRAC)


@njit
def encode_golomb(state, buffer, excess, order):
    """Code excess >= 0: with n the bits of excess + 2^order, n - order - 1 zeros, then those bits.

    Sets ERROR to ERROR_GOLOMB for more than 24 zeros.
    """
    value = excess + (1 << order)
    prefix = 0
    while value >> (order + prefix + 1):
        prefix += 1
    if prefix > MAX_GOLOMB_PREFIX:
        if state[ERROR] == 0:
            state[ERROR] = ERROR_GOLOMB
        return
    for _ in range(prefix):
        encode_bits(state, buffer, 0, 1)
    for shift in range(order + prefix, -1, -1):
        encode_bits(state, buffer, (value >> shift) & 1, 1)


@njit
def decode_golomb(state, data, order):
    """Inverse of `encode_golomb`; sets ERROR and returns 0 at the 25th zero of a prefix."""
    prefix = 0
    while decode_bits(state, data, 1) == 0:
        prefix += 1
        if prefix > MAX_GOLOMB_PREFIX:
            if state[ERROR] == 0:
                state[ERROR] = ERROR_GOLOMB
            return 0
    value = 1
    for _ in range(order + prefix):
        value = (value << 1) | decode_bits(state, data, 1)
    return value - (1 << order)


@njit
def encode_value(state, buffer, cdf, row_start, half_width, golomb_order, value, mu_q4, scale_idx):
    """Code `value`; tables as in `codec.bitstream.tables.Tables`, 0 <= scale_idx < NUM_SCALES."""
    mu_int, frac = split_mu(mu_q4)
    k = value - mu_int
    width = half_width[scale_idx]
    row = row_start[scale_idx * _NUM_FRACS + frac + _HALF]
    is_escape = abs(k) > width
    symbol = row + (2 * width + 1 if is_escape else k + width)
    encode(state, buffer, cdf[symbol], cdf[symbol + 1] - cdf[symbol])
    if is_escape:
        encode_bits(state, buffer, 1 if k < 0 else 0, 1)
        encode_golomb(state, buffer, abs(k) - width - 1, golomb_order[scale_idx])


@inner(forceinline=True)
def _find_symbol(cdf, row, width, quantile):
    """Index in `cdf` of the symbol of a row that contains the quantile."""
    low, high = row, row + 2 * width + 2
    if width <= _NARROW:
        low += width
        while cdf[low] > quantile:
            low -= 1
        while cdf[low + 1] <= quantile:
            low += 1
        return low
    while high - low > 1:
        middle = (low + high) >> 1
        if cdf[middle] <= quantile:
            low = middle
        else:
            high = middle
    return low


@njit(forceinline=True)
def decode_value(state, data, cdf, row_start, half_width, golomb_order, mu_q4, scale_idx):
    """Inverse of `encode_value`; after an error (see the state) the value means nothing.

    All arrays may also be pointers to their elements.
    """
    mu_int, frac = split_mu(mu_q4)
    width = np.int64(half_width[scale_idx])
    row = np.int64(row_start[scale_idx * _NUM_FRACS + frac + _HALF])
    low = _find_symbol(cdf, row, width, decode_quantile(state))
    decode_advance(state, data, np.int64(cdf[low]), np.int64(cdf[low + 1] - cdf[low]))
    k = low - row - width
    if k <= width:
        return mu_int + k
    is_negative = decode_bits(state, data, 1)
    k = width + 1 + decode_golomb(state, data, np.int64(golomb_order[scale_idx]))
    return mu_int - k if is_negative else mu_int + k
