"""The sound of a clip: its compressed packets, copied out of one container and into another."""

from __future__ import annotations

import bisect
import io
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from codec.media.frames import AudioTrack
from codec.media.matroska import CODEC_NAMES, audio_description

if TYPE_CHECKING:
    import av
    from av.container import InputContainer, OutputContainer


_MAX_LAYOUT_NAME = 32


@dataclass(frozen=True)
class Cut:
    """The frames that are kept of a clip: `limit` of them (None: all) after `skip`.

    `origin` is the time of the source, in seconds, that becomes 0.
    """

    skip: int
    limit: int | None
    origin: Fraction


def read_sound(container: InputContainer, video_index: int, cut: Cut) -> AudioTrack | None:
    """The packets of the first audio stream, shifted to the new origin; None if there are none.

    With frames left out at the head, packets that end before the origin are left out; with a limit,
    those that start after the last kept frame ends. Reads the container to its end.
    """
    stream = container.streams.audio[0]
    video = container.streams[video_index]
    packets, frame_times = [], []
    for packet in container.demux(stream, video):
        time = packet.pts if packet.pts is not None else packet.dts
        if time is None or not packet.size:
            continue
        if packet.stream_index == video_index:
            frame_times.append(time * video.time_base)
        else:
            packets.append((time, packet.duration or 0, bytes(packet)))
    origin = round(cut.origin / stream.time_base)
    first, last = _kept_ticks(cut, sorted(frame_times), stream.time_base)
    kept = tuple(
        (time - origin, duration, payload)
        for time, duration, payload in packets
        if (first is None or time + duration > first) and (last is None or time < last)
    )
    return _track(stream, kept) if kept else None


def copyable(stream: av.AudioStream) -> bool:
    """Whether the codec of an audio stream is one that `add_sound` can describe to a container."""
    context = stream.codec_context
    if context is None or context.sample_rate < 1:
        return False
    return context.codec.canonical_name in CODEC_NAMES


def add_sound(container: OutputContainer, track: AudioTrack) -> av.AudioStream:
    """Adds an audio stream for the track's packets, from its parameters alone.

    Raises ValueError or an error of FFmpeg if the container cannot hold the codec.
    """
    import av

    # PyAV copies parameters only from a stream that it has opened, so one is made for it to open.
    data = audio_description(track, av.AudioLayout(track.layout).nb_channels)
    with av.open(io.BytesIO(data), format="matroska") as description:
        stream = container.add_stream_from_template(description.streams.audio[0])
    stream.time_base = track.time_base
    return stream


def sound_packets(track: AudioTrack, stream: av.AudioStream) -> Iterator[av.Packet]:
    """The track's packets for the stream of `add_sound`."""
    import av

    for pts_ticks, duration_ticks, payload in track.packets:
        packet = av.Packet(payload)
        packet.stream = stream
        packet.time_base = track.time_base
        packet.pts = packet.dts = pts_ticks
        packet.duration = duration_ticks
        packet.is_keyframe = True
        yield packet


def _track(stream: av.AudioStream, packets: tuple[tuple[int, int, bytes], ...]) -> AudioTrack:
    context = stream.codec_context
    return AudioTrack(
        codec=context.codec.canonical_name,
        sample_rate=context.sample_rate,
        layout=_layout_name(context),
        time_base=stream.time_base,
        extradata=context.extradata or b"",
        packets=packets,
    )


def _layout_name(context: av.AudioCodecContext) -> str:
    # Names of custom layouts list every channel, and the number of channels is what muxers need.
    name = context.layout.name
    return name if len(name) <= _MAX_LAYOUT_NAME else f"{context.channels} channels"


def _kept_ticks(
    cut: Cut, frame_times: list[Fraction], time_base: Fraction
) -> tuple[Fraction | None, Fraction | None]:
    """(start, end) of the kept frames in ticks of the sound; None where nothing is cut off."""
    first = cut.origin / time_base if cut.skip else None
    if cut.limit is None:
        return first, None
    start = bisect.bisect_left(frame_times, cut.origin) if cut.skip else 0
    end = start + cut.limit
    return first, frame_times[end] / time_base if end < len(frame_times) else None
