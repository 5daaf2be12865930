"""The flags before bands of latents, which say whether a band is all zero: their adaptive model."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from codec.arch.numerics import FREQ_BITS
from codec.bitstream.rangecoder import decode_advance, decode_quantile, encode
from codec.bitstream.rate import COST_FRAC, log2_q16

MIN_FREQ, MAX_FREQ = 1024, 64512


class EmptyFlags:
    """Model of the flags of one grid in one substream: how many bands were full, and empty."""

    def __init__(self) -> None:
        self._counts = [1, 1]

    def _full_freq(self) -> int:
        """Frequency of a full band, of 2^16: its interval comes first."""
        freq = (self._counts[0] << FREQ_BITS) // sum(self._counts)
        return min(max(freq, MIN_FREQ), MAX_FREQ)

    def _next(self, is_empty: bool) -> tuple[int, int]:
        """(start, freq) of the next flag, which is counted."""
        full = self._full_freq()
        self._counts[is_empty] += 1
        return (full, (1 << FREQ_BITS) - full) if is_empty else (0, full)

    def encode(self, state: np.ndarray, buffer: np.ndarray, is_empty: bool) -> None:
        """Code the next flag."""
        encode(state, buffer, *self._next(is_empty))

    def decode(self, state: np.ndarray, data: np.ndarray) -> bool:
        """Whether the next band is all zero."""
        is_empty = bool(decode_quantile(state) >= self._full_freq())
        decode_advance(state, data, *self._next(is_empty))
        return is_empty

    def freq(self, is_empty: bool) -> int:
        """Frequency of the next flag, which is counted, without coding it."""
        return self._next(is_empty)[1]


def flags_cost_q16(freqs: Iterable[int]) -> int:
    """What flags of these frequencies cost, in 2^-16 bits."""
    costs = (FREQ_BITS << COST_FRAC) - log2_q16(np.array(list(freqs), np.int64))
    return int(costs.sum())
