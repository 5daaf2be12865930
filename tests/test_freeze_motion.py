"""Rounding of networks with motion: two ARMs, and pictures that predictions are added to."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from fitted_models import Fitted, fitted
from test_freeze_refine import both_sides, direction, specs_of, start

from codec.arch import ParamSpec
from codec.fixedpoint.program import load_network
from codec.freeze import curvature
from codec.freeze.measure import Meter
from codec.layers.arm import laplace_bits
from codec.media.metrics import plane_weights

ARMS = ("motion_arm.", "arm.")


@pytest.fixture(scope="module")
def case() -> Fitted:
    return fitted("motion")


def arm_specs(case: Fitted) -> list[ParamSpec]:
    """Both ARMs, that of motion first, which is their order in the stream."""
    specs = [spec for prefix in ARMS for spec in specs_of(case, prefix)]
    assert [spec.name for spec in specs_of(case, ARMS)] == [spec.name for spec in specs]
    return specs


def bits_of(case: Fitted, meter: Meter, by_name: dict[str, np.ndarray], step: float) -> float:
    """Sum over latents of the squared slopes of their bits along a direction."""
    planes, found = [torch.from_numpy(latent).float() for latent in meter.latents], []
    for model in both_sides(case, by_name, step):
        bits = []
        for k, (grid, plane) in enumerate(zip(case.arch.grids, planes, strict=True)):
            arm = model.entropy.motion_arm if grid.motion else model.entropy.arm
            bits.append(laplace_bits(plane.flatten(), *arm(model.entropy.contexts(k, planes))))
        found.append(torch.cat(bits).double())
    return float(((found[0] - found[1]) / step).square().sum())


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("prefixes", [ARMS[:1], ARMS[1:], ARMS], ids=str)
def test_entropy_curvature_is_the_fisher_matrix_of_all_latents(
    case: Fitted, prefixes: tuple[str, ...], seed: int
) -> None:
    meter, _, _ = start(case)
    specs = arm_specs(case)
    _, by_name = direction(specs, seed)
    by_name = {name: array * name.startswith(prefixes) for name, array in by_name.items()}
    vector = np.concatenate([by_name[spec.name].ravel() for spec in specs])
    matrix = curvature.entropy_curvature(meter, case.arrays, specs)
    expected = case.target.bit_weight * math.log(2) * bits_of(case, meter, by_name, 1e-3)
    assert expected > 0
    assert vector @ matrix @ vector == pytest.approx(expected, rel=0.1)


def test_arms_share_no_curvature(case: Fitted) -> None:
    meter, _, _ = start(case)
    matrix = curvature.entropy_curvature(meter, case.arrays, arm_specs(case))
    first = sum(spec.size for spec in specs_of(case, "motion_arm."))
    assert 0 < first < len(matrix)
    assert not matrix[:first, first:].any()
    assert not matrix[first:, :first].any()
    for part in (matrix[:first, :first], matrix[first:, first:]):
        np.testing.assert_allclose(part, part.T)
        assert np.diag(part).any()
        assert np.linalg.eigvalsh(part).min() > -1e-6 * np.diag(part).max()


def test_still_vectors_bend_nothing_but_their_own_bits(case: Fitted) -> None:
    """Motion latents that are all zero leave a matrix that is finite."""
    meter, _, _ = start(case)
    for latent in meter.latents[: case.arch.num_motion_grids]:
        latent[:] = 0
    matrix = curvature.entropy_curvature(meter, case.arrays, arm_specs(case))
    assert np.isfinite(matrix).all()


@pytest.mark.parametrize("seed", [0, 1])
def test_synthesis_curvature_is_that_of_frames_without_references(
    case: Fitted, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It is a mean over pixels drawn at random; few of them are off by 10 %.
    monkeypatch.setattr(curvature, "NUM_PIXELS", 16 * curvature.NUM_PIXELS)
    meter, network, features = start(case)
    specs, step = specs_of(case, "synth."), 1e-3
    vector, by_name = direction(specs, seed)
    program = load_network(network, case.numerics)
    matrix = curvature.synthesis_curvature(meter, program, case.arrays, features, specs)
    inputs = np.zeros(
        (len(features), case.arch.num_inputs, meter.target.height, meter.target.width), np.float32
    )
    for planes, feature in zip(inputs, features, strict=True):
        planes[feature.active] = feature.planes
    inputs *= 2.0**-program.numerics.feature_frac
    channels, found = case.arch.num_channels, []
    for model in both_sides(case, by_name, step):
        trunk = model.picture.synthesise(torch.from_numpy(inputs))
        pictures = model.picture._filter(trunk[:, :channels] + 0.5)
        found.append(torch.cat([pictures, trunk[:, channels:]], dim=1).double())
    squares = ((found[0] - found[1]) / step).square().mean((0, 2, 3))
    weights = torch.tensor([*plane_weights(case.target.format), 0.01, 0.01]).double()
    assert vector @ matrix @ vector == pytest.approx(2 * float(squares @ weights), rel=0.05)
