"""Plain twin of the range coder and the Laplace code: unbounded integers, one value at a time."""

from __future__ import annotations

from codec.arch.numerics import FREQ_BITS
from codec.bitstream.laplace import MAX_GOLOMB_PREFIX
from codec.bitstream.rangecoder import WINDOW_BITS, WINDOW_BYTES
from codec.bitstream.tables import NUM_FRACS, Tables
from codec.errors import BitstreamError

_FLOOR = 1 << (WINDOW_BITS - 8)


def _row(tables: Tables, mu_q4: int, scale_idx: int) -> tuple[int, int, list[int]]:
    """Integer location, half width and cumulative frequencies of one value."""
    mu_int = (mu_q4 + NUM_FRACS // 2) // NUM_FRACS
    row = scale_idx * NUM_FRACS + mu_q4 - NUM_FRACS * mu_int + NUM_FRACS // 2
    start, width = int(tables.row_start[row]), int(tables.half_width[scale_idx])
    return mu_int, width, tables.cdf[start : start + 2 * width + 3].tolist()


class ReferenceEncoder:
    """The interval [low, low + range) of all symbols so far, in units of 2^-(56 + 8 shifts)."""

    def __init__(self) -> None:
        self.low = 0
        self.range = 1 << WINDOW_BITS
        self.shifts = 0

    def encode(self, start: int, freq: int) -> None:
        """Code the interval [start, start + freq) of 2^16."""
        step = self.range >> FREQ_BITS
        self.low += step * start
        self.range = step * freq
        while self.range <= _FLOOR:
            self.low <<= 8
            self.range <<= 8
            self.shifts += 1

    def encode_bits(self, value: int, num_bits: int) -> None:
        """Code `num_bits` equiprobable bits."""
        unit = 1 << (FREQ_BITS - num_bits)
        self.encode(value * unit, unit)

    def encode_value(self, tables: Tables, value: int, mu_q4: int, scale_idx: int) -> None:
        """Code one value of a Laplace distribution."""
        mu_int, width, cdf = _row(tables, mu_q4, scale_idx)
        k = value - mu_int
        symbol = k + width if abs(k) <= width else 2 * width + 1
        self.encode(cdf[symbol], cdf[symbol + 1] - cdf[symbol])
        if abs(k) > width:
            order = int(tables.golomb_order[scale_idx])
            digits = f"{abs(k) - width - 1 + 2**order:b}"
            for digit in ("1" if k < 0 else "0") + "0" * (len(digits) - order - 1) + digits:
                self.encode_bits(int(digit), 1)

    def finish(self) -> bytes:
        """The shortest code whose value, continued with zero bytes, lies in the interval."""
        num_bytes = WINDOW_BYTES + self.shifts
        for length in range(num_bytes + 1):
            unit = 1 << 8 * (num_bytes - length)
            value = -(-self.low // unit)
            if value * unit < self.low + self.range:
                return value.to_bytes(length, "big")
        raise AssertionError("the interval is empty")


class ReferenceDecoder:
    """The distance of the code from the interval's start, and the interval's length."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.position = WINDOW_BYTES
        self.code = int.from_bytes(data[:WINDOW_BYTES].ljust(WINDOW_BYTES, b"\0"), "big")
        self.range = 1 << WINDOW_BITS

    def decode_quantile(self) -> int:
        """The point of [0, 2^16) that the next symbol contains.

        Raises:
            BitstreamError: a code that no encoder writes.
        """
        quantile = self.code // (self.range >> FREQ_BITS)
        if quantile >= 1 << FREQ_BITS:
            raise BitstreamError("a range-coded part leaves its range")
        return quantile

    def decode_advance(self, start: int, freq: int) -> None:
        """Remove the symbol [start, start + freq)."""
        step = self.range >> FREQ_BITS
        self.code -= step * start
        self.range = step * freq
        while self.range <= _FLOOR:
            following = self.data[self.position : self.position + 1] or b"\0"
            self.code = self.code * 256 + following[0]
            self.range <<= 8
            self.position += 1

    def decode_bits(self, num_bits: int) -> int:
        """Inverse of `encode_bits`."""
        unit = 1 << (FREQ_BITS - num_bits)
        value = self.decode_quantile() // unit
        self.decode_advance(value * unit, unit)
        return value

    def decode_value(self, tables: Tables, mu_q4: int, scale_idx: int) -> int:
        """Inverse of `encode_value`.

        Raises:
            BitstreamError: an Exp-Golomb prefix of more than 24 zeros.
        """
        mu_int, width, cdf = _row(tables, mu_q4, scale_idx)
        quantile = self.decode_quantile()
        symbol = max(i for i in range(2 * width + 2) if cdf[i] <= quantile)
        self.decode_advance(cdf[symbol], cdf[symbol + 1] - cdf[symbol])
        if symbol <= 2 * width:
            return mu_int + symbol - width
        sign = -1 if self.decode_bits(1) else 1
        prefix = 0
        while not self.decode_bits(1):
            prefix += 1
            if prefix > MAX_GOLOMB_PREFIX:
                raise BitstreamError("a range-coded value is longer than any that is allowed")
        order = int(tables.golomb_order[scale_idx])
        digits = "1" + "".join(str(self.decode_bits(1)) for _ in range(prefix + order))
        return mu_int + sign * (width + 1 + int(digits, 2) - 2**order)

    def is_exhausted(self) -> bool:
        """Whether every byte has been shifted in."""
        return self.position >= len(self.data)
