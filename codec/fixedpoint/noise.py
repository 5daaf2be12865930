"""Common randomness: planes of Gaussian noise that encoder and decoder make from a seed."""

from __future__ import annotations

import numpy as np

from codec.arch import Numerics
from codec.bitstream.tables import load_tables
from codec.fixedpoint.formats import storage_dtype
from codec.jit import njit, run_parallel

_GOLDEN = 0x9E3779B9
_GAUSS_FRAC = 6


@njit
def hash_step(state, value):
    """The next state of the counter hash, uint32: mix((state ^ value) + 0x9E3779B9) mod 2^32.

    mix(h): h ^= h >> 16; h *= 0x85EBCA6B; h ^= h >> 13; h *= 0xC2B2AE35; h ^= h >> 16 (the
    finalizer of MurmurHash3).
    """
    h = np.uint32((np.uint32(state) ^ np.uint32(value)) + np.uint32(_GOLDEN))
    h ^= h >> np.uint32(16)
    h = np.uint32(h * np.uint32(0x85EBCA6B))
    h ^= h >> np.uint32(13)
    h = np.uint32(h * np.uint32(0xC2B2AE35))
    return np.uint32(h ^ (h >> np.uint32(16)))


@njit
def _noise_plane(out, gauss, seed, frame, channel, level):
    """n(y, x) = gauss[hash32(seed, frame, channel, y >> level, x >> level) >> 24]."""
    height, width = out.shape
    state = hash_step(hash_step(hash_step(0, seed), frame), channel)
    step = 1 << level
    for top in range(0, height, step):
        of_row = hash_step(state, top >> level)
        for x in range(width):
            out[top, x] = gauss[hash_step(of_row, x >> level) >> np.uint32(24)]
        for y in range(top + 1, min(top + step, height)):
            out[y] = out[top]


def noise_planes(
    levels: tuple[int, ...],
    *,
    seed: int,
    frame: int,
    height: int,
    width: int,
    numerics: Numerics,
    threads: int = 1,
) -> np.ndarray:
    """One plane of noise for each feature channel, (C, H, W) in the feature format.

    Args:
        levels: level of each channel (`codec.fixedpoint.stack.channel_levels`).
        seed: of the segment, 32 bits.
        frame: number of the frame in its segment.
    """
    table = load_tables().gauss_q6 << (numerics.feature_frac - _GAUSS_FRAC)
    gauss = table.astype(storage_dtype(numerics))
    out = np.empty((len(levels), height, width), gauss.dtype)

    def job(channel: int) -> None:
        _noise_plane(out[channel], gauss, seed, frame, channel, levels[channel])

    run_parallel(job, range(len(levels)), threads=threads)
    return out
