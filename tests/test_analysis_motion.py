"""The search for motion: known motion is found, stillness is left alone, any size works."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from motion_prediction import components, errors, motion_architecture
from moving_clips import PHOTO

from codec.analysis.motion_choice import residue_cost, vector_bits
from codec.analysis.motion_latents import fit_latents
from codec.analysis.motion_search import Motion, search_motion
from codec.arch import Architecture, grid_shape, prediction_levels
from codec.arch.numerics import LATENT_MAX
from codec.fixedpoint.motion import double_field
from codec.media.convert import area_means
from codec.media.sources import open_source

ARCH = motion_architecture("3-5")
RD_LAMBDA = 1e-3


def _found(luma: np.ndarray, arch: Architecture = ARCH, *, threads: int = 1) -> Motion:
    (found,) = search_motion(luma, [arch], rd_lambda=RD_LAMBDA, threads=threads)
    return found


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    """The green plane of a photograph, (300, 451) float32 on [0, 1]."""
    (frame,) = open_source(PHOTO).frames
    return frame.planes[1].astype(np.float32) / 255


def _shrunk(picture: np.ndarray, times: int) -> np.ndarray:
    rows, columns = (size // times for size in picture.shape)
    cut = picture[: rows * times, : columns * times]
    return cut.reshape(rows, times, columns, times).mean((1, 3), dtype=np.float32)


def _panned(photo: np.ndarray, num_frames: int, step: tuple[int, int]) -> np.ndarray:
    """Frames (T, 72, 96) over which what is seen moves by `step` quarters (rows, columns)."""
    starts = [(6 + t * step[0], 2 + t * step[1]) for t in range(num_frames)]
    return np.stack([_shrunk(photo[y : y + 288, x : x + 384], 4) for y, x in starts])


def _zoomed(photo: np.ndarray, num_frames: int) -> np.ndarray:
    """Frames (T, 70, 100) of a window that grows by 2 % of its size a frame."""
    frames = []
    for t in range(num_frames):
        scale = 2.6 * 1.02**t
        rows = np.rint(150 + scale * (np.arange(140) / 2 - 34.75)).astype(int)
        columns = np.rint(225 + scale * (np.arange(200) / 2 - 49.75)).astype(int)
        frames.append(_shrunk(photo[np.ix_(rows, columns)], 2))
    return np.stack(frames)


def _inters(num_frames: int):
    return [inter for level in prediction_levels(num_frames, 32)[1:] for inter in level]


def test_a_pan_is_found_to_a_fraction_of_a_sample(photo: np.ndarray) -> None:
    luma = _panned(photo, 5, (1, 5))
    latents = _found(luma).latents
    for inter in _inters(5):
        columns, rows, more_columns, more_rows = components(latents, ARCH, inter.frame, (72, 96))
        distance = inter.past - inter.frame
        inside = (slice(1, -1), slice(2, -2))
        # What moves into view: a sample was further right in the past, by 5 quarters a frame.
        assert np.abs(columns[inside] + 4 * 5 * distance).mean() < 4
        assert np.abs(rows[inside] + 4 * 1 * distance).mean() < 4
        assert np.abs(more_columns).mean() + np.abs(more_rows).mean() < 1
        still, moved = errors(luma, latents, ARCH, inter)
        assert moved < 0.2 * still


def test_a_zoom_is_found(photo: np.ndarray) -> None:
    luma = _zoomed(photo, 5)
    latents = _found(luma).latents
    for inter in _inters(5):
        still, moved = errors(luma, latents, ARCH, inter)
        # Frames are sampled without a filter: what aliases is most of what is left of short ways.
        assert moved < (0.25 if inter.frame - inter.past > 1 else 0.65) * still
    rows = components(latents, ARCH, 4, (70, 100))[1]
    assert rows[0].mean() < -8
    assert rows[-1].mean() > 8


def test_a_still_scene_has_no_motion(photo: np.ndarray) -> None:
    noise = np.random.default_rng(0).normal(0, 0.01, (4, 72, 96)).astype(np.float32)
    luma = _panned(photo, 4, (0, 0)) + noise
    assert not any(values.any() for values in _found(luma).latents)


def test_flat_areas_go_along(photo: np.ndarray) -> None:
    noise = np.random.default_rng(0).normal(0, 0.004, (2, 72, 96)).astype(np.float32)
    luma = _panned(photo, 2, (0, 8))
    luma[:, :, 40:] = 0.5
    columns, rows, *_ = components(_found(luma + noise).latents, ARCH, 1, (72, 96))
    for component in (columns, rows):
        assert np.abs(np.diff(component[:, 7:], axis=0)).max() <= 8


def test_threads_change_nothing(photo: np.ndarray) -> None:
    luma = _panned(photo, 4, (1, 2))
    one, three = (_found(luma, threads=threads).latents for threads in (1, 3))
    assert all((a == b).all() for a, b in zip(one, three, strict=True))


@pytest.mark.parametrize("motion", ["2-3", "3", "4,6", "6"])
@pytest.mark.parametrize("size", [(1, 1), (5, 3), (37, 59), (201, 3)])
def test_latents_have_the_shape_of_their_grids(motion: str, size: tuple[int, int]) -> None:
    arch = motion_architecture(motion)
    luma = np.random.default_rng(1).random((3, *size), np.float32)
    latents = _found(luma, arch).latents
    for grid, values in zip((g for g in arch.grids if g.motion), latents, strict=True):
        assert values.shape == (3, *grid_shape(grid, *size))
        assert values.dtype == np.int16
        assert not values[0].any()


def test_one_frame_has_no_motion() -> None:
    luma = np.random.default_rng(2).random((1, 20, 20), np.float32)
    assert not any(values.any() for values in _found(luma).latents)


def _choices(motion: str) -> list[Architecture]:
    return [
        replace(motion_architecture(motion), vector_frac=frac, anchor_span=span)
        for frac in (2, 1)
        for span in (32, 2)
    ]


def test_several_at_a_time_are_as_one_by_one(photo: np.ndarray) -> None:
    luma = _panned(photo, 6, (1, 5))
    archs = [*_choices("3"), *_choices("4")]
    together = search_motion(luma, archs, rd_lambda=RD_LAMBDA)
    for arch, found in zip(archs, together, strict=True):
        alone = _found(luma, arch)
        assert found.j == alone.j
        assert all((a == b).all() for a, b in zip(found.latents, alone.latents, strict=True))


def test_low_rates_choose_larger_blocks_and_coarser_vectors(photo: np.ndarray) -> None:
    noise = np.random.default_rng(3).normal(0, 0.003, (5, 72, 96)).astype(np.float32)
    luma = _panned(photo, 5, (1, 5)) + noise
    # Something else moves in the middle of a block of 16x16.
    luma[:, 24:48, 40:72] = _panned(photo, 5, (0, 15))[:, 24:48, 40:72]
    archs = [motion_architecture("3"), replace(motion_architecture("4"), vector_frac=1)]
    low, high = ([m.j for m in search_motion(luma, archs, rd_lambda=x)] for x in (0.05, 1e-6))
    assert low[1] < low[0]
    assert high[0] < high[1]


def test_vectors_without_surprise_cost_little() -> None:
    rng = np.random.default_rng(4)
    flat = np.full((3, 20, 30), 7, np.int16)
    rough = rng.integers(-9, 10, flat.shape).astype(np.int16)
    assert vector_bits(flat) < 0.4 * flat.size < vector_bits(rough)
    # A field that is the same in blocks of 2x2 has a fourth of the surprises.
    large = rng.integers(-9, 10, (3, 10, 15)).astype(np.int16).repeat(2, 1).repeat(2, 2)
    assert vector_bits(large) < 0.8 * vector_bits(rough)


def test_residues_cost_their_error_if_it_is_small() -> None:
    errors = np.full((3, 4), 1e-4, np.float32)
    one, two = (residue_cost(errors, num_references=n, rd_lambda=1e-3) for n in (1, 2))
    assert two < one
    costs = [residue_cost(errors * k, num_references=2, rd_lambda=1e-3) for k in (1, 10, 100, 1000)]
    assert costs == sorted(costs)
    assert costs[3] - costs[2] < 100 * (costs[2] - costs[1])


def test_means_are_of_what_is_there() -> None:
    means = area_means(np.array([[1.0, 3.0, 10.0], [5.0, 7.0, 20.0], [1.0, 2.0, 30.0]]), 2)
    assert means.tolist() == [[4.0, 15.0], [1.5, 30.0]]


def test_doubling_keeps_what_is_constant_or_a_ramp() -> None:
    assert (double_field(np.full((3, 2), -77, np.int32), (5, 4)) == -77).all()
    ramp = double_field(np.arange(0, 640, 64, dtype=np.int32)[None, :], (2, 19))
    assert (np.diff(ramp[0, 1:-1]) == 32).all()


def test_fields_that_latents_can_make_come_back_whole() -> None:
    coarse = np.array([[4, -9], [30, 2]])
    field = double_field((coarse << 8).astype(np.int32), (4, 4))
    latents, made = fit_latents(coarse.repeat(2, 0).repeat(2, 1).astype(float), 4, 3, (32, 32))
    assert (latents == coarse).all()
    assert (made == field).all()
    latents, made = fit_latents(field / 256, 3, 3, (32, 32))
    assert np.abs(latents - field / 256).max() <= 0.5
    assert (made == latents.astype(int) << 8).all()


def test_latents_are_limited() -> None:
    latents, _ = fit_latents(np.full((2, 2), 5000.0), 4, 3, (16, 16))
    assert (latents == LATENT_MAX).all()


def test_each_frame_uses_the_grids_of_one_level(photo: np.ndarray) -> None:
    noise = np.random.default_rng(3).normal(0, 0.003, (5, 70, 96)).astype(np.float32)
    luma = _zoomed(photo, 5)[:, :, :96] + noise
    grids = [grid for grid in ARCH.grids if grid.motion]
    low, high = (search_motion(luma, [ARCH], rd_lambda=x)[0] for x in (0.05, 1e-6))
    assert sum(low.levels) > sum(high.levels), "low rates have larger blocks"
    for found in (low, high):
        for grid, latents in zip(grids, found.latents, strict=True):
            unused = [level != grid.level for level in found.levels]
            assert not latents[unused].any()
        assert any(latents.any() for latents in found.latents)
