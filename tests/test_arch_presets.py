"""Presets: what ships with modcodec, what a user may write, and networks fitted to any size."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from codec.arch import Grid, segment_specs
from codec.arch.macs import mac_per_pixel
from codec.arch.notation import BY_LEVEL
from codec.arch.presets import (
    SPEEDS,
    Plan,
    build_architectures,
    load_preset,
    parse_preset,
    preset_names,
    training_steps,
)
from codec.errors import UsageError

IMAGE = """
[image]
steps = 10
static = "0-3"
synthesis = ["X-1-linear-none"]
"""
CLIP = """
[clip]
steps = 5
static = "0-3"
dynamic = "1-2"
synthesis = ["X-1-linear-none"]
"""
TRAINING = """
[training]
candidates = 2
"""
WHOLE = 'description = "mine"\n' + IMAGE + CLIP + TRAINING
# (frames, height, width) from one sample to four million.
SIZES = [(1, 1, 1), (3, 1, 1), (2, 2, 2000), (5, 47, 63), (21, 288, 352), (1, 1600, 2500)]


def parse(text: str):
    return parse_preset(text, name="mine", source="mine.toml")


def test_shipped_presets_load_by_name_fastest_first():
    names = preset_names()
    assert names == ("instant", "fast", "medium", "slow", "veryslow")
    assert list(names) == sorted(names, key=SPEEDS.index)
    for name in names:
        preset = load_preset(name)
        assert preset.name == name
        assert preset.description
    steps = [(load_preset(name).image.steps, load_preset(name).clip.steps) for name in names]
    assert steps == sorted(steps)


@pytest.mark.parametrize("name", preset_names())
@pytest.mark.parametrize(("num_frames", "height", "width"), SIZES)
@pytest.mark.parametrize("num_channels", [1, 3, 4])
def test_shipped_presets_fit_every_size(name, num_frames, height, width, num_channels):
    preset = load_preset(name)
    for plan in (preset.image, preset.clip):
        archs = build_architectures(
            plan, num_channels=num_channels, num_frames=num_frames, height=height, width=width
        )
        for arch in archs:
            assert arch.num_channels == num_channels
            # No latent grid is coarser than one that has a single latent.
            assert 2 ** (arch.max_level - 1) < max(height, width, 2)
            assert mac_per_pixel(arch, num_frames) < 16_000
            assert all(layer.level <= arch.max_level for layer in arch.temporal)
            for spec in segment_specs(arch, num_frames):
                assert spec.size


def test_a_file_of_ones_own(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(WHOLE, encoding="utf-8")
    preset = load_preset(str(path))
    assert (preset.name, preset.description) == ("mine", "mine")
    assert preset.image == Plan(steps=10, static="0-3", synthesis=["X-1-linear-none"])
    assert preset.clip.dynamic == "1-2"
    assert preset.training.candidates == 2
    pair = parse(WHOLE + "temperature = [0.5, 1]\n").training.temperature
    assert pair == (0.5, 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (WHOLE + "candidate = 3", r"\[training\]: unknown key 'candidate'; did you mean candid"),
        (WHOLE + "frobnicate = 3", r"\[training\]: unknown key 'frobnicate'$"),
        (WHOLE.replace("static", "statics"), r"\[image\]: unknown key 'statics'; did you mean sta"),
        (WHOLE + "[clips]", "mine.toml: unknown key 'clips'; did you mean clip"),
        (WHOLE.replace("descr", "desc"), "mine.toml: unknown key 'desciption'; did you mean descr"),
        (IMAGE + TRAINING, r"mine.toml: \[clip\] is missing"),
        (CLIP + TRAINING, r"mine.toml: \[image\] is missing"),
        (IMAGE + CLIP, r"mine.toml: \[training\] is missing"),
        (CLIP + TRAINING + "\n[[image]]\nsteps = 1", r"\[image\] is missing"),
        (WHOLE.replace("steps = 5", ""), r"\[clip\]: steps is missing"),
        (WHOLE.replace('static = "0-3"', "", 1), r"\[image\]: static is missing"),
        (WHOLE.replace('"0-3"', "3", 1), r"\[image\]: static = 3 is not a valid str"),
        (WHOLE.replace("steps = 5", 'steps = "5"'), r"\[clip\]: steps = '5' is not a valid int"),
        (WHOLE.replace("steps = 5", "steps = true"), r"\[clip\]: steps = True is not"),
        (WHOLE.replace("steps = 5", "steps = -5"), r"\[clip\]: steps = -5 is not"),
        (WHOLE.replace("steps = 5", "steps = 0"), r"\[clip\]: steps is at least 1"),
        (WHOLE.replace('["X-1-linear-none"]', '"X-1-linear-none"'), "synthesis = .* not a valid"),
        (WHOLE.replace('["X-1-linear-none"]', "[1]"), "synthesis = .* not a valid"),
        (WHOLE + "gain = nan", r"\[training\]: gain = nan is not a valid float"),
        (WHOLE + "gain = inf", r"\[training\]: gain = inf is not a valid float"),
        (WHOLE + "gain = 0", r"\[training\]: gain is above 0"),
        (WHOLE + "noise = [0.1]", r"\[training\]: noise = \[0.1\] is not a valid"),
        (WHOLE + "noise = [0.1, -1]", r"\[training\]: noise = .* is not a valid"),
        (WHOLE + "temperature = [0.1, 0]", r"\[training\]: temperature is above 0"),
        (WHOLE + "tail_share = 0.95", r"\[training\]: candidate_share and tail_share are less"),
        (WHOLE + "growth_share = 0.95", r"\[training\]: growth_share and tail_share are less"),
        ("[image", "mine.toml: not valid TOML"),
        (WHOLE + "candidates = " + "9" * 5000, "mine.toml: not valid TOML"),
    ],
)
def test_wrong_presets_are_refused_with_the_key_and_what_it_may_be(text, message):
    with pytest.raises(UsageError, match=message) as caught:
        parse(text)
    assert "\n" not in str(caught.value)


def test_names_and_files_that_are_none(tmp_path):
    with pytest.raises(UsageError, match=r"no preset 'fsat'; did you mean fast\?"):
        load_preset("fsat")
    with pytest.raises(UsageError, match="no preset 'qqq'; known: instant, fast, medium"):
        load_preset("qqq")
    missing = tmp_path / "none.toml"
    with pytest.raises(UsageError, match="no such preset file"):
        load_preset(str(missing))
    missing.write_bytes(bytes(range(256)))
    with pytest.raises(UsageError, match="not valid TOML"):
        load_preset(str(missing))


def build(size: tuple[int, int, int], **values):
    plan = Plan(**{"steps": 1, "static": "0-6", "synthesis": ["X-1-linear-none"], **values})
    num_frames, height, width = size
    return build_architectures(
        plan, num_channels=3, num_frames=num_frames, height=height, width=width
    )[0]


def levels(arch, *, hyper: bool = False, time_stride: int = 0) -> list[int]:
    return [g.level for g in arch.grids if (g.hyper, g.time_stride) == (hyper, time_stride)]


def test_the_encoder_chooses_among_all_descriptions_of_motion():
    motion = {"motion": ["3", "4"], "vector_frac": [2, 1], "anchor_span": [32, 8]}
    values = {"static": "", "dynamic": "0-4", "synthesis": ["5-1-linear-none"], **motion}
    plan, size = Plan(steps=1, **values), {"num_channels": 3, "height": 64, "width": 64}
    long, short, one = (build_architectures(plan, num_frames=n, **size) for n in (17, 9, 1))
    told = [(arch.block_level, arch.vector_frac, arch.anchor_span) for arch in long]
    assert told == [(b, f, s) for b in (3, 4) for f in (2, 1) for s in (32, 8)]
    # Nine frames have the same order with both spans.
    assert [arch.anchor_span for arch in short] == [32] * 4
    assert len(one) == 4
    without = build_architectures(
        replace(plan, motion=[], synthesis=["X-1-linear-none"]), num_frames=17, **size
    )
    assert len(without) == 1


def test_large_pictures_get_more_levels_of_what_they_have():
    assert levels(build((1, 512, 768), hyper="4-6")) == [6, 5, 4, 3, 2, 1, 0]
    million = build((1, 1000, 1000), hyper="4-6")
    assert levels(million) == [7, 6, 5, 4, 3, 2, 1, 0]
    assert levels(million, hyper=True) == [7, 6, 5, 4]
    four = build((1, 1600, 2500), hyper="4-6")
    assert levels(four) == [8, 7, 6, 5, 4, 3, 2, 1, 0]
    assert levels(four, hyper=True) == [8, 7, 6, 5, 4]


@pytest.mark.parametrize(("side", "coarsest"), [(1, 0), (2, 1), (3, 2), (4, 2), (5, 3), (64, 6)])
def test_small_pictures_stop_at_the_level_of_a_single_latent(side, coarsest):
    arch = build((1, side, 1), hyper="4-6")
    assert levels(arch) == list(range(coarsest, -1, -1))
    assert math.ceil(side / 2**coarsest) == 1


def test_what_changes_in_time_survives_in_the_smallest_clip():
    arch = build((9, 1, 1), static="0-3", slow="4:2-3", dynamic="1-2", hyper="2")
    assert arch.grids == (Grid(0), Grid(0, 4), Grid(0, 1))
    arch = build((9, 3, 3), static="0-3", slow="4:2-3", dynamic="1-2")
    assert levels(arch, time_stride=4) == [2]
    assert levels(arch, time_stride=1) == [2, 1]


def test_slow_grids_that_would_repeat_a_static_one_are_left_out():
    ranges = {"static": "0-2", "slow": "4:1-3;8:0", "dynamic": "0-1"}
    assert levels(build((9, 64, 64), **ranges), time_stride=4) == [3, 2, 1]
    short = build((4, 64, 64), **ranges)
    assert levels(short, time_stride=4) == [3]
    assert levels(short, time_stride=8) == []
    single = build((1, 64, 64), **ranges)
    assert levels(single, time_stride=1) == []


def test_temporal_layers_move_to_the_coarsest_level_there_is():
    layers = ["X-3x1-ck-none@1/8", "5-3x1-conv-none@1/4", "X-3x1-adaptive-none@1/2,res=1"]
    ranges = {"static": "0-3", "dynamic": "1-3", "temporal": layers}
    whole = build((4, 64, 64), **ranges)
    # Level 3 has 2 grids; 5 channels come out at 2; at level 1 two more grids join.
    assert [(layer.out, layer.level) for layer in whole.temporal] == [(2, 3), (5, 2), (7, 1)]
    tiny = build((4, 2, 2), **ranges)
    assert [(layer.out, layer.level) for layer in tiny.temporal] == [(2, 1), (5, 1), (5, 1)]
    assert levels(tiny, time_stride=1) == [1]


def test_codes_that_would_never_change_are_left_out():
    layer = "X-3x1-adaptive-none@1/2,code=2,every=8"
    ranges = {"static": "0-3", "temporal": [layer]}
    assert build((9, 64, 64), **ranges).temporal[0].code == 2
    single = build((8, 64, 64), **ranges).temporal[0]
    assert (single.code, single.every) == (0, 0)
    ranges["temporal"] = [layer.replace("8", "level")]
    assert build((2, 64, 64), **ranges).temporal[0].every == BY_LEVEL
    assert build((1, 64, 64), **ranges).temporal[0].every == 0


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"ifce_levels": "0,2"}, "write one range such as 0-2"),
        ({"ifce_levels": "2,1"}, "write one range such as 0-2"),
        ({"synthesis": ["X-1-lineal-none"]}, "the type is one of"),
        ({"temporal": ["X-2x1-conv-none"]}, "kernel sizes are odd"),
        ({"contexts": 0}, "num_contexts is 0"),
        ({"static": ""}, "at least one latent grid"),
    ],
)
def test_plans_that_describe_no_network(values, message):
    with pytest.raises(UsageError, match=message):
        build((4, 64, 64), **values)


def test_no_ifce_levels_mean_no_ifce():
    assert build((1, 64, 64), ifce_levels="").ifce_features == 0
    assert build((1, 64, 64), ifce_levels="1-2").ifce_levels == (1, 2)


@pytest.mark.parametrize(
    ("num_pixels", "steps"), [(1600, 100), (400, 200), (100, 400), (1, 400), (10**6, 100)]
)
def test_smaller_segments_get_more_steps(num_pixels: int, steps: int) -> None:
    assert training_steps(100, num_pixels, reference_pixels=1600) == steps
