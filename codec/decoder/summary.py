"""What a stream says about itself: parts and their sizes, networks, segments."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from codec.arch import Architecture, format_layer, param_specs
from codec.arch.macs import mac_per_pixel
from codec.bitstream.elements import Network
from codec.bitstream.limits import Limits
from codec.bitstream.reader import StreamReader
from codec.decoder.stream import Source, close_file, open_file
from codec.media.frames import ClipInfo


@dataclass(frozen=True, kw_only=True)
class NetworkSummary:
    """One network: its size, its work, and its parts in words."""

    network_id: int
    num_parameters: int
    mac_per_pixel: float
    grids: str
    entropy_model: str
    temporal: tuple[str, ...]
    synthesis: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class SegmentSummary:
    """One segment: its place, rect = (top, left, height, width), and the bytes of its latents."""

    first_frame: int
    num_frames: int
    rect: tuple[int, int, int, int]
    network_id: int
    latent_bytes: int


@dataclass(frozen=True, kw_only=True)
class StreamInfo:
    """What a stream says about itself.

    `part_bytes` are the bytes of each kind of chunk and add up to `size_bytes`; of those of the
    segments, `latent_bytes` are range-coded latents. `bpp` counts all bits but those of audio
    packets, per luma pixel.
    """

    info: ClipInfo
    num_frames: int
    size_bytes: int
    part_bytes: dict[str, int]
    latent_bytes: int
    bpp: float
    networks: tuple[NetworkSummary, ...]
    segments: tuple[SegmentSummary, ...]
    metadata_bytes: dict[str, int]
    audio: str | None

    def as_dict(self) -> dict[str, Any]:
        """The summary as JSON can carry it."""
        values = asdict(self)
        info = values.pop("info")
        for name in ("time_base", "pixel_aspect"):
            info[name] = str(info[name])
        return {**info, **values}


def describe_grids(arch: Architecture) -> str:
    """Like `motion (1/4 sample, anchors 8 apart) 3, static 0-6, hyper (static) 4-6`."""
    kinds = {}
    if arch.has_motion:
        precision = f"1/{1 << arch.vector_frac} sample, anchors {arch.anchor_span} apart"
        kinds[f"motion ({precision})"] = sorted({grid.level for grid in arch.grids if grid.motion})
    for grid in arch.grids:
        if grid.motion:
            continue
        name = {0: "static", 1: "each frame"}.get(
            grid.time_stride, f"every {grid.time_stride} frames"
        )
        kinds.setdefault(f"hyper ({name})" if grid.hyper else name, []).append(grid.level)
    return ", ".join(f"{name} {_ranges(levels)}" for name, levels in kinds.items())


def _ranges(levels: list[int]) -> str:
    """Levels, which fall, as `0-3` or `0-1 3`."""
    runs: list[list[int]] = []
    for level in sorted(levels):
        if runs and level == runs[-1][-1] + 1:
            runs[-1].append(level)
        else:
            runs.append([level])
    return " ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


def _summary(network: Network, network_id: int, num_frames: int) -> NetworkSummary:
    arch = network.arch
    first, last = arch.ifce_levels
    model = f"{arch.num_contexts} contexts, {arch.arm_layers} hidden layers"
    if arch.ifce_features:
        model += f", {arch.ifce_features} features at levels {first}-{last}"
    return NetworkSummary(
        network_id=network_id,
        num_parameters=sum(spec.size for spec in param_specs(arch)),
        mac_per_pixel=mac_per_pixel(arch, num_frames),
        grids=describe_grids(arch),
        entropy_model=model,
        temporal=tuple(map(format_layer, arch.temporal)),
        synthesis=tuple(map(format_layer, arch.synthesis)),
    )


def info(source: Source, *, limits: Limits | None = None) -> StreamInfo:
    """Read and check a whole stream without decoding a picture.

    Raises:
        InputError, NotModcodecError, UnsupportedVersionError, BitstreamError: the first thing that
            is wrong.
    """
    file = open_file(source)
    try:
        return _read_info(StreamReader(file, limits=limits))
    finally:
        close_file(file, source)


def _read_info(reader: StreamReader) -> StreamInfo:
    segments: list[SegmentSummary] = []
    networks: dict[int, NetworkSummary] = {}
    for segment in reader.segments():
        network_id = segment.network_id
        if network_id not in networks:
            network = reader.network(network_id)
            networks[network_id] = _summary(network, network_id, segment.num_frames)
        segments.append(
            SegmentSummary(
                first_frame=segment.first_frame,
                num_frames=segment.num_frames,
                rect=segment.rect,
                network_id=network_id,
                latent_bytes=sum(map(len, segment.substreams)),
            )
        )
    part_bytes, clip, audio = dict(reader.num_bytes), reader.info, reader.audio
    size_bytes, num_frames = sum(part_bytes.values()), reader.totals.num_frames
    sound = sum(len(payload) for _, _, payload in audio.packets) if audio else 0
    return StreamInfo(
        info=clip,
        num_frames=num_frames,
        size_bytes=size_bytes,
        part_bytes=part_bytes,
        latent_bytes=sum(segment.latent_bytes for segment in segments),
        bpp=8 * (size_bytes - sound) / (num_frames * clip.width * clip.height),
        networks=tuple(networks.values()),
        segments=tuple(segments),
        metadata_bytes={name: len(data) for name, data in reader.metadata.items()},
        audio=f"{audio.codec}, {audio.sample_rate} Hz, {audio.layout}" if audio else None,
    )
