"""Networks, segments and streams for the tests of the bitstream, and strategies that draw them."""

from __future__ import annotations

import io
from dataclasses import replace
from fractions import Fraction

import numpy as np
from hypothesis import strategies as st

from codec.arch import (
    Architecture,
    Grid,
    coding_order,
    exponent_groups,
    param_specs,
    parse_grids,
    parse_layers,
    segment_specs,
)
from codec.arch.network import CONTEXT_ORDER
from codec.arch.parameters import GROUP_EXPONENTS
from codec.bitstream.elements import Network, Partition, Segment
from codec.bitstream.parameters import default_values
from codec.bitstream.writer import StreamWriter, write_still
from codec.errors import UsageError
from codec.media.frames import AudioTrack, ClipInfo, Colour, PixelFormat

IMAGE = Architecture(
    grids=parse_grids(static="0-6", hyper="4-6"),
    num_contexts=14,
    ifce_features=4,
    ifce_levels=(0, 2),
    arm_layers=2,
    temporal=(),
    synthesis=parse_layers(
        ["24-1-linear-relu", "X-1-linear-none", "X-3-residual-relu", "X-3-residual-none"],
        num_out=3,
    ),
)
CLIP = Architecture(
    grids=parse_grids(static="0-5", slow="4:2-4", dynamic="1-5"),
    num_contexts=10,
    ifce_features=2,
    ifce_levels=(0, 2),
    arm_layers=2,
    temporal=parse_layers(
        [
            "3-1x1-conv-none@1/8",
            "X-5x1-ck-none@1/8",
            "X-3x1-conv-none@1/8,res=1,gate=1,groups=0",
            "3-3x1-adaptive-relu@1/4,gate=1,code=2,every=8",
        ],
        num_out=3,
    ),
    synthesis=parse_layers(["16-1-linear-relu", "X-1-linear-none", "X-3-residual-none"], num_out=3),
    common_randomness=True,
)
TINY = Architecture(
    grids=(Grid(0),),
    num_contexts=1,
    ifce_features=0,
    ifce_levels=(0, 0),
    arm_layers=0,
    temporal=(),
    synthesis=parse_layers(["X-1-linear-none"], num_out=3),
    up_taps=4,
    pre_taps=1,
)
STILL_INFO = ClipInfo(PixelFormat("rgb", 8), 768, 512, is_still=True)
CLIP_INFO = ClipInfo(
    PixelFormat("yuv420", 10),
    352,
    287,
    is_still=False,
    colour=Colour(1, 1, 1, False, 1),
    time_base=Fraction(1, 30000),
    frame_ticks=1001,
    pixel_aspect=Fraction(12, 11),
    rotation=90,
)
SOUND = AudioTrack(
    codec="aac",
    sample_rate=44100,
    layout="stereo",
    time_base=Fraction(1, 44100),
    extradata=b"\x12\x10",
    packets=((-1024, 1024, b"first"), (0, 1024, b""), (1030, 7, bytes(200))),
)


def make_network(arch, *, seed=1, spread=20.0):
    """Parameters around their defaults."""
    rng = np.random.default_rng(seed)
    exponents = {group: sum(GROUP_EXPONENTS[group]) // 2 for group in exponent_groups(arch)}
    values = {
        spec.name: default_values(spec, exponents[spec.group])
        + np.rint(rng.laplace(scale=spread, size=spec.shape)).astype(np.int32)
        for spec in param_specs(arch)
    }
    return Network(arch, exponents, values)


def make_segment(arch, info, *, first_frame=0, num_frames=1, seed=2, size=60, **changes):
    """A segment with random bytes for latents."""
    rng = np.random.default_rng(seed)
    segment = Segment(
        first_frame=first_frame,
        num_frames=num_frames,
        rect=(0, 0, info.height, info.width),
        network_id=0,
        grid_present=tuple(index % 3 != 1 for index in range(len(arch.grids))),
        substreams=(),
        frame_hashes=tuple(int(h) for h in rng.integers(0, 1 << 32, num_frames)),
        pts_ticks=tuple(
            0 if info.is_still else (first_frame + t) * info.frame_ticks for t in range(num_frames)
        ),
        codes={
            spec.name: rng.integers(-9, 9, spec.shape).astype(np.int32)
            for spec in segment_specs(arch, num_frames)
        },
        noise_seed=7 if arch.common_randomness else 0,
    )
    segment = replace(segment, **changes)
    count = segment.partition.num_substreams(num_frames)
    return replace(segment, substreams=tuple(rng.bytes(size) for _ in range(count)))


def still_bytes(*, arch=IMAGE, info=STILL_INFO, metadata=None, **changes):
    """A whole still."""
    file = io.BytesIO()
    write_still(
        file,
        info,
        network=make_network(arch),
        segment=make_segment(arch, info, **changes),
        metadata=metadata,
    )
    return file.getvalue()


def clip_segments(arch=CLIP, info=CLIP_INFO):
    """Three segments that differ in everything that can differ."""
    nominal = make_segment(arch, info, num_frames=10)
    split = make_segment(
        arch,
        info,
        first_frame=10,
        num_frames=3,
        network_id=5,
        partition=Partition(split_frames=True, bands=2),
        grid_present=(True,) * len(arch.grids),
        noise_seed=0xFFFFFFFF if arch.common_randomness else 0,
    )
    uneven = make_segment(
        arch, info, first_frame=13, num_frames=3, network_id=9, pts_ticks=(13000, 15001, 15002)
    )
    return (nominal, split, uneven)


def write_clip(file, segments, *, arch=CLIP, info=CLIP_INFO, metadata=None, audio=None):
    """A clip whose network 5 is complete and 9 a difference from 0, as `clip_segments` needs."""
    writer = StreamWriter(file, info, metadata=metadata, audio=audio)
    base = make_network(arch)
    writer.network(0, base)
    for index, segment in enumerate(segments):
        if index == 1:
            writer.network(5, make_network(arch, seed=5, spread=2.0))
        if index == 2:
            writer.network_difference(9, shifted(base), base=base, base_id=0)
        writer.segment(segment)
    return writer.finish()


def shifted(network):
    """A network whose values are one larger in every third place."""
    values = {}
    for name, tensor in network.values.items():
        steps = (np.arange(tensor.size) % 3 == 0).astype(np.int32)
        values[name] = tensor + steps.reshape(tensor.shape)
    return replace(network, values=values)


def clip_bytes(**options):
    """A whole clip of three segments."""
    file = io.BytesIO()
    write_clip(file, clip_segments(), **options)
    return file.getvalue()


def _layer_texts(num_out):
    temporal = st.sampled_from(
        [
            "X-5x1-ck-none@1/4",
            "X-63x1-ck-none@1/2,causal=1",
            "4-3x3-conv-relu@1/2",
            "X-1x15-conv-none,res=1,gate=1,dilation=200,groups=0",
            "256-3x1-adaptive-none@1/4,demod=0,code=3,every=2",
            "X-3x1-adaptive-relu,res=1,code=255",
            "X-1x1-adaptive-none@1/4,gate=1,code=2,every=level",
        ]
    )
    synthesis = st.sampled_from(
        ["256-1-linear-relu", "X-15-linear-none", "X-3-residual-relu", "X-3-residual-none"]
    )
    return (
        st.lists(temporal, max_size=4).map(lambda texts: parse_layers(texts, num_out=num_out)),
        st.lists(synthesis, max_size=4).map(
            lambda texts: parse_layers([*texts, "X-1-linear-none"], num_out=num_out)
        ),
    )


@st.composite
def architectures(draw):
    """Any architecture that the dataclass takes, made of a few kinds of layers."""
    grids = draw(
        st.lists(
            st.builds(Grid, st.integers(0, 15), st.sampled_from([0, 1, 2, 8, 64]), st.booleans()),
            min_size=1,
            max_size=20,
        )
    )
    temporal, synthesis = _layer_texts(draw(st.integers(1, 5)))
    level = st.integers(0, 15)
    try:
        return Architecture(
            grids=coding_order([*grids, Grid(draw(st.integers(0, 15)))]),
            num_contexts=draw(st.integers(1, len(CONTEXT_ORDER))),
            ifce_features=draw(st.integers(0, 31)),
            ifce_levels=(draw(level), draw(level)),
            arm_layers=draw(st.integers(0, 7)),
            temporal=tuple(sorted(draw(temporal), key=lambda layer: -layer.level)),
            synthesis=draw(synthesis),
            up_taps=draw(st.sampled_from([4, 8])),
            pre_taps=draw(st.sampled_from([1, 3, 5, 7])),
            common_randomness=draw(st.booleans()),
        )
    except UsageError:
        return replace(IMAGE, arm_layers=draw(st.integers(0, 7)))
