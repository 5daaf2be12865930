"""One segment: what it may ask for, and its frames with their hashes checked."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from codec.arch import Architecture, Grid, grid_shape, temporal_inputs
from codec.arch.macs import mac_per_pixel
from codec.bitstream.elements import Segment
from codec.bitstream.limits import Limits
from codec.errors import BitstreamError, LimitError
from codec.fixedpoint.entropy import decode_latents
from codec.fixedpoint.pictures import frame_hash, frames_from_channels
from codec.fixedpoint.program import Program
from codec.fixedpoint.render import draw, make_scene
from codec.media.frames import ClipInfo

Planes = tuple[np.ndarray, ...]

# Latents and activations of segments that are held at once, at least 8 a pixel of a large frame.
MAX_SEGMENT_SAMPLES = 1 << 29
_SAMPLES_PER_PIXEL = 8


def segment_samples(
    arch: Architecture, present: tuple[bool, ...], *, num_frames: int, height: int, width: int
) -> int:
    """Numbers that decoding a segment holds at once: latents, temporal stack, one frame.

    With motion all pictures are held. The inputs of a temporal layer count with the columns that a
    convolution replicates at both sides, which in narrow pictures are most of them.
    """

    def area(level: int, *, margin: int = 0) -> int:
        rows, columns = grid_shape(Grid(level), height, width)
        return rows * (columns + 2 * margin)

    coded = (grid for grid, is_present in zip(arch.grids, present, strict=True) if is_present)
    latents = sum(grid.num_slices(num_frames) * area(grid.level) for grid in coded)
    stack = max(
        (
            num_frames
            * (
                temporal_inputs(arch, i)
                * area(layer.level, margin=layer.kernel_space // 2 * layer.dilation)
                + layer.out * area(layer.level)
            )
            for i, layer in enumerate(arch.temporal)
        ),
        default=0,
    )
    pictures = num_frames * arch.num_channels * area(0) if arch.has_motion else 0
    return latents + stack + pictures + (arch.num_inputs + arch.num_straight) * area(0)


def check_segment(
    segment: Segment, arch: Architecture, limits: Limits, *, held_samples: int = 0
) -> int:
    """Refuse a segment before anything is allocated for it; gives its `segment_samples`.

    `held_samples` are those of segments that are being decoded: rectangles of the same frames.

    Raises:
        LimitError: more memory or work than the limits allow.
    """
    _, _, height, width = segment.rect
    samples = segment_samples(
        arch, segment.grid_present, num_frames=segment.num_frames, height=height, width=width
    )
    allowed = max(MAX_SEGMENT_SAMPLES, _SAMPLES_PER_PIXEL * limits.max_pixels)
    if held_samples + samples > allowed:
        raise LimitError(
            f"decoding needs {held_samples + samples} numbers at once; {allowed} are allowed"
        )
    macs = mac_per_pixel(arch, segment.num_frames)
    if macs > limits.max_mac_per_pixel:
        raise LimitError(
            f"network {segment.network_id} needs {macs:.0f} multiplications a pixel; "
            f"{limits.max_mac_per_pixel} are allowed"
        )
    return samples


def decode_segment(
    segment: Segment,
    program: Program,
    info: ClipInfo,
    *,
    frames: range,
    threads: int,
) -> Iterator[Planes]:
    """Planes of the segment's rectangle for some of its frames, counted from its first.

    Raises:
        BitstreamError: damaged latents or codes, or a frame that does not have its hash.
    """
    _, _, height, width = segment.rect
    latents = decode_latents(
        program,
        segment.grid_present,
        segment.substreams,
        num_frames=segment.num_frames,
        height=height,
        width=width,
        partition=segment.partition,
        threads=threads,
    )
    scene = make_scene(
        program,
        latents,
        segment.codes,
        num_frames=segment.num_frames,
        height=height,
        width=width,
        noise_seed=segment.noise_seed,
        threads=threads,
    )

    def planes_of(picture: np.ndarray, threads: int) -> Planes:
        return frames_from_channels(
            picture, info.format, numerics=program.numerics, threads=threads
        )

    pictures = draw(scene, planes_of, frames=frames, threads=threads)
    for t, planes in zip(frames, pictures, strict=True):
        found, stated = frame_hash(planes), segment.frame_hashes[t]
        if found != stated:
            raise BitstreamError(
                f"frame {segment.first_frame + t} decodes to the hash {found:08x}; the stream "
                f"states {stated:08x}"
            )
        yield planes
