"""Latent grids: how ranges are read, how many slices they have, in what order they are coded."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codec.arch import Grid, coding_order, grid_shape, parse_grids, slice_of
from codec.arch.grids import parse_levels
from codec.errors import UsageError

GRIDS = st.builds(Grid, st.integers(0, 15), st.sampled_from([0, 1, 2, 4, 64]), st.booleans())


@pytest.mark.parametrize(
    ("text", "levels"),
    [
        ("0-6", (0, 1, 2, 3, 4, 5, 6)),
        ("3", (3,)),
        ("0,2,4", (0, 2, 4)),
        ("0-2, 5 , 7-8", (0, 1, 2, 5, 7, 8)),
        ("15-15", (15,)),
        ("", ()),
        ("  ", ()),
    ],
)
def test_levels(text, levels):
    assert parse_levels(text) == levels


@pytest.mark.parametrize("text", ["a", "3-1", "-1", "0-16", "1-", "1,,2", "²", "9" * 5000, "1.5"])
def test_levels_that_are_none(text):
    with pytest.raises(UsageError, match="is not a level or range such as 0-6"):
        parse_levels(text)


def test_grids_of_a_picture_come_coarse_to_fine_with_hyper_grids_first():
    grids = parse_grids(static="0-2", hyper="1-2")
    assert grids == (
        Grid(2, 0, hyper=True),
        Grid(2),
        Grid(1, 0, hyper=True),
        Grid(1),
        Grid(0),
    )


def test_grids_of_a_clip_come_by_how_slow_they_are():
    grids = parse_grids(static="3,5", slow="2:1;8:0-1", dynamic="0,4", hyper="4")
    assert grids == (
        Grid(5, 0),
        Grid(3, 0),
        Grid(1, 8),
        Grid(0, 8),
        Grid(1, 2),
        Grid(4, 1, hyper=True),
        Grid(4, 1),
        Grid(0, 1),
    )


@pytest.mark.parametrize(
    ("ranges", "message"),
    [
        ({"hyper": "1-2"}, "at least one latent grid"),
        ({}, "at least one latent grid"),
        ({"static": "0-2,1"}, "same grid twice"),
        ({"static": "0", "slow": "4:1;4:1-2"}, "same grid twice"),
        ({"static": "0", "slow": "4"}, "write STRIDE:LEVELS"),
        ({"static": "0", "slow": "3:1"}, "write STRIDE:LEVELS"),
        ({"static": "0", "slow": "1:1"}, "write STRIDE:LEVELS"),
        ({"static": "0", "slow": "128:1"}, "write STRIDE:LEVELS"),
        ({"static": "0", "slow": "²:1"}, "write STRIDE:LEVELS"),
        ({"static": "0", "slow": "4:1;"}, "write STRIDE:LEVELS"),
        ({"static": "0", "slow": "4:x"}, "'x' is not a level"),
    ],
)
def test_grids_that_are_none(ranges, message):
    with pytest.raises(UsageError, match=message):
        parse_grids(**ranges)


@given(st.lists(GRIDS, max_size=30))
@settings(deadline=None, max_examples=50, derandomize=True)
def test_coding_order_keeps_every_grid_and_its_rules(grids):
    ordered = coding_order(grids)
    assert sorted(map(repr, ordered)) == sorted(map(repr, grids))
    for before, after in pairwise(ordered):
        slowness = [grid.time_stride or math.inf for grid in (before, after)]
        assert slowness[0] >= slowness[1]
        if before.time_stride == after.time_stride:
            assert before.level >= after.level
            if before.level == after.level:
                assert before.hyper >= after.hyper


@given(GRIDS, st.integers(1, 300), st.integers(1, 5000), st.integers(1, 5000))
@settings(deadline=None, max_examples=100, derandomize=True)
def test_every_frame_and_every_sample_has_its_latent(grid, num_frames, height, width):
    used = [slice_of(grid, frame) for frame in range(num_frames)]
    assert sorted(set(used)) == list(range(grid.num_slices(num_frames)))
    assert used == sorted(used)
    rows, columns = grid_shape(grid, height, width)
    assert rows == math.ceil(height / 2**grid.level)
    assert columns == math.ceil(width / 2**grid.level)
