"""The payload of an audio chunk: the packets of the source, copied, with what a muxer needs."""

from __future__ import annotations

from codec.bitstream.fields import Cursor, FieldWriter
from codec.bitstream.header import MAX_TIME, read_fraction, write_fraction
from codec.media.frames import AudioTrack

_MAX_NAME = 64
_MIN_PACKET_BYTES = 3


def write_audio(track: AudioTrack) -> bytes:
    """Codec, rate, layout, time base, extradata; then each packet's gap, duration and bytes."""
    writer = FieldWriter()
    writer.sized(track.codec.encode("ascii"))
    writer.varint(track.sample_rate)
    writer.sized(track.layout.encode("ascii"))
    write_fraction(writer, track.time_base)
    writer.sized(track.extradata)
    writer.varint(len(track.packets))
    expected = 0
    for pts, duration, payload in track.packets:
        writer.svarint(pts - expected)
        writer.varint(duration)
        writer.sized(payload)
        expected = pts + duration
    return writer.finish()


def read_audio(cursor: Cursor) -> AudioTrack:
    """Inverse of `write_audio`; consumes the whole payload.

    Raises:
        BitstreamError: a damaged payload.
    """
    codec = _read_name(cursor, "audio codec")
    sample_rate = cursor.varint("sample rate", low=1, high=MAX_TIME)
    layout = _read_name(cursor, "channel layout")
    time_base = read_fraction(cursor, "audio time base")
    extradata = bytes(cursor.sized("extradata"))
    count = cursor.varint("number of packets", low=1)
    if count * _MIN_PACKET_BYTES > cursor.remaining:
        raise cursor.error(f"{count} packets need more than {cursor.remaining} bytes")
    packets: list[tuple[int, int, bytes]] = []
    expected = 0
    for _ in range(count):
        pts = expected + cursor.svarint("time of a packet")
        duration = cursor.varint("duration of a packet")
        packets.append((pts, duration, bytes(cursor.sized("packet"))))
        expected = pts + duration
        if abs(pts) >= 1 << 62 or expected >= 1 << 62:
            raise cursor.error("the time of a packet is out of range")
    cursor.must_be_empty()
    return AudioTrack(codec, sample_rate, layout, time_base, extradata, tuple(packets))


def _read_name(cursor: Cursor, what: str) -> str:
    """Up to 64 printable ASCII characters: names reach terminals and other libraries."""
    data = bytes(cursor.sized(what))
    if len(data) > _MAX_NAME or not data.isascii() or not data.decode("ascii").isprintable():
        raise cursor.error(f"{what} is no name")
    return data.decode("ascii")
