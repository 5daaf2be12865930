"""What a decoder agrees to allocate: a few honest bytes can declare an enormous picture."""

from __future__ import annotations

from dataclasses import dataclass

from codec.arch.network import MAX_GRIDS


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Largest streams that are read; beyond them reading raises LimitError.

    Args:
        max_pixels: luma samples of a frame.
        max_frames: frames of a segment.
        max_grids: latent grids of a network.
        max_parameters: numbers in a network, and codes in a segment.
        max_mac_per_pixel: multiply-accumulates a luma pixel (`codec.arch.macs`); the decoder
            checks it when it builds a network.
    """

    max_pixels: int = 1 << 26
    max_frames: int = 256
    max_grids: int = MAX_GRIDS
    max_parameters: int = 1 << 20
    max_mac_per_pixel: int = 16_000
