"""The range coder as kernels on a state array, to be compiled into the loops that use it.

Carry-propagating coder with a 56-bit window: `low` < 2^56 and 2^48 < `range` <= 2^56 between
symbols; a symbol is an interval [start, start + freq) of 2^16.
"""

from __future__ import annotations

import numpy as np

from codec.arch.numerics import FREQ_BITS
from codec.jit import inner, njit

WINDOW_BITS = 56
WINDOW_BYTES = WINDOW_BITS // 8
STATE_SIZE = 5
# Entries of a state. LOW belongs to the encoder; the decoder holds value - low in its place (CODE).
LOW = CODE = 0
RANGE = 1
POSITION = 2  # bytes written, or bytes shifted in (those past the end, read as zero, included)
ERROR = 3  # 0, or one of the numbers below: the first thing that went wrong
SIZE = 4  # decoder: bytes that there are

ERROR_FULL = 1  # encoder: the buffer is too small
ERROR_QUANTILE = 2  # decoder: a code that no encoder writes
ERROR_GOLOMB = 3  # a prefix of more than MAX_GOLOMB_PREFIX zeros

_TOP = 1 << WINDOW_BITS
_SHIFT = WINDOW_BITS - 8
_BOTTOM = 1 << _SHIFT
_TOTAL = 1 << FREQ_BITS


def new_encoder_state() -> np.ndarray:
    """State of an encoder that has written nothing, int64[STATE_SIZE]."""
    return np.array([0, _TOP, 0, 0, 0], np.int64)


@inner
def _carry(buffer, position):
    """Add one to the bytes written so far."""
    i = min(position, buffer.size) - 1
    while i >= 0 and buffer[i] == 255:
        buffer[i] = 0
        i -= 1
    if i >= 0:
        buffer[i] += 1


@njit
def encode(state, buffer, start, freq):
    """Code the interval [start, start + freq) of 2^16, freq >= 1.

    Sets the state's ERROR to ERROR_FULL where `buffer` (uint8) has no room left.
    """
    step = state[RANGE] >> FREQ_BITS
    low = state[LOW] + step * start
    span = step * freq
    position = state[POSITION]
    if low >= _TOP:
        low -= _TOP
        _carry(buffer, position)
    while span <= _BOTTOM:
        if position < buffer.size:
            buffer[position] = low >> _SHIFT
        elif state[ERROR] == 0:
            state[ERROR] = ERROR_FULL
        position += 1
        low = (low & (_BOTTOM - 1)) << 8
        span <<= 8
    state[LOW] = low
    state[RANGE] = span
    state[POSITION] = position


@njit
def encode_bits(state, buffer, value, num_bits):
    """Code `num_bits` (0 to 16) equiprobable bits."""
    encode(state, buffer, value << (FREQ_BITS - num_bits), 1 << (FREQ_BITS - num_bits))


@njit
def flush(state, buffer):
    """End the code and return its length in bytes: the shortest one, without trailing zeros.

    Missing bytes read as zero, so at most one more byte is needed; `buffer` must have room for it.
    """
    low, span, position = state[LOW], state[RANGE], state[POSITION]
    if position + 1 > buffer.size:
        if state[ERROR] == 0:
            state[ERROR] = ERROR_FULL
        return position
    if low + span > _TOP and low > 0:
        _carry(buffer, position)
    elif low > 0:
        # Here low <= 2^56 - span < 2^56 - 2^48: rounded up, the byte is at most 255.
        buffer[position] = (low + _BOTTOM - 1) >> _SHIFT
        position += 1
    while position > 0 and buffer[position - 1] == 0:
        position -= 1
    state[POSITION] = position
    return position


@njit
def new_decoder_state(data):
    """State of a decoder at the start of `data` (uint8), int64[STATE_SIZE]."""
    state = np.zeros(STATE_SIZE, np.int64)
    code = np.int64(0)
    for i in range(WINDOW_BYTES):
        code = (code << 8) | (np.int64(data[i]) if i < data.size else 0)
    state[CODE] = code
    state[RANGE] = _TOP
    state[POSITION] = WINDOW_BYTES
    state[SIZE] = data.size
    return state


@njit(forceinline=True)
def decode_quantile(state):
    """The point of [0, 2^16) that the next symbol's interval contains.

    Sets ERROR to ERROR_QUANTILE, and goes on inside the range, for a code that no encoder writes.
    """
    step = state[RANGE] >> FREQ_BITS
    # Unsigned: both are positive, and the compiler then divides without correcting for signs.
    quantile = np.int64(np.uint64(state[CODE]) // np.uint64(step))
    if quantile >= _TOTAL:
        if state[ERROR] == 0:
            state[ERROR] = ERROR_QUANTILE
        state[CODE] = (step << FREQ_BITS) - 1
        quantile = np.int64(_TOTAL - 1)
    return quantile


@njit(forceinline=True)
def decode_advance(state, data, start, freq):
    """Remove the symbol [start, start + freq) that contains the quantile just read.

    `state` and `data` are arrays, or pointers to their elements.
    """
    step = state[RANGE] >> FREQ_BITS
    code = state[CODE] - step * start
    span = step * freq
    position = state[POSITION]
    while span <= _BOTTOM:
        code <<= 8
        if position < state[SIZE]:
            code |= np.int64(data[position])
        position += 1
        span <<= 8
    state[CODE] = code
    state[RANGE] = span
    state[POSITION] = position


@njit
def decode_bits(state, data, num_bits):
    """Inverse of `encode_bits`."""
    value = decode_quantile(state) >> (FREQ_BITS - num_bits)
    decode_advance(state, data, value << (FREQ_BITS - num_bits), 1 << (FREQ_BITS - num_bits))
    return value


@njit
def is_exhausted(state, data):
    """Whether the code was sound so far and every byte of it has been shifted in."""
    return state[ERROR] == 0 and state[POSITION] >= data.size
