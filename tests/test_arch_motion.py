"""Prediction order and interpolation filters of motion compensation."""

import numpy as np
import pytest

from codec.arch import motion_grids, parse_grids, prediction_levels, references_of
from codec.arch.motion import INTERPOLATION_FRAC, INTERPOLATION_Q7, INTERPOLATION_TAPS, Inter


@pytest.mark.parametrize("anchor_span", [1, 4, 32])
@pytest.mark.parametrize("num_frames", [1, 2, 3, 8, 17, 21, 33, 34, 64, 256])
def test_every_frame_comes_once_and_after_its_references(num_frames: int, anchor_span: int) -> None:
    done: set[int] = set()
    levels = prediction_levels(num_frames, anchor_span)
    for level in levels:
        for inter in level:
            assert {inter.past, inter.future} <= done | {-1}
            assert inter.past < inter.frame
            assert (inter.past == -1) == (inter.frame == 0)
        done |= {inter.frame for inter in level}
    assert done == set(range(num_frames))
    assert sum(map(len, levels)) == num_frames


def test_seventeen_frames_are_a_pyramid() -> None:
    levels = prediction_levels(17, 32)
    assert [len(level) for level in levels] == [1, 1, 1, 2, 4, 8]
    assert levels[3] == (Inter(4, 0, 8), Inter(12, 8, 16))


def test_anchors_are_no_further_apart_than_they_may_be() -> None:
    anchors = [level[0] for level in prediction_levels(21, 8) if level[0].past == level[0].future]
    assert anchors == [Inter(0, -1, -1), Inter(6, 0, 0), Inter(13, 6, 6), Inter(20, 13, 13)]


def test_ratio_is_of_the_distances() -> None:
    assert Inter(2, 0, 5).ratio_q8 == 384
    assert Inter(16, 0, 0).ratio_q8 == 0


def test_a_range_needs_its_references_only() -> None:
    levels = references_of(range(3, 5), prediction_levels(17, 32))
    assert {inter.frame for level in levels for inter in level} == {0, 2, 3, 4, 8, 16}


def test_filters_are_windowed_sincs_that_add_up_to_one() -> None:
    table = np.array(INTERPOLATION_Q7)
    assert table.shape == (16, INTERPOLATION_TAPS)
    for phase, row in enumerate(table):
        x = np.arange(INTERPOLATION_TAPS) - 3 - phase / 16
        taps = np.sinc(x) * np.cos(np.pi * x / 8)
        rounded = np.rint(taps / taps.sum() * (1 << INTERPOLATION_FRAC)).astype(int)
        rounded[np.argmax(rounded)] += (1 << INTERPOLATION_FRAC) - rounded.sum()
        assert row.tolist() == rounded.tolist()
    assert (table[1:] == table[:0:-1, ::-1]).all()


def test_motion_grids_are_found_coarse_to_fine() -> None:
    grids = parse_grids(dynamic="0-2", motion="2-3,6")
    levels = {c: [grids[i].level for i in own] for c, own in motion_grids(grids).items()}
    assert levels == {c: [6, 3, 2] for c in range(4)}
