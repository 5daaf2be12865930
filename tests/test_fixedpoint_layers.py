"""Kernels of the picture path against their plain twins: odd sizes, edges, saturation."""

from __future__ import annotations

import numpy as np
import pytest
from fixedpoint_networks import architecture, random_network
from hypothesis import given, settings
from hypothesis import strategies as st

from codec.arch import NARROW, WIDE, Numerics, parse_layers, segment_specs
from codec.fixedpoint.formats import align, rshift, sat, storage_dtype
from codec.fixedpoint.noise import noise_planes
from codec.fixedpoint.pictures import frame_hash, frames_from_channels, rescale_16
from codec.fixedpoint.pictures_reference import frames_reference
from codec.fixedpoint.program import interpolation_taps, load_network
from codec.fixedpoint.render_reference import (
    filter_reference,
    interpolate_reference,
    noise_reference,
    synthesis_reference,
    temporal_reference,
)
from codec.fixedpoint.stack import run_temporal
from codec.fixedpoint.synthesis import cut_runs, synthesise
from codec.fixedpoint.upsampling import filter_planes, interpolate
from codec.media.frames import PixelFormat

FORMATS = pytest.mark.parametrize("numerics", [NARROW, WIDE], ids=["narrow", "wide"])
FEW = settings(deadline=None, max_examples=12)
SIDES = st.integers(1, 19)


def random_planes(shape: tuple[int, ...], numerics: Numerics, seed: int) -> np.ndarray:
    """Activations over the whole range, a quarter of them saturated."""
    rng = np.random.default_rng(seed)
    limit = numerics.act_max
    planes = rng.integers(-limit, limit + 1, shape)
    extreme = rng.random(shape) < 0.25
    planes[extreme] = np.where(planes[extreme] < 0, -limit, limit)
    return planes.astype(storage_dtype(numerics))


def test_rounding_shift_by_hand() -> None:
    assert [rshift(v, 1) for v in (-3, -2, -1, 0, 1, 2, 3)] == [-1, -1, 0, 0, 1, 1, 2]
    assert rshift(-7, 0) == -7
    assert [align(5, 2, 4), align(5, 4, 3), align(-5, 4, 3)] == [20, 3, -2]
    values = np.array([-(1 << 40), -129, -3, 2, 127, 1 << 40])
    assert sat(values, 128).tolist() == [sat(int(v), 128) for v in values]
    assert rshift(values, 3).tolist() == [rshift(int(v), 3) for v in values]


def test_interpolation_taps_of_the_bicubic_kernel() -> None:
    half = np.array([-9, -27, 67, 225])
    assert interpolation_taps(half).tolist() == [-9, 67, 225, -27]
    assert interpolation_taps(half[2:]).tolist() == [67, 225]


@FORMATS
@pytest.mark.parametrize("up_taps", [4, 8])
@FEW
@given(height=SIDES, width=SIDES, odd=st.tuples(st.booleans(), st.booleans()), seed=st.integers(0))
def test_interpolation(
    numerics: Numerics, up_taps: int, height: int, width: int, odd: tuple[bool, bool], seed: int
) -> None:
    network = random_network(architecture(static="0-1", up_taps=up_taps), numerics, seed=seed)
    program = load_network(network, numerics)
    planes = random_planes((3, height, width), numerics, seed)
    active = np.array([True, False, True])
    planes[1] = 0
    shape = (2 * height - odd[0], 2 * width - odd[1])
    made = interpolate(planes, active, program.up[0], num_taps=up_taps // 2, shape=shape, threads=2)
    half, e = network.values["up.0"].astype(np.int64), network.exponents["up"]
    for plane, out in zip(planes, made, strict=True):
        twin = interpolate_reference(plane, half, e, shape=shape, numerics=numerics)
        assert np.array_equal(out, twin)


@FORMATS
@pytest.mark.parametrize("pre_taps", [3, 5, 7])
@FEW
@given(height=SIDES, width=SIDES, seed=st.integers(0))
def test_filter_of_a_joining_grid(
    numerics: Numerics, pre_taps: int, height: int, width: int, seed: int
) -> None:
    network = random_network(architecture(static="0-1", pre_taps=pre_taps), numerics, seed=seed)
    program = load_network(network, numerics)
    planes = random_planes((2, height, width), numerics, seed)
    made = filter_planes(planes, np.ones(2, bool), program.pre[0], num_taps=pre_taps, threads=1)
    half, e = network.values["pre.0"].astype(np.int64), network.exponents["up"]
    for plane, out in zip(planes, made, strict=True):
        assert np.array_equal(out, filter_reference(plane, half, e, numerics=numerics))


TEMPORAL = (
    "4-5x1-ck-none",
    "4-5x1-ck-none,causal=1",
    "6-3x3-conv-relu",
    "4-1x5-conv-none,res=1,gate=1,groups=2",
    "4-3x3-conv-relu,res=1,gate=1,groups=0,dilation=2",
    "5-3x3-adaptive-relu,gate=1",
    "4-3x1-adaptive-none,res=1,code=3,every=2",
    "4-1x3-adaptive-none,demod=0,code=2,every=1",
    "4-3x1-adaptive-none,res=1,gate=1,code=2,every=level",
)


@FORMATS
@pytest.mark.parametrize("text", TEMPORAL)
@settings(deadline=None, max_examples=5)
@given(frames=st.integers(1, 5), height=SIDES, width=SIDES, seed=st.integers(0))
def test_temporal_layers(
    numerics: Numerics, text: str, frames: int, height: int, width: int, seed: int
) -> None:
    arch = architecture(dynamic="0-3", temporal=(text,), synthesis=("X-1-linear-none",))
    network = random_network(arch, numerics, seed=seed)
    program = load_network(network, numerics)
    planes = random_planes((frames, 4, height, width), numerics, seed)
    rng = np.random.default_rng(seed)
    codes = {s.name: rng.integers(-99, 100, s.shape) for s in segment_specs(arch, frames)}
    made = run_temporal(program, 0, planes, codes, threads=2)
    assert made.dtype == storage_dtype(numerics)
    assert np.array_equal(made, temporal_reference(network, 0, planes, codes, numerics=numerics))


SYNTHESES = (
    ("X-1-linear-none",),
    ("X-5-linear-relu",),
    ("9-1-linear-relu", "X-1-linear-none", "X-3-residual-relu", "X-3-residual-none"),
    ("3-3-linear-relu", "5-1-linear-none", "X-3-linear-none", "X-1-residual-none"),
)


def test_runs_begin_at_layers_with_a_kernel() -> None:
    layers = parse_layers(SYNTHESES[2], num_out=3)
    assert cut_runs(layers) == [(0, 2), (2, 3), (3, 4)]
    assert cut_runs(parse_layers(SYNTHESES[3], num_out=3)) == [(0, 2), (2, 4)]


@FORMATS
@pytest.mark.parametrize("texts", SYNTHESES)
@pytest.mark.parametrize("with_noise", [False, True], ids=["plain", "noise"])
@settings(deadline=None, max_examples=4)
@given(
    height=st.one_of(SIDES, st.integers(94, 110)),
    width=st.one_of(SIDES, st.integers(255, 520)),
    seed=st.integers(0),
)
def test_synthesis(
    numerics: Numerics,
    texts: tuple[str, ...],
    with_noise: bool,
    height: int,
    width: int,
    seed: int,
) -> None:
    arch = architecture(static="0-3", synthesis=texts, common_randomness=with_noise)
    network = random_network(arch, numerics, seed=seed)
    planes = random_planes((4, height, width), numerics, seed)
    active = np.random.default_rng(seed).random(4) < 0.7
    planes[~active] = 0
    noise = random_planes(planes.shape, numerics, seed + 1) if with_noise else None
    program = load_network(network, numerics)
    made = synthesise(program, planes[active], active, noise=noise, threads=2)
    twin = synthesis_reference(network, planes, noise, numerics=numerics)
    assert made.dtype == storage_dtype(numerics)
    assert np.array_equal(made, twin)


@FORMATS
def test_a_first_residual_layer_adds_the_features(numerics: Numerics) -> None:
    texts = ("4-3-residual-relu", "X-1-linear-none")
    network = random_network(architecture(static="0-3", synthesis=texts), numerics, seed=5)
    planes = random_planes((4, 7, 9), numerics, 5)
    made = synthesise(load_network(network, numerics), planes, np.ones(4, bool))
    assert np.array_equal(made, synthesis_reference(network, planes, None, numerics=numerics))


@FORMATS
def test_noise(numerics: Numerics) -> None:
    size = {"seed": 2**32 - 1, "frame": 3, "height": 13, "width": 21, "numerics": numerics}
    made = noise_planes((0, 2, 5), **size)
    assert np.array_equal(made, noise_reference((0, 2, 5), **size))
    large = noise_planes((0,), **{**size, "height": 256, "width": 256}).astype(np.int64)
    deviation = large.std() / (1 << numerics.feature_frac)
    assert abs(deviation - 1) < 0.02
    assert abs(large.mean()) < 0.02 * (1 << numerics.feature_frac)


PIXEL_FORMATS = [
    PixelFormat("gray", 8),
    PixelFormat("rgb", 8, alpha=True),
    PixelFormat("yuv420", 8),
    PixelFormat("yuv422", 10),
    PixelFormat("yuv420", 12, alpha=True),
    PixelFormat("rgb", 16),
]


@pytest.mark.parametrize("pixel_format", PIXEL_FORMATS, ids=str)
@FEW
@given(height=SIDES, width=SIDES, seed=st.integers(0))
def test_samples(pixel_format: PixelFormat, height: int, width: int, seed: int) -> None:
    numerics = NARROW if pixel_format.depth <= 10 else WIDE
    rng = np.random.default_rng(seed)
    one = 1 << numerics.synth_frac
    channels = rng.integers(-one // 4, one * 5 // 4, (pixel_format.num_planes, height, width))
    channels = channels.astype(storage_dtype(numerics))
    made = frames_from_channels(channels, pixel_format, numerics=numerics, threads=2)
    twins = frames_reference(channels, pixel_format, numerics=numerics)
    for plane, twin in zip(made, twins, strict=True):
        assert plane.dtype == pixel_format.dtype
        assert np.array_equal(plane, twin)


def test_rescaling_to_16_bits_keeps_the_ends_and_the_order() -> None:
    made = rescale_16(np.arange(1 << 14, dtype=np.uint16)).astype(np.int64)
    assert (made[0], made[-1]) == (0, 65535)
    assert set(np.diff(made)) <= {4, 5}
    assert np.abs(made - np.arange(1 << 14) * 65535 / 16383).max() <= 0.5


def test_frame_hash_is_the_crc_of_the_bytes_on_the_wire() -> None:
    assert frame_hash([np.frombuffer(b"1234", np.uint8), np.frombuffer(b"56789", np.uint8)]) == (
        0xCBF43926  # the check value of CRC-32
    )
    deep = np.frombuffer(b"12345678", "<u2").reshape(2, 2)
    assert frame_hash([deep.astype(">u2")]) == frame_hash([np.frombuffer(b"12345678", np.uint8)])
