"""The tables against their definition in other arithmetic, and their pinned hash."""

from __future__ import annotations

import math
import statistics
from pathlib import Path

import numpy as np
import pytest

from codec.arch.numerics import NUM_SCALES
from codec.bitstream import make_tables, tables
from codec.bitstream.rate import log2_q16, symbol_costs_q16

SHA256 = "24e4d974a946cc3917b2b47d0204756c8705b692e39d4187061ca6856454b57b"


def rows():
    """(scale, frac, frequencies) of every row."""
    loaded = tables.load_tables()
    for scale in range(NUM_SCALES):
        for frac in range(-8, 8):
            start = loaded.row_start[scale * 16 + frac + 8]
            cdf = loaded.cdf[start : start + 2 * loaded.half_width[scale] + 3]
            assert cdf[0] == 0
            assert cdf[-1] == 65536
            yield scale, frac, np.diff(cdf)


def test_hash_is_pinned():
    assert tables.tables_sha256() == SHA256
    page = Path(__file__).parents[1] / "docs" / "bitstream.md"
    assert SHA256 in page.read_text(encoding="utf-8")


def test_generator_makes_the_file():
    made = make_tables.make_tables()
    with np.load(make_tables.TABLE_FILE) as file:
        assert set(file.files) == set(made)
        for name, values in made.items():
            assert np.array_equal(file[name], values), name
    assert make_tables.TABLE_FILE.stat().st_size < 300_000


def test_rows_are_laplace_distributions():
    """Each frequency is 1 + (2^16 - n) times the mass, give or take one, in double precision."""
    for scale, frac, freqs in rows():
        b, width = math.exp(scale / 8 - 5), (len(freqs) - 2) // 2
        assert width == min(max(math.ceil(8 * b) + 1, 2), 96)
        edges = np.arange(-width, width + 2) - 0.5 - frac / 16
        below = np.where(edges < 0, np.exp(np.minimum(edges, 0) / b) / 2, 0)
        cdf = np.where(edges < 0, below, 1 - np.exp(-np.maximum(edges, 0) / b) / 2)
        masses = np.append(np.diff(cdf), cdf[0] + 1 - cdf[-1])
        assert np.abs(freqs - 1 - (65536 - len(freqs)) * masses).max() < 1 + 1e-6
        assert freqs.min() >= 1


def test_golomb_orders():
    orders = tables.load_tables().golomb_order
    assert orders.tolist() == [
        max(0, math.floor(math.log2(math.exp(scale / 8 - 5)))) for scale in range(NUM_SCALES)
    ]


def test_gaussian_table():
    normal = statistics.NormalDist()
    expected = [round(64 * normal.inv_cdf((i + 0.5) / 256)) for i in range(256)]
    assert tables.load_tables().gauss_q6.tolist() == expected


def test_costs_of_symbols():
    values = np.concatenate([np.arange(1, 70000), 2 ** np.arange(31), 2 ** np.arange(2, 31) - 1])
    assert np.abs(log2_q16(values) - 65536 * np.log2(values)).max() < 0.51
    loaded = tables.load_tables()
    costs = symbol_costs_q16()
    for scale, frac, freqs in rows():
        start = loaded.row_start[scale * 16 + frac + 8]
        expected = -65536 * np.log2(freqs / 65536)
        assert costs[start : start + len(freqs)] == pytest.approx(expected, abs=0.51)
        assert costs[start + len(freqs)] == 0
