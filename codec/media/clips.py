"""Clips in: whatever FFmpeg decodes, frame by frame, in its own YUV format where it has one."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from codec.errors import InputError
from codec.media.convert import RGB_CLIP_COLOUR, rgb_to_yuv444
from codec.media.files import av_url, checked_input, reason
from codec.media.frames import AudioTrack, Clip, ClipInfo, Colour, Frame, PixelFormat
from codec.media.planes import PACKINGS, planes_of, readable_name, resampled
from codec.media.sound import Cut, copyable, read_sound

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import InputContainer
    from av.video.stream import VideoStream

# Demuxers that make a video of text, or that open other files than the one that was named.
_REFUSED = {"tty", "hls", "concat", "dash", "image2", "sdp", "imf", "bin", "xbin", "adf", "idf"}

# Containers whose clocks start anywhere.
_ANY_START = {"mpegts", "mpeg"}

_COMMON_RATES = [Fraction(n * 1000, 1001) for n in (24, 30, 48, 60, 120)]
_COMMON_RATES += [Fraction(n) for n in range(1, 121)]
# Containers with coarse ticks state rates like 19001/317 for 60000/1001; 24 and 23.976 are 1/1001
# apart, so this tells them from each other.
_RATE_TOLERANCE = Fraction(1, 5000)
_MAX_TICKS_PER_SECOND = 1 << 20
# The longest that a stream can say of a frame, or of the time between two.
_MAX_STEP_TICKS = (1 << 31) - 1

_UNSPECIFIED = 2
_FULL_RANGE = 2


@dataclass(frozen=True)
class _Timing:
    """The clip's ticks: `ticks_per_source` of them make one of the stream's."""

    time_base: Fraction
    frame_ticks: int
    ticks_per_source: int


def read_clip(path: str | os.PathLike, *, skip: int = 0, limit: int | None = None) -> Clip:
    """A clip whose frames are decoded as they are asked for, `limit` at most after `skip` others.

    YUV 4:2:0, 4:2:2, 4:4:4 and grey of 8, 10, 12 and 16 bit come as they are. Other YUV goes to the
    nearest of these; RGB becomes YUV 4:4:4 (BT.601, full range); alpha is left out. `notes` say so.

    PTS are the stream's, made strictly increasing. If frames were skipped, or the first is before
    0, or the container counts from anywhere (MPEG), they and the sound are shifted so that it is at
    0. Where the frame duration is not a whole number of ticks, ticks are divided so that it is,
    unless they would become very short. `num_frames` is None. Raises InputError, while frames are
    taken too.
    """
    path = checked_input(path)
    container = _opened(path)
    stream = _video_stream(container, path)
    timing = _timing(stream)
    decoded = _decoded(container, stream, path)
    first = _first_kept(decoded, skip, path)
    shifted = skip or container.format.name in _ANY_START or (first.pts or 0) < 0
    origin = first.pts if shifted and first.pts is not None else 0
    notes = _notes(first, stream.codec_context.name)
    track = None
    if container.streams.audio:
        cut = Cut(skip, limit, origin * stream.time_base)
        track = _sound(path, stream.index, cut, notes)
    frames = _frames(islice(chain([first], decoded), limit), timing, origin, path)
    return Clip(
        _info(stream, first, timing),
        frames,
        audio=track,
        notes=tuple(notes),
        expected_frames=_expected_frames(container, stream, skip, limit),
    )


def _expected_frames(
    container: InputContainer, stream: VideoStream, skip: int, limit: int | None
) -> int | None:
    """Frames that container or stream promise, or their duration times the rate; a hint only."""
    import av

    promised = stream.frames
    if not promised:
        rate = stream.guessed_rate or stream.average_rate
        if stream.duration and stream.time_base:
            seconds = stream.duration * stream.time_base
        else:
            seconds = Fraction(container.duration or 0, av.time_base)
        promised = round(seconds * rate) if rate else 0
    if promised <= 0:
        return None
    left = max(1, promised - skip)
    return left if limit is None else min(left, limit)


def is_picture_file(path: str | os.PathLike) -> bool:
    """Whether FFmpeg reads the file as a single picture. Raises InputError if it cannot read it."""
    with _opened(Path(path)) as container:
        return container.format.name.endswith("_pipe")


def _opened(path: Path) -> InputContainer:
    import av

    try:
        container = av.open(av_url(path), options={"protocol_whitelist": "file"})
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise InputError(
            f"{path}: not a picture or clip that can be read: {reason(error)}"
        ) from error
    if _REFUSED & set(container.format.name.split(",")):
        kind = container.format.name
        container.close()
        raise InputError(f"{path}: not a picture or clip ({kind} files are not read)")
    return container


def _video_stream(container: InputContainer, path: Path) -> VideoStream:
    """The first video stream that is no cover picture, and of these rather one of many frames."""
    from av.stream import Disposition

    streams = [
        stream
        for stream in container.streams.video
        if not stream.disposition & Disposition.attached_pic
    ]
    if not streams:
        container.close()
        raise InputError(f"{path}: there is no video in it")
    stream = next((stream for stream in streams if stream.frames != 1), streams[0])
    if stream.codec_context is None:
        container.close()
        raise InputError(f"{path}: there is no decoder for its video")
    stream.thread_type = "AUTO"
    return stream


def _decoded(container: InputContainer, stream: VideoStream, path: Path) -> Iterator[VideoFrame]:
    import av

    index = 0
    with container:
        try:
            for frame in container.decode(stream):
                yield frame
                index += 1
        except (av.error.FFmpegError, OSError) as error:
            raise InputError(f"{path}: frame {index} is damaged: {reason(error)}") from error


def _first_kept(decoded: Iterator[VideoFrame], skip: int, path: Path) -> VideoFrame:
    num_skipped = sum(1 for _ in islice(decoded, skip))
    first = next(decoded, None)
    if first is None:
        if num_skipped == 0:
            raise InputError(f"{path}: no frame of it can be decoded")
        raise InputError(f"{path}: has {num_skipped} frames, none is left after skipping {skip}")
    return first


def _frames(
    decoded: Iterable[VideoFrame], timing: _Timing, origin: int, path: Path
) -> Iterator[Frame]:
    kind: tuple[int, int, str] | None = None
    previous = -1
    for index, frame in enumerate(decoded):
        kind = kind or _kind(frame)
        if _kind(frame) != kind:
            raise InputError(
                f"{path}: frame {index} is {_kind_text(_kind(frame))} after {_kind_text(kind)};"
                " a clip must be of one size and pixel format"
            )
        pts_ticks = previous + timing.frame_ticks if index else 0
        if frame.pts is not None:
            pts_ticks = max(previous + 1, (frame.pts - origin) * timing.ticks_per_source)
        if index and pts_ticks - previous > _MAX_STEP_TICKS:
            raise InputError(
                f"{path}: frame {index} comes {pts_ticks - previous} ticks after the one before it;"
                f" at most {_MAX_STEP_TICKS} are possible"
            )
        yield Frame(_samples(frame), pts_ticks)
        previous = pts_ticks


def _kind(frame: VideoFrame) -> tuple[int, int, str]:
    return frame.width, frame.height, frame.format.name


def _kind_text(kind: tuple[int, int, str]) -> str:
    return f"{kind[0]}x{kind[1]} {kind[2]}"


def _samples(frame: VideoFrame) -> tuple[np.ndarray, ...]:
    """The frame's planes in the format that `_clip_format` states, alpha left out."""
    name = readable_name(frame.format)
    planes = planes_of(frame if name == frame.format.name else resampled(frame, name))
    source = PACKINGS[name].pixel_format
    planes = planes[: source.num_planes - source.alpha]
    if source.layout != "rgb":
        return planes
    matrix, full_range = RGB_CLIP_COLOUR.matrix, RGB_CLIP_COLOUR.full_range
    return rgb_to_yuv444(planes, depth=source.depth, matrix=matrix, full_range=full_range)


def _clip_format(frame: VideoFrame) -> PixelFormat:
    source = PACKINGS[readable_name(frame.format)].pixel_format
    return PixelFormat("yuv444" if source.layout == "rgb" else source.layout, source.depth)


def _info(stream: VideoStream, first: VideoFrame, timing: _Timing) -> ClipInfo:
    aspect = stream.sample_aspect_ratio
    return ClipInfo(
        _clip_format(first),
        width=first.width,
        height=first.height,
        is_still=False,
        colour=_colour(stream, first),
        time_base=timing.time_base,
        frame_ticks=timing.frame_ticks,
        pixel_aspect=aspect if aspect and aspect > 0 else Fraction(1),
        rotation=_rotation(first),
    )


def _rotation(frame: VideoFrame) -> int:
    """Clockwise display rotation, to the next quarter turn; FFmpeg counts counter-clockwise."""
    return round(-frame.rotation / 90) % 4 * 90


def _timing(stream: VideoStream) -> _Timing:
    rate = _snapped(stream.guessed_rate or stream.average_rate or Fraction(25))
    base = stream.time_base
    ticks = 1 / (rate * base)
    factor = ticks.denominator
    if base.denominator * factor > _MAX_TICKS_PER_SECOND * base.numerator:
        factor = 1
    frame_ticks = min(max(1, round(ticks * factor)), _MAX_STEP_TICKS)
    return _Timing(base / factor, frame_ticks, factor)


def _snapped(rate: Fraction) -> Fraction:
    nearest = min(_COMMON_RATES, key=lambda common: abs(common - rate))
    return nearest if abs(nearest / rate - 1) < _RATE_TOLERANCE else rate


def _colour(stream: VideoStream, first: VideoFrame) -> Colour:
    """What the first frame says, else the stream, else limited range (full for grey and yuvj)."""
    context = stream.codec_context
    primaries = _stated(first.color_primaries, context.color_primaries)
    transfer = _stated(first.color_trc, context.color_trc)
    if PACKINGS[readable_name(first.format)].pixel_format.layout == "rgb":
        known = _UNSPECIFIED not in (primaries, transfer)
        rgb = RGB_CLIP_COLOUR
        return replace(rgb, primaries=primaries, transfer=transfer) if known else rgb
    value_range = first.color_range or context.color_range
    implied_full = first.format.name.startswith(("yuvj", "gray", "mono"))
    return Colour(
        primaries=primaries,
        transfer=transfer,
        matrix=_stated(first.colorspace, context.colorspace),
        full_range=value_range == _FULL_RANGE or (not value_range and implied_full),
    )


def _stated(*values: int) -> int:
    """The first code point that says something: 0 is reserved (or RGB), 2 is unspecified.

    FFmpeg has numbers of its own above those of H.273, which are of one byte.
    """
    stated = (value for value in values if 0 < value < 256 and value != _UNSPECIFIED)
    return next(stated, _UNSPECIFIED)


def _notes(first: VideoFrame, codec: str) -> list[str]:
    notes = []
    source, target = first.format.name, readable_name(first.format)
    rgb = PACKINGS[target].pixel_format.layout == "rgb"
    if rgb:
        notes.append(f"{source} is converted to YUV 4:4:4 (BT.601, full range)")
    elif source != target:
        notes.append(f"{source} is converted to {target}")
    if any(component.is_alpha for component in first.format.components):
        notes.append("alpha is left out")
    if first.interlaced_frame:
        notes.append("interlaced fields are coded as they lie in the frames")
    if first.rotation % 90:
        notes.append(f"a display rotation of {first.rotation % 360} degrees becomes a quarter turn")
    if _is_mirrored(first, codec):
        notes.append("the display matrix mirrors the picture; only its rotation is kept")
    return notes


def _is_mirrored(frame: VideoFrame, codec: str) -> bool:
    """Whether the linear part of the display matrix has a negative determinant.

    Looked for only where the matrix also turns (a flip left to right counts as half a turn), and
    not in PNG: PyAV 18 frees the metadata of colour profiles twice once `side_data` was looked at.
    """
    if not frame.rotation or codec in ("png", "apng"):
        return False
    for side_data in frame.side_data:
        if side_data.type.name == "DISPLAYMATRIX":
            a, b, _, c, d = np.frombuffer(bytes(side_data), np.int32)[:5].tolist()
            return a * d - b * c < 0
    return False


def _sound(path: Path, video_index: int, cut: Cut, notes: list[str]) -> AudioTrack | None:
    """The sound from a second pass over the file, which only sorts packets; may add a note."""
    import av

    with _opened(path) as container:
        stream = container.streams.audio[0]
        if not copyable(stream):
            name = stream.codec_context.name if stream.codec_context else "of unknown kind"
            notes.append(f"the sound ({name}) cannot be copied and is left out")
            return None
        try:
            return read_sound(container, video_index, cut)
        except (av.error.FFmpegError, OSError) as error:
            raise InputError(f"{path}: the sound is damaged: {reason(error)}") from error
