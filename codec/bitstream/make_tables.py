"""Generate `tables.npz` with decimal arithmetic: `python -m codec.bitstream.make_tables`."""

from __future__ import annotations

import decimal
import itertools
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path

import numpy as np

from codec.arch.numerics import (
    FREQ_BITS,
    LOG_SCALE_MIN,
    MU_FRAC,
    NUM_SCALES,
    SCALE_STEPS_PER_NAT,
)

NUM_FRACS = 1 << MU_FRAC
MIN_HALF_WIDTH = 2
MAX_HALF_WIDTH = 96
GAUSS_ENTRIES = 256
GAUSS_FRAC = 6
TABLE_FILE = Path(__file__).with_name("tables.npz")

_DIGITS = 40
_TIE_DIGITS = 20
_HALF = Decimal(1) / 2


def scale(index: int) -> Decimal:
    """b = exp(index / 8 - 5)."""
    return (Decimal(index) / SCALE_STEPS_PER_NAT + LOG_SCALE_MIN).exp()


def half_width(b: Decimal) -> int:
    """Largest |k| with a symbol of its own: clamp(ceil(8 b) + 1, 2, 96)."""
    width = int((8 * b).to_integral_value(decimal.ROUND_CEILING)) + 1
    return min(max(width, MIN_HALF_WIDTH), MAX_HALF_WIDTH)


def golomb_order(b: Decimal) -> int:
    """max(0, floor(log2 b))."""
    order = 0
    while b >= 2 << order:
        order += 1
    return order


def laplace_cdf(x: Decimal, b: Decimal) -> Decimal:
    """Mass of the Laplace distribution of location 0 and scale b below x."""
    return (x / b).exp() / 2 if x < 0 else 1 - (-x / b).exp() / 2


def row_frequencies(b: Decimal, frac: int) -> list[int]:
    """Frequencies of k = -W..W and the escape around frac / 16: each >= 1, together 2^16.

    Every symbol gets 1; the other 2^16 - (2 W + 2) are shared in proportion to the masses, by
    largest remainder. Remainders are compared after rounding to 20 digits, so that symmetric masses
    tie whatever the precision; ties go to the symbol that comes first.
    """
    width = half_width(b)
    mu = Decimal(frac) / NUM_FRACS
    edges = [laplace_cdf(k - _HALF - mu, b) for k in range(-width, width + 2)]
    masses = [high - low for low, high in itertools.pairwise(edges)]
    masses.append(1 - sum(masses))
    spare = (1 << FREQ_BITS) - len(masses)
    shares = [spare * mass for mass in masses]
    freqs = [1 + int(share) for share in shares]
    remainders = [round(share - int(share), _TIE_DIGITS) for share in shares]
    order = sorted(range(len(shares)), key=lambda i: (-remainders[i], i))
    for i in order[: (1 << FREQ_BITS) - sum(freqs)]:
        freqs[i] += 1
    return freqs


def normal_cdf(x: Decimal) -> Decimal:
    """1/2 + phi(x) (x + x^3/3 + x^5/(3 5) + ...)."""
    pi = Decimal("3.14159265358979323846264338327950288419716939937510")
    term, total, n = x, x, 1
    while abs(term) > Decimal(10) ** -_DIGITS:
        n += 2
        term *= x * x / n
        total += term
    return _HALF + total * (-x * x / 2).exp() / (2 * pi).sqrt()


def gauss_q6(index: int) -> int:
    """round(64 z) with normal_cdf(z) = (index + 1/2) / 256."""
    target = (Decimal(index) + _HALF) / GAUSS_ENTRIES
    low, high = Decimal(-4), Decimal(4)
    for _ in range(60):
        middle = (low + high) / 2
        if normal_cdf(middle) < target:
            low = middle
        else:
            high = middle
    return int((low * (1 << GAUSS_FRAC)).to_integral_value(ROUND_HALF_UP))


def make_tables() -> dict[str, np.ndarray]:
    """All tables: u16 `half_width` and `golomb_order` by scale, `freqs` by row, i16 `gauss_q6`."""
    with decimal.localcontext() as context:
        context.prec = _DIGITS
        scales = [scale(index) for index in range(NUM_SCALES)]
        fracs = range(-NUM_FRACS // 2, NUM_FRACS // 2)
        freqs = [freq for b in scales for frac in fracs for freq in row_frequencies(b, frac)]
        return {
            "half_width": np.array([half_width(b) for b in scales], np.uint16),
            "golomb_order": np.array([golomb_order(b) for b in scales], np.uint16),
            "freqs": np.array(freqs, np.uint16),
            "gauss_q6": np.array([gauss_q6(i) for i in range(GAUSS_ENTRIES)], np.int16),
        }


if __name__ == "__main__":
    np.savez_compressed(TABLE_FILE, **make_tables())
