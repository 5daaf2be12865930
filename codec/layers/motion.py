"""Motion compensation: without it a clip that moves would be coded anew in every frame.

Vectors are in 1/16 luma sample, the column before the row, one for each block of 2^block_level
square; a sample of a frame at x is predicted from the reference at x + v. These functions are what
`arch.motion` says the integer decoder does, in real numbers; only vectors are rounded as there.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from codec.arch.grids import MOTION_COMPONENTS
from codec.arch.motion import (
    INTERPOLATION_FRAC,
    INTERPOLATION_Q7,
    INTERPOLATION_TAPS,
    MAX_VECTOR,
    RATIO_FRAC,
    VECTOR_FRAC,
)
from codec.layers.upsampling import default_half_kernel, interpolation_basis

PHASES = 1 << VECTOR_FRAC
REACH = INTERPOLATION_TAPS // 2 - 1  # samples before the one of phase 0
_BILINEAR_TAPS = 4
_DIFFERENCE = 1e-4


def _window(phase: np.ndarray) -> np.ndarray:
    """sinc(x) cos(pi x / 8) at the taps, for phases (P,) in 1/16 sample, of sum 1: (P, 8)."""
    x = np.arange(INTERPOLATION_TAPS) - REACH - phase[:, None] / PHASES
    taps = np.sinc(x) * np.cos(np.pi * x / INTERPOLATION_TAPS)
    return taps / taps.sum(axis=1, keepdims=True)


@lru_cache(maxsize=1)
def interpolation_taps() -> np.ndarray:
    """float64 (2, 16, 8): the decoder's taps for each phase, and their derivatives.

    The decoder's taps are rounded; the derivative, by the phase in 1/16 sample, is that of the
    window which they approximate.
    """
    phase = np.arange(PHASES, dtype=np.float64)
    slopes = (_window(phase + _DIFFERENCE) - _window(phase - _DIFFERENCE)) / (2 * _DIFFERENCE)
    return np.stack([np.array(INTERPOLATION_Q7) / (1 << INTERPOLATION_FRAC), slopes])


@lru_cache(maxsize=128)
def _doubling(size: int, cropped: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """(cropped, size) matrix of bilinear x2 interpolation along one axis, edges replicated."""
    half = default_half_kernel(_BILINEAR_TAPS)
    basis = interpolation_basis(half.numel(), size, cropped, torch.device("cpu"))
    return torch.einsum("m,mij->ij", half, basis).to(device, dtype)


def _double(field: Tensor, height: int, width: int) -> Tensor:
    """(T, C, h, w) -> (T, C, height, width), twice the size or one less."""
    down = _doubling(field.shape[2], height, field.device, field.dtype)
    across = _doubling(field.shape[3], width, field.device, field.dtype)
    return torch.matmul(down, torch.matmul(field, across.T))


def motion_vectors(
    components: Sequence[Sequence[tuple[int, Tensor]]],
    *,
    num_frames: int,
    height: int,
    width: int,
    block_level: int,
    vector_frac: int,
) -> Tensor:
    """The four components of motion at the blocks of every frame.

    A component is the sum of its grids, each brought to the blocks by bilinear interpolation,
    doubling level by level; one without grids is zero.

    Args:
        components: for each of the four the (level, latents (T, h, w)) of its grids, coarse to
            fine, (h, w) being ceil((height, width) / 2^level); one grid at least in all.
        num_frames: T.
        vector_frac: a latent of 1 is 2^-vector_frac samples.

    Returns:
        (T, 4, rows, columns) in 1/16 sample, rows and columns of blocks: columns of a, rows of a,
        columns of b, rows of b.
    """
    grids = [(level, c, latents) for c, own in enumerate(components) for level, latents in own]
    field = None
    for level in range(max(grid[0] for grid in grids), block_level - 1, -1):
        size = (-(-height >> level), -(-width >> level))
        field = None if field is None else _double(field, *size)
        joining = [(c, latents) for own_level, c, latents in grids if own_level == level]
        if joining:
            new = _by_component(joining, num_frames, size)
            field = new if field is None else field + new
    return field * (1 << (VECTOR_FRAC - vector_frac))


def _by_component(
    joining: Sequence[tuple[int, Tensor]], num_frames: int, size: tuple[int, int]
) -> Tensor:
    """(T, 4, h, w) of the sums of latents (T, h, w) of each component."""
    sums = [joining[0][1].new_zeros(num_frames, *size) for _ in range(MOTION_COMPONENTS)]
    for component, latents in joining:
        sums[component] = sums[component] + latents
    return torch.stack(sums, dim=1)


def split_vectors(ab: Tensor, ratios_q8: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Vectors to the past reference, v0 = a, and to the future one, v1 = b - ratio a.

    Args:
        ab: (N, 4, rows, columns) from `motion_vectors`.
        ratios_q8: `Inter.ratio_q8` of the N frames.

    Returns:
        v0 and v1, (N, 2, rows, columns) each.
    """
    a, b = ab[:, :2], ab[:, 2:]
    ratios = torch.tensor(ratios_q8, dtype=ab.dtype, device=ab.device) / (1 << RATIO_FRAC)
    return a, b - ratios[:, None, None, None] * a


def predict(
    trunk: Tensor,
    references: Tensor,
    pasts: Sequence[int],
    futures: Sequence[int],
    first: Tensor,
    second: Tensor,
    *,
    block_level: int,
) -> Tensor:
    """Frames as their references, warped, blended and scaled, and a residue.

    With residue r, blend s and gain g, the channels of the trunk in this order:
    y = r + alpha (beta w0 + (1 - beta) w1), alpha = clamp(1 + g, 0, 1), beta = clamp(1/2 + s, 0, 1)
    from two references, y = r + alpha w0 from one, y = r + 1/2 from none.

    Args:
        trunk: (N, C + 2, H, W).
        references: (R, C, H, W).
        pasts: for each frame the index of its past reference, -1 if it has none.
        futures: that of its future one; the past one's if there is no other.
        first: (N, 2, rows, columns) vectors to the past references, in 1/16 sample. They are held
            to +-2^14 and rounded, half up; gradients pass the rounding as if it were not there.
        second: those to the future references.
        block_level: log2 of the side of blocks; there are ceil((H, W) / side) of them.

    Returns:
        (N, C, H, W), not clamped.
    """
    channels = trunk.shape[1] - 2
    residue, blend, gain = (
        trunk[:, :channels],
        trunk[:, channels, None],
        trunk[:, channels + 1, None],
    )
    past, future = (torch.tensor(own, device=trunk.device) for own in (pasts, futures))
    if max(pasts) < 0:
        return residue + 0.5
    mean = _warp(references[past.clamp(min=0)], first, block_level)
    if tuple(pasts) != tuple(futures):
        has_two = (past != future)[:, None, None, None]
        beta = (0.5 + blend).clamp(0, 1)
        other = _warp(references[future.clamp(min=0)], second, block_level)
        mean = torch.where(has_two, beta * mean + (1 - beta) * other, mean)
    predicted = (1 + gain).clamp(0, 1) * mean
    has_one = (past >= 0)[:, None, None, None]
    return residue + torch.where(has_one, predicted, torch.full_like(predicted, 0.5))


def _warp(sources: Tensor, vectors: Tensor, level: int) -> Tensor:
    """(N, C, H, W) displaced by vectors (N, 2, rows, columns) of blocks, edges replicated.

    Each row of blocks is first filtered across, on side + 7 lines, then down.
    """
    height, width = sources.shape[2:]
    side, device = 1 << level, sources.device
    steps, taps = _steps_and_taps(vectors)
    columns = torch.arange(width, device=device)
    steps, taps = steps[..., columns >> level], taps[..., columns >> level, :]
    tops = torch.arange(0, height, side, device=device)[:, None, None] - REACH
    offsets = torch.arange(side + INTERPOLATION_TAPS - 1, device=device)[:, None]
    lines = (steps[:, 1, :, None] + tops + offsets).clamp(0, height - 1)
    across = torch.zeros((), dtype=sources.dtype, device=device)
    for k in range(INTERPOLATION_TAPS):
        at = (steps[:, 0, :, None] + columns + (k - REACH)).clamp(0, width - 1)
        across = across + taps[:, None, 0, :, None, :, k] * _pick(sources, lines * width + at)
    down = torch.zeros((), dtype=sources.dtype, device=device)
    for j in range(INTERPOLATION_TAPS):
        down = down + taps[:, None, 1, :, None, :, j] * across[:, :, :, j : j + side]
    return down.flatten(2, 3)[:, :, :height]


def _steps_and_taps(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Vectors as whole samples, int64, and as taps (..., 8), which have the gradients."""
    held = vectors.clamp(-MAX_VECTOR, MAX_VECTOR)
    rounded = (held.detach() + 0.5).floor().long()
    tables = torch.from_numpy(interpolation_taps()).to(vectors)
    plain, slopes = tables[:, rounded % PHASES]
    # The difference is 0 and has the gradient of the vector.
    return rounded >> VECTOR_FRAC, plain + (held - held.detach())[..., None] * slopes


def _pick(sources: Tensor, indices: Tensor) -> Tensor:
    """Samples (N, C, ...) of planes (N, C, H, W) at flat indices (N, ...)."""
    number, channels = sources.shape[:2]
    flat = indices.reshape(number, 1, -1).expand(-1, channels, -1)
    return sources.flatten(2).gather(2, flat).reshape(number, channels, *indices.shape[1:])
