"""Bytes of fields, and that a cursor refuses all that a writer does not write."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codec.bitstream.fields import MAX_VARINT, Cursor, FieldWriter
from codec.errors import BitstreamError, UnsupportedVersionError


def cursor(data):
    return Cursor(data, what="test chunk", offset=100)


def written(method, *arguments):
    writer = FieldWriter()
    getattr(writer, method)(*arguments)
    return writer.finish()


@settings(deadline=None)
@given(st.integers(0, MAX_VARINT) | st.integers(0, 300))
def test_varints(value):
    data = written("varint", value)
    assert len(data) == max(1, -(-value.bit_length() // 7))
    assert cursor(data).varint("value") == value
    with pytest.raises(BitstreamError, match="needs 1 bytes, 0 are left"):
        cursor(data[:-1]).varint("value")


@settings(deadline=None)
@given(st.integers(-(1 << 61), 1 << 61))
def test_signed_varints(value):
    assert cursor(written("svarint", value)).svarint("value") == value


def test_bytes_of_varints():
    for value, data in ((0, "00"), (127, "7f"), (128, "8001"), (300, "ac02"), (1 << 14, "808001")):
        assert written("varint", value).hex() == data
    assert [written("svarint", value)[0] for value in (0, -1, 1, -2, 2)] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("data", ["8000", "ff00", "80808000", "ff" * 9, "ff" * 9 + "01", "80" * 9])
def test_wrong_varints(data):
    with pytest.raises(BitstreamError, match=r"test chunk, byte 10[0-9]: value"):
        cursor(bytes.fromhex(data)).varint("value")


def test_range_of_varints():
    assert cursor(b"\x05").varint("value", low=5, high=5) == 5
    for low, high in ((6, 9), (0, 4)):
        with pytest.raises(BitstreamError, match=f"value is 5: it must be from {low} to {high}"):
            cursor(b"\x05").varint("value", low=low, high=high)


def test_other_fields():
    writer = FieldWriter()
    writer.u8(255)
    writer.u32(0xDEADBEEF)
    writer.sized(b"abc")
    writer.raw(b"tail")
    fields = cursor(writer.finish())
    assert (fields.u8("a"), fields.u32("b")) == (255, 0xDEADBEEF)
    assert (bytes(fields.sized("c")), fields.offset, fields.remaining) == (b"abc", 109, 4)
    with pytest.raises(BitstreamError, match="byte 109: 4 bytes too many"):
        fields.must_be_empty()
    assert bytes(fields.copy().rest()) == b"tail"
    part = fields.part(3, "piece")
    assert (bytes(part.rest()), bytes(fields.rest())) == (b"tai", b"l")
    with pytest.raises(BitstreamError, match=r"^piece, byte 112"):
        part.u8("more")
    fields.must_be_empty()


def test_lengths_are_checked_before_bytes_are_taken():
    data = written("varint", 1 << 50) + b"short"
    with pytest.raises(BitstreamError, match=f"needs {1 << 50} bytes, 5 are left"):
        cursor(data).sized("name")
    assert isinstance(cursor(b"").unsupported("motion"), UnsupportedVersionError)
