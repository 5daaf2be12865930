"""What a description implies: parameters, channels, sources and operations, counted by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from codec.arch import (
    Architecture,
    Grid,
    channels_at,
    code_owners,
    exponent_groups,
    ifce_sources,
    num_codes,
    param_specs,
    parse_grids,
    parse_layer,
    parse_layers,
    pre_levels,
    prediction_levels,
    segment_specs,
    temporal_at,
    temporal_inputs,
    up_stages,
)
from codec.arch.macs import (
    entropy_macs,
    mac_per_pixel,
    synthesis_macs,
    temporal_macs,
    upsampling_macs,
)
from codec.arch.network import CONTEXT_ORDER, CONTEXT_REACH_SIDE, CONTEXT_REACH_UP
from codec.arch.notation import BY_LEVEL
from codec.errors import UsageError

# The "hop" decoder of Cool-Chic 5 for 768x512 pictures.
HOP = Architecture(
    grids=parse_grids(static="0-6", hyper="4-6"),
    num_contexts=14,
    ifce_features=6,
    ifce_levels=(0, 2),
    arm_layers=2,
    temporal=(),
    synthesis=parse_layers(
        ["48-1-linear-relu", "X-1-linear-none", "X-3-residual-relu", "X-3-residual-none"],
        num_out=3,
    ),
)
# Static grids 0-3, slow 1-2, dynamic 0-2; layers at levels 2 and 1.
CLIP = Architecture(
    grids=parse_grids(static="0-3", slow="4:1-2", dynamic="0-2"),
    num_contexts=6,
    ifce_features=2,
    ifce_levels=(0, 1),
    arm_layers=1,
    temporal=parse_layers(
        [
            "5-3x3-conv-relu@1/4,gate=1",
            "5-5x1-ck-none@1/4,causal=1",
            "8-1x3-adaptive-none@1/2,res=1,code=2,every=3",
            "4-3x1-conv-none@1/2,groups=4",
        ],
        num_out=3,
    ),
    synthesis=parse_layers(["7-3-linear-relu", "X-1-linear-none"], num_out=3),
    up_taps=4,
    pre_taps=3,
    common_randomness=True,
)


def sizes(arch: Architecture) -> dict[str, int]:
    """Numbers of parameters by what their names begin with."""
    counts: dict[str, int] = {}
    for spec in param_specs(arch):
        part = spec.name.split(".")[0]
        counts[part] = counts.get(part, 0) + spec.size
    return counts


def test_hop_has_the_parameters_of_cool_chic_without_the_unused_ones():
    # Two hidden layers 20 -> 20 and two parallel maps to 2 outputs, which share one bias.
    arm = 2 * (20 * 20 + 20) + (2 * 20 + 2) + 2 * 20
    # Six features for levels 0, 1, 2 from the 9, 8, 7 grids coded before.
    ifce = 6 * (9 + 8 + 7) + 3 * 6
    # Four numbers for each of six stages and each of the six levels that join.
    filters = 4 * 6, 4 * 6
    synthesis = (7 * 48 + 48) + (48 * 3 + 3) + 2 * (27 * 3 + 3) + (7 * 3 + 3)
    assert sizes(HOP) == {
        "arm": arm,
        "ifce": ifce,
        "up": filters[0],
        "pre": filters[1],
        "synth": synthesis,
    }
    assert (arm, ifce, sum(filters), synthesis) == (922, 162, 48, 723)


def test_hop_has_the_operations_of_cool_chic():
    latents = sum(4.0**-level for level in (0, 1, 2, 3, 4, 5, 6, 4, 5, 6))
    arm, ifce = latents * (2 * 20 * 20 + 4 * 20), 6 / 4 * (9 + 8 / 4 + 7 / 16)
    assert (arm, ifce) == (pytest.approx(1178, abs=0.5), pytest.approx(17.2, abs=0.1))
    assert entropy_macs(HOP, 1) == pytest.approx(arm + ifce)
    assert upsampling_macs(HOP, 1) == pytest.approx(64, abs=0.1)
    assert synthesis_macs(HOP) == 663
    assert temporal_macs(HOP) == 0
    assert mac_per_pixel(HOP) == pytest.approx(arm + ifce + 64 + 663, abs=0.1)


def test_hop_bookkeeping():
    assert [ifce_sources(HOP, i) for i in range(7)] == [()] * 7
    assert [ifce_sources(HOP, i) for i in (7, 8, 9)] == [
        tuple(range(7)),
        tuple(range(8)),
        tuple(range(9)),
    ]
    assert HOP.max_level == 6
    assert up_stages(HOP) == pre_levels(HOP) == (5, 4, 3, 2, 1, 0)
    assert [channels_at(HOP, level) for level in range(7)] == [7, 6, 5, 4, 3, 2, 1]
    assert (HOP.num_features, HOP.num_inputs, HOP.num_channels, HOP.arm_width) == (7, 7, 3, 20)
    assert exponent_groups(HOP) == (
        "features", "arm.weight", "arm.bias", "ifce.weight", "ifce.bias", "up",
        "synth_in.weight", "synth.weight", "synth.bias",
    )  # fmt: skip
    assert segment_specs(HOP, 1) == ()


def test_clip_bookkeeping():
    # Coding order: static 3 2 1 0, slow 2 1, dynamic 2 1 0.
    assert [(g.level, g.time_stride) for g in CLIP.grids] == [
        (3, 0), (2, 0), (1, 0), (0, 0), (2, 4), (1, 4), (2, 1), (1, 1), (0, 1),
    ]  # fmt: skip
    assert temporal_at(CLIP, 2) == (0, 1)
    assert temporal_at(CLIP, 1) == (2, 3)
    # Static 3, then static, slow and dynamic 2 join.
    assert temporal_inputs(CLIP, 0) == 4
    assert temporal_inputs(CLIP, 1) == 5
    # Five channels, then static, slow and dynamic 1.
    assert temporal_inputs(CLIP, 2) == 8
    assert temporal_inputs(CLIP, 3) == 8
    assert [channels_at(CLIP, level) for level in (3, 2, 1, 0)] == [1, 5, 4, 6]
    assert (CLIP.num_features, CLIP.num_inputs) == (6, 12)
    assert [ifce_sources(CLIP, i) for i in range(9)] == [
        (), (), (0, 1), (0, 1, 2), (), (0, 1, 4), (), (0, 1, 4, 6), (0, 1, 2, 4, 5, 6, 7),
    ]  # fmt: skip


def test_clip_parameters():
    shapes = {spec.name: (spec.shape, spec.group) for spec in param_specs(CLIP)}
    assert {k: v for k, v in shapes.items() if k.split(".")[0] in ("temporal", "synth")} == {
        "temporal.0.weight": ((5, 4, 3, 3, 3), "temporal.weight"),
        "temporal.0.bias": ((5,), "temporal.bias"),
        "temporal.0.gate": ((5,), "temporal.bias"),
        "temporal.1.taps": ((5, 3), "temporal.weight"),
        "temporal.2.weight": ((8, 8, 1, 3, 3), "temporal.weight"),
        "temporal.2.bias": ((8,), "temporal.bias"),
        "temporal.2.code_map": ((8, 2), "temporal.code"),
        "temporal.3.weight": ((4, 2, 3, 1, 1), "temporal.weight"),
        "temporal.3.bias": ((4,), "temporal.bias"),
        "synth.0.weight": ((7, 12, 3, 3), "synth_in.weight"),
        "synth.0.bias": ((7,), "synth.bias"),
        "synth.1.weight": ((3, 7, 1, 1), "synth.weight"),
        "synth.1.bias": ((3,), "synth.bias"),
        "synth.stab.weight": ((3, 6, 1, 1), "synth_in.weight"),
        "synth.stab.bias": ((3,), "synth.bias"),
    }
    assert [n for n in shapes if n.startswith(("up", "pre"))] == [
        "up.2", "up.1", "up.0", "pre.2", "pre.1", "pre.0",
    ]  # fmt: skip
    assert shapes["up.0"] == shapes["pre.0"] == ((2,), "up")
    assert shapes["ifce.8.weight"] == ((2, 7), "ifce.weight")
    # 7 frames, a code for every 3, the first of which is zero.
    (codes,) = segment_specs(CLIP, 7)
    assert (codes.name, codes.shape, codes.group) == ("temporal.2.codes", (2, 2), "temporal.code")
    assert segment_specs(CLIP, 3) == ()


def test_clip_operations():
    # A sample of a static grid serves all 8 frames, one of a slow grid four.
    static = (1 + 1 / 4 + 1 / 16 + 1 / 64) / 8
    slow = (1 / 4 + 1 / 16) / 4
    dynamic = 1 + 1 / 4 + 1 / 16
    arm = (static + slow + dynamic) * (8 * 8 + 4 * 8)
    outputs_of_ifce = {2: 2 / 4 / 8, 3: 3 / 8, 5: 3 / 4 / 4, 7: 4 / 4, 8: 7}
    ifce = sum(outputs_of_ifce.values()) * 2 / 4
    assert entropy_macs(CLIP, 8) == pytest.approx(arm + ifce)
    conv, ck = 5 * (4 * 27 + 1), 5 * 3
    adaptive, grouped = 8 * 8 * 9, 4 * 2 * 3
    assert temporal_macs(CLIP) == pytest.approx((conv + ck) / 16 + (adaptive + grouped) / 4)
    assert synthesis_macs(CLIP) == 12 * 7 * 9 + 7 * 3 + 6 * 3


def test_defaults_are_identities():
    defaults = {spec.name: spec.default_q8 for spec in param_specs(CLIP)}
    # Half kernels of a x2 stage sum to 1 (the other half mirrors it), filters pass the centre.
    assert sum(defaults["up.0"]) == 256
    assert sum(next(s.default_q8 for s in param_specs(HOP) if s.name == "up.0")) == 256
    assert defaults["pre.0"] == (0, 256)
    assert defaults["temporal.1.taps"] == (256, 0, 0) * 5
    two_sided = replace(CLIP, temporal=(parse_layer("7-3x1-ck-none@1/2"),))
    taps = next(s for s in param_specs(two_sided) if s.name == "temporal.0.taps")
    assert (taps.shape, taps.default_q8) == ((7, 3), (0, 256, 0) * 7)
    assert all(d == (0,) for n, d in defaults.items() if n.startswith(("arm", "ifce", "synth")))


def test_no_filters_and_no_hidden_layers_leave_no_parameters():
    plain = replace(HOP, pre_taps=1, arm_layers=0, ifce_features=0)
    assert sizes(plain) == {"arm": 2 * 14 + 2, "up": 24, "synth": 723}
    assert pre_levels(plain) == ()


def test_levels_without_grids_are_passed_through():
    sparse = replace(HOP, grids=parse_grids(static="1,4"), ifce_levels=(0, 1))
    assert up_stages(sparse) == (3, 2, 1, 0)
    assert pre_levels(sparse) == (1,)
    assert [channels_at(sparse, level) for level in range(5)] == [2, 2, 1, 1, 1]
    assert ifce_sources(sparse, 1) == (0,)


@pytest.mark.parametrize(
    ("every", "num_frames", "codes"),
    [
        *((0, 50, 1), (8, 8, 1), (8, 9, 2), (8, 21, 3), (1, 5, 5), (254, 255, 2)),
        *((BY_LEVEL, 1, 1), (BY_LEVEL, 5, 4), (BY_LEVEL, 33, 7), (BY_LEVEL, 34, 8)),
    ],
)
def test_number_of_codes(every, num_frames, codes):
    layer = replace(parse_layer("1-1x1-adaptive-none,code=2"), every=every)
    assert num_codes(layer, num_frames, 32) == codes
    assert set(code_owners(layer, prediction_levels(num_frames, 32))) == set(range(codes))


def test_frames_of_a_prediction_level_share_a_code():
    by_level = parse_layer("1-1x1-adaptive-none,code=2,every=level")
    by_two = parse_layer("1-1x1-adaptive-none,code=2,every=2")
    levels = prediction_levels(9, 32)
    assert code_owners(by_level, levels) == (0, 4, 3, 4, 2, 4, 3, 4, 1)
    assert code_owners(by_two, levels) == (0, 0, 1, 1, 2, 2, 3, 3, 4)
    # Frames 0, 4 and 8 keep the codes that they have in the whole segment.
    assert code_owners(by_level, levels[:3]) == (0, 2, 1)
    assert code_owners(by_two, levels[:3]) == (0, 2, 4)
    assert code_owners(replace(by_two, every=0), levels[:3]) == (0, 0, 0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_contexts": 0}, "num_contexts is 0: it must be from 1 to 24"),
        ({"num_contexts": 25}, "num_contexts is 25"),
        ({"ifce_features": 32}, "ifce_features is 32"),
        ({"arm_layers": 8}, "arm_layers is 8"),
        ({"synthesis": ()}, "number of synthesis layers is 0"),
        ({"up_taps": 6}, "up_taps is 4 or 8"),
        ({"pre_taps": 2}, "pre_taps 1, 3, 5 or 7"),
        ({"grids": ()}, "1 to 64 grids"),
        ({"grids": (Grid(0), Grid(1))}, "in coding order"),
        ({"grids": (Grid(1, 0, hyper=True),)}, "at least one latent grid"),
        ({"temporal": ("8-1x1-conv-none@1/2", "8-1x1-conv-none@1/4")}, "from coarse to fine"),
        ({"temporal": ("8-1-linear-none",)}, "temporal layer 1 is a linear layer"),
        ({"temporal": ("1-1x1-conv-none@1/16",)}, "coarser than the coarsest latent grid"),
        ({"temporal": ("5-3x1-ck-none@1/4",)}, "gets 4 channels and makes 5"),
        ({"temporal": ("5-3x1-conv-none@1/4,res=1",)}, "gets 4 channels and makes 5"),
        ({"temporal": ("4-3x1-conv-none@1/4,groups=3",)}, "groups must divide its channels"),
        ({"temporal": ("6-3x1-conv-none@1/4,groups=4",)}, "groups must divide its channels"),
        ({"temporal": ("4-3x1-adaptive-none@1/4,every=2",)}, "every needs code"),
        ({"synthesis": ("3-3x3-conv-none",)}, "synthesis layer 1 is a temporal"),
        ({"synthesis": ("9-1-linear-none", "3-3-residual-none")}, "layer 2 is a residual layer"),
        ({"synthesis": ("9-1-linear-none", "3-3-difference-none")}, "it gets 9 channels"),
    ],
)
def test_networks_that_no_decoder_can_build(changes, message):
    layers = {k: tuple(map(parse_layer, changes[k])) for k in changes if k in _LAYERS}
    with pytest.raises(UsageError, match=message):
        replace(CLIP, **{**changes, **layers})


_LAYERS = ("temporal", "synthesis")


def test_a_difference_layer_that_a_stream_gives_no_neighbours_is_refused():
    layer = replace(parse_layer("3-3-difference-none"), kernel_space=1)
    with pytest.raises(UsageError, match="layer 2, a difference layer, has a 1x1 kernel"):
        replace(CLIP, synthesis=(parse_layer("3-1-linear-none"), layer))


def test_contexts_are_causal_distinct_and_within_reach():
    assert len(set(CONTEXT_ORDER)) == len(CONTEXT_ORDER)
    for dy, dx in CONTEXT_ORDER:
        assert dy < 0 or (dy == 0 and dx < 0)
        assert -dy <= CONTEXT_REACH_UP
        assert abs(dx) <= CONTEXT_REACH_SIDE
    # The first six, ten and fourteen are nearer than what follows, roughly: no far one comes first.
    distance = [math.hypot(*place) for place in CONTEXT_ORDER]
    assert max(distance[:6]) < 2.5
    assert max(distance) <= 4
