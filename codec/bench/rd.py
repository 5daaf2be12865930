"""The benchmark of rate and distortion: every codec makes a file of every input at every rate."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from codec.arrays import array_of
from codec.bench.cases import CLIP_FORMAT, STILL_FORMAT
from codec.bench.contestants import Content, Contestant, own_contestant, peer
from codec.bench.inputs import Input
from codec.bench.kinds import CLIPS, KINDS, Kind
from codec.bench.pictures import make_frames
from codec.bench.points import Point, PointStore
from codec.errors import UsageError
from codec.media.frames import Clip, ClipInfo
from codec.options import EncodeOptions

PEERS = tuple(name for kind in KINDS for name in kind.peers)
DECODES = 3
# Times need compiled kernels and loaded libraries, which an encode of this makes.
_WARM_UP = {"height": 64, "width": 64}
_WARM_UP_FRAMES = 3
# With fewer steps or a larger lambda latents can all be zero, and none is then coded.
_WARM_UP_OPTIONS = {"steps": 20, "quality": None, "rd_lambda": 1e-4}
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
class Measured:
    """Points, and sentences about what other codecs could not hold."""

    points: list[Point]
    notes: list[str]


def choose_contestants(options: RdOptions, kind: Kind, on_line: OnLine) -> list[Contestant]:
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
    for name in kind.peers if options.peers is None else options.peers:
        if name not in kind.peers:
            continue
        found = peer(name, options.threads)
        if found is not None:
            peers.append(found)
        elif options.peers is not None:
            raise UsageError(f"{name} is {kind.missing}")
        else:
            on_line(f"{name} is left out: {kind.missing}")
    return [*own, *peers]


def measure_points(
    inputs: Sequence[Input],
    contestants: Sequence[Contestant],
    store: PointStore,
    *,
    on_line: OnLine,
) -> Measured:
    """A point for every input, contestant and setting; those in the store are not made again.

    Other codecs that cannot hold an input have no point of it.
    """
    work = [
        (one, contestant, setting)
        for one in inputs
        for contestant in sorted(contestants, key=lambda contestant: contestant.is_own)
        for setting in contestant.settings
    ]
    points: list[Point] = []
    refusals: dict[tuple[str, str], str] = {}
    warm: set[str] = set()
    for number, (one, contestant, setting) in enumerate(work, start=1):
        if (one.name, contestant.name) in refusals:
            continue
        key = (one.file_hash, one.num_frames, contestant.name, setting, contestant.identity)
        point = store.get(key)
        if point is None:
            what = f"{number}/{len(work)} {one.name}, {contestant.name}, {setting}"
            if contestant.is_own:
                on_line(what)
            if contestant.name not in warm:
                _warm_up(contestant, one.kind)
                warm.add(contestant.name)
            try:
                point = _measure(one, contestant, setting)
            except UsageError as error:
                if contestant.is_own:
                    raise
                note = f"{contestant.name} is left out for {one.name}: {error}"
                refusals[one.name, contestant.name] = note
                on_line(note)
                continue
            store.add(point)
            on_line(f"{what}: {_result(point)}")
        # The file may have had another name when it was measured.
        points.append(replace(point, file=one.name))
    return Measured(points, list(refusals.values()))


def _measure(one: Input, contestant: Contestant, setting: str) -> Point:
    content = one.content
    started = time.perf_counter()
    encoded = contestant.encode(content, contestant.settings[setting])
    encode_s = time.perf_counter() - started
    decode_times_s = []
    for _ in range(DECODES):
        started = time.perf_counter()
        decoded = contestant.decode(encoded.data)
        decode_times_s.append(time.perf_counter() - started)
    psnr_db, frame_psnr_db = one.psnr_of(decoded)
    return Point(
        file=one.name,
        file_hash=one.file_hash,
        codec=contestant.name,
        setting=setting,
        identity=contestant.identity,
        threads=contestant.threads,
        size_bytes=encoded.size_bytes,
        network_bytes=encoded.network_bytes,
        bpp=8 * encoded.size_bytes / one.num_pixels,
        psnr_db=psnr_db,
        encode_s=encode_s,
        decode_s=min(decode_times_s),
        num_frames=one.num_frames,
        frame_psnr_db=frame_psnr_db,
    )


def _warm_up(contestant: Contestant, kind: Kind) -> None:
    value = next(iter(contestant.settings.values()))
    if contestant.is_own:
        value = replace(value, **_WARM_UP_OPTIONS)
    contestant.decode(contestant.encode(_made(kind), value).data)


def _made(kind: Kind) -> Content:
    """A small picture or clip that all codecs can hold."""
    is_still = kind is not CLIPS
    pixel_format, num_frames = (STILL_FORMAT, 1) if is_still else (CLIP_FORMAT, _WARM_UP_FRAMES)
    info = ClipInfo(pixel_format, **_WARM_UP, is_still=is_still)
    frames = make_frames(pixel_format, **_WARM_UP, num_frames=num_frames)
    return array_of(info, frames) if is_still else Clip(info, iter(frames), num_frames)


def _result(point: Point) -> str:
    return (
        f"{point.bpp:.4f} bpp, {point.psnr_db:.2f} dB,"
        f" encoded in {point.encode_s:.1f} s, decoded in {1e3 * point.decode_s:.0f} ms"
    )
