"""Gaussian noise that is a function of a seed and a counter, so that any thread can make any part.

n = sqrt(-2 ln u) cos(2 pi v) (Box and Muller 1958), u and v uniform on (0, 1), from a hash of 32
bits (two rounds of multiplication and shifted exclusive or, constants of Wellons' lowbias32).
"""

from __future__ import annotations

import numpy as np

from codec.jit import inner_float
from codec.layers.kernels.maths import log

U32 = np.uint32
F32 = np.float32
_WEYL = U32(0x9E3779B9)
_FIRST, _SECOND = U32(0x7FEB352D), U32(0x846CA68B)
_S16, _S15, _S8 = U32(16), U32(15), U32(8)
_UNIT = F32(2.0**-24)
_HALF, _ONE, _TWO = F32(0.5), F32(1.0), F32(2.0)
# sin(pi r) for |r| <= 1/2: odd Taylor terms, whose rest is below 6e-8.
_SINE = tuple(F32(c) for c in (3.14159265, -5.16771278, 2.55016404, -0.599264529, 0.0821458866,
                               -0.00737043095))  # fmt: skip


@inner_float(inline="always")
def _hash(x):
    x = U32((x ^ (x >> _S16)) * _FIRST)
    x = U32((x ^ (x >> _S15)) * _SECOND)
    return U32(x ^ (x >> _S16))


@inner_float(inline="always")
def _uniform(x):
    """A float on (0, 1) from 32 hashed bits."""
    return (F32(np.int32(x >> _S8)) + _HALF) * _UNIT


@inner_float(inline="always")
def gaussian(seed, counter):
    """Noise of mean 0 and variance 1; seed and counter are uint32."""
    place = U32(_hash(seed) + U32(counter * _TWO_STEPS))
    u, v = _uniform(_hash(place)), _uniform(_hash(U32(place + _WEYL)))
    radius = np.sqrt(-_TWO * log(u))
    r = v - _HALF
    q = r * r
    a, b, c, d, e, f = _SINE
    sine = r * (a + q * (b + q * (c + q * (d + q * (e + q * f)))))
    # cos(2 pi v) = -cos(2 pi r) = 2 sin^2(pi r) - 1
    return radius * (_TWO * sine * sine - _ONE)


_TWO_STEPS = U32(2 * 0x9E3779B9 & 0xFFFFFFFF)


def gaussian_reference(seed: int, counters: np.ndarray) -> np.ndarray:
    """The same noise in plain NumPy and float64, for an array of counters."""

    def mixed(x: np.ndarray) -> np.ndarray:
        x = (x ^ (x >> _S16)) * _FIRST
        x = (x ^ (x >> _S15)) * _SECOND
        return x ^ (x >> _S16)

    def uniform(x: np.ndarray) -> np.ndarray:
        return ((x >> _S8).astype(np.float64) + 0.5) * 2.0**-24

    place = mixed(np.array([seed], U32)) + counters.astype(U32) * _TWO_STEPS
    u, v = uniform(mixed(place)), uniform(mixed(place + _WEYL))
    return np.sqrt(-2 * np.log(u)) * np.cos(2 * np.pi * v)
