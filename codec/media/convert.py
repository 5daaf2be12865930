"""Conversions of samples: RGB to YUV 4:4:4 and back, to pictures, and to means over squares."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from codec.media.frames import ClipInfo, Colour, Frame, PixelFormat

# Kr and Kb by code point of MatrixCoefficients in ITU-T H.273, table 4.
_LUMA_WEIGHTS = {
    1: (0.2126, 0.0722),
    4: (0.30, 0.11),
    5: (0.299, 0.114),
    6: (0.299, 0.114),
    7: (0.212, 0.087),
    9: (0.2627, 0.0593),
    10: (0.2627, 0.0593),
}
_IDENTITY_MATRIX = 0
_BT601, _BT709 = 6, 1
_HD_LINES = 720

# What RGB clips are turned into: full range loses least; sRGB primaries and transfer.
RGB_CLIP_COLOUR = Colour(primaries=1, transfer=13, matrix=_BT601, full_range=True)
# What the samples of an RGB still are, unless its file says more.
RGB_COLOUR = Colour(matrix=_IDENTITY_MATRIX, full_range=True)


def matrix_or_default(colour: Colour, height: int) -> int:
    """The clip's matrix; where it names none that is known, BT.601 below 720 lines, else BT.709."""
    if colour.matrix in _LUMA_WEIGHTS or colour.matrix == _IDENTITY_MATRIX:
        return colour.matrix
    return _BT601 if height < _HD_LINES else _BT709


def rgb_to_yuv444(
    rgb: tuple[np.ndarray, ...], *, depth: int, matrix: int, full_range: bool
) -> tuple[np.ndarray, ...]:
    """Y' = Kr R + (1 - Kr - Kb) G + Kb B, U = (B - Y') / (2 - 2 Kb), V likewise; H.273 clause 8.3.

    Planes of `depth` bits in and out, rounded to nearest.
    """
    weight_red, weight_blue = _LUMA_WEIGHTS[matrix]
    peak = (1 << depth) - 1
    red, green, blue = (plane / peak for plane in rgb)
    luma = weight_red * red + (1 - weight_red - weight_blue) * green + weight_blue * blue
    chroma = (blue - luma) / (2 - 2 * weight_blue), (red - luma) / (2 - 2 * weight_red)
    luma_step, luma_zero, chroma_step, chroma_zero = _quantization(depth, full_range)
    return (
        _rounded(luma * luma_step + luma_zero, depth),
        *(_rounded(plane * chroma_step + chroma_zero, depth) for plane in chroma),
    )


def yuv444_to_rgb(
    yuv: tuple[np.ndarray, ...], *, depth: int, matrix: int, full_range: bool, rgb_depth: int
) -> tuple[np.ndarray, ...]:
    """The inverse of `rgb_to_yuv444`, to RGB planes of `rgb_depth` bits, clipped to their range."""
    weight_red, weight_blue = _LUMA_WEIGHTS[matrix]
    luma_step, luma_zero, chroma_step, chroma_zero = _quantization(depth, full_range)
    luma = (yuv[0].astype(np.float64) - luma_zero) / luma_step
    u, v = ((plane.astype(np.float64) - chroma_zero) / chroma_step for plane in yuv[1:3])
    red = luma + (2 - 2 * weight_red) * v
    blue = luma + (2 - 2 * weight_blue) * u
    green = (luma - weight_red * red - weight_blue * blue) / (1 - weight_red - weight_blue)
    peak = (1 << rgb_depth) - 1
    return tuple(_rounded(plane * peak, rgb_depth) for plane in (red, green, blue))


def as_picture(info: ClipInfo, frame: Frame) -> tuple[ClipInfo, Frame]:
    """A frame of any format as grey or RGB of 8 or 16 bit, with its alpha: what picture files hold.

    Chroma is interpolated (bicubic); `matrix_or_default` and the clip's range give the RGB.
    """
    source = info.format
    depth = 8 if source.depth == 8 else 16
    alpha = frame.planes[3:] if source.layout != "gray" else frame.planes[1:]
    if source.layout in ("gray", "rgb"):
        planes = tuple(_scaled(plane, source.depth, depth) for plane in frame.planes)
    else:
        planes = _yuv_to_rgb(info, frame.planes[:3], depth)
        planes += tuple(_scaled(plane, source.depth, depth) for plane in alpha)
    layout = "gray" if source.layout == "gray" else "rgb"
    colour = info.colour
    if layout == "rgb":
        colour = replace(colour, matrix=_IDENTITY_MATRIX, full_range=True, chroma_location=0)
    picture = replace(
        info, format=PixelFormat(layout, depth, source.alpha), is_still=True, colour=colour
    )
    return picture, replace(frame, planes=planes)


def _yuv_to_rgb(
    info: ClipInfo, planes: tuple[np.ndarray, ...], rgb_depth: int
) -> tuple[np.ndarray, ...]:
    depth = info.format.depth
    if info.format.layout != "yuv444":
        planes = _upsampled(planes, info.format)
    matrix = matrix_or_default(info.colour, info.height)
    if matrix == _IDENTITY_MATRIX:
        green, blue, red = (_scaled(plane, depth, rgb_depth) for plane in planes)
        return red, green, blue
    return yuv444_to_rgb(
        planes,
        depth=depth,
        matrix=matrix,
        full_range=info.colour.full_range,
        rgb_depth=rgb_depth,
    )


def _upsampled(planes: tuple[np.ndarray, ...], pixel_format: PixelFormat) -> tuple[np.ndarray, ...]:
    from codec.media.planes import frame_of, planes_of, resampled

    suffix = "" if pixel_format.depth == 8 else f"{pixel_format.depth}le"
    frame = frame_of(planes, f"{pixel_format.layout}p{suffix}")
    # Luma is taken over unchanged; only its chroma is interpolated.
    return (planes[0], *planes_of(resampled(frame, f"yuv444p{suffix}"))[1:])


def _quantization(depth: int, full_range: bool) -> tuple[int, int, int, int]:
    """(luma step, luma zero, chroma step, chroma zero): sample = value * step + zero; H.273 8.3."""
    half = 1 << (depth - 1)
    if full_range:
        return (1 << depth) - 1, 0, (1 << depth) - 1, half
    scale = 1 << (depth - 8)
    return 219 * scale, 16 * scale, 224 * scale, half


def _rounded(values: np.ndarray, depth: int) -> np.ndarray:
    limited = np.clip(np.floor(values + 0.5), 0, (1 << depth) - 1)
    return limited.astype(np.uint8 if depth <= 8 else np.uint16)


def _scaled(plane: np.ndarray, depth: int, target_depth: int) -> np.ndarray:
    """round(plane * (2^target_depth - 1) / (2^depth - 1)), in integers."""
    if depth == target_depth:
        return plane
    peak, target = (1 << depth) - 1, (1 << target_depth) - 1
    return ((plane.astype(np.uint32) * target + peak // 2) // peak).astype(np.uint16)


def area_means(field: np.ndarray, side: int) -> np.ndarray:
    """Means over squares of `side`, cut off at the edges: float64 (H / side, W / side)."""
    starts = (np.arange(0, field.shape[0], side), np.arange(0, field.shape[1], side))
    sums = np.add.reduceat(np.add.reduceat(field, starts[0], 0, dtype=np.float64), starts[1], 1)
    heights, widths = (
        np.diff(first, append=size) for first, size in zip(starts, field.shape, strict=True)
    )
    return sums / (heights[:, None] * widths)
