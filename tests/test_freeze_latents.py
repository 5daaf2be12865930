"""Latents that change: cells that hold everything once, and a lower J that a decoder confirms."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from fitted_models import Fitted, fitted, frozen, measured, trained
from hypothesis import given, settings
from hypothesis import strategies as st

from codec.arch.numerics import LATENT_MAX
from codec.freeze.cells import CELL, Cells
from codec.freeze.latents import change_latents
from codec.freeze.measure import Frozen, Meter
from codec.layers.error import squared_error
from codec.layers.quantizers import hard_round
from codec.training.loss import error_planes
from codec.training.slopes import distortion_slopes

NAMES = ["image", "clip", "motion"]
few = settings(deadline=None, max_examples=40)
offsets = st.tuples(*[st.integers(0, CELL - 1)] * 2)


def changed(case: Fitted, before: Frozen, *, threads: int = 2, passes: int = 12) -> Frozen:
    target = replace(case.target, threads=threads)
    meter = Meter(case.arch, case.numerics, before.latents, target)
    return change_latents(meter, before, case.slopes, passes=passes)


@few
@given(
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    level=st.integers(0, 4),
    offset=offsets,
    shifts=st.tuples(st.integers(0, 6), st.integers(0, 6)),
)
def test_cells_hold_everything_once(height, width, level, offset, shifts):
    cells = Cells((height, width), level, offset)
    shape = (-(-height >> shifts[0]), -(-width >> shifts[1]))
    values = np.random.default_rng(height).random(shape)
    assert cells.sums(values, shifts).sum() == pytest.approx(values.sum())


@few
@given(
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    level=st.integers(0, 4),
    offset=offsets,
    data=st.data(),
)
def test_latents_are_in_the_cell_that_their_pixels_are_in(height, width, level, offset, data):
    cells = Cells((height, width), level, offset)
    y, x = (data.draw(st.integers(0, size - 1 >> level)) for size in (height, width))
    row, column = cells.of(np.array(y), np.array(x))
    pixels = np.zeros((height, width))
    pixels[y << level, x << level] = 1
    expected = cells.sums(pixels, (0, 0))
    assert expected[row, column] == expected.sum() == 1
    latents = np.zeros((-(-height >> level), -(-width >> level)))
    latents[y, x] = 1
    np.testing.assert_array_equal(cells.sums(latents, (level, level)), expected)
    # Of the inner ones, neighbours are in the same cell.
    if cells.inner(latents.shape)[y, x]:
        assert cells.of(np.array(y - 1), np.array(x + 1)) == (row, column)


@pytest.mark.parametrize("name", NAMES)
def test_other_latents_have_a_lower_j_which_is_that_of_the_decoder(name):
    case, before = fitted(name), frozen(name)
    after = changed(case, before)
    assert case.target.j(after) < case.target.j(before)
    distortion, latent_bits, payload_bits = measured(
        replace(case, latents=after.latents), after.network, after.codes
    )
    assert after.distortion == pytest.approx(distortion, rel=1e-9)
    # As in test_freeze: substreams end on bytes, and the payload holds the architecture too.
    assert -16 < latent_bits + payload_bits - after.rate_bits < 48 * 8
    assert after.network is before.network
    for new, old in zip(after.latents, before.latents, strict=True):
        assert new.dtype == np.int16
        assert np.abs(new).max() <= LATENT_MAX
        assert np.abs(new - old).max() <= 1
        assert new.any() == old.any()


@pytest.mark.parametrize("name", NAMES)
def test_latents_do_not_depend_on_threads(name):
    one, two = (changed(fitted(name), frozen(name), threads=threads) for threads in (1, 2))
    for first, second in zip(one.latents, two.latents, strict=True):
        np.testing.assert_array_equal(first, second)


def test_slopes_that_lie_cost_nothing():
    case, before = fitted("image"), frozen("image")
    lies = replace(case, slopes=[-slope for slope in case.slopes])
    after = changed(lies, before)
    assert case.target.j(after) <= case.target.j(before)
    assert case.target.j(after) > case.target.j(changed(case, before))


def test_without_passes_all_stays():
    assert changed(fitted("image"), frozen("image"), passes=0) is frozen("image")


def test_zero_latents_stay():
    case = fitted("image")
    zeros = [np.zeros_like(latent) for latent in frozen("image").latents]
    before = replace(frozen("image"), latents=zeros)
    assert not any(latent.any() for latent in changed(case, before).latents)


def test_latents_stay_in_their_range():
    case, before = fitted("image"), frozen("image")
    extreme = [np.where(x > 0, LATENT_MAX, x).astype(np.int16) for x in before.latents]
    meter = Meter(case.arch, case.numerics, extreme, case.target)
    start = meter.frozen(before.network, before.codes, extreme)
    up = replace(case, slopes=[np.full_like(slope, -1.0) for slope in case.slopes])
    after = changed(up, start)
    assert max(latent.max() for latent in after.latents) == LATENT_MAX


@pytest.mark.parametrize("name", NAMES)
def test_slopes_are_differences_of_the_distortion(name):
    task, state = trained(name)
    slopes = distortion_slopes(task, state)
    planes = error_planes(task.frames, task.format, task.device)
    rng, step = np.random.default_rng(0), 1e-2
    # Along their signs slopes do not cancel. Vectors are rounded: so small a step of theirs changes
    # nothing.
    ways = [
        np.abs(rng.normal(size=slope.shape)).astype(np.float32) * np.sign(slope) * (not grid.motion)
        for grid, slope in zip(task.arch.grids, slopes, strict=True)
    ]
    assert all(slope.any() for slope in slopes[: task.arch.num_motion_grids])

    def distortion(by: float) -> float:
        latents = [
            hard_round(latent) + by * torch.from_numpy(way)
            for latent, way in zip(state.latents, ways, strict=True)
        ]
        with torch.no_grad():
            return float(squared_error(state.model.picture(latents, task.noise), planes))

    expected = sum(float((slope * way).sum()) for slope, way in zip(slopes, ways, strict=True))
    found = (distortion(step) - distortion(-step)) / (2 * step)
    assert found == pytest.approx(expected, rel=0.03)
