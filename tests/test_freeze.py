"""Freezing: legal steps, costs as a decoder would measure them, and little lost on the way."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from small_pictures import frames

from codec.arch import (
    NARROW,
    WIDE,
    Architecture,
    Numerics,
    exponent_groups,
    param_specs,
    parse_grids,
    parse_layers,
    segment_specs,
)
from codec.arch.network import GROUP_EXPONENTS
from codec.arch.presets import Recipe
from codec.bitstream.elements import Network, Partition
from codec.bitstream.network import write_network
from codec.errors import BitstreamError
from codec.fixedpoint.entropy import encode_latents
from codec.fixedpoint.pictures import frames_from_channels
from codec.fixedpoint.program import load_network
from codec.fixedpoint.render import render
from codec.freeze.quantize import (
    START_EXPONENTS,
    Arrays,
    quantize_codes,
    quantize_network,
    round_parameter,
    to_arrays,
)
from codec.freeze.search import Frozen, Target, freeze
from codec.layers.quantizers import hard_round
from codec.media.frames import PixelFormat
from codec.training.trainer import Cost, Task, Trainer

torch.set_num_threads(1)
RD_LAMBDA = 1e-3

IMAGE = Architecture(
    grids=parse_grids(static="0-4", hyper="3"),
    num_contexts=6,
    ifce_features=2,
    ifce_levels=(0, 1),
    arm_layers=1,
    temporal=(),
    synthesis=parse_layers(["8-1-linear-relu", "X-1-linear-none", "X-3-residual-none"], num_out=4),
)
CLIP = replace(
    IMAGE,
    grids=parse_grids(static="0-4", slow="2:2", dynamic="1-2"),
    temporal=parse_layers(
        [
            "5-3x1-ck-none@1/4",
            "5-3x1-conv-none@1/4,res=1,gate=1",
            "7-3x3-adaptive-relu@1/2,res=1,gate=1,code=2,every=2",
        ],
        num_out=3,
    ),
    synthesis=parse_layers(["8-1-linear-relu", "X-1-linear-none"], num_out=3),
)


@dataclass(frozen=True)
class Fitted:
    """A trained model as freezing takes it, and what it cost in float."""

    arch: Architecture
    numerics: Numerics
    arrays: Arrays
    latents: list[np.ndarray]
    target: Target
    cost: Cost

    def freeze(self, **arrays: np.ndarray) -> Frozen:
        return freeze(
            self.arch, self.numerics, {**self.arrays, **arrays}, self.latents, self.target
        )


@functools.cache
def fitted(name: str) -> Fitted:
    """A 16-bit picture with alpha, or a 10-bit 4:2:0 clip of odd size, trained for a moment."""
    arch, numerics, fmt, num_frames = {
        "image": (IMAGE, WIDE, PixelFormat("rgb", 16, alpha=True), 1),
        "clip": (CLIP, NARROW, PixelFormat("yuv420", 10), 5),
    }[name]
    size = {"height": 21, "width": 34}
    source = frames(fmt, 21, 34, num_frames)
    task = Task(
        frames=source,
        format=fmt,
        **size,
        arch=arch,
        numerics=numerics,
        rd_lambda=RD_LAMBDA,
        recipe=Recipe(candidates=1),
        seed=4,
        device=torch.device("cpu"),
    )
    trained = Trainer(task, lambda step, total, cost: None).run(120)
    target = Target(frames=source, format=fmt, **size, rd_lambda=RD_LAMBDA, noise_seed=0, threads=2)
    latents = [hard_round(latent).numpy() for latent in trained.latents]
    return Fitted(arch, numerics, to_arrays(trained.model.tensors()), latents, target, trained.cost)


@functools.cache
def frozen(name: str) -> Frozen:
    return fitted(name).freeze()


def measured(case: Fitted, network: Network, codes: Arrays) -> tuple[float, float, float]:
    """(distortion, bits of latents, bits of the network) of what a decoder gets and shows."""
    target, program = case.target, load_network(network, case.numerics)
    latents = [latent.astype(np.int16) for latent in case.latents]
    _, substreams = encode_latents(program, latents, **target.size, partition=Partition())
    peak, weights = target.format.peak, {"rgb": (1 / 3,) * 3, "yuv420": (4 / 6, 1 / 6, 1 / 6)}
    total = 0.0
    shown = render(program, latents, codes, **target.size)
    for channels, frame in zip(shown, target.frames, strict=True):
        planes = frames_from_channels(channels, target.format, numerics=case.numerics)
        differences = [(a.astype(float) - b) / peak for a, b in zip(planes, frame.planes,
                                                                    strict=True)]  # fmt: skip
        if target.format.alpha:
            visible = frame.planes[-1] > 0
            total += np.mean(differences.pop() ** 2) / 3
            differences = [d[visible] for d in differences]
        total += sum(
            w * np.mean(d**2)
            for w, d in zip(weights[target.format.layout], differences, strict=True)
        )
    payload = 8 * len(write_network(network))
    return total / len(target.frames), 8 * sum(map(len, substreams)), payload


@pytest.mark.parametrize("name", ["image", "clip"])
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


@pytest.mark.parametrize("name", ["image", "clip"])
def test_costs_are_those_of_the_decoded_pictures_and_the_real_bytes(name):
    case, result = fitted(name), frozen(name)
    distortion, latent_bits, payload_bits = measured(case, result.network, result.codes)
    assert result.distortion == pytest.approx(distortion, rel=1e-9)
    # Substreams end on bytes, and the payload holds the architecture too: at most 48 bytes.
    excess = latent_bits + payload_bits - result.rate_bits
    assert -16 < excess < 48 * 8


@pytest.mark.parametrize("name", ["image", "clip"])
def test_fine_steps_lose_nothing_that_the_float_model_reached(name):
    case, num_frames = fitted(name), len(fitted(name).target.frames)
    exponents = {group: START_EXPONENTS[group] + 1 for group in exponent_groups(case.arch)}
    network = quantize_network(case.arch, case.arrays, exponents)
    codes = quantize_codes(case.arch, case.arrays, exponents, num_frames)
    distortion, latent_bits, _ = measured(case, network, codes)
    assert distortion == pytest.approx(case.cost.distortion, rel=0.02)
    assert latent_bits / case.target.num_pixels == pytest.approx(case.cost.bpp, rel=0.03)


@pytest.mark.parametrize("name", ["image", "clip"])
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
