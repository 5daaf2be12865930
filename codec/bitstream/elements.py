"""What a stream carries, parsed: the network and the segment, in the integers of the decoder."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from codec.arch import Architecture

MAX_BANDS = 16


@dataclass(frozen=True)
class Network:
    """The integer parameters of one network chunk: value of a parameter = q * 2^-exponent.

    `exponents` has one entry per group of `codec.arch.exponent_groups`, `values` one int32 array
    per name of `codec.arch.param_specs`.
    """

    arch: Architecture
    exponents: dict[str, int]
    values: dict[str, np.ndarray]


@dataclass(frozen=True)
class Partition:
    """How the latents of a segment are cut into substreams.

    With `split_frames`, substream row 0 holds the static and slow grids and row 1 + t the dynamic
    grids of frame t; without, one row holds all. Each row is cut into `bands` bands of grid rows:
    band b of a slice with h rows holds rows floor(h b / bands) to floor(h (b + 1) / bands), and
    spatial contexts above its first row read as zero. Substreams are stored row by row, bands
    inside.
    """

    split_frames: bool = False
    bands: int = 1

    def num_substreams(self, num_frames: int) -> int:
        """Substreams of a segment with `num_frames` frames."""
        return (1 + num_frames if self.split_frames else 1) * self.bands


@dataclass(frozen=True)
class Segment:
    """One closed group of frames: a time range and a rectangle of the clip.

    Args:
        first_frame: number of its first frame in the clip.
        num_frames: frames, in display order.
        rect: (top, left, height, width) in luma samples.
        network_id: the network chunk it uses.
        grid_present: one flag per grid of the architecture; False means all latents are zero.
        codes: int32 arrays of `codec.arch.segment_specs`, by name.
        noise_seed: seed of the common randomness, 0 where there is none.
        partition: how the substreams are cut.
        substreams: range-coded latents.
        frame_hashes: CRC-32 of each decoded frame's cropped planes, in display order.
        pts_ticks: presentation time of each frame.
    """

    first_frame: int
    num_frames: int
    rect: tuple[int, int, int, int]
    network_id: int
    grid_present: tuple[bool, ...]
    substreams: tuple[bytes, ...]
    frame_hashes: tuple[int, ...]
    pts_ticks: tuple[int, ...]
    codes: dict[str, np.ndarray] = field(default_factory=dict)
    noise_seed: int = 0
    partition: Partition = Partition()
