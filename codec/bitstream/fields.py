"""Fields of bytes: a writer that collects them and a cursor that never reads what is not there."""

from __future__ import annotations

from codec.errors import BitstreamError, UnsupportedVersionError

MAX_VARINT_BYTES = 9
MAX_VARINT = (1 << 7 * MAX_VARINT_BYTES) - 1


class FieldWriter:
    """Collects the fields of one chunk."""

    def __init__(self) -> None:
        self._data = bytearray()

    def u8(self, value: int) -> None:
        """One byte."""
        self._data += value.to_bytes(1, "little")

    def u32(self, value: int) -> None:
        """Four bytes, little-endian."""
        self._data += value.to_bytes(4, "little")

    def varint(self, value: int) -> None:
        """LEB128: groups of 7 bits, lowest first, the high bit set in all but the last byte."""
        assert 0 <= value <= MAX_VARINT, f"varint {value}"
        while value > 127:
            self._data.append(value & 127 | 128)
            value >>= 7
        self._data.append(value)

    def svarint(self, value: int) -> None:
        """A signed number as varint: 0, -1, 1, -2, ... become 0, 1, 2, 3, ..."""
        self.varint(2 * value if value >= 0 else -2 * value - 1)

    def raw(self, data: bytes) -> None:
        """Bytes as they are."""
        self._data += data

    def sized(self, data: bytes) -> None:
        """A varint length, then the bytes."""
        self.varint(len(data))
        self.raw(data)

    def finish(self) -> bytes:
        """All fields so far."""
        return bytes(self._data)


class Cursor:
    """Reads the fields of one chunk, in order, from bytes that are all in memory.

    Args:
        data: the payload.
        what: names the chunk in error messages.
        offset: where in the file `data` begins.
    """

    def __init__(self, data: bytes | memoryview, *, what: str, offset: int = 0) -> None:
        self._data = memoryview(data)
        self._what = what
        self._offset = offset
        self._position = 0

    def error(self, why: str) -> BitstreamError:
        """An error that names the chunk and the place reached in the file."""
        return BitstreamError(f"{self._what}, byte {self.offset}: {why}")

    def unsupported(self, what: str) -> UnsupportedVersionError:
        """An error for a use of reserved bits or numbers, which only a later version can define."""
        return UnsupportedVersionError(
            f"{self._what}, byte {self.offset}: {what} needs a newer version of modcodec"
        )

    @property
    def offset(self) -> int:
        """Place in the file of the next field."""
        return self._offset + self._position

    @property
    def remaining(self) -> int:
        """Bytes not read yet."""
        return len(self._data) - self._position

    def take(self, count: int, name: str) -> memoryview:
        """`count` bytes as they are.

        Raises:
            BitstreamError: fewer are left.
        """
        if not 0 <= count <= self.remaining:
            raise self.error(f"{name} needs {count} bytes, {self.remaining} are left")
        self._position += count
        return self._data[self._position - count : self._position]

    def u8(self, name: str) -> int:
        """One byte."""
        return self.take(1, name)[0]

    def u32(self, name: str) -> int:
        """Four bytes, little-endian."""
        return int.from_bytes(self.take(4, name), "little")

    def varint(self, name: str, *, low: int = 0, high: int = MAX_VARINT) -> int:
        """Inverse of `FieldWriter.varint`.

        Raises:
            BitstreamError: truncated, more than 9 bytes, not the shortest form, or a value
                outside [low, high].
        """
        value = 0
        for index in range(MAX_VARINT_BYTES):
            byte = self.u8(name)
            value |= (byte & 127) << 7 * index
            if byte < 128:
                break
        else:
            raise self.error(f"{name} is longer than {MAX_VARINT_BYTES} bytes")
        if byte == 0 and index > 0:
            raise self.error(f"{name} is not in its shortest form")
        if not low <= value <= high:
            raise self.error(f"{name} is {value}: it must be from {low} to {high}")
        return value

    def svarint(self, name: str) -> int:
        """Inverse of `FieldWriter.svarint`."""
        value = self.varint(name)
        return -(value + 1 >> 1) if value & 1 else value >> 1

    def sized(self, name: str) -> memoryview:
        """A varint length, then so many bytes."""
        return self.take(self.varint(f"length of {name}"), name)

    def rest(self) -> memoryview:
        """All bytes that are left."""
        return self.take(self.remaining, "the rest")

    def part(self, count: int, name: str) -> Cursor:
        """A cursor over the next `count` bytes, which this one skips."""
        offset = self.offset
        return Cursor(self.take(count, name), what=name, offset=offset)

    def copy(self) -> Cursor:
        """A cursor over what is left; this one stays where it is."""
        return Cursor(self._data[self._position :], what=self._what, offset=self.offset)

    def must_be_empty(self) -> None:
        """Check the end of the chunk.

        Raises:
            BitstreamError: bytes are left.
        """
        if self.remaining:
            raise self.error(f"{self.remaining} bytes too many")
