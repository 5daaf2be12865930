"""Small pictures, clips and broken files for the tests of media."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from codec.media.clip_writer import write_clip
from codec.media.clips import read_clip
from codec.media.frames import Clip, ClipInfo, Frame, PixelFormat

SAMPLES = Path(__file__).resolve().parent.parent / "samples"
PHOTO, CLIP, TINY = (SAMPLES / name for name in ("photo.png", "clip.mkv", "tiny_63x47.y4m"))


def random_planes(
    pixel_format: PixelFormat, width: int, height: int, seed: int = 0
) -> tuple[np.ndarray, ...]:
    """Planes of noise over the whole range of samples, the extremes included."""
    generator = np.random.default_rng(seed)
    return tuple(
        generator.choice([0, pixel_format.peak], shape).astype(pixel_format.dtype)
        if seed % 2
        else generator.integers(0, pixel_format.peak + 1, shape).astype(pixel_format.dtype)
        for shape in pixel_format.plane_shapes(height, width)
    )


def clip_info(pixel_format: PixelFormat, width: int, height: int, **changes: object) -> ClipInfo:
    """A clip of 25 frames a second, unless `changes` say otherwise."""
    return ClipInfo(pixel_format, width, height, is_still=False, **changes)


def random_frames(info: ClipInfo, pts_ticks: Iterable[int]) -> list[Frame]:
    """One frame of noise for each time."""
    return [
        Frame(random_planes(info.format, info.width, info.height, seed=2 * index), pts)
        for index, pts in enumerate(pts_ticks)
    ]


def assert_same_frames(actual: Iterable[Frame], expected: Iterable[Frame]) -> None:
    """Planes equal in shape, type and every sample, frame for frame."""
    for one, other in zip(actual, expected, strict=True):
        assert_same_planes(one.planes, other.planes)


def assert_same_planes(actual: tuple[np.ndarray, ...], expected: tuple[np.ndarray, ...]) -> None:
    """Planes equal in number, shape, type and every sample."""
    for one, other in zip(actual, expected, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


def png_file(
    samples: np.ndarray, colour_type: int, bits: int, extra: Iterable[tuple[bytes, bytes]] = ()
) -> bytes:
    """A PNG file of packed rows (height, bytes), or of samples (height, width, channels)."""
    height = samples.shape[0]
    if samples.ndim == 3:
        width = samples.shape[1]
        rows = samples.astype(">u2" if bits == 16 else np.uint8).tobytes()
    else:
        width = samples.shape[1] * 8 // bits
        rows = samples.astype(np.uint8).tobytes()
    stride = len(rows) // height
    lines = b"".join(b"\0" + rows[i * stride : (i + 1) * stride] for i in range(height))
    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)
    chunks = [(b"IHDR", header), *extra, (b"IDAT", zlib.compress(lines)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks)


def png_chunk(kind: bytes, payload: bytes) -> bytes:
    """Length, type, payload and checksum."""
    checksum = zlib.crc32(kind + payload)
    return struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", checksum)


def png_samples(data: bytes) -> np.ndarray:
    """Samples (height, width, channels) of a PNG file of 8 or 16 bit, by a plain decoder."""
    position, body, width, height, bits, channels = 8, b"", 0, 0, 0, 0
    while position < len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        payload = data[position + 8 : position + 8 + length]
        if kind == b"IHDR":
            width, height, bits, colour_type = struct.unpack_from(">IIBB", payload)
            channels = {0: 1, 2: 3, 4: 2, 6: 4}[colour_type]
        body += payload if kind == b"IDAT" else b""
        position += 12 + length
    step = channels * bits // 8
    lines = np.frombuffer(zlib.decompress(body), np.uint8).reshape(height, 1 + width * step)
    rows = np.zeros((height + 1, (width + 1) * step), np.int64)
    for y, line in enumerate(lines):
        _unfilter(rows, y, line, step)
    plain = rows[1:, step:].astype(np.uint8).tobytes()
    return np.frombuffer(plain, ">u2" if bits == 16 else np.uint8).reshape(height, width, channels)


def _unfilter(rows: np.ndarray, y: int, line: np.ndarray, step: int) -> None:
    for x, value in enumerate(line[1:].tolist(), step):
        left, up, corner = (
            int(rows[y + 1, x - step]),
            int(rows[y, x]),
            int(rows[y, x - step]),
        )
        paeth = min((left, up, corner), key=lambda near: abs(left + up - corner - near))
        guess = (0, left, up, (left + up) // 2, paeth)[line[0]]
        rows[y + 1, x] = (value + guess) % 256


def encoded_clip(
    path: Path,
    *,
    video: str = "ffv1",
    pixel_name: str = "yuv420p",
    num_frames: int = 5,
    audio: str | None = None,
    first_pts: int = 0,
) -> Path:
    """A clip of 32x32 grey steps at 25 frames a second, written by PyAV alone."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream(video, rate=25)
        stream.width, stream.height, stream.pix_fmt = 32, 32, pixel_name
        sound = output.add_stream(audio, rate=48000) if audio else None
        if sound:
            sound.codec_context.layout = "stereo"
        for index in range(num_frames):
            frame = av.VideoFrame(32, 32, pixel_name)
            for plane in frame.planes:
                np.frombuffer(plane, np.uint8)[:] = 40 + 8 * index
            frame.pts, frame.time_base = first_pts + index, Fraction(1, 25)
            output.mux(stream.encode(frame))
        for index in range(2 * num_frames if sound else 0):
            tone = (np.sin(np.arange(1024) / 20 + index) * 8000).astype(np.int16)
            block = av.AudioFrame.from_ndarray(
                np.repeat(tone, 2)[None], format="s16", layout="stereo"
            )
            block.sample_rate, block.pts = 48000, 1024 * index
            output.mux(sound.encode(block))
        if sound:
            output.mux(sound.encode(None))
        output.mux(stream.encode(None))
    return path


def times(clip: Clip, frames: list[Frame]) -> list[Fraction]:
    """Times of frames in seconds."""
    return [frame.pts_ticks * clip.info.time_base for frame in frames]


def write_and_read(
    path: Path, info: ClipInfo, frames: list[Frame], **options: object
) -> tuple[Clip, list[Frame]]:
    """The clip that a written one is read as, and its frames."""
    write_clip(path, info, iter(frames), **options)
    clip = read_clip(path)
    return clip, list(clip.frames)


def remux(
    source: Path,
    target: Path,
    change: Callable[[int, bytes], bytes] = lambda index, data: data,
    kind: str = "video",
) -> None:
    """Copies one stream into another container; `change` is given each packet's index and bytes."""
    with av.open(str(source)) as reader, av.open(str(target), "w") as writer:
        stream = writer.add_stream_from_template(getattr(reader.streams, kind)[0])
        packets = [packet for packet in reader.demux(**{kind: 0}) if packet.size]
        for index, packet in enumerate(packets):
            copy = av.Packet(change(index, bytes(packet)))
            copy.pts, copy.dts, copy.time_base = packet.pts, packet.dts, packet.time_base
            copy.is_keyframe, copy.stream = packet.is_keyframe, stream
            writer.mux(copy)


class ShortReads(io.RawIOBase):
    """A pipe: gives a few bytes at a time, cannot seek, and has no file behind it."""

    def __init__(self, data: bytes, most: int = 7) -> None:
        self._data, self._position, self._most = data, 0, most

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        count = self._most if size < 0 else min(size, self._most)
        piece = self._data[self._position : self._position + count]
        self._position += len(piece)
        return piece
