"""What load_network refuses: exponents, values and weights whose sums could leave their type."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from fixedpoint_networks import (
    CLIP,
    architecture,
    check_network,
    random_network,
    zero_network,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from codec.arch import NARROW, WIDE, Numerics, exponent_groups
from codec.arch.numerics import MAX_PARAM
from codec.arch.parameters import GROUP_EXPONENTS
from codec.bitstream.elements import Network
from codec.errors import BitstreamError
from codec.fixedpoint.adaptive import Modulated, bake, demodulate_q12
from codec.fixedpoint.affine import make_rows
from codec.fixedpoint.program import load_network
from codec.fixedpoint.render_reference import bake_reference
from codec.fixedpoint.stack import run_temporal

FORMATS = pytest.mark.parametrize("numerics", [NARROW, WIDE], ids=["narrow", "wide"])
RICH = replace(CLIP, common_randomness=True)


def with_values(network: Network, name: str, fill: int) -> Network:
    values = {key: q.copy() for key, q in network.values.items()}
    values[name][...] = fill
    return replace(network, values=values)


@FORMATS
def test_zero_and_random_networks_are_legal(numerics: Numerics) -> None:
    assert check_network(zero_network(RICH), numerics) is None
    assert check_network(random_network(RICH, numerics, seed=0), numerics) is None


@pytest.mark.parametrize("group", exponent_groups(RICH))
@FORMATS
def test_exponents_outside_their_range(group: str, numerics: Numerics) -> None:
    network = zero_network(RICH)
    low, high = GROUP_EXPONENTS[group]
    for exponent, is_legal in ((low - 1, False), (low, True), (high, True), (high + 1, False)):
        changed = replace(network, exponents={**network.exponents, group: exponent})
        # Inside the range a residual layer may still be refused: its identity path counts.
        problem = check_network(changed, numerics) or ""
        assert (f"exponent of {group}" in problem) != is_legal


@pytest.mark.parametrize("name", sorted(zero_network(RICH).values))
def test_a_value_out_of_range_is_named(name: str) -> None:
    with pytest.raises(BitstreamError, match=name):
        load_network(with_values(zero_network(RICH), name, MAX_PARAM + 1), WIDE)


@pytest.mark.parametrize(
    "name", [n for n in sorted(zero_network(RICH).values) if not n.endswith(".code_map")]
)
def test_the_largest_values_overflow_narrow_sums(name: str) -> None:
    network = with_values(zero_network(RICH), name, MAX_PARAM)
    problem = check_network(network, NARROW)
    # A bias alone overflows only where few fraction bits of its own meet many of the sum.
    if name.endswith(".weight") and "temporal.2" not in name:
        assert problem is not None
        assert name.replace("stab", "out") in problem or name in problem
    if problem is not None:
        with pytest.raises(BitstreamError, match="weighted sums could exceed"):
            load_network(network, NARROW)


@given(
    inputs=st.integers(1, 9),
    seed=st.integers(0, 2**32),
    shift=st.integers(0, 12),
    residual=st.integers(0, 1),
)
@settings(deadline=None, max_examples=60)
def test_the_bound_is_that_of_the_worst_input(
    inputs: int, seed: int, shift: int, residual: int
) -> None:
    rng = np.random.default_rng(seed)
    weight = rng.integers(-70_000 // inputs, 70_000 // inputs + 1, (1, inputs))
    bias = int(rng.integers(-(1 << 30), 1 << 30))
    identity = np.zeros_like(weight)
    identity[0, 0] = residual << shift
    # Sum of magnitudes: what the bound promises whatever the signs of weights and inputs are.
    worst = 32767 * (int(np.abs(weight).sum()) + (residual << shift)) + abs(bias)
    worst += (1 << shift) >> 1
    form = (shift, -32767, 32767)
    bound = {"form": form, "input_max": 32767, "acc_max": 2**31 - 1, "residual": identity}
    if worst <= 2**31 - 1:
        rows = make_rows("w", weight, bias, **bound)
        assert rows.weight.dtype == rows.bias.dtype == np.int32
        assert np.array_equal(rows.weight, weight + identity)
    else:
        with pytest.raises(BitstreamError, match="w: its weighted sums"):
            make_rows("w", weight, bias, **bound)


def test_huge_biases_do_not_wrap_around() -> None:
    network = zero_network(architecture())
    network = replace(network, exponents={**network.exponents, "synth_in.weight": 18})
    network = with_values(network, "synth.0.bias", -MAX_PARAM)
    with pytest.raises(BitstreamError, match=r"synth\.0"):
        load_network(network, NARROW)


@given(
    seed=st.integers(0, 2**32),
    demod=st.booleans(),
    size=st.sampled_from([1, 40, 3000, MAX_PARAM]),
    code_size=st.sampled_from([0, 100, MAX_PARAM]),
    e=st.integers(0, 14),
    code_exponent=st.integers(6, 12),
)
@settings(deadline=None, max_examples=60)
def test_baking(
    seed: int, demod: bool, size: int, code_size: int, e: int, code_exponent: int
) -> None:
    rng = np.random.default_rng(seed)
    weight = rng.integers(-size, size + 1, (3, 4, 2))
    weight[0] = 0
    code_map = rng.integers(-code_size, code_size + 1, (4, 2))
    code = rng.integers(-code_size, code_size + 1, 2)
    layer = Modulated(
        name="t",
        weight=weight,
        weight_exponent=e,
        code_map=code_map,
        code_exponent=code_exponent,
        bias=np.zeros(3, np.int64),
        demod=demod,
        form=(12, -WIDE.act_max, WIDE.act_max),
        input_max=WIDE.act_max,
        acc_max=WIDE.acc_max,
    )
    twin = bake_reference(
        weight, e, code_map=code_map, code_exponent=code_exponent, code=code, demod=demod
    )
    assert np.array_equal(bake(layer, code).weight[:, :8], twin.reshape(3, 8))


def test_demodulated_rows_have_norm_one() -> None:
    weight = np.random.default_rng(1).integers(-2000, 2000, (5, 60))
    norms = [math.sqrt(int((row * row).sum())) for row in demodulate_q12(weight << 12)]
    assert all(abs(norm / 4096 - 1) < 0.002 for norm in norms)


def test_codes_that_overflow_are_refused_when_they_are_used() -> None:
    arch = architecture(
        dynamic="0-3",
        temporal=("16-1x15-adaptive-none,demod=0,code=1,every=1",),
        synthesis=("X-1-linear-none",),
    )
    network = zero_network(arch)
    network = replace(
        network, exponents={**network.exponents, "temporal.weight": 7, "temporal.code": 12}
    )
    # 4 x 225 weights of 2^-7 are legal, also 1.5 times as large, but not 8 times.
    network = with_values(network, "temporal.0.weight", 1)
    network = with_values(network, "temporal.0.code_map", 1 << 12)
    program = load_network(network, NARROW)
    planes = np.zeros((2, 4, 3, 3), np.int16)
    calm = {"temporal.0.codes": np.full((1, 1), 1 << 11)}
    wild = {"temporal.0.codes": np.full((1, 1), 7 << 12)}
    run_temporal(program, 0, planes, calm)
    with pytest.raises(BitstreamError, match=r"temporal\.0\.weight.*code 1"):
        run_temporal(program, 0, planes, wild)
