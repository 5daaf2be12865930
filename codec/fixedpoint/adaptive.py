"""Modulated convolutions: the integer weights that a code makes of the shared ones."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from codec.errors import BitstreamError
from codec.fixedpoint.affine import Rows, Stack, make_rows, pack
from codec.fixedpoint.formats import rshift, sat

BAKED_FRAC = 12  # fraction bits of modulations and of baked weights
BAKED_MAX = (1 << 15) - 1
_DEMOD_BITS = 15  # bits that a weight keeps when it is squared


@dataclass(frozen=True)
class Modulated:
    """A convolution whose weights a code modulates, before any code is applied.

    `weight` is (out, in, taps) with `weight_exponent`, `code_map` (in, code) with `code_exponent`,
    and `bias` (out,) is aligned to the accumulator of baked weights; all int64. `form` is that of
    the resulting rows.
    """

    name: str
    weight: np.ndarray
    weight_exponent: int
    code_map: np.ndarray
    code_exponent: int
    bias: np.ndarray
    demod: bool
    form: tuple[int, int, int]
    input_max: int
    acc_max: int


def modulation_q12(layer: Modulated, code: np.ndarray) -> np.ndarray:
    """s = sat(1 + A z) of each input channel, Q12 int64, for a code z (code,) with A's exponent."""
    product = (layer.code_map * code.astype(np.int64)).sum(axis=1)
    shifted = rshift(product, 2 * layer.code_exponent - BAKED_FRAC)
    return sat((1 << BAKED_FRAC) + shifted, BAKED_MAX)


def demodulate_q12(products: np.ndarray) -> np.ndarray:
    """Each row of `products` (out, fan_in) int64 divided by its norm, Q12.

    The row is first shifted down to 15 bits; r = max(1, isqrt(sum p^2)) and then
    floor((2 p 2^12 + r) / (2 r)).
    """
    baked = np.empty_like(products)
    for row, values in enumerate(products):
        peak = int(np.abs(values).max())
        p = values >> max(0, peak.bit_length() - _DEMOD_BITS)
        norm = max(1, math.isqrt(int((p * p).sum())))
        baked[row] = ((p << (BAKED_FRAC + 1)) + norm) // (2 * norm)
    return baked


def bake(layer: Modulated, code: np.ndarray) -> Rows:
    """The rows of `layer` under one code (code,) of int.

    Raises:
        BitstreamError: a code under which an accumulator could leave its type.
    """
    scale = modulation_q12(layer, code)
    products = (layer.weight * scale[None, :, None]).reshape(layer.weight.shape[0], -1)
    if layer.demod:
        baked = demodulate_q12(products)
    else:
        baked = sat(rshift(products, layer.weight_exponent), BAKED_MAX)
    return make_rows(
        layer.name,
        baked,
        layer.bias,
        form=layer.form,
        input_max=layer.input_max,
        acc_max=layer.acc_max,
    )


def bake_numbered(layer: Modulated, codes: np.ndarray, number: int) -> Stack:
    """The layer under code `number` of a segment: 0 is zero, the others are `codes` (count, code).

    Raises:
        BitstreamError: as `bake`, naming the code.
    """
    code = codes[number - 1] if number else np.zeros(layer.code_map.shape[1], np.int64)
    try:
        return pack(bake(layer, code))
    except BitstreamError as error:
        raise BitstreamError(f"{error} (code {number})") from error
