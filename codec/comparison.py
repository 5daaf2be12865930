"""How far a picture or clip is from another: PSNR of the whole, of each plane and of each frame."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from codec.errors import InputError
from codec.media.frames import Clip, ClipInfo, Frame, PixelFormat
from codec.media.metrics import frame_mse, psnr_from_mse, sequence_psnr

PLANE_NAMES = {"gray": ("Y",), "rgb": ("R", "G", "B")}
YUV_NAMES = ("Y", "U", "V")
ALPHA_NAME = "A"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """PSNR in dB (99 where there is no error) and sizes of two pictures or clips.

    `psnr_db` weighs planes as (4Y + U + V) / 6 for YUV and equally otherwise, alpha apart;
    `frame_psnr_db` is the same of each frame. Sizes are of the files, None where there are none;
    `test_bpp` is bits per luma pixel of the test's file.
    """

    width: int
    height: int
    num_frames: int
    pixel_format: PixelFormat
    psnr_db: float
    plane_psnr_db: dict[str, float]
    frame_psnr_db: tuple[float, ...]
    reference_bytes: int | None = None
    test_bytes: int | None = None

    @property
    def test_bpp(self) -> float | None:
        """8 * test_bytes / (width * height * num_frames)."""
        if self.test_bytes is None:
            return None
        return 8 * self.test_bytes / (self.width * self.height * self.num_frames)

    def as_dict(self) -> dict[str, Any]:
        """The comparison as JSON can carry it."""
        return {
            "width": self.width,
            "height": self.height,
            "num_frames": self.num_frames,
            "pixel_format": format_name(self.pixel_format),
            "psnr_db": self.psnr_db,
            "plane_psnr_db": self.plane_psnr_db,
            "frame_psnr_db": list(self.frame_psnr_db),
            "reference_bytes": self.reference_bytes,
            "test_bytes": self.test_bytes,
            "test_bpp": self.test_bpp,
        }


def format_name(pixel_format: PixelFormat) -> str:
    """Like `yuv420 8 bit` or `rgb 16 bit with alpha`."""
    alpha = " with alpha" if pixel_format.alpha else ""
    return f"{pixel_format.layout} {pixel_format.depth} bit{alpha}"


def compare_clips(
    reference: Clip,
    test: Clip,
    *,
    reference_bytes: int | None = None,
    test_bytes: int | None = None,
) -> Comparison:
    """Compare two opened sources, one frame at a time.

    Raises:
        InputError: they differ in size, pixel format or number of frames.
    """
    info = reference.info
    _check_alike(info, test.info)
    rows = [_errors(*pair, info.format) for pair in _pairs(reference, test)]
    if not rows:
        raise InputError("there is no frame to compare")
    wholes = [whole for whole, _ in rows]
    names = plane_names(info.format)
    peak = info.format.peak
    return Comparison(
        width=info.width,
        height=info.height,
        num_frames=len(rows),
        pixel_format=info.format,
        psnr_db=sequence_psnr(wholes, peak),
        plane_psnr_db={
            name: sequence_psnr([planes[i] for _, planes in rows], peak)
            for i, name in enumerate(names)
        },
        frame_psnr_db=tuple(psnr_from_mse(whole, peak) for whole in wholes),
        reference_bytes=reference_bytes,
        test_bytes=test_bytes,
    )


def plane_names(pixel_format: PixelFormat) -> tuple[str, ...]:
    """Names of the planes in the order of a frame."""
    names = PLANE_NAMES.get(pixel_format.layout, YUV_NAMES)
    return (*names, ALPHA_NAME) if pixel_format.alpha else names


def file_size(source: object) -> int | None:
    """Bytes of a file or of a bytes object; None for arrays and pipes."""
    if isinstance(source, bytes):
        return len(source)
    if isinstance(source, str | os.PathLike) and os.path.isfile(source):
        return os.path.getsize(source)
    return None


def _check_alike(reference: ClipInfo, test: ClipInfo) -> None:
    sizes = (reference.width, reference.height), (test.width, test.height)
    if sizes[0] != sizes[1]:
        texts = ["{}x{}".format(*size) for size in sizes]
        raise InputError(
            f"the reference is {texts[0]} and the test {texts[1]}; sizes must be equal"
        )
    if reference.format != test.format:
        raise InputError(
            f"the reference is {format_name(reference.format)} and the test"
            f" {format_name(test.format)}; pixel formats must be equal"
        )


def _pairs(reference: Clip, test: Clip) -> Iterator[tuple[Frame, Frame]]:
    for index, pair in enumerate(zip_longest(reference.frames, test.frames)):
        for frame, name in zip(pair, ("reference", "test"), strict=True):
            if frame is None:
                raise InputError(f"the {name} ends after {index} frames, the other goes on")
        yield pair


def _errors(
    reference: Frame, test: Frame, pixel_format: PixelFormat
) -> tuple[float, tuple[float, ...]]:
    """(weighted error, error of each plane); colour counts only where alpha is above 0."""
    whole = frame_mse(reference, test, pixel_format).colour
    indices = range(pixel_format.num_planes)
    return whole, tuple(_plane_error(reference, test, pixel_format, index) for index in indices)


def _plane_error(reference: Frame, test: Frame, pixel_format: PixelFormat, index: int) -> float:
    """The error of one plane, taken as a grey picture with the alpha that says where it counts."""
    masked = pixel_format.alpha and index < pixel_format.num_planes - 1
    kept = (index, -1) if masked else (index,)
    grey = PixelFormat("gray", pixel_format.depth, alpha=masked)
    frames = [Frame(tuple(f.planes[i] for i in kept)) for f in (reference, test)]
    return frame_mse(*frames, grey).colour
