"""Exponential, logarithm and hyperbolic tangent of float32 as loops can vectorize them.

Calls into a library of mathematics do not vectorize; these are polynomials. Tests hold them to
float64.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from codec.jit import inner_float

F32 = np.float32

_LOG2_E = F32(1.4426950408889634)
_LN2_HIGH = F32(0.693145751953125)  # exact in 12 bits, so that n * _LN2_HIGH is exact
_LN2_LOW = F32(1.42860682030941723e-6)
_SQRT2 = F32(1.4142135623730951)
_EXP_LOWEST = F32(-87.0)
_EXP_HIGHEST = F32(88.0)
# exp(r) = 1 + r + r^2 p(r) for |r| <= ln(2) / 2: the Taylor series, whose rest is below 3e-8.
_EXP_TERMS = tuple(F32(1 / d) for d in (2, 6, 24, 120, 720, 5040))
_NEAR = F32(0.35)

_BIAS = np.int32(127)
_MANTISSA_BITS = np.int32(23)
_MANTISSA = np.int32(0x7FFFFF)
_ONE_BITS = np.int32(0x3F800000)

_HALF, _ONE, _TWO = F32(0.5), F32(1.0), F32(2.0)


def _bit_cast(source: types.Type, target: types.Type, kind: ir.Type):
    def generate(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], kind)

    return target(source), generate


@intrinsic
def _bits_of(typing_context, value):
    """The bits of a float32 as an int32."""
    return _bit_cast(types.float32, types.int32, ir.IntType(32))


@intrinsic
def _float_of(typing_context, bits):
    """The float32 of these bits."""
    return _bit_cast(types.int32, types.float32, ir.FloatType())


@inner_float(inline="always")
def _exp_rest(r):
    """(exp(r) - 1 - r) / r^2 for |r| <= 0.35."""
    a, b, c, d, e, f = _EXP_TERMS
    return a + r * (b + r * (c + r * (d + r * (e + r * f))))


@inner_float(inline="always")
def exp(x):
    """e^x in float32 to a relative 2e-7; x is first held to [-87, 88]."""
    x = min(max(x, _EXP_LOWEST), _EXP_HIGHEST)
    n = np.floor(x * _LOG2_E + _HALF)
    r = (x - n * _LN2_HIGH) - n * _LN2_LOW
    power = _float_of((np.int32(n) + _BIAS) << _MANTISSA_BITS)
    return (_ONE + (r + r * r * _exp_rest(r))) * power


@inner_float(inline="always")
def one_minus_exp_minus(x):
    """1 - e^-x for x >= 0 in float32, to a relative 5e-7 for small x as well."""
    r = -min(x, _NEAR)
    near = -(r + r * r * _exp_rest(r))
    return near if x < _NEAR else _ONE - exp(-x)


@inner_float(inline="always")
def log(x):
    """ln x in float32 for normal x > 0, to 3e-7 of max(1, |ln x|).

    x = 2^n m with sqrt(1/2) <= m < sqrt(2); ln m = 2 artanh(z), z = (m - 1) / (m + 1), |z| < 0.172.
    """
    bits = _bits_of(x)
    n = (bits >> _MANTISSA_BITS) - _BIAS
    m = _float_of((bits & _MANTISSA) | _ONE_BITS)
    is_large = m > _SQRT2
    m = m * _HALF if is_large else m
    exponent = F32(n + np.int32(is_large))
    z = (m - _ONE) / (m + _ONE)
    q = z * z
    series = _TWO + q * (F32(2 / 3) + q * (F32(2 / 5) + q * (F32(2 / 7) + q * F32(2 / 9))))
    return (exponent * _LN2_LOW + z * series) + exponent * _LN2_HIGH


@inner_float(inline="always")
def tanh(x):
    """tanh x in float32, to an absolute 3e-7."""
    return _ONE - _TWO / (exp(_TWO * x) + _ONE)
