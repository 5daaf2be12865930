"""Motion compensation of the integer program: against its plain twin, and what it must not do."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from fixedpoint_networks import MOVING, architecture, random_codes, random_latents, random_network
from hypothesis import given, settings
from hypothesis import strategies as st

from codec.arch import NARROW, WIDE, Architecture, Grid, Inter, Numerics, coding_order, parse_layer
from codec.arch.motion import INTERPOLATION_Q7
from codec.fixedpoint.formats import storage_dtype
from codec.fixedpoint.lanes import LANES
from codec.fixedpoint.motion import (
    MAX_VECTOR,
    compose,
    double_field,
    motion_vectors,
    vectors_of,
    warp,
)
from codec.fixedpoint.motion_reference import (
    compose_reference,
    double_reference,
    motion_vectors_reference,
    vectors_reference,
    warp_reference,
)
from codec.fixedpoint.program import load_network
from codec.fixedpoint.render import render
from codec.fixedpoint.render_reference import render_reference

FORMATS = pytest.mark.parametrize("numerics", [NARROW, WIDE], ids=["narrow", "wide"])
PLAIN = architecture(
    static="0", dynamic="1", motion="3", synthesis=("6-1-linear-relu", "5-1-linear-none")
)
UNEVEN = replace(
    MOVING,
    grids=coding_order(
        (
            *(grid for grid in MOVING.grids if not grid.motion),
            *(Grid(level, 1, True, 1) for level in (3, 5, 5)),
            Grid(2, 1, True, 4),
        )
    ),
    vector_frac=4,
)


LEVELS = replace(
    MOVING,
    temporal=(parse_layer("3-3x1-adaptive-relu@1/4,gate=1,code=2,every=level"),),
    vector_frac=0,
    anchor_span=2,
)


def picture(rng: np.random.Generator, numerics: Numerics, height: int, width: int) -> np.ndarray:
    """Random channels, half of them at the ends of the range."""
    one = 1 << numerics.synth_frac
    values = rng.integers(-one, 2 * one, (3, height, width))
    return np.clip(values, 0, one).astype(storage_dtype(numerics))


@given(rows=st.integers(1, 9), columns=st.integers(1, 9), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=40)
def test_doubling_a_field(rows: int, columns: int, seed: int) -> None:
    field = np.random.default_rng(seed).integers(-(1 << 20), 1 << 20, (rows, columns))
    for shape in ((2 * rows, 2 * columns), (2 * rows - 1, 2 * columns - 1)):
        made = double_field(field.astype(np.int32), shape)
        assert made.dtype == np.int32
        assert np.array_equal(made, double_reference(field, shape))


@pytest.mark.parametrize("size", [(1, 1), (7, 41), (64, 33), (100, 65)], ids=str)
@pytest.mark.parametrize(
    "arch", [MOVING, UNEVEN, PLAIN, LEVELS], ids=["moving", "uneven", "plain", "whole samples"]
)
def test_vectors(arch: Architecture, size: tuple[int, int]) -> None:
    size = {"num_frames": 2, "height": size[0], "width": size[1]}
    latents = random_latents(arch, **size, seed=5, limit=255)
    fields = motion_vectors(arch, latents, **size)
    assert fields.dtype == np.int32
    assert np.array_equal(fields, motion_vectors_reference(arch, latents, **size))
    for inter in (Inter(0, -1, -1), Inter(5, 0, 0), Inter(3, 2, 7), Inter(40, 8, 41)):
        made = vectors_of(fields[1], inter)
        twin = vectors_reference(fields[1], inter)
        assert np.array_equal(np.array(made), np.array(twin))
        assert len(made) == (0 if inter.past < 0 else 1 + (inter.future != inter.past))
        assert all(np.abs(vector).max() <= MAX_VECTOR for vector in made)


def test_one_quarter_latent_is_four_sixteenths() -> None:
    size = {"num_frames": 1, "height": 40, "width": 40}
    latents = [np.zeros_like(values) for values in random_latents(PLAIN, **size, seed=1)]
    latents[[grid.motion for grid in PLAIN.grids].index(2)][:] = 3
    fields = motion_vectors(PLAIN, latents, **size)
    assert np.unique(fields[0, 1]).tolist() == [12]
    assert not fields[0, [0, 2, 3]].any()


@FORMATS
@pytest.mark.parametrize("far", [3, 40, 900, MAX_VECTOR])
@given(
    level=st.integers(2, 6),
    height=st.integers(1, 37),
    width=st.sampled_from([1, 2, 5, 8, 9, 16, 23, 40, 70]),
    is_whole=st.booleans(),
    seed=st.integers(0, 1 << 20),
)
@settings(deadline=None, max_examples=15)
def test_warping(numerics, far, level, height, width, is_whole, seed) -> None:
    rng = np.random.default_rng(seed)
    blocks = (2, -(-height >> level), -(-width >> level))
    vectors = rng.integers(-far, far + 1, blocks).astype(np.int32)
    if is_whole:
        # Some neighbours alike, which become one run, and phases of zero.
        vectors = vectors >> 4 << 4
        vectors[:, :, 1::2] = vectors[:, :, : blocks[2] // 2 * 2 : 2]
    reference = picture(rng, numerics, height, width)
    first = (height - 1 >> level) // 2 << level
    made = warp(reference, vectors, level=level, limit=numerics.act_max, rows=(first, height))
    twin = warp_reference(reference, vectors, level=level)
    assert made.shape == (3, height - first, width + LANES)
    assert np.array_equal(made[:, :, :width], twin[:, first:])


@FORMATS
def test_warping_of_wide_runs(numerics: Numerics) -> None:
    rng = np.random.default_rng(3)
    reference = picture(rng, numerics, 9, 601)
    vectors = np.zeros((2, 3, 151), np.int32)
    vectors[:, 1], vectors[:, 2, 70:] = 37, -21
    made = warp(reference, vectors, level=2, limit=numerics.act_max, rows=(0, 9))
    twin = warp_reference(reference, vectors, level=2)
    assert np.array_equal(made[:, :, :601], twin)
    assert np.array_equal(made[:, :4, :601], reference[:, :4])


@FORMATS
def test_no_warped_value_reaches_the_limits(numerics: Numerics) -> None:
    one = 1 << numerics.synth_frac
    gain = max(sum(map(abs, taps)) for taps in INTERPOLATION_Q7)
    assert (one * gain >> 7) * gain >> 7 < numerics.act_max
    # 32 bits are enough for the sums of both formats.
    assert (one * gain >> 7) * gain + 64 < 1 << 31


@FORMATS
@pytest.mark.parametrize("size", [(1, 1), (13, 9), (37, 70), (130, 300)], ids=str)
@pytest.mark.parametrize("references", [0, 1, 2])
def test_composition(numerics: Numerics, size: tuple[int, int], references: int) -> None:
    rng = np.random.default_rng(8)
    program = load_network(random_network(MOVING, numerics, seed=1), numerics)
    limit, dtype = numerics.act_max, storage_dtype(numerics)
    straight = rng.integers(-limit, limit + 1, (5, *size)) >> rng.integers(0, 6, (5, *size))
    straight = straight.astype(dtype)
    pictures = [picture(rng, numerics, *size) for _ in range(references)]
    blocks = (2, -(-size[0] >> 2), -(-size[1] >> 2))
    vectors = [rng.integers(-90, 90, blocks).astype(np.int32) for _ in range(references)]
    one, two = (
        compose(program, straight, pictures, vectors, threads=threads) for threads in (1, 2)
    )
    assert one.dtype == dtype
    assert np.array_equal(one, two)
    if size[1] < 100:
        warped = [warp_reference(p, v, level=2) for p, v in zip(pictures, vectors, strict=True)]
        assert np.array_equal(one, compose_reference(straight, warped, numerics=numerics))


@FORMATS
@pytest.mark.parametrize(
    "arch", [MOVING, UNEVEN, PLAIN, LEVELS], ids=["moving", "uneven", "plain", "levels"]
)
@pytest.mark.parametrize("size", [(1, 9, 7), (2, 1, 1), (5, 21, 18)], ids=str)
def test_rendering(arch: Architecture, size: tuple[int, int, int], numerics: Numerics) -> None:
    size = dict(zip(("num_frames", "height", "width"), size, strict=True))
    network = random_network(arch, numerics, seed=4, magnitude=120)
    latents = random_latents(arch, **size, seed=8, limit=60)
    codes = random_codes(arch, num_frames=size["num_frames"], seed=3)
    program = load_network(network, numerics)
    made = np.stack(list(render(program, latents, codes, **size, threads=2)))
    twin = render_reference(network, latents, codes, **size, noise_seed=0, numerics=numerics)
    assert np.array_equal(made, twin)
    assert made.min() >= 0
    assert made.max() <= 1 << numerics.synth_frac


def test_some_frames_are_those_of_all_on_any_threads() -> None:
    size = {"num_frames": 11, "height": 70, "width": 90}
    program = load_network(random_network(MOVING, NARROW, seed=4, magnitude=120), NARROW)
    latents = random_latents(MOVING, **size, seed=8)
    whole = np.stack(list(render(program, latents, {}, **size)))
    assert len(np.unique(whole)) > 100
    assert len({frame.tobytes() for frame in whole}) == 11
    for threads in (1, 2, 3):
        for frames in (range(11), range(3, 4), range(6, 11), range(10, 11)):
            part = list(render(program, latents, {}, **size, frames=frames, threads=threads))
            assert np.array_equal(np.stack(part), whole[frames.start : frames.stop])
