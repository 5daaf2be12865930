"""Distances between pictures: mean squared error as the codec weighs it, and PSNR."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from codec.media.frames import Frame, PixelFormat

MAX_PSNR_DB = 99.0
ALPHA_WEIGHT = 1 / 3  # alpha counts as one plane beside three of colour


@dataclass(frozen=True)
class FrameError:
    """Mean squared errors of one frame in squared sample steps; `alpha` is None without alpha."""

    colour: float
    alpha: float | None = None

    @property
    def total(self) -> float:
        """What the encoder minimizes: the error of colour plus a third of that of alpha."""
        return self.colour + ALPHA_WEIGHT * (self.alpha or 0.0)


def plane_weights(pixel_format: PixelFormat) -> list[float]:
    """What the mean error of each plane is multiplied by in the error of a frame."""
    colour = pixel_format.num_planes - pixel_format.alpha
    is_yuv = pixel_format.layout.startswith("yuv")
    weights = [4 / 6, 1 / 6, 1 / 6] if is_yuv else [1 / colour] * colour
    return weights + [ALPHA_WEIGHT] * pixel_format.alpha


def plane_mse(reference: np.ndarray, test: np.ndarray, visible: np.ndarray | None = None) -> float:
    """mean((reference - test)^2), summed in integers, over samples where `visible` is true.

    Planes are (height, width), uint8 or uint16, of equal shape. With nothing visible it is 0.
    """
    assert reference.shape == test.shape
    difference = reference.astype(np.int64) - test
    if visible is not None:
        difference = difference[visible]
    if difference.size == 0:
        return 0.0
    return int(np.sum(difference * difference)) / difference.size


def frame_mse(reference: Frame, test: Frame, pixel_format: PixelFormat) -> FrameError:
    """Weighted error of a frame: (4Y + U + V) / 6 for YUV, the mean of the planes otherwise.

    With alpha, colour counts where the reference's alpha is above 0 (a chroma sample counts if any
    of the luma samples it covers does), and alpha has its own number.
    """
    masks = _visible_masks(reference, pixel_format)
    errors = [
        plane_mse(*planes) for planes in zip(reference.planes, test.planes, masks, strict=True)
    ]
    alpha = errors.pop() if pixel_format.alpha else None
    return FrameError(_weighted(errors, pixel_format.layout), alpha)


def error_maps(reference: Frame, test: Frame, pixel_format: PixelFormat) -> list[np.ndarray]:
    """Where the error of a frame is: for each plane float64 (height, width).

    All values of all planes add up to `frame_mse(...).total`.
    """
    masks = _visible_masks(reference, pixel_format)
    weights = plane_weights(pixel_format)
    maps = []
    for plane, other, mask, weight in zip(
        reference.planes, test.planes, masks, weights, strict=True
    ):
        difference = plane.astype(np.float64) - other
        count = difference.size if mask is None else max(1, np.count_nonzero(mask))
        squares = difference * difference * (weight / count)
        maps.append(squares if mask is None else squares * mask)
    return maps


def psnr_from_mse(mse: float, peak: int) -> float:
    """PSNR = 10 log10(peak^2 / mse) in dB, at most MAX_PSNR_DB, which is what no error gives."""
    if mse <= 0:
        return MAX_PSNR_DB
    return min(MAX_PSNR_DB, 10 * math.log10(peak * peak / mse))


def picture_psnr(reference: np.ndarray, test: np.ndarray) -> float:
    """PSNR in dB over all samples of two 8-bit pictures, (H, W) or (H, W, C).

    A grey picture stands for one whose channels are all the same.
    """
    both = np.broadcast_arrays(*map(np.atleast_3d, (reference, test)))
    return psnr_from_mse(plane_mse(*both), 255)


def sequence_psnr(mses: Iterable[float], peak: int) -> float:
    """PSNR of a clip: that of the mean of its frames' errors (not the mean of their PSNRs)."""
    values = list(mses)
    return psnr_from_mse(math.fsum(values) / len(values), peak)


def _weighted(errors: list[float], layout: str) -> float:
    if layout.startswith("yuv"):
        return (4 * errors[0] + errors[1] + errors[2]) / 6
    return sum(errors) / len(errors)


def _visible_masks(reference: Frame, pixel_format: PixelFormat) -> list[np.ndarray | None]:
    *colour, last = reference.planes
    if not pixel_format.alpha:
        return [None] * len(reference.planes)
    opaque = last > 0
    blocks = _any_of_blocks(opaque, *pixel_format.chroma_shifts)
    return [opaque if i == 0 else blocks for i in range(len(colour))] + [None]


def _any_of_blocks(mask: np.ndarray, down_y: int, down_x: int) -> np.ndarray:
    """True where any sample of the 2^down_y x 2^down_x block is; the last blocks may be partial."""
    rows = np.arange(0, mask.shape[0], 1 << down_y)
    columns = np.arange(0, mask.shape[1], 1 << down_x)
    return np.logical_or.reduceat(np.logical_or.reduceat(mask, rows, axis=0), columns, axis=1)
