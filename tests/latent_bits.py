"""What latents cost the decoder, by the parts of the float model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from codec.fixedpoint.empty_flags import EmptyFlags, flags_cost_q16
from codec.layers.arm import laplace_bits
from codec.model.segment import SegmentModel


def flag_bits(latents: Sequence[np.ndarray]) -> float:
    """Bits of the flags of empty slices, which grids of several slices have, in one band each."""
    total = 0
    for latent in latents:
        if len(latent) > 1 and latent.any():
            flags = EmptyFlags()
            total += flags_cost_q16([flags.freq(not band.any()) for band in latent])
    return total / 65536


def slice_bits(model: SegmentModel, latents: list[np.ndarray], index: int) -> list[float]:
    """Bits of each slice of a grid, from the parts of the entropy model."""
    entropy, planes = model.entropy, [torch.from_numpy(y.astype(np.float32)) for y in latents]
    arm = entropy.motion_arm if model.arch.grids[index].motion else entropy.arm
    with torch.no_grad():
        outputs = arm(entropy.contexts(index, planes))
        bits = laplace_bits(planes[index].reshape(-1), *outputs)
    return bits.view(len(planes[index]), -1).sum(1).tolist()


def sent_bits(model: SegmentModel, latents: list[np.ndarray]) -> float:
    """Bits of all slices but empty ones, which cost the decoder a flag, and of all flags."""
    return flag_bits(latents) + sum(
        bits
        for k, latent in enumerate(latents)
        for bits, own in zip(slice_bits(model, latents, k), latent, strict=True)
        if own.any()
    )
