"""Sound: the packets of a clip, copied from file to file without a change."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from media_examples import (
    CLIP,
    assert_same_frames,
    clip_info,
    encoded_clip,
    random_frames,
    times,
    write_and_read,
)

from codec.errors import OutputError
from codec.media.clip_writer import write_clip
from codec.media.clips import read_clip
from codec.media.frames import AudioTrack, PixelFormat

MILLISECOND = Fraction(1, 1000)


@pytest.mark.parametrize("audio", ["aac", "ac3", "flac", "libopus", "libmp3lame", "pcm_s16le"])
def test_sound_packets_are_copied_byte_for_byte(audio: str, tmp_path: Path) -> None:
    clip = read_clip(encoded_clip(tmp_path / "a.mkv", audio=audio))
    assert clip.audio.sample_rate == 48000
    with av.open(str(tmp_path / "a.mkv")) as container:
        stored = [bytes(packet) for packet in container.demux(audio=0) if packet.size]
    assert [payload for _, _, payload in clip.audio.packets] == stored
    frames = list(clip.frames)
    names = ["b.mkv"] if audio.startswith("pcm") else ["b.mkv", "b.mp4"]
    for name in names:
        again, _ = write_and_read(tmp_path / name, clip.info, frames, audio=clip.audio)
        assert_same_sound(again.audio, clip.audio)


def test_sound_before_time_zero_is_kept(tmp_path: Path) -> None:
    clip = read_clip(encoded_clip(tmp_path / "a.mp4", video="libx264", audio="aac"))
    assert clip.audio.packets[0][0] == -1024
    frames = list(clip.frames)
    for name in ("b.mkv", "b.mp4"):
        again, read = write_and_read(tmp_path / name, clip.info, frames, audio=clip.audio)
        assert_same_sound(again.audio, clip.audio)
        assert times(again, read) == times(clip, frames)


def test_the_sample_with_sound(tmp_path: Path) -> None:
    clip = read_clip(CLIP)
    assert clip.num_frames is None
    assert (clip.info.width, clip.info.height) == (320, 180)
    assert (clip.audio.codec, clip.audio.layout) == ("vorbis", "stereo")
    frames = list(clip.frames)
    assert len(frames) == 24
    again, read = write_and_read(tmp_path / "b.mkv", clip.info, frames, audio=clip.audio)
    assert again.audio == clip.audio
    assert again.info == clip.info
    assert times(again, read) == times(clip, frames)
    assert_same_frames(read, frames)


def test_skip_and_limit_cut_frames_and_sound() -> None:
    whole = read_clip(CLIP)
    frames = list(whole.frames)
    cut = read_clip(CLIP, skip=6, limit=12)
    kept = list(cut.frames)
    assert_same_frames(kept, frames[6:18])
    start, end = (frames[index].pts_ticks * whole.info.time_base for index in (6, 18))
    assert times(cut, kept) == [time - start for time in times(whole, frames)[6:18]]
    expected = [
        (round(pts - start / whole.audio.time_base), duration, payload)
        for pts, duration, payload in whole.audio.packets
        if (pts + duration) * whole.audio.time_base > start and pts * whole.audio.time_base < end
    ]
    assert list(cut.audio.packets) == expected
    assert 0 < len(expected) < len(whole.audio.packets)


def test_clocks_that_start_anywhere_begin_at_zero(tmp_path: Path) -> None:
    path = encoded_clip(tmp_path / "a.ts", video="libx264", audio="aac")
    with av.open(str(path)) as container:
        start = container.streams.video[0].start_time * container.streams.video[0].time_base
        packets = [packet for packet in container.demux(audio=0) if packet.size]
    clip = read_clip(path)
    frames = list(clip.frames)
    assert start > 0
    assert times(clip, frames) == [Fraction(index, 25) for index in range(5)]
    first = packets[0].pts * packets[0].time_base - start
    assert clip.audio.packets[0][0] * clip.audio.time_base == first
    assert [packet[2] for packet in clip.audio.packets] == [bytes(packet) for packet in packets]


@pytest.mark.parametrize("name", ["b.mkv", "b.mp4"])
def test_sound_with_headers_in_its_packets(name: str, tmp_path: Path) -> None:
    path = encoded_clip(tmp_path / "a.ts", video="libx264", audio="aac")
    clip = read_clip(path)
    # MPEG-2 streams have AAC with a header in every packet and no parameters beside it.
    assert clip.audio.extradata == b""
    write_clip(tmp_path / name, clip.info, clip.frames, audio=clip.audio)
    spectra = []
    for file in (path, tmp_path / name):
        with av.open(str(file)) as container:
            blocks = [block.to_ndarray()[0] for block in container.decode(audio=0)]
        spectra.append(np.abs(np.fft.rfft(np.concatenate(blocks)[2048:8192])))
    np.testing.assert_allclose(np.argmax(spectra[0]), np.argmax(spectra[1]), atol=1)


def test_sound_that_cannot_be_copied_is_noted(tmp_path: Path) -> None:
    clip = read_clip(encoded_clip(tmp_path / "a.mkv", audio="tta"))
    assert clip.audio is None
    assert clip.notes == ("the sound (tta) cannot be copied and is left out",)


@pytest.mark.parametrize(
    "changes",
    [
        {"codec": "nonsense"},
        {"layout": "nonsense"},
        {"codec": "flac", "extradata": b"short"},
        {"time_base": Fraction(1, 1 << 40)},
        {"packets": ((1 << 70, 1, b"x"),)},
    ],
    ids=str,
)
def test_sound_parameters_that_make_no_sense(changes: dict[str, object], tmp_path: Path) -> None:
    sound = {
        "codec": "aac",
        "sample_rate": 48000,
        "layout": "stereo",
        "time_base": Fraction(1, 48000),
        "extradata": b"\x11\x90",
        "packets": ((0, 1024, b"x" * 20),),
    }
    info = clip_info(PixelFormat("yuv420", 8), 32, 32)
    track = AudioTrack(**{**sound, **changes})
    with pytest.raises(OutputError):
        write_clip(tmp_path / "a.mkv", info, random_frames(info, [0]), audio=track)


def test_pcm_does_not_go_into_mp4(tmp_path: Path) -> None:
    clip = read_clip(encoded_clip(tmp_path / "a.mkv", audio="pcm_s16le"))
    with pytest.raises(OutputError, match=r"mp4 cannot hold sound as pcm_s16le; use \.mkv"):
        write_clip(tmp_path / "b.mp4", clip.info, clip.frames, audio=clip.audio)


def assert_same_sound(actual: AudioTrack, expected: AudioTrack) -> None:
    """Codec, parameters and payloads equal; times too, to the container's resolution."""
    assert (actual.codec, actual.sample_rate) == (expected.codec, expected.sample_rate)
    assert actual.extradata == expected.extradata
    assert [packet[2] for packet in actual.packets] == [packet[2] for packet in expected.packets]
    coarsest = max(actual.time_base, expected.time_base, MILLISECOND / 2)
    for one, other in zip(actual.packets, expected.packets, strict=True):
        assert abs(one[0] * actual.time_base - other[0] * expected.time_base) <= coarsest
