"""Makes the golden streams of this folder and `frames.json`, the hashes of what they decode to.

    python tests/golden/make.py

Run it by hand, and only when the format of the stream changes on purpose: the files pin what every
decoder of version 4 must show. Networks and latents are integers from a counter hash, so the same
files come out on every machine. Frames are hashed by an own few lines, SHA-256 over the planes in
order, samples above 8 bit as little-endian u16.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np

from codec.arch import (
    Architecture,
    exponent_groups,
    grid_shape,
    numerics_for_depth,
    param_specs,
    parse_grids,
    parse_layers,
    segment_specs,
)
from codec.bitstream.elements import Network, Partition, Segment
from codec.bitstream.parameters import default_values
from codec.bitstream.writer import StreamWriter, write_still
from codec.fixedpoint.entropy import encode_latents
from codec.fixedpoint.pictures import frame_hash, frames_from_channels
from codec.fixedpoint.program import load_network
from codec.fixedpoint.render import render
from codec.media.frames import ClipInfo, Colour, PixelFormat

FOLDER = Path(__file__).resolve().parent
WHOLE = Partition()
RGB = PixelFormat("rgb", 8)

STILL = Architecture(
    grids=parse_grids(static="0-4", hyper="3-4"),
    num_contexts=10,
    ifce_features=3,
    ifce_levels=(0, 2),
    arm_layers=2,
    temporal=(),
    synthesis=parse_layers(
        ["6-1-linear-relu", "X-1-linear-none", "X-3-residual-relu", "X-3-residual-none"], num_out=3
    ),
)
CLIP = Architecture(
    grids=parse_grids(static="0-3", slow="4:1-2;2:2", dynamic="0-2"),
    num_contexts=6,
    ifce_features=2,
    ifce_levels=(0, 1),
    arm_layers=1,
    temporal=parse_layers(
        [
            "5-5x1-ck-none@1/4",
            "5-3x1-conv-relu@1/4,gate=1,dilation=2",
            "8-3x1-ck-none@1/2,causal=1",
            "8-1x1-adaptive-relu@1/2,res=1,gate=1,code=2,every=2",
            "3-1x3-adaptive-none@1/2,demod=0,code=1,every=3",
            "3-3x3-conv-none@1/2,res=1,gate=1,groups=0",
        ],
        num_out=3,
    ),
    synthesis=parse_layers(["5-3-linear-relu", "X-1-linear-none"], num_out=3),
    up_taps=4,
    pre_taps=3,
)
NOISE = Architecture(
    grids=parse_grids(static="0-3", dynamic="1-2"),
    num_contexts=4,
    ifce_features=0,
    ifce_levels=(0, 0),
    arm_layers=0,
    temporal=parse_layers(["4-3x1-conv-none@1/4"], num_out=3),
    synthesis=parse_layers(["5-1-linear-relu", "X-3-linear-none"], num_out=3),
    common_randomness=True,
)
DEEP = replace(
    STILL,
    ifce_features=0,
    arm_layers=1,
    synthesis=parse_layers(["6-1-linear-relu", "X-3-linear-none"], num_out=4),
)
MOTION = Architecture(
    grids=parse_grids(static="0-2", slow="4:1", dynamic="2-3", hyper="3", motion="3-4"),
    num_contexts=6,
    ifce_features=2,
    ifce_levels=(0, 3),
    arm_layers=1,
    temporal=(),
    synthesis=parse_layers(
        ["6-1-linear-relu", "5-1-linear-none", "X-3-difference-none", "X-1-linear-none"], num_out=3
    ),
    vector_frac=1,
    anchor_span=4,
)

# Sizes of random parameters, in units of their value.
SPREAD = {
    "arm.weight": 0.1,
    "arm.bias": 0.4,
    "ifce.weight": 0.3,
    "ifce.bias": 0.5,
    "up": 0.05,
    "temporal.weight": 0.3,
    "temporal.bias": 1.0,
    "temporal.code": 0.6,
    "synth_in.weight": 0.06,
    "synth.weight": 0.3,
    "synth.bias": 0.4,
}
EXPONENTS = {
    "features": 8,
    "arm.weight": 5,
    "arm.bias": 5,
    "ifce.weight": 4,
    "ifce.bias": 4,
    "up": 7,
    "temporal.weight": 5,
    "temporal.bias": 4,
    "temporal.code": 6,
    "synth_in.weight": 8,
    "synth.weight": 5,
    "synth.bias": 6,
}


def uniform(count: int, seed: int) -> np.ndarray:
    """`count` numbers from -1 to 1, by the finalizer of SplitMix64 on a counter."""
    x = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    x += np.uint64(seed * 0x632BE59BD9B4E019 & (1 << 64) - 1)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor)
    return ((x ^ (x >> np.uint64(31))) >> np.uint64(11)) / 2.0**52 - 1


def _pictures(arch: Architecture) -> list[int]:
    """The layers that make picture channels."""
    return [i for i, layer in enumerate(arch.synthesis) if layer.out == arch.num_channels]


def make_network(arch: Architecture, *, seed: int) -> Network:
    """Defaults plus random integers, with pictures around one half."""
    exponents = {group: EXPONENTS[group] for group in exponent_groups(arch)}
    values = {}
    for number, spec in enumerate(param_specs(arch)):
        e = exponents[spec.group]
        change = np.rint(uniform(spec.size, seed + number) * SPREAD[spec.group] * 2**e)
        values[spec.name] = default_values(spec, e) + change.astype(np.int32).reshape(spec.shape)
    values["arm.out.bias"][1] = 3 << exponents["arm.bias"]
    for name in ["synth.stab.bias", *(f"synth.{i}.bias" for i in _pictures(arch))]:
        if name in values:
            values[name][:] = 0
    # A frame without references is predicted to be one half.
    level = 0 if arch.has_motion else 1 << exponents["synth.bias"] - 1
    values[f"synth.{len(arch.synthesis) - 1}.bias"][:] = level
    return Network(arch, exponents, values)


def make_loud(network: Network) -> Network:
    """The network with features and first activations that saturate, later ones that do not."""
    values = dict(network.values)
    for name in values:
        if name.startswith("up"):
            values[name] = 2 * values[name]
    values["synth.0.weight"] = 9 * values["synth.0.weight"]
    values["synth.1.weight"] = np.sign(values["synth.1.weight"])
    values["synth.stab.weight"] = 0 * values["synth.stab.weight"]
    return replace(network, values=values)


def make_codes(arch: Architecture, num_frames: int, seed: int) -> dict[str, np.ndarray]:
    return {
        spec.name: np.rint(60 * uniform(spec.size, seed)).astype(np.int32).reshape(spec.shape)
        for spec in segment_specs(arch, num_frames)
    }


def make_latents(
    arch: Architecture, size: dict[str, int], seed: int, loudness: int = 1
) -> list[np.ndarray]:
    """Mostly zeros and ones, more at coarse levels; the second grid is empty."""
    latents = []
    for number, grid in enumerate(arch.grids):
        shape = (grid.num_slices(size["num_frames"]), *grid_shape(grid, size["height"],
                                                                  size["width"]))  # fmt: skip
        values = uniform(int(np.prod(shape)), 1000 * seed + number).reshape(shape)
        latents.append(np.rint(values**5 * (2 + 4 * grid.level) * loudness).astype(np.int16))
    latents[1][:] = 0
    return [np.clip(values, -255, 255) for values in latents]


@dataclass(frozen=True)
class Part:
    """A segment to be made: its network, frames, and how it is cut."""

    network: Network
    network_id: int
    first_frame: int
    pts: Sequence[int]
    seed: int
    partition: Partition
    loudness: int = 1
    rect: tuple[int, int, int, int] | None = None


def make_segment(info: ClipInfo, part: Part) -> Segment:
    arch = part.network.arch
    numerics = numerics_for_depth(info.format.coded_depth)
    program = load_network(part.network, numerics)
    rect = part.rect or (0, 0, info.height, info.width)
    size = {"num_frames": len(part.pts), "height": rect[2], "width": rect[3]}
    latents = make_latents(arch, size, part.seed, part.loudness)
    codes = make_codes(arch, len(part.pts), part.seed)
    noise_seed = 0xC0FFEE00 + part.seed if arch.common_randomness else 0
    present, substreams = encode_latents(program, latents, **size, partition=part.partition)
    shown = render(program, latents, codes, **size, noise_seed=noise_seed)
    planes = [frames_from_channels(c, info.format, numerics=numerics) for c in shown]
    return Segment(
        first_frame=part.first_frame,
        num_frames=len(part.pts),
        rect=rect,
        network_id=part.network_id,
        grid_present=present,
        substreams=substreams,
        frame_hashes=tuple(map(frame_hash, planes)),
        pts_ticks=tuple(part.pts),
        codes=codes,
        noise_seed=noise_seed,
        partition=part.partition,
    )


def make_still(
    network: Network, fmt: PixelFormat, height: int, width: int, *, seed: int, loudness: int = 1
) -> bytes:
    info = ClipInfo(fmt, width, height, is_still=True, colour=Colour(matrix=0, full_range=True))
    part = Part(network, 0, 0, (0,), seed, WHOLE, loudness)
    file = io.BytesIO()
    write_still(file, info, network=network, segment=make_segment(info, part))
    return file.getvalue()


def make_clip() -> bytes:
    """Two segments of a 10-bit clip: uneven times, a network by difference, frames split."""
    info = ClipInfo(
        PixelFormat("yuv420", 10),
        31,
        23,
        is_still=False,
        colour=Colour(1, 1, 1, False, 1),
        time_base=Fraction(1, 30000),
        frame_ticks=1001,
        pixel_aspect=Fraction(12, 11),
        rotation=90,
    )
    base = make_network(CLIP, seed=20)
    values = {name: v + (np.arange(v.size) % 7 == 0).reshape(v.shape)
              for name, v in base.values.items()}  # fmt: skip
    changed = replace(base, values={name: v.astype(np.int32) for name, v in values.items()})
    file = io.BytesIO()
    writer = StreamWriter(file, info, metadata={"xmp": b"<x/>"})
    writer.network(3, base)
    writer.segment(make_segment(info, Part(base, 3, 0, range(0, 5 * 1001, 1001), 21, WHOLE)))
    writer.network_difference(7, changed, base=base, base_id=3)
    split = Partition(split_frames=True, bands=2)
    writer.segment(make_segment(info, Part(changed, 7, 5, (5005, 6100, 9000), 22, split)))
    writer.finish()
    return file.getvalue()


def make_noise() -> bytes:
    """A clip with common randomness, 8 bit 4:2:2."""
    info = ClipInfo(PixelFormat("yuv422", 8), 26, 17, is_still=False)
    network = make_network(NOISE, seed=30)
    file = io.BytesIO()
    writer = StreamWriter(file, info)
    writer.network(0, network)
    writer.segment(make_segment(info, Part(network, 0, 0, (0, 1, 2), 31, WHOLE)))
    writer.finish()
    return file.getvalue()


def make_motion() -> bytes:
    """A clip whose frames are predicted from others, 8 bit 4:2:0, and a frame that is not."""
    info = ClipInfo(PixelFormat("yuv420", 8), 41, 27, is_still=False)
    network = make_network(MOTION, seed=77)
    # The last layer passes on what the prediction makes.
    network.values["synth.3.weight"][range(3), range(3)] += 1 << EXPONENTS["synth.weight"]
    file = io.BytesIO()
    writer = StreamWriter(file, info)
    writer.network(0, network)
    writer.segment(make_segment(info, Part(network, 0, 0, range(7), 71, WHOLE)))
    writer.segment(make_segment(info, Part(network, 0, 7, (7,), 72, Partition(True, 2))))
    writer.finish()
    return file.getvalue()


def make_tiles() -> bytes:
    """A clip of two rectangles that share a network, then of one, 8 bit 4:2:0."""
    info = ClipInfo(PixelFormat("yuv420", 8), 25, 19, is_still=False)
    arch = replace(NOISE, common_randomness=False)
    network = make_network(arch, seed=60)
    file = io.BytesIO()
    writer = StreamWriter(file, info)
    writer.network(0, network)
    for rect, seed in (((0, 0, 19, 14), 61), ((0, 14, 19, 11), 62)):
        writer.segment(make_segment(info, Part(network, 0, 0, (0, 1), seed, WHOLE, rect=rect)))
    writer.segment(make_segment(info, Part(network, 0, 2, (2,), 63, WHOLE)))
    writer.finish()
    return file.getvalue()


STREAMS: dict[str, Callable[[], bytes]] = {
    "still": lambda: make_still(make_network(STILL, seed=10), RGB, 45, 37, seed=10),
    "clip": make_clip,
    "noise": make_noise,
    "tiles": make_tiles,
    "motion": make_motion,
    "deep": lambda: make_still(
        make_network(DEEP, seed=43), PixelFormat("rgb", 16, alpha=True), 29, 34, seed=43
    ),
    # Latents at their limits and escapes, activations that saturate.
    "loud": lambda: make_still(
        make_loud(make_network(STILL, seed=50)), RGB, 13, 21, seed=50, loudness=40
    ),
}


def plane_digest(planes: Sequence[np.ndarray]) -> str:
    """SHA-256 of a frame, as the docstring of this file says."""
    digest = hashlib.sha256()
    for plane in planes:
        digest.update(plane.astype("<u2" if plane.dtype.itemsize == 2 else "u1").tobytes())
    return digest.hexdigest()


def main() -> None:
    from codec.decoder import open_stream

    digests = {}
    for name, make in STREAMS.items():
        data = make()
        (FOLDER / f"{name}.modc").write_bytes(data)
        frames = open_stream(data).frames()
        digests[name] = [plane_digest(frame.planes) for frame in frames]
    (FOLDER / "frames.json").write_text(json.dumps(digests, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
