"""Clips out: Matroska with FFV1 or x264 and MP4 with x264, frame times and sound kept."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from codec.errors import OutputError, UsageError
from codec.media.files import av_url, reason
from codec.media.frames import AudioTrack, ClipInfo, Frame
from codec.media.matroska import NAME_TO_REPLACE, state_pixel_aspect
from codec.media.planes import PACKINGS, frame_of
from codec.media.sound import add_sound, sound_packets

if TYPE_CHECKING:
    from av import Packet, VideoFrame
    from av.container import OutputContainer
    from av.video.stream import VideoStream

# FFmpeg's container and our names of its codecs by extension, the default first.
_CONTAINERS = {".mkv": ("matroska", ("ffv1", "x264")), ".mp4": ("mp4", ("x264",))}
_ENCODERS = {"ffv1": "ffv1", "x264": "libx264"}
CLIP_EXTENSIONS = tuple(_CONTAINERS)
DEFAULT_CRF = 18
_MAX_CRF = 51
# FFV1 refuses to divide planes of a few samples into slices, which its version 3 always does.
_MIN_SLICED_SIDE = 16
# What FFmpeg's MP4 writer makes of a tick rate: doubled until it is at least this.
_MIN_MP4_TICKS_PER_SECOND = 10000
_MAX_MP4_TICKS_PER_SECOND = 1 << 31


def write_clip(
    path: str | os.PathLike,
    info: ClipInfo,
    frames: Iterable[Frame],
    *,
    audio: AudioTrack | None = None,
    codec: str | None = None,
    crf: int | None = None,
) -> None:
    """Writes a clip, in the kind of file that its extension names.

    .mkv takes 'ffv1' (lossless, the default) and 'x264', .mp4 takes 'x264'; `crf` 0..51 is for x264
    (18 by default, 0 is lossless). Samples are written in their own format; colour tags, pixel
    aspect, rotation and sound packets are kept. MP4 keeps times exactly, Matroska to 1 ms.

    Raises UsageError for options that do not go together, and OutputError for what the file cannot
    hold, or if it cannot be written.
    """
    import av

    path = Path(path)
    codec = _checked_codec(path, codec, crf)
    pixel_name = _pixel_name(info, codec)
    container_name = _CONTAINERS[path.suffix.lower()][0]
    state_aspect = container_name == "matroska" and codec == "ffv1" and info.pixel_aspect != 1
    options = _container_options(info, audio, container_name)
    try:
        with av.open(av_url(path), "w", format=container_name, container_options=options) as output:
            stream = _video_stream(output, info, codec, pixel_name)
            stream.codec_context.options = _codec_options(info, codec, crf)
            if state_aspect:
                stream.metadata["title"] = NAME_TO_REPLACE
            sound = _sound(output, audio, path)
            _encode(output, stream, _av_frames(frames, info, pixel_name), sound)
        if state_aspect:
            state_pixel_aspect(path, info.width, info.height, info.pixel_aspect)
    except (av.error.FFmpegError, OSError, OverflowError) as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError(f"{path}: cannot be written: {reason(error)}") from error


def _checked_codec(path: Path, codec: str | None, crf: int | None) -> str:
    extension = path.suffix.lower()
    if extension not in _CONTAINERS:
        known = " ".join(CLIP_EXTENSIONS)
        raise OutputError(f"{path}: cannot write clips as '{extension}'; use one of {known}")
    possible = _CONTAINERS[extension][1]
    codec = codec or possible[0]
    if codec not in possible:
        raise UsageError(
            f"{extension} cannot be written with '{codec}'; use {' or '.join(possible)}"
        )
    if crf is not None and codec != "x264":
        raise UsageError(f"crf is for x264; {codec} is lossless")
    if crf is not None and not 0 <= crf <= _MAX_CRF:
        raise UsageError(f"crf must be from 0 to {_MAX_CRF}, not {crf}")
    return codec


def _pixel_name(info: ClipInfo, codec: str) -> str:
    """The encoder's pixel format that holds exactly the clip's planes."""
    import av

    taken = {item.name for item in av.Codec(_ENCODERS[codec], "w").video_formats}
    names = [name for name, packing in PACKINGS.items() if packing.pixel_format == info.format]
    name = next((name for name in names if name in taken), None)
    if name is None:
        alpha = " with alpha" if info.format.alpha else ""
        kind = f"{info.format.layout} of {info.format.depth} bit{alpha}"
        raise OutputError(f"{codec} cannot hold {kind}; use {_alternative(codec)}")
    down_y, down_x = info.format.chroma_shifts
    if codec == "x264" and (info.width % (1 << down_x) or info.height % (1 << down_y)):
        size = f"{info.width}x{info.height} in {info.format.layout}"
        raise OutputError(f"x264 cannot hold the odd size {size}; use {_alternative(codec)}")
    return name


def _alternative(codec: str) -> str:
    return "a numbered sequence of .png" if codec == "ffv1" else ".mkv with ffv1"


def _container_options(
    info: ClipInfo, audio: AudioTrack | None, container_name: str
) -> dict[str, str]:
    if container_name == "matroska":
        # A checksum of the track headers would not survive `state_pixel_aspect`.
        return {"write_crc32": "0"} if info.pixel_aspect != 1 else {}
    ticks = info.time_base.denominator
    # A stream that starts after time 0 does so in units of the whole movie, so these should be
    # common to all streams.
    common = math.lcm(ticks, audio.time_base.denominator) if audio else ticks
    ticks = common if common < _MAX_MP4_TICKS_PER_SECOND else ticks
    while ticks < _MIN_MP4_TICKS_PER_SECOND:
        ticks *= 2
    return {"movflags": "+faststart", "movie_timescale": str(ticks)}


def _video_stream(
    output: OutputContainer, info: ClipInfo, codec: str, pixel_name: str
) -> VideoStream:
    rate = 1 / (info.frame_ticks * info.time_base)
    stream = output.add_stream(_ENCODERS[codec], rate=rate)
    stream.time_base = info.time_base
    context = stream.codec_context
    context.width, context.height, context.pix_fmt = info.width, info.height, pixel_name
    context.time_base = info.time_base
    context.sample_aspect_ratio = info.pixel_aspect
    context.color_primaries = info.colour.primaries
    context.color_trc = info.colour.transfer
    context.colorspace = info.colour.matrix
    context.color_range = 2 if info.colour.full_range else 1
    if info.rotation:
        # FFmpeg counts counter-clockwise.
        stream.set_display_rotation(-info.rotation)
    return stream


def _codec_options(info: ClipInfo, codec: str, crf: int | None) -> dict[str, str]:
    options = {}
    if info.colour.chroma_location:
        options["chroma_sample_location"] = str(info.colour.chroma_location)
    if codec == "ffv1":
        sliced = min(info.width, info.height) >= _MIN_SLICED_SIDE
        return options | ({"level": "3", "slicecrc": "1"} if sliced else {"level": "1"})
    crf = DEFAULT_CRF if crf is None else crf
    # Above 8 bit only a quantizer of 0 is lossless.
    return options | ({"crf": str(crf)} if crf else {"qp": "0"})


def _sound(
    output: OutputContainer, audio: AudioTrack | None, path: Path
) -> Iterator[tuple[Fraction, Packet]]:
    """(time in seconds, packet) of the sound; adds its stream to the output."""
    import av

    if audio is None:
        return iter(())
    advice = "use .mkv, or leave out the sound"
    if output.format.name == "mp4" and audio.codec.startswith("pcm"):
        raise OutputError(f"{path}: mp4 cannot hold sound as {audio.codec}; {advice}")
    try:
        stream = add_sound(output, audio)
    except (av.error.FFmpegError, ValueError, KeyError, IndexError) as error:
        raise OutputError(
            f"{path}: cannot hold its sound ({audio.codec}): {reason(error)}; {advice}"
        ) from error
    return ((packet.pts * audio.time_base, packet) for packet in sound_packets(audio, stream))


def _encode(
    output: OutputContainer,
    stream: VideoStream,
    frames: Iterable[VideoFrame],
    sound: Iterator[tuple[Fraction, Packet]],
) -> None:
    """Muxes frames and packets in order of time, so that the muxer need not hold many back."""
    waiting = next(sound, None)
    for frame in frames:
        while waiting is not None and waiting[0] <= frame.pts * frame.time_base:
            output.mux(waiting[1])
            waiting = next(sound, None)
        output.mux(stream.encode(frame))
    output.mux(stream.encode(None))
    while waiting is not None:
        output.mux(waiting[1])
        waiting = next(sound, None)


def _av_frames(frames: Iterable[Frame], info: ClipInfo, pixel_name: str) -> Iterator[VideoFrame]:
    for frame in frames:
        av_frame = frame_of(frame.planes, pixel_name)
        av_frame.pts = frame.pts_ticks
        av_frame.time_base = info.time_base
        av_frame.duration = info.frame_ticks
        yield av_frame
