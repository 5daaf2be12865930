"""The examples in docs/bitstream.md are what the program does."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np

from codec.arch import Grid, parse_layers
from codec.arch.motion import INTERPOLATION_Q7, MAX_ANCHOR_SPAN, VECTOR_FRAC
from codec.arch.network import CONTEXT_ORDER
from codec.arch.parameters import GROUP_EXPONENTS
from codec.bitstream import chunks
from codec.bitstream.rangecoder_reference import ReferenceDecoder
from codec.bitstream.reader import StreamReader
from codec.bitstream.tables import load_tables
from codec.fixedpoint.empty_flags import MAX_FREQ, MIN_FREQ
from codec.fixedpoint.motion import MAX_VECTOR

TEXT = (Path(__file__).parents[1] / "docs" / "bitstream.md").read_text(encoding="utf-8")


def section(start, end):
    return TEXT[TEXT.index(start) : TEXT.index(end)]


def test_the_example_still():
    lines = TEXT.split("## 7. An example")[1].split("```")[1].splitlines()
    fields = [line.strip().split("  ")[0] for line in lines]
    data = bytes.fromhex("".join(fields))
    assert len(data) == 39
    reader = StreamReader(io.BytesIO(data))
    (segment,) = reader.segments()
    assert (reader.info.width, reader.info.height, reader.info.format.layout) == (2, 1, "rgb")
    network = reader.network(0)
    assert network.arch.grids == (Grid(0),)
    assert network.arch.synthesis == parse_layers(["X-1-linear-none"], num_out=3)
    assert set(network.exponents.values()) == {8}
    assert not any(values.any() for values in network.values.values())
    assert (segment.grid_present, segment.substreams) == ((False,), (b"",))


def test_the_example_values():
    part = section("For example, the values", "### 3.4")
    values = [int(v) for v in re.search(r"values ([-0-9, ]+) with", part)[1].split(",")]
    models = [(int(mu), int(s)) for mu, s in re.findall(r"\((-?\d+), (\d+)\)", part)]
    decoder = ReferenceDecoder(bytes.fromhex(re.search(r"string `([^`]+)`", part)[1]))
    tables = load_tables()
    assert [decoder.decode_value(tables, mu, s) for mu, s in models] == values
    assert decoder.is_exhausted()


def test_the_example_rows():
    tables = load_tables()
    found = 0
    for scale, frac, row in re.findall(
        r"[Ss]cale (\d+), fraction (-?\d+)[^`]*?`([0-9\s]+)`", section("Some rows", "### 3.3")
    ):
        start = tables.row_start[int(scale) * 16 + int(frac) + 8]
        freqs = [int(freq) for freq in row.split()]
        assert np.diff(tables.cdf[start : start + len(freqs) + 1]).tolist() == freqs
        found += 1
    assert found == 3
    count = tables.cdf.size - tables.row_start.size
    assert f"{count // 1000} {count % 1000} numbers" in TEXT


def test_constants_of_the_page():
    contexts = re.findall(r"\((-?\d),(-?\d)\)", section("### 3.4", "### 3.5"))
    assert [(int(dy), int(dx)) for dy, dx in contexts] == list(CONTEXT_ORDER)
    groups = re.findall(
        r"\| ([a-z_.]+) \| (\d+) \.\. (\d+) ", section("Groups, in", "**Codes** belong")
    )
    assert {name: (int(low), int(high)) for name, low, high in groups} == GROUP_EXPONENTS
    taps = section("### 5.11", "### 5.12").split("|---|\n")[1].split("\n\n")[0]
    rows = [[int(v) for v in re.findall(r"-?\d+", line)] for line in taps.splitlines()]
    assert [tuple(row[1:]) for row in rows] == list(INTERPOLATION_Q7)
    assert [row[0] for row in rows] == list(range(16))
    assert f"sat(a, {MAX_VECTOR})" in TEXT
    assert f"n_empty), {MIN_FREQ}, {MAX_FREQ})" in TEXT
    assert f"vector_frac, 0 .. {VECTOR_FRAC}" in TEXT
    assert f"log2 of anchor_span, 0 .. {MAX_ANCHOR_SPAN.bit_length() - 1}" in TEXT
    types = dict(re.findall(r"\| 0x([0-9A-F]{2}) \| (\w+) \|", TEXT))
    assert {int(kind, 16): name for kind, name in types.items()} == chunks.CHUNK_NAMES
    assert f"`{chunks.MAGIC.hex(' ').upper()}`" in TEXT
