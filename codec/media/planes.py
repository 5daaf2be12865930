"""Frames of FFmpeg to planes and back: which pixel formats are taken as they are, and how."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from codec.media.frames import DEPTHS, PixelFormat

if TYPE_CHECKING:
    import av


@dataclass(frozen=True)
class Packing:
    """Where FFmpeg keeps each of our planes: (its plane, first sample, step between samples).

    `big_endian` is about samples of two bytes.
    """

    pixel_format: PixelFormat
    places: tuple[tuple[int, int, int], ...]
    big_endian: bool = False

    @property
    def dtype(self) -> np.dtype:
        """Numpy type of a sample in memory."""
        return np.dtype(self.pixel_format.dtype).newbyteorder(">" if self.big_endian else "<")


def _planar(layout: str, depth: int, order: tuple[int, ...], alpha: bool) -> Packing:
    return Packing(PixelFormat(layout, depth, alpha), tuple((plane, 0, 1) for plane in order))


def _interleaved(layout: str, depth: int, letters: str, order: str, big_endian: bool) -> Packing:
    places = tuple((0, letters.index(letter), len(letters)) for letter in order)
    return Packing(PixelFormat(layout, depth, order[-1] == "a"), places, big_endian)


def _planar_packings() -> dict[str, Packing]:
    table = {}
    for depth in DEPTHS:
        suffix = "" if depth == 8 else f"{depth}le"
        table[f"gray{suffix}"] = _planar("gray", depth, (0,), False)
        table[f"gbrp{suffix}"] = _planar("rgb", depth, (2, 0, 1), False)
        table[f"gbrap{suffix}"] = _planar("rgb", depth, (2, 0, 1, 3), True)
        for chroma in ("420", "422", "444"):
            table[f"yuv{chroma}p{suffix}"] = _planar(f"yuv{chroma}", depth, (0, 1, 2), False)
            # FFmpeg has no 12-bit 4:2:0 with alpha.
            if (chroma, depth) != ("420", 12):
                table[f"yuva{chroma}p{suffix}"] = _planar(f"yuv{chroma}", depth, (0, 1, 2, 3), True)
    for chroma in ("420", "422", "444"):
        table[f"yuvj{chroma}p"] = table[f"yuv{chroma}p"]
    return table


def _interleaved_packings() -> dict[str, Packing]:
    table = {"gray16be": _interleaved("gray", 16, "y", "y", True)}
    for name, letters in (("rgb24", "rgb"), ("rgba", "rgba"), ("bgr0", "bgr0"), ("bgra", "bgra")):
        order = "rgba" if "a" in letters else "rgb"
        table[name] = _interleaved("rgb", 8, letters, order, False)
    table["ya8"] = _interleaved("gray", 8, "ya", "ya", False)
    for end, big_endian in (("le", False), ("be", True)):
        table[f"ya16{end}"] = _interleaved("gray", 16, "ya", "ya", big_endian)
        table[f"rgb48{end}"] = _interleaved("rgb", 16, "rgb", "rgb", big_endian)
        table[f"rgba64{end}"] = _interleaved("rgb", 16, "rgba", "rgba", big_endian)
    return table


PACKINGS: dict[str, Packing] = _planar_packings() | _interleaved_packings()


def planes_of(frame: av.VideoFrame) -> tuple[np.ndarray, ...]:
    """Copies of the samples, as our planes in native byte order, without the padding of the lines.

    The frame's pixel format must be one of PACKINGS.
    """
    packing = PACKINGS[frame.format.name]
    rows = [_rows(plane, packing.dtype) for plane in frame.planes]
    shapes = packing.pixel_format.plane_shapes(frame.height, frame.width)
    return tuple(
        rows[plane][:height, start : start + step * width : step].astype(packing.pixel_format.dtype)
        for (plane, start, step), (height, width) in zip(packing.places, shapes, strict=True)
    )


def frame_of(planes: tuple[np.ndarray, ...], name: str) -> av.VideoFrame:
    """A frame of FFmpeg in the pixel format `name`, one of PACKINGS, with a copy of the planes."""
    import av

    packing = PACKINGS[name]
    height, width = planes[0].shape
    assert [p.shape for p in planes] == packing.pixel_format.plane_shapes(height, width)
    frame = av.VideoFrame(width, height, name)
    rows = [_rows(plane, packing.dtype) for plane in frame.planes]
    for target in rows:
        target[:] = 0
    for (plane, start, step), samples in zip(packing.places, planes, strict=True):
        high, wide = samples.shape
        rows[plane][:high, start : start + step * wide : step] = samples
    return frame


def resampled(frame: av.VideoFrame, name: str) -> av.VideoFrame:
    """The frame in another pixel format: bicubic chroma, exact rounding, matrix and range kept."""
    from av.video.reformatter import Interpolation

    flags = (
        Interpolation.BICUBIC
        | Interpolation.ACCURATE_RND
        | Interpolation.FULL_CHR_H_INT
        | Interpolation.FULL_CHR_H_INP
        | Interpolation.BITEXACT
    )
    return frame.reformat(format=name, interpolation=int(flags), threads=1)


def readable_name(source: av.VideoFormat) -> str:
    """The pixel format of PACKINGS in which frames of `source` are read.

    Itself if it is one; else RGB (packed, 8 or 16 bit) for palettes and other RGB, and for YUV the
    next larger depth and the nearest of 4:2:0, 4:2:2, 4:4:4 that keeps all chroma where one does.
    """
    if source.name in PACKINGS:
        return source.name
    bits = max(component.bits for component in source.components)
    alpha = any(component.is_alpha for component in source.components)
    if source.has_palette:
        return "rgba"
    if source.is_rgb:
        return ("rgba" if alpha else "rgb24") if bits <= 8 else ("rgba64le" if alpha else "rgb48le")
    depth = next((depth for depth in DEPTHS if depth >= bits), DEPTHS[-1])
    suffix = "" if depth == 8 else f"{depth}le"
    if len(source.components) <= 2:
        return f"gray{suffix}"
    return f"yuv{'a' if alpha else ''}{_nearest_chroma(source)}p{suffix}"


def _nearest_chroma(source: av.VideoFormat) -> str:
    # Probed on 8 x 8 samples: 4:4:0 gives (4, 8), 4:1:1 (8, 2), 4:1:0 (2, 2).
    height, width = source.chroma_height(8), source.chroma_width(8)
    if width == 8:
        return "444"
    return "422" if height == 8 else "420"


def _rows(plane: av.video.plane.VideoPlane, dtype: np.dtype) -> np.ndarray:
    """All samples of a plane with the padding of its lines, top line first, without a copy."""
    rows = np.frombuffer(plane, np.uint8).reshape(plane.height, -1).view(dtype)
    return rows[::-1] if plane.line_size < 0 else rows
