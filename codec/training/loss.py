"""What the distortion of a segment is measured against: its source samples, weights and masks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from codec.layers.error import ErrorPlane
from codec.media.frames import Frame, PixelFormat
from codec.media.metrics import plane_weights


def error_planes(
    frames: Sequence[Frame], fmt: PixelFormat, device: torch.device
) -> list[ErrorPlane]:
    """One plane for each channel, so that their squared error is D of J = D + lambda R.

    Mean squared error of samples on [0, 1]. RGB and grey: mean over planes; YUV: (4 Y + U + V) / 6.
    With alpha, colour counts where alpha > 0 (a chroma sample where any alpha that it covers is),
    and the error of alpha is added with weight 1/3.
    """
    targets = [
        torch.stack([torch.from_numpy(f.planes[i].astype("float32")) / fmt.peak for f in frames])
        for i in range(fmt.num_planes)
    ]
    targets = [target.to(device) for target in targets]
    colour = fmt.num_planes - fmt.alpha
    weights = plane_weights(fmt)
    masks = _visible_masks(targets[-1], fmt) if fmt.alpha else [None] * colour
    halvings = [(0, 0), *[fmt.chroma_shifts] * (colour - 1)]
    planes = list(map(ErrorPlane, targets[:colour], weights[:colour], masks, halvings))
    if fmt.alpha:
        planes.append(ErrorPlane(targets[-1], weights[-1], None, (0, 0)))
    return planes


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
