"""Codecs behind one face, so that a benchmark can ask all of them for the same input."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from codec.arch.presets import load_preset
from codec.arrays import array_of, clip_of
from codec.bench.clipcodecs import CLIP_CODECS, ClipCodec, Stream
from codec.bench.conventional import STILL_CODECS, StillCodec
from codec.bench.machine import package_version
from codec.decoder import open_stream
from codec.media.frames import Clip, Frame
from codec.options import EncodeOptions

# Pictures are arrays, uint8 (H, W) or (H, W, 3); clips are sources, and decoded clips frames.
Content = np.ndarray | Clip
Decoded = np.ndarray | list[Frame]


@dataclass(frozen=True)
class Encoded:
    """A complete file, or a stream without a container.

    `network_bytes` of it are networks, None where there are none.
    """

    data: bytes | Stream
    network_bytes: int | None = None

    @property
    def size_bytes(self) -> int:
        """Of the file, or of all packets."""
        return len(self.data) if isinstance(self.data, bytes) else self.data.size_bytes


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """A codec and the points of its curve.

    `settings` maps what tables call a point to what `encode` takes for it; `identity` names all
    else that its files depend on: versions and options. `threads` are those that it may use;
    `is_own` tells this codec from others.
    """

    name: str
    settings: Mapping[str, Any]
    identity: str
    threads: int
    encode: Callable[[Content, Any], Encoded]
    decode: Callable[[Any], Decoded]
    is_own: bool = False


def own_contestant(preset_name: str, settings: Mapping[str, EncodeOptions]) -> Contestant:
    """This codec with a preset; the options of all settings differ in their rate alone.

    Raises:
        UsageError: there is no such preset or device.
    """
    preset = load_preset(preset_name)
    from codec.encoder import choose_device

    options = next(iter(settings.values()))
    words = [f"modcodec {package_version('modcodec')}", f"preset {preset.digest}"]
    words += [f"{name} {getattr(options, name)}" for name in ("seed", "steps")]
    words.append(f"device {choose_device(options.device).type}")

    def decode(data: bytes) -> Decoded:
        with open_stream(data, threads=options.threads) as stream:
            frames = stream.frames()
            return array_of(stream.info, frames) if stream.info.is_still else list(frames)

    return Contestant(
        name=f"modcodec-{preset.name}",
        settings=settings,
        identity=", ".join(words),
        threads=options.threads,
        encode=_encode_own,
        decode=decode,
        is_own=True,
    )


def peer(name: str, threads: int) -> Contestant | None:
    """A codec of others by its name; None if it is not installed here."""
    (codec,) = (codec for codec in (*STILL_CODECS, *CLIP_CODECS) if codec.name == name)
    return _other(codec, threads) if codec.is_installed() else None


def _other(codec: StillCodec | ClipCodec, threads: int) -> Contestant:
    # What clip codecs make depends on the number of threads.
    identity = codec.describe(threads) if isinstance(codec, ClipCodec) else codec.describe()
    return Contestant(
        name=codec.name,
        settings={f"{codec.unit} {value:g}": value for value in codec.values},
        identity=identity,
        threads=threads,
        encode=lambda content, value: Encoded(codec.encode(content, value, threads)),
        decode=lambda data: codec.decode(data, threads),
    )


def _encode_own(content: Content, options: EncodeOptions) -> Encoded:
    from codec.encoder import encode_clip

    file = io.BytesIO()
    clip = content if isinstance(content, Clip) else clip_of(content)
    report = encode_clip(clip, file, options=options)
    return Encoded(file.getvalue(), report.network_bytes)
