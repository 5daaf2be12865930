"""Other codecs at the size of a modcodec file: JPEG, WebP and AVIF, and x264 and x265."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from operator import attrgetter
from typing import Any

import numpy as np

from codec.bench.clipcodecs import CLIP_CODECS, ClipCodec, Stream
from codec.bench.conventional import (
    JPEG,
    WEBP,
    avif_options,
    eight_bit_array,
    load_still,
    save_still,
)
from codec.errors import UsageError
from codec.media.frames import Clip, ClipInfo, Frame
from codec.media.metrics import frame_mse, picture_psnr, sequence_psnr

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

_CLIP_PEERS = ("x264-medium", "x265-medium")
# Rate factors 51, 50.75, ... 0: better pictures come later, as with qualities.
_RATE_FACTORS = [quarter / 4 for quarter in range(204, -1, -1)]


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

    Sizes that a codec does not take are padded, and measured without the padding. All frames are
    held in memory. A format that it does not take is said in the setting of its point.
    """
    info, frames = clip.info, list(clip.frames)
    threads = os.cpu_count() or 1
    for codec in (codec for codec in CLIP_CODECS if codec.name in _CLIP_PEERS):
        name = codec.name.replace("-", " ")
        padded = _padded(info, frames, codec.min_side)
        encode = partial(_stream, codec, *padded, threads)
        try:
            found = largest_within(
                encode, _RATE_FACTORS, budget_bytes, size_of=attrgetter("size_bytes")
            )
        except UsageError as error:
            yield PeerPoint(name, setting=str(error))
            continue
        if found is None:
            yield PeerPoint(name)
            continue
        factor, stream = found
        decoded = [_cropped(frame, info) for frame in codec.decode(stream, threads)]
        errors = [
            frame_mse(*pair, info.format).colour for pair in zip(frames, decoded, strict=True)
        ]
        psnr_db = sequence_psnr(errors, info.format.peak)
        yield PeerPoint(name, stream.size_bytes, psnr_db, f"crf {factor:g}")


def largest_within(
    encode: Callable[[Any], Any],
    settings: Sequence,
    budget_bytes: int,
    *,
    size_of: Callable[[Any], int] = len,
) -> tuple[Any, Any] | None:
    """The last of `settings`, ordered by growing size, whose encoding fits, and that encoding.

    Bisection: where sizes are not quite monotone, one of the settings that fit.
    """
    low, high, best = 0, len(settings) - 1, None
    while low <= high:
        middle = (low + high) // 2
        data = encode(settings[middle])
        if size_of(data) <= budget_bytes:
            best, low = (settings[middle], data), middle + 1
        else:
            high = middle - 1
    return best


def _saved(array: np.ndarray, kind: str, options: dict[str, Any], quality: int) -> bytes:
    return save_still(array, kind, quality=quality, **options)


def _stream(
    codec: ClipCodec, info: ClipInfo, frames: list[Frame], threads: int, factor: float
) -> Stream:
    return codec.encode(Clip(info, iter(frames)), factor, threads)


def _padded(info: ClipInfo, frames: list[Frame], min_side: int) -> tuple[ClipInfo, list[Frame]]:
    """Edges repeated to whole chroma samples and to sides of `min_side` at least."""
    down_y, down_x = info.format.chroma_shifts
    height = -(-max(info.height, min_side) >> down_y) << down_y
    width = -(-max(info.width, min_side) >> down_x) << down_x
    shapes = info.format.plane_shapes(height, width)
    larger = [
        replace(frame, planes=tuple(map(_with_edges, frame.planes, shapes))) for frame in frames
    ]
    return replace(info, height=height, width=width), larger


def _with_edges(plane: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    rows, columns = (size - had for size, had in zip(shape, plane.shape, strict=True))
    return np.pad(plane, ((0, rows), (0, columns)), mode="edge")


def _cropped(frame: Frame, info: ClipInfo) -> Frame:
    shapes = info.format.plane_shapes(info.height, info.width)
    parts = zip(frame.planes, shapes, strict=True)
    return replace(frame, planes=tuple(plane[:rows, :columns] for plane, (rows, columns) in parts))
