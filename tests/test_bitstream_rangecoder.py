"""The range coder and the Laplace code against their plain twins, at the extremes, and for size."""

from __future__ import annotations

import constriction
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codec.arch.numerics import MAX_PARAM, NUM_SCALES
from codec.bitstream import laplace, rangecoder
from codec.bitstream.rangecoder_reference import ReferenceDecoder, ReferenceEncoder
from codec.bitstream.rate import symbol_costs_q16, value_cost_q16
from codec.bitstream.tables import load_tables
from codec.errors import BitstreamError
from codec.jit import njit

TABLES = load_tables()
LAPLACE = (TABLES.cdf, TABLES.row_start, TABLES.half_width, TABLES.golomb_order)


@njit
def encode_intervals(state, buffer, starts, freqs):
    for i in range(starts.size):
        rangecoder.encode(state, buffer, starts[i], freqs[i])


@njit
def decode_intervals(state, data, starts, freqs):
    """Number of symbols whose quantile fell into the right interval."""
    for i in range(starts.size):
        quantile = rangecoder.decode_quantile(state)
        if not starts[i] <= quantile < starts[i] + freqs[i]:
            return i
        rangecoder.decode_advance(state, data, starts[i], freqs[i])
    return starts.size


@njit
def encode_values(state, buffer, cdf, rows, widths, orders, values, mus_q4, scales):
    for i in range(values.size):
        laplace.encode_value(
            state, buffer, cdf, rows, widths, orders, values[i], mus_q4[i], scales[i]
        )


@njit
def decode_values(state, data, cdf, rows, widths, orders, mus_q4, scales):
    values = np.empty(mus_q4.size, np.int64)
    for i in range(mus_q4.size):
        values[i] = laplace.decode_value(
            state, data, cdf, rows, widths, orders, mus_q4[i], scales[i]
        )
    return values


@njit
def cost_q16(costs, rows, widths, orders, values, mus_q4, scales):
    total = 0
    for i in range(values.size):
        total += value_cost_q16(costs, rows, widths, orders, values[i], mus_q4[i], scales[i])
    return total


def run_encoder(function, *arguments, count):
    """(code, state before the flush) of a kernel that codes `count` values."""
    state = rangecoder.new_encoder_state()
    buffer = np.zeros(laplace.MAX_VALUE_BYTES * count + 1, np.uint8)
    function(state, buffer, *arguments)
    before = state.copy()
    length = rangecoder.flush(state, buffer)
    assert state[rangecoder.ERROR] == 0
    return buffer[:length].tobytes(), before


def code_intervals(intervals):
    """Code with kernel and twin, compare bytes and states, decode with both; returns the bytes."""
    starts = np.array([start for start, _ in intervals], np.int64)
    freqs = np.array([freq for _, freq in intervals], np.int64)
    data, state = run_encoder(encode_intervals, starts, freqs, count=len(intervals))
    twin = ReferenceEncoder()
    for start, freq in intervals:
        twin.encode(start, freq)
    assert data == twin.finish()
    assert state[rangecoder.LOW] == twin.low % 2**56
    assert state[rangecoder.RANGE] == twin.range
    assert state[rangecoder.POSITION] == twin.shifts

    buffer = np.frombuffer(data, np.uint8)
    decoder = rangecoder.new_decoder_state(buffer)
    assert decode_intervals(decoder, buffer, starts, freqs) == len(intervals)
    assert rangecoder.is_exhausted(decoder, buffer)
    twin = ReferenceDecoder(data)
    for start, freq in intervals:
        assert start <= twin.decode_quantile() < start + freq
        twin.decode_advance(start, freq)
    assert twin.is_exhausted()
    assert decoder.tolist() == [twin.code, twin.range, twin.position, 0, len(data)]
    return data


INTERVALS = st.tuples(st.integers(0, 65535), st.integers(1, 65536)).map(
    lambda pair: (pair[0], min(pair[1], 65536 - pair[0]))
)


@settings(deadline=None, max_examples=200)
@given(st.lists(INTERVALS, max_size=60))
def test_any_intervals(intervals):
    code_intervals(intervals)


@pytest.mark.parametrize(
    "intervals",
    [
        [],
        [(0, 65536)] * 50,
        [(65535, 1)] * 50,
        [(0, 1)] * 50,
        [(1, 65535)] * 300,
        [(0, 65535)] * 300,
        [(32767, 2)] * 100,
        [(65535, 1)] * 20 + [(0, 1)] * 20 + [(65535, 1)] * 3,
    ],
    ids=["none", "certain", "last", "first", "high", "low", "middle", "mixed"],
)
def test_extreme_intervals(intervals):
    code_intervals(intervals)


def test_no_symbols_cost_no_bytes():
    assert code_intervals([]) == b""
    assert code_intervals([(0, 60000)] * 30) == b""


@pytest.mark.parametrize("count", [1, 10, 400])
def test_carry_runs_through_bytes_of_255(count):
    """Intervals straddle 1/2 until the last one lies above it: 7F FF FF ... becomes 80 00 00."""
    guide = ReferenceDecoder(b"\x80")
    intervals = [(0, 65535)]
    guide.decode_advance(*intervals[0])
    for _ in range(count):
        quantile = guide.decode_quantile()
        intervals.append((max(quantile - 1, 0), 3))
        guide.decode_advance(*intervals[-1])
    quantile = guide.decode_quantile()
    assert code_intervals([*intervals, (quantile + 1, 1)])[:count] == b"\x80".ljust(count, b"\0")
    below = code_intervals([*intervals, (quantile - 1, 1)])
    assert below[:count] == b"\x7f".ljust(count, b"\xff")


def test_carry_into_written_bytes():
    """A state just below a carry, with a run of 255 behind it, against unbounded integers."""
    state = rangecoder.new_encoder_state()
    buffer = np.zeros(64, np.uint8)
    buffer[:40] = [3, *([255] * 39)]
    state[:3] = (2**56 - 5, 2**56, 40)
    rangecoder.encode(state, buffer, 1, 65535)
    assert buffer[:40].tolist() == [4, *([0] * 39)]
    assert state[rangecoder.LOW] == 2**40 - 5
    length = rangecoder.flush(state, buffer)
    assert buffer[:length].tolist() == [4, *([0] * 39), 1]


def test_full_buffer_is_an_error_not_a_write():
    state = rangecoder.new_encoder_state()
    whole = np.full(64, 7, np.uint8)
    buffer = whole[:10]
    encode_intervals(state, buffer, np.full(40, 65535), np.full(40, 1))
    assert state[rangecoder.ERROR] == rangecoder.ERROR_FULL
    rangecoder.flush(state, buffer)
    assert (whole[10:] == 7).all()


def values_of(triples):
    """(values, locations, scales) as int64 arrays."""
    return tuple(np.array(column, np.int64) for column in zip(*triples, strict=True))


def code_values(triples):
    """Kernel and twin, both ways; returns the bytes."""
    values, mus_q4, scales = values_of(triples)
    data, state = run_encoder(encode_values, *LAPLACE, values, mus_q4, scales, count=len(triples))
    twin = ReferenceEncoder()
    for triple in triples:
        twin.encode_value(TABLES, *triple)
    assert data == twin.finish()
    assert state[rangecoder.LOW] == twin.low % 2**56
    buffer = np.frombuffer(data, np.uint8)
    decoder = rangecoder.new_decoder_state(buffer)
    assert decode_values(decoder, buffer, *LAPLACE, mus_q4, scales).tolist() == values.tolist()
    assert rangecoder.is_exhausted(decoder, buffer)
    twin = ReferenceDecoder(data)
    assert [twin.decode_value(TABLES, mu, s) for _, mu, s in triples] == values.tolist()
    assert decoder.tolist() == [twin.code, twin.range, twin.position, 0, len(data)]
    return data


LATENTS = st.tuples(
    st.integers(-255, 255), st.integers(-255 * 16, 255 * 16), st.integers(0, NUM_SCALES - 1)
)
PARAMS = st.tuples(st.integers(-MAX_PARAM, MAX_PARAM), st.just(0), st.integers(0, NUM_SCALES - 1))


@settings(deadline=None, max_examples=150)
@given(st.lists(LATENTS | PARAMS, min_size=1, max_size=40))
def test_any_values(triples):
    code_values(triples)


def test_every_symbol_of_every_row():
    """Each value from -W - 2 to W + 2 in each of the 81 * 16 rows, kernel only (94 000 symbols)."""
    triples = [
        (k + (mu + 8 >> 4), mu, scale)
        for scale in range(NUM_SCALES)
        for mu in range(-8 + 16 * 5, 8 + 16 * 5)
        for k in range(-int(TABLES.half_width[scale]) - 2, int(TABLES.half_width[scale]) + 3)
    ]
    values, mus_q4, scales = values_of(triples)
    data, _ = run_encoder(encode_values, *LAPLACE, values, mus_q4, scales, count=len(triples))
    buffer = np.frombuffer(data, np.uint8)
    state = rangecoder.new_decoder_state(buffer)
    assert (decode_values(state, buffer, *LAPLACE, mus_q4, scales) == values).all()
    assert rangecoder.is_exhausted(state, buffer)
    cost = cost_q16(symbol_costs_q16(), *LAPLACE[1:], values, mus_q4, scales) / 2**16
    assert abs(8 * len(data) - cost) < 8 + 1e-4 * cost


@pytest.mark.parametrize("scale", [0, 40, 80])
def test_longest_value_fits_into_its_reserve(scale):
    order = int(TABLES.golomb_order[scale])
    width = int(TABLES.half_width[scale])
    largest = width + (2 << laplace.MAX_GOLOMB_PREFIX + order) - (1 << order)
    for value in (largest, -largest):
        data = code_values([(value, 0, scale)] * 3)
        assert len(data) <= 3 * laplace.MAX_VALUE_BYTES
    state = rangecoder.new_encoder_state()
    buffer = np.zeros(64, np.uint8)
    encode_values(
        state, buffer, *LAPLACE, np.array([largest + 1]), np.array([0]), np.array([scale])
    )
    assert state[rangecoder.ERROR] == rangecoder.ERROR_GOLOMB


def test_endless_prefix_is_an_error():
    """An escape, then zeros for ever."""
    twin = ReferenceEncoder()
    start, width = int(TABLES.row_start[40 * 16 + 8]), int(TABLES.half_width[40])
    escape = int(TABLES.cdf[start + 2 * width + 1])
    twin.encode(escape, 65536 - escape)
    for _ in range(30):
        twin.encode_bits(0, 1)
    twin.encode_bits(1, 1)
    buffer = np.frombuffer(twin.finish(), np.uint8)
    state = rangecoder.new_decoder_state(buffer)
    decode_values(state, buffer, *LAPLACE, np.array([0]), np.array([40]))
    assert state[rangecoder.ERROR] == rangecoder.ERROR_GOLOMB
    with pytest.raises(BitstreamError):
        ReferenceDecoder(buffer.tobytes()).decode_value(TABLES, 0, 40)


def test_a_code_outside_the_range_is_an_error():
    """Freq 3 makes range / 2^16 inexact, and bytes of 255 then lie behind the last symbol."""
    buffer = np.full(200, 255, np.uint8)
    state = rangecoder.new_decoder_state(buffer)
    for _ in range(60):
        quantile = rangecoder.decode_quantile(state)
        assert 0 <= quantile < 65536
        rangecoder.decode_advance(state, buffer, 65533, 3)
    assert state[rangecoder.ERROR] == rangecoder.ERROR_QUANTILE
    assert not rangecoder.is_exhausted(state, buffer)
    twin = ReferenceDecoder(buffer.tobytes())
    with pytest.raises(BitstreamError, match="leaves its range"):
        decode_last_intervals(twin, 60)


def decode_last_intervals(twin, count):
    for _ in range(count):
        twin.decode_quantile()
        twin.decode_advance(65533, 3)


def test_left_over_bytes_are_seen():
    data = code_values([(3, 0, 40)] * 5) + b"\x01" * 8
    buffer = np.frombuffer(data, np.uint8)
    state = rangecoder.new_decoder_state(buffer)
    decode_values(state, buffer, *LAPLACE, np.zeros(5, np.int64), np.full(5, 40))
    assert not rangecoder.is_exhausted(state, buffer)


@settings(deadline=None, max_examples=60)
@given(st.binary(max_size=60), st.integers(0, NUM_SCALES - 1))
def test_noise_decodes_without_harm(data, scale):
    """Kernel and twin agree on any bytes, up to the symbol where the twin refuses."""
    buffer = np.frombuffer(data, np.uint8)
    state = rangecoder.new_decoder_state(buffer)
    twin = ReferenceDecoder(data)
    for _ in range(20):
        value = laplace.decode_value(state, buffer, *LAPLACE, 0, scale)
        try:
            expected = twin.decode_value(TABLES, 0, scale)
        except BitstreamError:
            assert state[rangecoder.ERROR] != 0
            return
        assert state[rangecoder.ERROR] == 0
        assert value == expected


def test_size_against_constriction():
    """100 000 symbols of one row: as small as the ideal, and as another range coder's."""
    rng = np.random.default_rng(1)
    scale, count = 52, 100_000
    start, width = int(TABLES.row_start[scale * 16 + 8]), int(TABLES.half_width[scale])
    freqs = np.diff(TABLES.cdf[start : start + 2 * width + 3]).astype(np.float64)
    # Without the escape, whose payload constriction's model does not have.
    symbols = rng.choice(2 * width + 1, count, p=freqs[:-1] / freqs[:-1].sum())
    model = constriction.stream.model.Categorical(freqs / 65536, perfect=False)
    other = constriction.stream.queue.RangeEncoder()
    other.encode(symbols.astype(np.int32), model)
    theirs = 4 * len(other.get_compressed())
    values = symbols.astype(np.int64) - width
    arguments = (values, np.zeros(count, np.int64), np.full(count, scale))
    data, _ = run_encoder(encode_values, *LAPLACE, *arguments, count=count)
    ideal = -np.log2(freqs[symbols] / 65536).sum() / 8
    assert abs(len(data) - ideal) < 2 + 1e-6 * ideal
    assert abs(len(data) - theirs) < 8 + 1e-3 * theirs
    cost = cost_q16(symbol_costs_q16(), *LAPLACE[1:], *arguments)
    assert cost / 2**19 == pytest.approx(ideal, rel=1e-5)
