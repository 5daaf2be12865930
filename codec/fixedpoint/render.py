"""From latents to the output of the synthesis, frame by frame."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from codec.fixedpoint.noise import noise_planes
from codec.fixedpoint.program import Program
from codec.fixedpoint.stack import (
    Features,
    channel_levels,
    frame_features,
    temporal_stack,
)
from codec.fixedpoint.synthesis import synthesise


def features(
    program: Program,
    latents: Sequence[np.ndarray],
    codes: Mapping[str, np.ndarray],
    *,
    num_frames: int,
    height: int,
    width: int,
    frames: range | None = None,
    threads: int = 1,
) -> Iterator[Features]:
    """Full-resolution features of each frame: what the synthesis reads beside noise.

    Args:
        program: a checked network.
        latents: int16 (slices, h, w) of each grid, in coding order.
        codes: of the segment, by name (`codec.arch.segment_specs`).
        frames: those that are wanted; None means all.

    Raises:
        BitstreamError: a code under which an accumulator could leave its type.
    """
    size = {"height": height, "width": width, "threads": threads}
    low = temporal_stack(program, latents, codes, num_frames=num_frames, **size)
    frames = range(num_frames) if frames is None else frames
    yield from frame_features(program, low, latents, frames=frames, **size)


def frame_noise(
    program: Program, *, seed: int, frame: int, height: int, width: int, threads: int = 1
) -> np.ndarray | None:
    """Noise planes (C, H, W) of a frame, or None where the architecture has none."""
    if not program.arch.common_randomness:
        return None
    return noise_planes(
        channel_levels(program.arch),
        seed=seed,
        frame=frame,
        height=height,
        width=width,
        numerics=program.numerics,
        threads=threads,
    )


def render(
    program: Program,
    latents: Sequence[np.ndarray],
    codes: Mapping[str, np.ndarray],
    *,
    num_frames: int,
    height: int,
    width: int,
    noise_seed: int = 0,
    frames: range | None = None,
    threads: int = 1,
) -> Iterator[np.ndarray]:
    """The output of the synthesis for each frame, (C_out, H, W) in the synthesis format.

    Arguments and errors as for `features`; `noise_seed` is that of the segment.
    """
    size = {"height": height, "width": width, "threads": threads}
    frames = range(num_frames) if frames is None else frames
    made = features(program, latents, codes, num_frames=num_frames, frames=frames, **size)
    for t, feature in zip(frames, made, strict=True):
        noise = frame_noise(program, seed=noise_seed, frame=t, **size)
        yield synthesise(program, feature.planes, feature.active, noise=noise, threads=threads)
