"""Several networks are tried for small pictures, and the best one is taken."""

from __future__ import annotations

import io
from dataclasses import replace
from itertools import pairwise

import pytest
from moving_clips import pan
from small_pictures import still

from codec.arch.presets import Preset, load_preset
from codec.decoder import open_stream
from codec.encoder import encode_clip, trial
from codec.encoder.pace import work_of
from codec.media.frames import PixelFormat
from codec.options import EncodeOptions, Progress

RGB = PixelFormat("rgb", 8)


@pytest.fixture(scope="module")
def preset() -> Preset:
    return load_preset("fast")


# At the second rate networks are most of the file.
@pytest.mark.parametrize(("rd_lambda", "num_smaller"), [(1e-3, 1), (2e-2, 2)])
def test_small_pictures_take_the_network_that_is_better_for_them(
    monkeypatch, rd_lambda: float, num_smaller: int
) -> None:
    costs, network_bytes, heard = [], [], []
    for largest in ((0, 0), (48 * 64, 0), (48 * 64, 48 * 64))[: 1 + num_smaller]:
        monkeypatch.setattr(trial, "LEAN_PIXELS", largest[0])
        monkeypatch.setattr(trial, "TINY_PIXELS", largest[1])
        file, stages = io.BytesIO(), []
        options = EncodeOptions(steps=100, rd_lambda=rd_lambda, threads=1)

        def on_progress(progress: Progress, stages: list[str] = stages) -> None:
            stages.append(progress.stage)

        report = encode_clip(still(RGB, 48, 64), file, options=options, on_progress=on_progress)
        assert len(list(open_stream(file.getvalue()).frames())) == 1
        costs.append(10 ** (-report.psnr_db / 10) + rd_lambda * report.bpp)
        network_bytes.append(report.network_bytes)
        heard.append("choose" in stages)
    assert all(less < more for less, more in pairwise(reversed(costs)))
    assert all(fewer < more for more, fewer in pairwise(network_bytes))
    assert heard == [False] + num_smaller * [True]


def test_what_is_tried_depends_on_the_kind_and_the_size(preset: Preset) -> None:
    icon, photo, large = (still(RGB, *size).info for size in ((64, 64), (300, 400), (600, 501)))
    assert trial.plans_for(preset, icon, 1) == [preset.image, preset.lean, preset.tiny]
    assert trial.plans_for(preset, photo, 1) == [preset.image, preset.lean]
    assert trial.plans_for(preset, large, 1) == [preset.image]
    assert trial.plans_for(preset, pan(RGB, 40, 56, 2).info, 2) == [preset.clip]
    instant = load_preset("instant")
    assert trial.plans_for(instant, icon, 1) == [instant.image, instant.tiny]


def test_smaller_networks_are_those_of_pictures_but_for_what_they_say(preset: Preset) -> None:
    assert preset.image.arm_layers > preset.lean.arm_layers > preset.tiny.arm_layers
    assert preset.tiny.static == preset.lean.static == preset.image.static
    assert preset.tiny.steps == preset.image.steps


@pytest.mark.parametrize(("num_pixels", "fewest"), [(64 * 64, 400), (300 * 400, 100)])
def test_trials_take_their_share_of_the_time(num_pixels: int, fewest: int) -> None:
    assert trial.trial_steps(50, num_pixels) == 50
    assert trial.trial_steps(900, num_pixels) == fewest
    assert trial.trial_steps(9000, num_pixels) == 900
    assert trial.trials_work(900, num_pixels, 1) == 0
    assert trial.trials_work(900, num_pixels, 3) == 3 * work_of(fewest, is_search=False)


def test_digests_tell_presets_apart_by_what_changes_files(preset: Preset) -> None:
    unnamed = replace(preset, name="other", description="", cost="")
    assert unnamed.digest == preset.digest
    assert replace(preset, lean=None).digest != preset.digest
    assert replace(preset, tiny=preset.lean).digest != preset.digest
