"""Rate-distortion cost J = D + lambda R of a segment against its source samples."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from codec.media.frames import Frame, PixelFormat
from codec.media.metrics import ALPHA_WEIGHT


class Distortion:
    """Mean squared error of samples on [0, 1] as the encoder optimises it.

    RGB and grey: mean over planes; YUV: (4 Y + U + V) / 6. With alpha, colour counts where
    alpha > 0 (a chroma sample where any alpha that it covers is), and the error of alpha is added
    with weight 1/3.
    """

    def __init__(self, frames: Sequence[Frame], fmt: PixelFormat, device: torch.device) -> None:
        peak = fmt.peak
        self.format = fmt
        self.targets = [
            torch.stack(
                [torch.from_numpy(f.planes[i].astype("float32")) / peak for f in frames]
            ).to(device)
            for i in range(fmt.num_planes)
        ]
        colour = fmt.num_planes - fmt.alpha
        luma_first = fmt.layout.startswith("yuv")
        self.weights = [4 / 6, 1 / 6, 1 / 6] if luma_first else [1 / colour] * colour
        self.masks = _visible_masks(self.targets[-1], fmt) if fmt.alpha else [None] * colour

    def __call__(self, channels: Tensor) -> Tensor:
        """(T, C, H, W) samples at luma resolution -> the error, a scalar."""
        total = channels.new_zeros(())
        for i, (weight, mask) in enumerate(zip(self.weights, self.masks, strict=True)):
            plane = channels[:, i]
            if i and self.format.chroma_shifts != (0, 0):
                plane = box_mean(plane, *self.format.chroma_shifts)
            error = (plane - self.targets[i]) ** 2
            total = total + weight * (error if mask is None else error * mask).mean()
        if self.format.alpha:
            error = F.mse_loss(channels[:, -1], self.targets[-1])
            total = total + ALPHA_WEIGHT * error
        return total


def _visible_masks(alpha: Tensor, fmt: PixelFormat) -> list[Tensor]:
    """For each colour plane, (T, h, w) weights of mean 1 a frame, 0 where alpha (T, H, W) hides."""
    opaque = (alpha > 0).float()
    down_y, down_x = fmt.chroma_shifts
    chroma = F.max_pool2d(opaque.unsqueeze(1), (1 << down_y, 1 << down_x), ceil_mode=True)
    luma, chroma = (
        mask / mask.mean((1, 2), keepdim=True).clamp(min=1e-9)
        for mask in (opaque, chroma.squeeze(1))
    )
    return [luma, *[chroma] * (fmt.num_planes - 2)]


def box_mean(plane: Tensor, down_y: int, down_x: int) -> Tensor:
    """(T, H, W) -> means over 2^down_y x 2^down_x samples, odd last rows and columns replicated."""
    rows, columns = 1 << down_y, 1 << down_x
    pad_y, pad_x = -plane.shape[1] % rows, -plane.shape[2] % columns
    if pad_y or pad_x:
        plane = F.pad(plane.unsqueeze(1), (0, pad_x, 0, pad_y), mode="replicate").squeeze(1)
    return F.avg_pool2d(plane, (rows, columns))
