"""Freezing: legal steps, costs as a decoder would measure them, and little lost on the way."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from fitted_models import RD_LAMBDA, fitted, frozen, measured
from latent_bits import flag_bits

from codec.arch import exponent_groups, param_specs, segment_specs
from codec.arch.parameters import GROUP_EXPONENTS
from codec.bitstream.elements import Network
from codec.errors import BitstreamError
from codec.fixedpoint.program import load_network
from codec.freeze.quantize import (
    START_EXPONENTS,
    Arrays,
    quantize_codes,
    quantize_network,
    round_parameter,
)


@pytest.mark.parametrize("name", ["image", "clip", "motion"])
def test_frozen_networks_are_legal_and_complete(name):
    case, result = fitted(name), frozen(name)
    network = result.network
    assert network.arch == case.arch
    assert tuple(network.exponents) == exponent_groups(case.arch)
    for group, exponent in network.exponents.items():
        low, high = GROUP_EXPONENTS[group]
        assert low <= exponent <= high
    shapes = {spec.name: spec.shape for spec in param_specs(case.arch)}
    assert {name: values.shape for name, values in network.values.items()} == shapes
    assert all(values.dtype == np.int32 for values in network.values.values())
    specs = segment_specs(case.arch, len(case.target.frames))
    assert {n: values.shape for n, values in result.codes.items()} == {
        spec.name: spec.shape for spec in specs
    }
    assert bool(result.codes) == (name == "clip")
    for before, after in zip(case.latents, result.latents, strict=True):
        assert after.dtype == np.int16
        np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize("name", ["image", "clip", "motion"])
def test_costs_are_those_of_the_decoded_pictures_and_the_real_bytes(name):
    case, result = fitted(name), frozen(name)
    distortion, latent_bits, payload_bits = measured(case, result.network, result.codes)
    assert result.distortion == pytest.approx(distortion, rel=1e-9)
    # Substreams end on bytes, and the payload holds the architecture too: at most 48 bytes.
    excess = latent_bits + payload_bits - result.rate_bits
    assert -16 < excess < 48 * 8


@pytest.mark.parametrize("name", ["image", "clip", "motion"])
def test_fine_steps_lose_nothing_that_the_float_model_reached(name):
    case, num_frames = fitted(name), len(fitted(name).target.frames)
    exponents = {group: START_EXPONENTS[group] + 1 for group in exponent_groups(case.arch)}
    network = quantize_network(case.arch, case.arrays, exponents)
    codes = quantize_codes(case.arch, case.arrays, exponents, num_frames)
    distortion, latent_bits, _ = measured(case, network, codes)
    assert distortion == pytest.approx(case.cost.distortion, rel=0.02)
    expected = case.cost.bpp * case.target.num_pixels + flag_bits(case.latents)
    assert latent_bits == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize("name", ["image", "clip", "motion"])
def test_the_search_improves_on_where_it_starts(name):
    case, result = fitted(name), frozen(name)
    exponents = {group: START_EXPONENTS[group] for group in exponent_groups(case.arch)}
    start = quantize_network(case.arch, case.arrays, exponents)
    num_frames = len(case.target.frames)
    codes = quantize_codes(case.arch, case.arrays, exponents, num_frames)

    def j(network: Network, codes: Arrays) -> float:
        distortion, *bits = measured(case, network, codes)
        return distortion + RD_LAMBDA * sum(bits) / case.target.num_pixels

    assert result.network.exponents != exponents
    assert j(result.network, result.codes) < j(start, codes)


def test_freezing_twice_gives_the_same():
    again = fitted("image").freeze()
    assert again.network.exponents == frozen("image").network.exponents
    assert (again.distortion, again.rate_bits) == (
        frozen("image").distortion,
        frozen("image").rate_bits,
    )


def test_large_weights_get_coarser_steps():
    case = fitted("clip")
    weight = np.zeros_like(case.arrays["synth.0.weight"])
    weight[0, 0] = 1500.0
    # At the exponent that the search starts from, the sums of this row would leave 32 bits.
    assert 1500 * 2 ** START_EXPONENTS["synth_in.weight"] * 32767 > 2**31
    result = case.freeze(**{"synth.0.weight": weight})
    exponent = result.network.exponents["synth_in.weight"]
    assert exponent == 5
    assert result.network.values["synth.0.weight"][0, 0, 0, 0] == 1500 * 2**exponent
    load_network(result.network, case.numerics)


def test_weights_beyond_every_step_are_an_error():
    case = fitted("clip")
    weight = np.full_like(case.arrays["synth.0.weight"], 1e6)
    with pytest.raises(BitstreamError, match=r"synth\.0\.weight"):
        case.freeze(**{"synth.0.weight": weight})


def test_latents_that_are_all_zero_leave_the_entropy_model_to_its_own_bits():
    case = fitted("image")
    empty = replace(case, latents=[np.zeros_like(latent) for latent in case.latents])
    result = empty.freeze()
    _, latent_bits, _ = measured(empty, result.network, result.codes)
    assert latent_bits == 0
    assert result.network.exponents["arm.weight"] < frozen("image").network.exponents["arm.weight"]


def test_parameters_are_rounded_to_the_nearest_step_within_their_range():
    values = np.array([0.0, 0.24, 0.26, -0.76, 1e9, -1e9])
    assert round_parameter(values, 1).tolist() == [0, 0, 1, -2, 1048575, -1048575]
    assert round_parameter(values[:4], 8).tolist() == [0, 61, 67, -195]
