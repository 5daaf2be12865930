"""The little of Matroska that PyAV cannot be asked for: audio parameters, and the pixel aspect."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

from codec.media.frames import AudioTrack

# Matroska's names of codecs (its codec registry, RFC 9559 section 22.2), by FFmpeg's.
CODEC_NAMES = {
    "aac": "A_AAC",
    "ac3": "A_AC3",
    "alac": "A_ALAC",
    "dts": "A_DTS",
    "eac3": "A_EAC3",
    "flac": "A_FLAC",
    "mp2": "A_MPEG/L2",
    "mp3": "A_MPEG/L3",
    "opus": "A_OPUS",
    "pcm_f32le": "A_PCM/FLOAT/IEEE",
    "pcm_s16le": "A_PCM/INT/LIT",
    "pcm_s24le": "A_PCM/INT/LIT",
    "pcm_s32le": "A_PCM/INT/LIT",
    "pcm_u8": "A_PCM/INT/LIT",
    "vorbis": "A_VORBIS",
}
_PCM_BITS = {"pcm_f32le": 32, "pcm_s16le": 16, "pcm_s24le": 24, "pcm_s32le": 32, "pcm_u8": 8}

# Element identifiers, RFC 9559 section 5.
_EBML, _DOC_TYPE, _DOC_TYPE_VERSION, _DOC_TYPE_READ_VERSION = 0x1A45DFA3, 0x4282, 0x4287, 0x4285
_SEGMENT, _INFO, _TIMESTAMP_SCALE = 0x18538067, 0x1549A966, 0x2AD7B1
_TRACKS, _TRACK_ENTRY, _TRACK_NUMBER, _TRACK_UID, _TRACK_TYPE = 0x1654AE6B, 0xAE, 0xD7, 0x73C5, 0x83
_TRACK_NAME, _CODEC_ID, _CODEC_PRIVATE, _CODEC_DELAY = 0x536E, 0x86, 0x63A2, 0x56AA
_AUDIO, _SAMPLE_RATE, _CHANNELS, _BIT_DEPTH = 0xE1, 0xB5, 0x9F, 0x6264
_VIDEO, _DISPLAY_WIDTH, _DISPLAY_HEIGHT, _DISPLAY_UNIT = 0xE0, 0x54B0, 0x54BA, 0x54B2
_CLUSTER, _CLUSTER_TIMESTAMP, _VOID = 0x1F43B675, 0xE7, 0xEC
_AUDIO_TRACK, _UNIT_ASPECT_RATIO = b"\2", b"\3"
_HEAD_BYTES = 1 << 16

# A track name as long as what `state_pixel_aspect` puts in its place, at most.
NAME_TO_REPLACE = "." * 32


def audio_description(track: AudioTrack, num_channels: int) -> bytes:
    """A Matroska file of one audio track and no packets, for a reader to take parameters from.

    The track's codec must be one of CODEC_NAMES.
    """
    versions = _element(_DOC_TYPE_VERSION, b"\4") + _element(_DOC_TYPE_READ_VERSION, b"\2")
    head = _element(_DOC_TYPE, b"matroska") + versions
    scale = _element(_INFO, _element(_TIMESTAMP_SCALE, _unsigned(1_000_000)))
    tracks = _element(_TRACKS, _element(_TRACK_ENTRY, _audio_entry(track, num_channels)))
    cluster = _element(_CLUSTER, _element(_CLUSTER_TIMESTAMP, b"\0"))
    return _element(_EBML, head) + _element(_SEGMENT, scale + tracks + cluster)


def state_pixel_aspect(path: Path, width: int, height: int, aspect: Fraction) -> None:
    """Writes the shape of the displayed picture into a file whose first track is its video.

    That track must have been named NAME_TO_REPLACE, and Tracks must have no checksum: the name
    gives its room, so that nothing in the file moves.
    """
    with path.open("r+b") as file:
        data = file.read(_HEAD_BYTES)
        start, end = 0, len(data)
        for identifier in (_SEGMENT, _TRACKS, _TRACK_ENTRY):
            start, end = _payload_place(data, start, end, identifier)
        shape = Fraction(width, height) * aspect
        file.seek(start)
        file.write(_with_display(data[start:end], shape))


def _with_display(entry: bytes, shape: Fraction) -> bytes:
    """The payload of a track entry, as long as it was, with the shape in place of its name."""
    parts = []
    for identifier, start, end in _elements(entry, 0, len(entry)):
        payload = entry[start:end]
        if identifier == _VIDEO:
            kept = [
                _element(inner, payload[first:last])
                for inner, first, last in _elements(payload, 0, len(payload))
                if inner != _DISPLAY_UNIT
            ]
            payload = b"".join(kept) + _display(shape)
        if identifier not in (_TRACK_NAME, _VOID):
            parts.append(_element(identifier, payload))
    changed = b"".join(parts)
    filled = changed + _element(_VOID, bytes(len(entry) - len(changed) - 2))
    assert len(filled) == len(entry)
    return filled


def _display(shape: Fraction) -> bytes:
    return (
        _element(_DISPLAY_WIDTH, _unsigned(shape.numerator))
        + _element(_DISPLAY_HEIGHT, _unsigned(shape.denominator))
        + _element(_DISPLAY_UNIT, _UNIT_ASPECT_RATIO)
    )


def _audio_entry(track: AudioTrack, num_channels: int) -> bytes:
    audio = _element(_SAMPLE_RATE, struct.pack(">d", track.sample_rate))
    audio += _element(_CHANNELS, _unsigned(num_channels))
    if track.codec in _PCM_BITS:
        audio += _element(_BIT_DEPTH, _unsigned(_PCM_BITS[track.codec]))
    entry = _element(_TRACK_NUMBER, b"\1") + _element(_TRACK_UID, b"\1")
    entry += _element(_TRACK_TYPE, _AUDIO_TRACK)
    entry += _element(_CODEC_ID, CODEC_NAMES[track.codec].encode())
    if track.extradata:
        entry += _element(_CODEC_PRIVATE, _codec_private(track))
    # What a decoder drops at the start, which is how Matroska writes times before 0.
    early_ticks = max(0, -track.packets[0][0])
    if early_ticks:
        entry += _element(_CODEC_DELAY, _unsigned(round(early_ticks * track.time_base * 10**9)))
    return entry + _element(_AUDIO, audio)


def _codec_private(track: AudioTrack) -> bytes:
    if track.codec == "flac" and len(track.extradata) == 34:
        # Matroska has the file's own start: magic, then STREAMINFO as the last metadata block.
        return b"fLaC\x80\0\0\x22" + track.extradata
    if track.codec == "alac" and len(track.extradata) == 36:
        # Matroska leaves out the header of the QuickTime atom.
        return track.extradata[12:]
    return track.extradata


def _payload_place(data: bytes, start: int, end: int, identifier: int) -> tuple[int, int]:
    return next(place for found, *place in _elements(data, start, end) if found == identifier)


def _elements(data: bytes, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """(identifier, start, end of the payload) of the EBML elements (RFC 8794) in a range."""
    while start < end:
        identifier_end = start + 9 - data[start].bit_length()
        length_bytes = 9 - data[identifier_end].bit_length()
        payload = identifier_end + length_bytes
        length = int.from_bytes(data[identifier_end:payload], "big") & ((1 << 7 * length_bytes) - 1)
        yield int.from_bytes(data[start:identifier_end], "big"), payload, min(end, payload + length)
        start = payload + length


def _element(identifier: int, payload: bytes) -> bytes:
    """An EBML element: identifier, length in as few bytes as hold it, payload."""
    # All ones stands for an unknown length, hence the + 1.
    num_bytes = -(-(len(payload) + 1).bit_length() // 7)
    length = (len(payload) | 1 << 7 * num_bytes).to_bytes(num_bytes, "big")
    return _unsigned(identifier) + length + payload


def _unsigned(value: int) -> bytes:
    return value.to_bytes(max(1, (value.bit_length() + 7) // 8), "big")
