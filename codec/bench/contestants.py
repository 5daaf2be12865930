"""Codecs behind one face, so that a benchmark can ask all of them for the same picture."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Any

import numpy as np

from codec.arch.presets import Preset, load_preset
from codec.arrays import array_of, clip_of
from codec.bench import conventional
from codec.bench.machine import package_version
from codec.decoder import open_stream
from codec.options import EncodeOptions


@dataclass(frozen=True)
class Encoded:
    """A complete file; `network_bytes` of it are networks, None where there are none."""

    data: bytes
    network_bytes: int | None = None


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
    encode: Callable[[np.ndarray, Any], Encoded]
    decode: Callable[[bytes], np.ndarray]
    is_own: bool = False


def own_contestant(preset_name: str, settings: Mapping[str, EncodeOptions]) -> Contestant:
    """This codec with a preset; the options of all settings differ in their rate alone.

    Raises:
        UsageError: there is no such preset or device.
    """
    preset = load_preset(preset_name)
    from codec.encoder import choose_device

    options = next(iter(settings.values()))
    words = [f"modcodec {package_version('modcodec')}", f"preset {_digest(preset)}"]
    words += [f"{name} {getattr(options, name)}" for name in ("seed", "steps")]
    words.append(f"device {choose_device(options.device).type}")

    def decode(data: bytes) -> np.ndarray:
        with open_stream(data, threads=options.threads) as stream:
            return array_of(stream.info, stream.frames())

    return Contestant(
        name=f"modcodec-{preset.name}",
        settings=settings,
        identity=", ".join(words),
        threads=options.threads,
        encode=_encode_own,
        decode=decode,
        is_own=True,
    )


def still_peer(name: str, threads: int) -> Contestant | None:
    """A picture codec of others by its name; None if it is not installed here."""
    (codec,) = (codec for codec in conventional.STILL_CODECS if codec.name == name)
    return _other(codec, threads) if codec.is_installed() else None


def _other(codec: conventional.StillCodec, threads: int) -> Contestant:
    return Contestant(
        name=codec.name,
        settings={f"{codec.unit} {value:g}": value for value in codec.values},
        identity=codec.describe(),
        threads=threads,
        encode=lambda array, value: Encoded(codec.encode(array, value, threads)),
        decode=lambda data: codec.decode(data, threads),
    )


def _encode_own(array: np.ndarray, options: EncodeOptions) -> Encoded:
    from codec.encoder import encode_clip

    file = io.BytesIO()
    report = encode_clip(clip_of(array), file, options=options)
    return Encoded(file.getvalue(), report.network_bytes)


def _digest(preset: Preset) -> str:
    """Changes with whatever in a preset changes files: a name may come to mean something else."""
    parts = {name: asdict(getattr(preset, name)) for name in ("image", "clip", "training")}
    return sha256(repr(parts).encode()).hexdigest()[:12]
