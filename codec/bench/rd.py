"""The benchmark of rate and distortion: every codec makes a file of every picture at every rate."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import numpy as np

from codec.bench.contestants import Contestant, own_contestant, still_peer
from codec.bench.conventional import STILL_CODECS, eight_bit_array
from codec.bench.points import Point, PointStore
from codec.errors import UsageError
from codec.media.files import checked_input
from codec.media.metrics import picture_psnr
from codec.media.sources import open_source
from codec.options import EncodeOptions

PEERS = tuple(codec.name for codec in STILL_CODECS)
DECODES = 3
# Times need compiled kernels and loaded libraries, which an encode of this makes.
_WARM_UP = (16, 16)
OnLine = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class RdOptions:
    """What is measured; wrong values raise UsageError on creation.

    Args:
        presets: of this codec, names or TOML files; none measures the others alone.
        rates: this codec's rates, as `rd_lambda` or, if `is_quality`, as `quality`.
        peers: some of PEERS; None takes those that are installed.
        steps, seed, device: as in EncodeOptions.
        threads: of all codecs that use them, encoding and decoding.
    """

    presets: tuple[str, ...]
    rates: tuple[float, ...]
    is_quality: bool = False
    peers: tuple[str, ...] | None = None
    steps: int | None = None
    seed: int = 0
    device: str = "auto"
    threads: int

    def __post_init__(self) -> None:
        if self.presets and not self.rates:
            raise UsageError("name at least one rate")
        for name in self.peers or ():
            if name not in PEERS:
                raise UsageError(f"there is no peer {name!r}; known: {', '.join(PEERS)}")

    def settings(self, preset: str) -> dict[str, EncodeOptions]:
        """What this codec is asked for at each rate, by what tables call it."""
        field, word = ("quality", "quality") if self.is_quality else ("rd_lambda", "lambda")
        common = {name: getattr(self, name) for name in ("steps", "seed", "device", "threads")}
        return {
            f"{word} {rate:g}": EncodeOptions(preset=preset, **{field: rate}, **common)
            for rate in self.rates
        }


@dataclass(frozen=True)
class Picture:
    """An input: the stem of its name, its samples as `eight_bit_array` gives them, its hash."""

    name: str
    array: np.ndarray
    file_hash: str

    @property
    def num_pixels(self) -> int:
        """Width times height."""
        return self.array.shape[0] * self.array.shape[1]


def read_pictures(sources: Sequence[str]) -> list[Picture]:
    """All inputs.

    Raises:
        InputError: one cannot be read.
        UsageError: one is a clip, has more than 8 bit or alpha, or is named like another.
    """
    pictures: dict[str, Picture] = {}
    for source in sources:
        name = Path(source).stem
        if name in pictures:
            raise UsageError(f"two inputs are named {name}; rename one, reports go by these names")
        clip = open_source(source)
        if not clip.info.is_still:
            raise UsageError(f"{source}: is a clip; bench rd measures pictures")
        try:
            array = eight_bit_array(clip)
        except UsageError as error:
            raise UsageError(f"{source}: {error}") from error
        file_hash = sha256(checked_input(source).read_bytes()).hexdigest()
        pictures[name] = Picture(name, array, file_hash)
    return list(pictures.values())


def choose_contestants(options: RdOptions, on_line: OnLine) -> list[Contestant]:
    """This codec with each preset, then the peers; those that are not installed are told.

    Raises:
        UsageError: a preset does not exist or is named twice, or a named peer is not installed.
    """
    own = [own_contestant(preset, options.settings(preset)) for preset in options.presets]
    names = [contestant.name for contestant in own]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"two presets are called {name}; rename one, reports go by the names")
    peers = []
    for name in PEERS if options.peers is None else options.peers:
        peer = still_peer(name, options.threads)
        if peer is not None:
            peers.append(peer)
        elif options.peers is not None:
            raise UsageError(f"{name} is not installed; pip install 'modcodec[bench]'")
        else:
            on_line(f"{name} is left out: not installed (pip install 'modcodec[bench]')")
    return [*own, *peers]


def measure_points(
    pictures: Sequence[Picture],
    contestants: Sequence[Contestant],
    store: PointStore,
    *,
    on_line: OnLine,
) -> list[Point]:
    """A point for every picture, contestant and setting; those in the store are not made again."""
    work = [
        (picture, contestant, setting)
        for picture in pictures
        for contestant in sorted(contestants, key=lambda one: one.is_own)
        for setting in contestant.settings
    ]
    points, warm = [], set()
    for number, (picture, contestant, setting) in enumerate(work, start=1):
        key = (picture.file_hash, contestant.name, setting, contestant.identity)
        point = store.get(key)
        if point is None:
            what = f"{number}/{len(work)} {picture.name}, {contestant.name}, {setting}"
            if contestant.is_own:
                on_line(what)
            if contestant.name not in warm:
                _warm_up(contestant)
                warm.add(contestant.name)
            point = _measure(picture, contestant, setting)
            store.add(point)
            on_line(f"{what}: {_result(point)}")
        # The file may have had another name when it was measured.
        points.append(replace(point, file=picture.name))
    return points


def _measure(picture: Picture, contestant: Contestant, setting: str) -> Point:
    started = time.perf_counter()
    encoded = contestant.encode(picture.array, contestant.settings[setting])
    encode_s = time.perf_counter() - started
    decode_times_s = []
    for _ in range(DECODES):
        started = time.perf_counter()
        decoded = contestant.decode(encoded.data)
        decode_times_s.append(time.perf_counter() - started)
    return Point(
        file=picture.name,
        file_hash=picture.file_hash,
        codec=contestant.name,
        setting=setting,
        identity=contestant.identity,
        threads=contestant.threads,
        size_bytes=len(encoded.data),
        network_bytes=encoded.network_bytes,
        bpp=8 * len(encoded.data) / picture.num_pixels,
        psnr_db=picture_psnr(picture.array, decoded),
        encode_s=encode_s,
        decode_s=min(decode_times_s),
    )


def _warm_up(contestant: Contestant) -> None:
    value = next(iter(contestant.settings.values()))
    if contestant.is_own:
        value = replace(value, steps=1)
    array = np.arange(3 * _WARM_UP[0] * _WARM_UP[1], dtype=np.uint32).astype(np.uint8)
    encoded = contestant.encode(array.reshape(*_WARM_UP, 3), value)
    contestant.decode(encoded.data)


def _result(point: Point) -> str:
    return (
        f"{point.bpp:.4f} bpp, {point.psnr_db:.2f} dB,"
        f" encoded in {point.encode_s:.1f} s, decoded in {1e3 * point.decode_s:.0f} ms"
    )
