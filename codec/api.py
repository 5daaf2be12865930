"""The library's front: files or arrays to streams and back, with the command line's options."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from codec.arrays import array_of, clip_of
from codec.bitstream.chunks import MAGIC
from codec.bitstream.limits import Limits
from codec.comparison import Comparison, compare_clips, file_size
from codec.decoder import StreamInfo, VerifyReport, open_stream
from codec.decoder import info as stream_info
from codec.decoder import verify as verify_stream
from codec.errors import TargetError, UsageError
from codec.media.frames import Clip, Frame
from codec.media.sinks import write_output
from codec.media.sources import open_source
from codec.media.y4m import read_y4m, write_y4m
from codec.options import EncodeOptions, EncodeReport, Progress
from codec.outputs import (
    STDIO,
    Existing,
    atomic_output,
    checkpoint_path,
    may_write,
    refuse_same_file,
)

PathLike = str | os.PathLike
Coded = PathLike | bytes | BinaryIO
FrameRange = tuple[int, int | None]


def encode(
    source: PathLike | np.ndarray | BinaryIO,
    output: PathLike | None = None,
    *,
    overwrite: bool = False,
    frame_rate: Fraction | float = 25,
    on_progress: Callable[[Progress], None] | None = None,
    resume: bool = False,
    **options: Any,
) -> EncodeReport:
    """Encode a picture or clip.

    Args:
        source: a file; a y4m stream open for reading bytes; or an array as `codec.arrays.clip_of`
            takes it: (H, W), (H, W, C) or (T, H, W, C), uint8 or uint16.
        output: the file to write; None gives the stream as `data` of the report.
        overwrite: whether an output that exists may be replaced.
        frame_rate: of a clip that is an array, in frames a second.
        on_progress: called with each step forward.
        resume: go on with an encode to `output` that was interrupted, if there was one.
        **options: the fields of `EncodeOptions`: preset, quality, rd_lambda, target, seed, steps,
            time_s, threads, device, skip, limit, max_memory_bytes.
    Raises:
        UsageError, InputError, OutputError: wrong options, source or output.
        TargetError: the target was not reached.
    """
    chosen = EncodeOptions(**options)
    clip = partial(_opened_source, source, chosen, frame_rate)
    if output is None:
        from codec.encoder import encode_clip

        if resume:
            raise UsageError("only an encode to a file can be resumed")
        buffer = io.BytesIO()
        report = encode_clip(clip(), buffer, options=chosen, on_progress=on_progress)
        return replace(report, data=buffer.getvalue())
    target, existing = _target(source, output, overwrite=overwrite)
    return encode_to(clip, target, existing, options=chosen, resume=resume, on_progress=on_progress)


def encode_to(
    open_clip: Callable[[], Clip],
    target: str,
    existing: Existing,
    *,
    options: EncodeOptions,
    resume: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
) -> EncodeReport:
    """Encode to a file or standard output, complete or not at all; `encode` tells what it raises.

    What was made until an interrupt stays in the file of `checkpoint_path`, which goes when the
    output is there, or when its target turned out to be out of reach.
    """
    from codec.encoder import encode_clip

    checkpoint = checkpoint_path(target)
    if resume and checkpoint is None:
        raise UsageError(f"{target}: only an encode to a file can be resumed")
    try:
        with atomic_output(target, existing) as part, part.open("wb") as file:
            report = encode_clip(
                open_clip(),
                file,
                options=options,
                on_progress=on_progress,
                checkpoint=checkpoint,
                resume=resume,
            )
    except TargetError:
        _remove(checkpoint)
        raise
    _remove(checkpoint)
    return report


def _remove(checkpoint: Path | None) -> None:
    if checkpoint is not None:
        checkpoint.unlink(missing_ok=True)


def decode(
    source: Coded,
    output: PathLike | None = None,
    *,
    frames: FrameRange | None = None,
    threads: int | None = None,
    max_pixels: int | None = None,
    codec: str | None = None,
    crf: int | None = None,
    video_only: bool = False,
    overwrite: bool = False,
) -> np.ndarray | None:
    """Decode a stream to a file, or to an array if no output is named.

    Args:
        source: a .modc file, its bytes, or a stream open for reading bytes.
        output: the extension says what is written; see `codec.media.sinks.write_output`.
        frames: (first, end) of a clip, end None for all the rest.
        threads: None takes all cores; the result does not depend on it.
        max_pixels: largest frame to decode, instead of 2^26.
        codec, crf: of .mkv and .mp4: "ffv1" or "x264" and its quality.
        video_only: leave the sound out.
        overwrite: whether an output that exists may be replaced.
    Returns:
        None with an output; otherwise RGB or grey, uint8, or uint16 scaled to 16 bit: (H, W) or
        (H, W, C) for a picture, (T, H, W, C) for a clip.
    Raises:
        NotModcodecError, BitstreamError, UnsupportedVersionError: the stream is not good.
        UsageError, OutputError: wrong options or output.
    """
    if output is None and (codec is not None or crf is not None):
        raise UsageError("codec and crf are for an output that is a file")
    if output is None:
        clip = open_coded(source, frames=frames, threads=threads, max_pixels=max_pixels)
        return array_of(clip.info, clip.frames)
    target, existing = _target(source, output, overwrite=overwrite)
    clip = open_coded(source, frames=frames, threads=threads, max_pixels=max_pixels)
    save_clip(clip, target, existing, codec=codec, crf=crf, video_only=video_only)
    return None


def info(source: Coded, *, max_pixels: int | None = None) -> StreamInfo:
    """What a stream says about itself; reads and checks all of it, decodes no picture.

    Raises:
        NotModcodecError, BitstreamError, UnsupportedVersionError: the stream is not good.
    """
    return stream_info(source, limits=_limits(max_pixels))


def verify(
    source: Coded, *, threads: int | None = None, max_pixels: int | None = None
) -> VerifyReport:
    """Decode a whole stream and check structure, checksums and the hash of every frame.

    Raises:
        NotModcodecError, BitstreamError, UnsupportedVersionError: the first thing that is wrong.
    """
    return verify_stream(source, limits=_limits(max_pixels), threads=threads)


def compare(
    reference: Coded | np.ndarray,
    test: Coded | np.ndarray,
    *,
    skip: int = 0,
    limit: int | None = None,
    threads: int | None = None,
    max_pixels: int | None = None,
) -> Comparison:
    """PSNR of `test` against `reference`: files, .modc files or their bytes, or arrays.

    Args:
        skip, limit: frames of the reference to leave out, and to take at most.
        threads, max_pixels: for decoding .modc files.
    Raises:
        InputError: they differ in size, format or number of frames.
    """
    options = EncodeOptions(skip=skip, limit=limit)
    settings = {"threads": threads, "max_pixels": max_pixels}
    clips = [
        open_coded(side, **settings) if _is_coded(side) else _opened_source(side, selection, 25)
        for side, selection in ((reference, options), (test, EncodeOptions()))
    ]
    return compare_clips(*clips, reference_bytes=file_size(reference), test_bytes=file_size(test))


def open_coded(
    source: Coded,
    *,
    frames: FrameRange | None = None,
    threads: int | None = None,
    max_pixels: int | None = None,
) -> Clip:
    """A stream as a source of frames; of a range, the first is at time 0 and there is no sound."""
    stream = open_stream(source, limits=_limits(max_pixels), threads=threads)
    if frames is None:
        return Clip(stream.info, stream.frames(), metadata=stream.metadata, audio=stream.audio)
    chosen = _from_time_zero(stream.frames(*frames))
    notes = ("the sound is left out with a range of frames",) if stream.audio else ()
    return Clip(stream.info, chosen, metadata=stream.metadata, notes=notes)


def save_clip(
    clip: Clip,
    target: str,
    existing: Existing,
    *,
    suffix: str = "",
    codec: str | None = None,
    crf: int | None = None,
    video_only: bool = False,
) -> tuple[int, tuple[str, ...]]:
    """Write a clip, complete or not at all; (number of frames, what the output could not hold).

    `suffix` says what is written to standard output or a device; y4m goes there frame by frame.
    """
    audio = None if video_only else clip.audio
    frames = _Counted(clip.frames)
    if target == STDIO and suffix == ".y4m":
        write_y4m(sys.stdout.buffer, clip.info, frames)
        return frames.count, ("the sound is left out",) if audio else ()
    with atomic_output(target, existing, suffix=suffix) as part:
        notes = write_output(
            part, clip.info, frames, metadata=clip.metadata, audio=audio, codec=codec, crf=crf
        )
    return frames.count, notes


class _Counted:
    """Frames that are counted as they pass."""

    def __init__(self, frames: Iterable[Frame]) -> None:
        self._frames = frames
        self.count = 0

    def __iter__(self) -> Iterator[Frame]:
        for frame in self._frames:
            self.count += 1
            yield frame


def _target(source: object, output: PathLike, *, overwrite: bool) -> tuple[str, Existing]:
    target, existing = os.fspath(output), Existing.OVERWRITE if overwrite else Existing.REFUSE
    if isinstance(source, str | os.PathLike):
        refuse_same_file(os.fspath(source), target)
    may_write(target, existing)
    return target, existing


def _limits(max_pixels: int | None) -> Limits | None:
    return None if max_pixels is None else Limits(max_pixels=max_pixels)


def _opened_source(
    source: PathLike | np.ndarray | BinaryIO,
    options: EncodeOptions,
    frame_rate: Fraction | float,
) -> Clip:
    selection = {"skip": options.skip, "limit": options.limit}
    if isinstance(source, np.ndarray):
        return clip_of(_selected(source, options), frame_rate=frame_rate)
    if isinstance(source, str | os.PathLike):
        return open_source(source, **selection)
    return read_y4m(source, **selection)


def _selected(array: np.ndarray, options: EncodeOptions) -> np.ndarray:
    if array.ndim != 4:
        return array
    last = None if options.limit is None else options.skip + options.limit
    return array[options.skip : last]


def _is_coded(source: object) -> bool:
    if isinstance(source, bytes):
        return True
    if not isinstance(source, str | os.PathLike) or not os.path.isfile(source):
        return False
    with open(source, "rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def _from_time_zero(frames: Iterable[Frame]) -> Iterator[Frame]:
    origin: int | None = None
    for frame in frames:
        origin = frame.pts_ticks if origin is None else origin
        yield replace(frame, pts_ticks=frame.pts_ticks - origin)
