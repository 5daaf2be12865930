"""Decoding inside one process, by part, on one thread and on several."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from codec.arch import numerics_for_depth
from codec.bench.cases import Subject, describe
from codec.bench.timing import Laps, Stopwatch, Times, run_rounds, summary
from codec.bitstream.reader import StreamReader
from codec.decoder import open_stream
from codec.fixedpoint.entropy import decode_latents
from codec.fixedpoint.pictures import frame_hash, frames_from_channels
from codec.fixedpoint.program import load_network
from codec.fixedpoint.render import make_picture, make_scene, making_order

PARTS = ("container", "network", "entropy", "features", "synthesis", "samples", "hash")
WHOLE = "decode"


@dataclass(frozen=True)
class ThreadTimes:
    """Times on so many threads: of the parts in turn, and of `open_stream(...).frames()`."""

    threads: int
    parts: dict[str, Times]
    whole: Times
    frames_per_s: float
    ns_per_pixel: float


@dataclass(frozen=True, kw_only=True)
class DecodeReport:
    """Decoding of one file; `coded_latents_per_pixel` leaves out grids that are all zero."""

    subject: Subject
    size_bytes: int
    bits_per_pixel: float
    coded_latents_per_pixel: float
    rounds: int
    times: tuple[ThreadTimes, ...]


def subject_of(data: bytes) -> Subject:
    """What a file holds, with the networks of its first segment."""
    reader = StreamReader(io.BytesIO(data))
    segments = list(reader.segments())
    arch = reader.network(segments[0].network_id).arch
    counts = {
        "num_frames": sum(segment.num_frames for segment in segments),
        "segment_frames": segments[0].num_frames,
    }
    return describe(arch, reader.info, **counts)


def measure_decoding(data: bytes, *, threads: Sequence[int], repeat: int) -> DecodeReport:
    """Time `repeat` rounds of decoding a file; to be run in a process of its own.

    Each round decodes twice for each number of threads, once by part.
    """
    runs = {}
    for count in threads:
        runs[f"{count} by part"] = lambda count=count: decode_by_part(data, threads=count)
        runs[f"{count}"] = lambda count=count: decode_whole(data, threads=count)
    rounds = run_rounds(runs, repeat)
    subject = subject_of(data)
    return DecodeReport(
        subject=subject,
        size_bytes=len(data),
        bits_per_pixel=8 * len(data) / subject.num_pixels,
        coded_latents_per_pixel=_coded_latents(data) / subject.num_pixels,
        rounds=repeat,
        times=tuple(
            _thread_times(count, rounds[f"{count} by part"], rounds[f"{count}"], subject)
            for count in threads
        ),
    )


def decode_whole(data: bytes, *, threads: int) -> Laps:
    """Decode all frames as any reader of a file does; milliseconds."""
    watch = Stopwatch()
    with open_stream(data, threads=threads) as stream:
        for _ in stream.frames():
            pass
    watch.lap(WHOLE)
    return watch.laps_ms


def decode_by_part(data: bytes, *, threads: int) -> Laps:
    """Decode all frames with the steps that `open_stream` takes; milliseconds by part."""
    watch = Stopwatch()
    reader = StreamReader(io.BytesIO(data))
    segments = list(reader.segments())
    numerics = numerics_for_depth(reader.info.format.coded_depth)
    watch.lap("container")
    for segment in segments:
        _, _, height, width = segment.rect
        size = {"height": height, "width": width, "threads": threads}
        program = load_network(reader.network(segment.network_id), numerics)
        watch.lap("network")
        latents = decode_latents(
            program,
            segment.grid_present,
            segment.substreams,
            num_frames=segment.num_frames,
            partition=segment.partition,
            **size,
        )
        watch.lap("entropy")
        scene = make_scene(
            program,
            latents,
            segment.codes,
            num_frames=segment.num_frames,
            noise_seed=segment.noise_seed,
            **size,
        )
        pictures: dict[int, np.ndarray] = {}
        frames = range(segment.num_frames)
        for inter in chain.from_iterable(making_order(program.arch, frames, len(frames))):
            feature = scene.features_at(inter.frame, threads)
            watch.lap("features")
            picture = make_picture(scene, inter, feature, pictures, threads=threads)
            if program.arch.has_motion:
                pictures[inter.frame] = picture
            watch.lap("synthesis")
            planes = frames_from_channels(
                picture, reader.info.format, numerics=numerics, threads=threads
            )
            watch.lap("samples")
            frame_hash(planes)
            watch.lap("hash")
    return watch.laps_ms


def _thread_times(
    threads: int, by_part: Sequence[Laps], whole: Sequence[Laps], subject: Subject
) -> ThreadTimes:
    times = summary([laps[WHOLE] for laps in whole])
    return ThreadTimes(
        threads=threads,
        parts={part: summary([laps[part] for laps in by_part]) for part in PARTS},
        whole=times,
        frames_per_s=subject.num_frames / times.median_ms * 1e3,
        ns_per_pixel=times.median_ms * 1e6 / subject.num_pixels,
    )


def _coded_latents(data: bytes) -> int:
    reader, count = StreamReader(io.BytesIO(data)), 0
    for segment in reader.segments():
        arch = reader.network(segment.network_id).arch
        _, _, height, width = segment.rect
        for grid, is_present in zip(arch.grids, segment.grid_present, strict=True):
            if is_present:
                slices = grid.num_slices(segment.num_frames)
                count += slices * (-(-height >> grid.level)) * (-(-width >> grid.level))
    return count
