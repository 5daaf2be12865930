"""Rounding by J: curvatures against differences, integers against their cost, and a lower J."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from fitted_models import Fitted, fitted, measured

from codec.arch import ParamSpec, exponent_groups, param_specs
from codec.bitstream.elements import Network
from codec.bitstream.parameters import default_values, scale_costs_q16
from codec.fixedpoint.program import load_network
from codec.fixedpoint.stack import Features
from codec.freeze import curvature
from codec.freeze.descent import Surface, descend
from codec.freeze.measure import Meter, network_bits
from codec.freeze.quantize import START_EXPONENTS, Arrays, quantize_codes, quantize_network
from codec.freeze.refine import refine
from codec.layers.arm import laplace_bits
from codec.media.metrics import plane_weights
from codec.model.segment import SegmentModel

NAMES = ["image", "clip", "motion"]


def start(case: Fitted, threads: int = 2) -> tuple[Meter, Network, list[Features]]:
    """A network rounded to fine steps, what measures it, and what its synthesis reads."""
    latents = [latent.astype(np.int16) for latent in case.latents]
    meter = Meter(case.arch, case.numerics, latents, replace(case.target, threads=threads))
    exponents = {group: START_EXPONENTS[group] for group in exponent_groups(case.arch)}
    network = quantize_network(case.arch, case.arrays, exponents)
    codes = quantize_codes(case.arch, case.arrays, exponents, len(case.target.frames))
    program = load_network(network, case.numerics)
    return meter, network, meter.features(program, codes)


def specs_of(case: Fitted, prefix: str) -> list[ParamSpec]:
    return [spec for spec in param_specs(case.arch) if spec.name.startswith(prefix)]


def model_with(case: Fitted, arrays: Arrays) -> SegmentModel:
    """The float model with these parameters; codes and implicit kernels are not set."""
    model = SegmentModel(case.arch, numerics=case.numerics, **case.target.size)
    for name, tensor in model.requires_grad_(False).tensors().items():
        tensor.copy_(torch.from_numpy(arrays[name]))
    return model


def direction(specs: list[ParamSpec], seed: int) -> tuple[np.ndarray, Arrays]:
    """A random direction as a vector (P,) and by name."""
    rng = np.random.default_rng(seed)
    by_name = {spec.name: rng.normal(size=spec.shape) for spec in specs}
    return np.concatenate([array.ravel() for array in by_name.values()]), by_name


def both_sides(case: Fitted, by_name: Arrays, step: float) -> list[SegmentModel]:
    """The models half a step ahead and behind along a direction."""
    return [
        model_with(case, case.arrays | {n: case.arrays[n] + s * a for n, a in by_name.items()})
        for s in (step / 2, -step / 2)
    ]


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", ["image", "clip"])
def test_entropy_curvature_is_the_fisher_matrix_of_all_latents(name, seed):
    case, step = fitted(name), 1e-3
    meter, _, _ = start(case)
    specs = specs_of(case, "arm.")
    vector, by_name = direction(specs, seed)
    matrix = curvature.entropy_curvature(meter, case.arrays, specs)
    planes = [torch.from_numpy(latent).float() for latent in meter.latents]
    found = []
    for model in both_sides(case, by_name, step):
        columns = torch.cat([model.entropy.contexts(k, planes) for k in range(len(planes))], dim=1)
        values = torch.cat([plane.flatten() for plane in planes])
        found.append(laplace_bits(values, *model.entropy.arm(columns)).double())
    squares = float(((found[0] - found[1]) / step).square().sum())
    expected = case.target.bit_weight * math.log(2) * squares
    assert vector @ matrix @ vector == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", ["image", "clip", "noise"])
def test_synthesis_curvature_is_that_of_the_squared_error_of_all_pixels(name, seed):
    case, step = fitted(name), 1e-3
    meter, network, features = start(case)
    specs = specs_of(case, "synth.")
    vector, by_name = direction(specs, seed)
    program = load_network(network, case.numerics)
    matrix = curvature.synthesis_curvature(meter, program, case.arrays, features, specs)
    inputs = np.zeros(
        (len(features), case.arch.num_inputs, meter.target.height, meter.target.width), np.float32
    )
    for t, (planes, feature) in enumerate(zip(inputs, features, strict=True)):
        planes[: case.arch.num_features][feature.active] = feature.planes
        if case.arch.common_randomness:
            planes[case.arch.num_features :] = meter.noise(program, t)
    inputs *= 2.0**-program.numerics.feature_frac
    made = [
        model.picture.synthesise(torch.from_numpy(inputs)).double()
        for model in both_sides(case, by_name, step)
    ]
    squares = ((made[0] - made[1]) / step).square().mean((0, 2, 3))
    weights = torch.tensor(plane_weights(case.target.format))
    assert vector @ matrix @ vector == pytest.approx(2 * float(squares @ weights.double()), rel=0.1)


def problem(seed: int = 0, *, size: int = 24) -> tuple[Surface, dict[str, int]]:
    """Parameters whose errors are strongly correlated, with exponents of their groups."""
    rng = np.random.default_rng(seed)
    specs = [
        ParamSpec("a", (size, 2), "arm.weight"),
        ParamSpec("b", (size,), "up", (64,)),
    ]
    arrays = {spec.name: rng.laplace(scale=0.4, size=spec.shape) for spec in specs}
    root = rng.normal(size=(3 * size, size)) @ rng.normal(size=(size, 3 * size))
    return Surface(specs, arrays, root @ root.T), {"arm.weight": 3, "up": 4}


def cost(surface: Surface, exponents: dict[str, int], values: Arrays, bit_weight: float) -> float:
    """What `descend` makes small."""
    total, distance = 0.0, []
    for spec in surface.specs:
        integers, exponent = values[spec.name], exponents[spec.group]
        distance.append((np.ldexp(integers * 1.0, -exponent) - surface.arrays[spec.name]).ravel())
        residuals = integers.astype(np.int64) - default_values(spec, exponent)
        total += bit_weight * scale_costs_q16([residuals]).min() / 2**16
    away = np.concatenate(distance)
    return total + away @ surface.curvature @ away / 2


@pytest.mark.parametrize("seed", range(4))
def test_descent_beats_the_nearest_integers_by_far(seed):
    surface, exponents = problem(seed)
    nearest = {
        s.name: np.rint(np.ldexp(surface.arrays[s.name], exponents[s.group])).astype(int)
        for s in surface.specs
    }
    made = descend(surface, exponents, bit_weight=0.1)
    assert {n: (v.dtype, v.shape) for n, v in made.items()} == {
        spec.name: (np.int32, spec.shape) for spec in surface.specs
    }
    assert cost(surface, exponents, made, 0.1) < 0.7 * cost(surface, exponents, nearest, 0.1)


def test_without_correlations_and_bits_the_nearest_integers_are_best():
    surface, exponents = problem()
    diagonal = np.diag(np.diag(surface.curvature))
    made = descend(replace(surface, curvature=diagonal), exponents, bit_weight=0.0)
    for spec in surface.specs:
        nearest = np.rint(np.ldexp(surface.arrays[spec.name], exponents[spec.group]))
        np.testing.assert_array_equal(made[spec.name], nearest)


def test_where_bits_are_all_that_counts_parameters_are_the_defaults():
    surface, exponents = problem()
    made = descend(surface, exponents, bit_weight=1e9)
    assert not made["a"].any()
    assert (made["b"] == 4).all()


def j(case: Fitted, network: Network) -> float:
    """J of what a decoder makes of a network, with the codes at the exponents of the start."""
    exponents = {group: START_EXPONENTS[group] for group in exponent_groups(case.arch)}
    codes = quantize_codes(case.arch, case.arrays, exponents, len(case.target.frames))
    distortion, *bits = measured(case, network, codes)
    return distortion + case.target.bit_weight * sum(bits)


@pytest.mark.parametrize("name", NAMES)
def test_a_refined_network_is_legal_cheaper_and_decodes_to_a_lower_j(name):
    case = fitted(name)
    meter, network, features = start(case)
    refined = refine(meter, network, case.arrays, features)
    load_network(refined, case.numerics)
    assert network_bits(refined) < network_bits(network)
    assert j(case, refined) < j(case, network)
    changed = {n for n in network.values if (refined.values[n] != network.values[n]).any()}
    arms = {"arm", "motion_arm"} if case.arch.has_motion else {"arm"}
    assert {name.split(".")[0] for name in changed} == {*arms, "synth"}


def test_a_unit_that_is_never_on_takes_no_bits():
    case = fitted("image")
    arrays = {name: array.copy() for name, array in case.arrays.items()}
    arrays["synth.0.weight"][3] = 0.3
    arrays["synth.0.bias"][3] = -20.0
    case = replace(case, arrays=arrays)
    meter, network, features = start(case)
    refined = refine(meter, network, arrays, features)
    assert network.values["synth.0.weight"][3].any()
    assert network.values["synth.0.bias"][3] != 0
    for name, unit in (("synth.0.weight", 3), ("synth.0.bias", 3), ("synth.1.weight", np.s_[:, 3])):
        assert not refined.values[name][unit].any(), name


def test_refining_does_not_depend_on_threads():
    case = fitted("image")
    one, two = (
        refine(meter, network, case.arrays, features)
        for meter, network, features in (start(case, threads) for threads in (1, 2))
    )
    assert one.exponents == two.exponents
    for name, values in one.values.items():
        np.testing.assert_array_equal(values, two.values[name])


def test_a_network_stays_where_no_other_is_legal(monkeypatch):
    case = fitted("image")
    meter, network, features = start(case)
    legal = Meter.program

    def program(self, candidate):
        return legal(self, candidate) if candidate is network else None

    monkeypatch.setattr(Meter, "program", program)
    assert refine(meter, network, case.arrays, features) is network


def test_networks_too_large_for_a_matrix_stay(monkeypatch):
    case = fitted("image")
    meter, network, features = start(case)
    monkeypatch.setattr("codec.freeze.refine.MAX_PARAMETERS", 10)
    assert refine(meter, network, case.arrays, features) is network
