"""From a frozen segment to what the stream holds, decoded again to see that it is right."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from codec.arch import Architecture
from codec.bitstream.elements import Network, Partition, Segment
from codec.fixedpoint.entropy import decode_latents, encode_latents
from codec.fixedpoint.pictures import frame_hash, frames_from_channels
from codec.fixedpoint.program import Program, load_network
from codec.fixedpoint.render import render
from codec.freeze.measure import Frozen
from codec.media.frames import Frame
from codec.media.metrics import frame_mse
from codec.training.states import Task

LATENTS_PER_BAND = 1 << 20
MOST_BANDS = 8


@dataclass(frozen=True)
class Coded:
    """One finished segment and the errors of its frames, mean squared, in units of samples."""

    network: Network
    segment: Segment
    errors: list[float]


def choose_partition(arch: Architecture, latents: Sequence[np.ndarray]) -> Partition:
    """One substream for small segments; for large ones one for every 2^20 latents, at most 8 a row.

    A clip is cut between its frames, where no context is lost, and only into bands where a frame
    alone is large.
    """
    rows = [sum(latent.size for latent in latents)]
    is_split = rows[0] >= LATENTS_PER_BAND and len(latents[-1]) > 1
    if is_split:
        rows = _latents_by_row(arch, latents)
    return Partition(is_split, min(MOST_BANDS, 1 + max(rows) // LATENTS_PER_BAND))


def _latents_by_row(arch: Architecture, latents: Sequence[np.ndarray]) -> list[int]:
    """Latents of grids that serve several frames, and of a frame."""
    rows = [0, 0]
    for grid, latent in zip(arch.grids, latents, strict=True):
        is_dynamic = grid.time_stride == 1
        rows[is_dynamic] += latent[0].size if is_dynamic else latent.size
    return rows


def code_segment(
    frozen: Frozen, task: Task, *, first_frame: int, network_id: int, threads: int
) -> Coded:
    """Range-code the latents, decode them again, and render the frames that a decoder will show."""
    program = load_network(frozen.network, task.numerics)
    size = {"num_frames": len(task.frames), "height": task.height, "width": task.width}
    partition = choose_partition(task.arch, frozen.latents)
    present, substreams = encode_latents(
        program, frozen.latents, **size, partition=partition, threads=threads
    )
    decoded = decode_latents(
        program, present, substreams, **size, partition=partition, threads=threads
    )
    same = all(np.array_equal(a, b) for a, b in zip(decoded, frozen.latents, strict=True))
    assert same, "latents did not survive their own coding"
    planes = list(_decoded_planes(program, frozen, task, threads))
    pairs = zip(task.frames, planes, strict=True)
    segment = Segment(
        first_frame=first_frame,
        num_frames=len(task.frames),
        rect=(0, 0, task.height, task.width),
        network_id=network_id,
        grid_present=present,
        substreams=substreams,
        frame_hashes=tuple(map(frame_hash, planes)),
        pts_ticks=tuple(frame.pts_ticks for frame in task.frames),
        codes=frozen.codes,
        noise_seed=task.seed if task.arch.common_randomness else 0,
        partition=partition,
    )
    errors = [frame_mse(frame, Frame(made), task.format).colour for frame, made in pairs]
    return Coded(frozen.network, segment, errors)


def _decoded_planes(
    program: Program, frozen: Frozen, task: Task, threads: int
) -> Iterator[tuple[np.ndarray, ...]]:
    channels = render(
        program,
        frozen.latents,
        frozen.codes,
        num_frames=len(task.frames),
        height=task.height,
        width=task.width,
        noise_seed=task.seed,
        threads=threads,
    )
    for frame in channels:
        yield frames_from_channels(frame, task.format, numerics=task.numerics, threads=threads)
