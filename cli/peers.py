"""Other codecs at the size of a modcodec file: JPEG, WebP and AVIF, and x264 and x265."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np

from codec.bench.conventional import (
    JPEG,
    WEBP,
    avif_options,
    eight_bit_array,
    load_still,
    save_still,
)
from codec.errors import UsageError
from codec.media.frames import Clip, ClipInfo, Frame, PixelFormat
from codec.media.metrics import frame_mse, picture_psnr, sequence_psnr
from codec.media.planes import frame_of, planes_of

# Pillow's format and options; JPEG is tried with full and with halved chroma.
_STILL_PEERS: dict[str, tuple[tuple[str, dict[str, Any]], ...]] = {
    "JPEG": (
        ("JPEG", {**JPEG, "subsampling": 2}),
        ("JPEG", {**JPEG, "subsampling": 0}),
    ),
    "WebP": (("WEBP", WEBP),),
    "AVIF": (("AVIF", avif_options(4)),),
}
_QUALITIES = range(1, 101)

# PSNR tuning, one closed group of pictures: what a comparison by PSNR is fair with.
_CLIP_PEERS: dict[str, tuple[str, dict[str, str]]] = {
    "x264 medium": (
        "libx264",
        {
            "preset": "medium",
            "tune": "psnr",
            "x264-params": "keyint=infinite:scenecut=0:log-level=none",
        },
    ),
    "x265 medium": (
        "libx265",
        {
            "preset": "medium",
            "tune": "psnr",
            "x265-params": "keyint=-1:scenecut=0:open-gop=0:info=0:log-level=none",
        },
    ),
}
_DECODERS = {"libx264": "h264", "libx265": "hevc"}
# Rate factors 51, 50.75, ... 0: better pictures come later, as with qualities.
_RATE_FACTORS = [quarter / 4 for quarter in range(204, -1, -1)]
_SEI_NAL_TYPE = 6


@dataclass(frozen=True)
class PeerPoint:
    """What another codec reaches within a budget; None where even its smallest file is larger."""

    name: str
    size_bytes: int | None = None
    psnr_db: float | None = None
    setting: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The point as JSON."""
        return asdict(self)


def still_peers(clip: Clip, budget_bytes: int) -> Iterator[PeerPoint]:
    """The best PSNR of each picture codec within a budget; measured like ours.

    Raises:
        UsageError: a picture of more than 8 bit or with alpha, which not all of them can hold.
    """
    array = eight_bit_array(clip)
    for name, variants in _STILL_PEERS.items():
        points = []
        for kind, options in variants:
            encode = partial(_saved, array, kind, options)
            found = largest_within(encode, _QUALITIES, budget_bytes)
            if found is not None:
                quality, data = found
                psnr_db = picture_psnr(array, load_still(data))
                points.append(PeerPoint(name, len(data), psnr_db, f"quality {quality}"))
        yield max(points, key=lambda point: point.psnr_db, default=PeerPoint(name))


def clip_peers(clip: Clip, budget_bytes: int) -> Iterator[PeerPoint]:
    """The best PSNR of each clip codec within a budget of video bytes (no container, no sound).

    Odd sizes are padded for those that need even ones, and measured without the padding. All
    frames are held in memory. Raises UsageError for formats that these codecs do not take.
    """
    import av

    info, frames = clip.info, list(clip.frames)
    for name, (encoder, options) in _CLIP_PEERS.items():
        pixel_name = _pixel_name(info.format, encoder)

        encode = partial(_stream, info, frames, encoder, options, pixel_name)
        try:
            found = largest_within(encode, _RATE_FACTORS, budget_bytes)
        except av.error.FFmpegError:
            yield PeerPoint(name, setting="it does not take this size")
            continue
        if found is None:
            yield PeerPoint(name)
            continue
        factor, data = found
        decoded = _decoded(data, _DECODERS[encoder], info)
        errors = [
            frame_mse(*pair, info.format).colour for pair in zip(frames, decoded, strict=True)
        ]
        psnr_db = sequence_psnr(errors, info.format.peak)
        yield PeerPoint(name, len(data), psnr_db, f"crf {factor:g}")


def largest_within(
    encode: Callable[[Any], bytes], settings: Sequence, budget_bytes: int
) -> tuple[Any, bytes] | None:
    """The last of `settings`, ordered by growing size, whose encoding fits, and that encoding.

    Bisection: where sizes are not quite monotone, one of the settings that fit.
    """
    low, high, best = 0, len(settings) - 1, None
    while low <= high:
        middle = (low + high) // 2
        data = encode(settings[middle])
        if len(data) <= budget_bytes:
            best, low = (settings[middle], data), middle + 1
        else:
            high = middle - 1
    return best


def _saved(array: np.ndarray, kind: str, options: dict[str, Any], quality: int) -> bytes:
    return save_still(array, kind, quality=quality, **options)


def _pixel_name(pixel_format: PixelFormat, encoder: str) -> str:
    import av

    suffix = "" if pixel_format.depth == 8 else f"{pixel_format.depth}le"
    name = "gray" if pixel_format.layout == "gray" else f"{pixel_format.layout}p"
    known = {fmt.name for fmt in av.Codec(encoder, "w").video_formats}
    if pixel_format.alpha or name + suffix not in known:
        raise UsageError(f"--peers: {encoder} does not take the format of this clip")
    return name + suffix


def _stream(
    info: ClipInfo,
    frames: list[Frame],
    encoder: str,
    options: dict[str, str],
    pixel_name: str,
    factor: float,
) -> bytes:
    """An elementary stream at a constant rate factor, without the banner that x264 puts into it."""
    import av

    context = av.CodecContext.create(encoder, "w")
    height, width = _even_size(info)
    context.width, context.height, context.pix_fmt = width, height, pixel_name
    rate = 1 / (info.time_base * info.frame_ticks)
    context.framerate, context.time_base = rate, 1 / rate
    context.options = {**options, "crf": f"{factor}"}
    packets = []
    for index, frame in enumerate(frames):
        luma = np.pad(
            frame.planes[0], ((0, height - info.height), (0, width - info.width)), mode="edge"
        )
        picture = frame_of((luma, *frame.planes[1:]), pixel_name)
        picture.pts, picture.time_base = index, 1 / rate
        packets += context.encode(picture)
    packets += context.encode(None)
    return b"".join(_without_banner(bytes(packet), encoder) for packet in packets)


def _without_banner(packet: bytes, encoder: str) -> bytes:
    if encoder != "libx264":
        return packet
    units = packet.split(b"\x00\x00\x01")
    kept = [unit for unit in units[1:] if unit[:1] and unit[0] & 31 != _SEI_NAL_TYPE]
    return b"".join(b"\x00\x00\x01" + unit for unit in kept)


def _even_size(info: ClipInfo) -> tuple[int, int]:
    """(height, width) rounded up to whole chroma samples."""
    down_y, down_x = info.format.chroma_shifts
    return -(-info.height >> down_y) << down_y, -(-info.width >> down_x) << down_x


def _decoded(data: bytes, decoder: str, info: ClipInfo) -> list[Frame]:
    import av

    with av.open(io.BytesIO(data), format=decoder) as container:
        pictures = [planes_of(frame) for frame in container.decode(video=0)]
    return [Frame((luma[: info.height, : info.width], *chroma)) for luma, *chroma in pictures]
