"""Arrays of small integers, range coded with one Laplace scale each: weights, biases, codes."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from codec.arch.numerics import MAX_PARAM, NUM_SCALES
from codec.arch.parameters import ParamSpec
from codec.bitstream import laplace, rangecoder
from codec.bitstream.rate import symbol_costs_q16, value_cost_q16
from codec.bitstream.tables import load_tables
from codec.errors import BitstreamError
from codec.jit import njit

SCALE_BITS = 7
EXPONENT_BITS = 5
_SPARE_BYTES = 64
_MAX_DIFFERENCE = 2 * MAX_PARAM


def default_values(spec: ParamSpec, exponent: int) -> np.ndarray:
    """What the coded integers of a tensor are differences from: int32 of its shape.

    Formula: rshift(default << exponent, 8), of which there is one for all values, one for each, or
    one for each place along the last axis.
    """
    values = (np.array(spec.default_q8, np.int64) << exponent) + 128 >> 8
    if values.size == spec.size:
        values = values.reshape(spec.shape)
    return np.broadcast_to(values, spec.shape).astype(np.int32)


@njit
def _encode_array(state, buffer, cdf, row_start, half_width, golomb_order, values, scale_idx):
    for i in range(values.size):
        laplace.encode_value(
            state, buffer, cdf, row_start, half_width, golomb_order, values[i], 0, scale_idx
        )


@njit
def _decode_array(state, data, cdf, row_start, half_width, golomb_order, values, scale_idx):
    for i in range(values.size):
        values[i] = laplace.decode_value(
            state, data, cdf, row_start, half_width, golomb_order, 0, scale_idx
        )
        if state[rangecoder.ERROR] != 0:
            return


class ParameterEncoder:
    """Range encoder for `max_values` integers and a few fields of bits."""

    def __init__(self, max_values: int) -> None:
        self._state = rangecoder.new_encoder_state()
        size = laplace.MAX_VALUE_BYTES * max_values + _SPARE_BYTES
        self._buffer = np.zeros(size, np.uint8)

    def bits(self, value: int, num_bits: int) -> None:
        """A field of up to 16 bits."""
        rangecoder.encode_bits(self._state, self._buffer, value, num_bits)

    def array(self, values: np.ndarray, scale_idx: int) -> None:
        """All values of an integer array, in C order, around 0 with the given scale."""
        flat = np.ascontiguousarray(values, np.int64).reshape(-1)
        _encode_array(self._state, self._buffer, *load_tables()[:4], flat, scale_idx)

    def finish(self) -> bytes:
        """The code."""
        length = rangecoder.flush(self._state, self._buffer)
        assert self._state[rangecoder.ERROR] == 0, "a parameter exceeds its range"
        return self._buffer[:length].tobytes()


class ParameterDecoder:
    """Inverse of `ParameterEncoder`; `what` names the part in error messages."""

    def __init__(self, data: bytes | memoryview, *, what: str) -> None:
        self._data = np.frombuffer(bytes(data), np.uint8)
        self._state = rangecoder.new_decoder_state(self._data)
        self._what = what

    def bits(self, num_bits: int) -> int:
        """A field of bits."""
        return int(rangecoder.decode_bits(self._state, self._data, num_bits))

    def scale(self) -> int:
        """The index of a Laplace scale.

        Raises:
            BitstreamError: there is no such scale.
        """
        scale_idx = self.bits(SCALE_BITS)
        if scale_idx >= NUM_SCALES:
            raise BitstreamError(f"{self._what}: there is no scale number {scale_idx}")
        return scale_idx

    def array(self, count: int, scale_idx: int) -> np.ndarray:
        """`count` values, int64.

        Raises:
            BitstreamError: a code that no encoder writes, or a value beyond any parameter's range.
        """
        values = np.zeros(count, np.int64)
        _decode_array(self._state, self._data, *load_tables()[:4], values, scale_idx)
        if self._state[rangecoder.ERROR] or (np.abs(values) > _MAX_DIFFERENCE).any():
            raise BitstreamError(f"{self._what}: the range-coded parameters are damaged")
        return values

    def finish(self) -> None:
        """Check that everything was consumed.

        Raises:
            BitstreamError: it was not.
        """
        if not rangecoder.is_exhausted(self._state, self._data):
            raise BitstreamError(f"{self._what}: bytes are left after the range-coded parameters")


@njit
def _scale_costs_q16(costs, row_start, half_width, golomb_order, values, counts, num_scales):
    totals = np.zeros(num_scales, np.int64)
    for scale_idx in range(num_scales):
        for i in range(values.size):
            totals[scale_idx] += counts[i] * value_cost_q16(
                costs, row_start, half_width, golomb_order, values[i], 0, scale_idx
            )
    return totals


def scale_costs_q16(arrays: Iterable[np.ndarray]) -> np.ndarray:
    """What the arrays together cost with each Laplace scale, int64[81] in 2^-16 bits."""
    flat = np.concatenate([np.zeros(0, np.int64), *(np.ravel(array) for array in arrays)])
    values, counts = np.unique(flat.astype(np.int64), return_counts=True)
    tables = load_tables()[1:4]
    return _scale_costs_q16(symbol_costs_q16(), *tables, values, counts, NUM_SCALES)


@njit
def _cost_table_q16(costs, row_start, half_width, golomb_order, scale_idx, reach):
    table = np.zeros(2 * reach + 1, np.int64)
    for i in range(table.size):
        table[i] = value_cost_q16(
            costs, row_start, half_width, golomb_order, i - reach, 0, scale_idx
        )
    return table


def cost_table_q16(scale_idx: int, reach: int) -> np.ndarray:
    """What the values from -reach to reach cost with one scale, int64[2 reach + 1], 2^-16 bits."""
    return _cost_table_q16(symbol_costs_q16(), *load_tables()[1:4], scale_idx, reach)
