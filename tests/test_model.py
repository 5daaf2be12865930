"""The float model against the integer program: equal parameters give equal pictures and bits."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from latent_bits import sent_bits, slice_bits

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
from codec.bitstream.elements import Network, Partition
from codec.bitstream.parameters import default_values
from codec.fixedpoint.entropy import decode_latents, encode_latents, latent_rate
from codec.fixedpoint.noise import noise_planes
from codec.fixedpoint.program import Program, load_network
from codec.fixedpoint.render import render
from codec.fixedpoint.stack import channel_levels
from codec.freeze.quantize import START_EXPONENTS
from codec.layers import TemporalCK
from codec.model.picture import expand_frames, stack_frames
from codec.model.segment import SegmentModel

torch.set_num_threads(1)

IMAGE = Architecture(
    grids=parse_grids(static="0-4", hyper="3-4"),
    num_contexts=14,
    ifce_features=4,
    ifce_levels=(0, 2),
    arm_layers=2,
    temporal=(),
    synthesis=parse_layers(
        ["12-1-linear-relu", "X-1-linear-none", "X-3-residual-relu", "X-3-residual-none"],
        num_out=3,
    ),
)
CLIP = Architecture(
    grids=parse_grids(static="0-3", slow="4:1-2;2:2", dynamic="0-2"),
    num_contexts=10,
    ifce_features=2,
    ifce_levels=(0, 2),
    arm_layers=1,
    temporal=parse_layers(
        [
            "5-5x1-ck-none@1/4",
            "6-3x3-conv-relu@1/4,gate=1,dilation=2",
            "9-3x1-ck-none@1/2,causal=1",
            "9-3x3-adaptive-relu@1/2,res=1,gate=1,code=2,every=3",
            "4-1x3-adaptive-none@1/2,demod=0,code=1,every=2",
            "4-3x1-conv-none@1/2,res=1,gate=1,groups=0",
        ],
        num_out=3,
    ),
    synthesis=parse_layers(["8-3-linear-relu", "X-1-linear-none", "X-3-residual-none"], num_out=3),
)
# Grids finer than the last temporal layer, a block of every kind and no layers, no full-size grid.
STRIDES = replace(CLIP, temporal=(), up_taps=4, pre_taps=1, arm_layers=0)
GAPS = replace(
    CLIP,
    grids=parse_grids(static="1,4", slow="8:3", dynamic="2"),
    temporal=parse_layers(["3-3x1-conv-none@1/4", "4-1x1-adaptive-none@1/2"], num_out=3),
    ifce_levels=(1, 3),
    pre_taps=3,
)
NOISY = replace(CLIP, common_randomness=True, pre_taps=5)
NOISY_IMAGE = replace(IMAGE, common_randomness=True)


@dataclass(frozen=True)
class Case:
    """An architecture, the segment it is for, and how far float and integers may be apart."""

    arch: Architecture
    numerics: Numerics = NARROW
    num_frames: int = 1
    height: int = 33
    width: int = 50

    @property
    def size(self) -> dict[str, int]:
        return {"num_frames": self.num_frames, "height": self.height, "width": self.width}

    @property
    def tolerance(self) -> float:
        if self.numerics is NARROW:
            return 4e-3
        # Modulated weights are baked with 12 fraction bits in both formats.
        modulated = any(layer.kind == "adaptive" for layer in self.arch.temporal)
        return 5e-4 if modulated else 5e-5


CASES = {
    "image": Case(IMAGE),
    "image-wide": Case(IMAGE, WIDE),
    "image-1x1": Case(IMAGE, WIDE, height=1, width=1),
    "image-row": Case(IMAGE, NARROW, height=1, width=37),
    "image-noise": Case(NOISY_IMAGE, WIDE),
    "clip": Case(CLIP, NARROW, num_frames=7),
    "clip-wide": Case(CLIP, WIDE, num_frames=7),
    "clip-unmodulated": Case(replace(CLIP, temporal=CLIP.temporal[:3]), WIDE, num_frames=5),
    "clip-odd": Case(CLIP, WIDE, num_frames=5, height=19, width=23),
    "clip-1-frame": Case(CLIP, WIDE, num_frames=1),
    "clip-1x1": Case(CLIP, WIDE, num_frames=3, height=1, width=1),
    "clip-noise": Case(NOISY, WIDE, num_frames=5),
    "strides": Case(STRIDES, NARROW, num_frames=6),
    "gaps": Case(GAPS, WIDE, num_frames=9, height=35, width=29),
}

# Standard deviations of random parameters, so that pictures stay near [0, 1].
SPREAD = {
    "arm.weight": 0.04,
    "arm.bias": 0.2,
    "ifce.weight": 0.2,
    "ifce.bias": 0.3,
    "up": 0.02,
    "temporal.weight": 0.12,
    "temporal.bias": 0.5,
    "temporal.code": 0.3,
    "synth_in.weight": 0.015,
    "synth.weight": 0.12,
    "synth.bias": 0.2,
}


def random_network(case: Case, rng: np.random.Generator) -> Network:
    """Integers around the defaults, with the steps that freezing starts from."""
    arch = case.arch
    exponents = {group: START_EXPONENTS[group] for group in exponent_groups(arch)}
    values = {}
    for spec in param_specs(arch):
        e = exponents[spec.group]
        noise = np.rint(rng.normal(size=spec.shape) * SPREAD[spec.group] * 2**e)
        values[spec.name] = default_values(spec, e) + noise.astype(np.int32)
    # Log-scales around 0.3: probabilities well above the floor.
    values["arm.out.bias"][1] = round(4.3 * 2 ** exponents["arm.bias"])
    return Network(arch, exponents, values)


def random_codes(case: Case, network: Network, rng: np.random.Generator) -> dict[str, np.ndarray]:
    return {
        spec.name: rng.integers(-180, 181, spec.shape).astype(np.int32)
        for spec in segment_specs(case.arch, case.num_frames)
    }


def random_latents(case: Case, rng: np.random.Generator) -> list[np.ndarray]:
    """Integers with long tails; one grid is empty, and one slice of another."""
    model = SegmentModel(case.arch, numerics=case.numerics, **case.size)
    latents = [np.rint(rng.laplace(scale=1.3, size=shape)).astype(np.int16)
               for shape in model.shapes]  # fmt: skip
    latents[1][:] = 0
    latents[-1][0, : latents[-1].shape[1] // 2] = 0
    return latents


def float_tensors(network: Network, codes: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    """q 2^-e of every parameter and code."""
    steps = {s.name: network.exponents[s.group] for s in param_specs(network.arch)}
    integers = {**network.values, **codes}
    return {
        name: torch.from_numpy(
            np.ldexp(q.astype(np.float64), -steps.get(name, network.exponents.get("temporal.code")))
        ).float()
        for name, q in integers.items()
    }


def load_floats(model: SegmentModel, tensors: dict[str, torch.Tensor]) -> None:
    """Give the model's own tensors these values; filters along time get their taps directly."""
    own = model.tensors()
    assert own.keys() == tensors.keys()
    for index, block in enumerate(model.picture.temporal):
        if isinstance(block, TemporalCK):
            taps = {"taps": tensors[f"temporal.{index}.taps"]}
            assert own[f"temporal.{index}.taps"].shape == taps["taps"].shape
            block.tensors = lambda taps=taps: taps
    with torch.no_grad():
        for name, tensor in own.items():
            if not name.endswith(".taps"):
                assert tensor.shape == tensors[name].shape, name
                tensor.copy_(tensors[name])


@dataclass(frozen=True)
class Pair:
    """A float model and an integer program with the same parameters, and latents for both."""

    case: Case
    model: SegmentModel
    program: Program
    codes: dict[str, np.ndarray]
    latents: list[np.ndarray]


@pytest.fixture(scope="module", params=CASES)
def pair(request) -> Pair:
    case, rng = CASES[request.param], np.random.default_rng(11)
    network = random_network(case, rng)
    codes = random_codes(case, network, rng)
    model = SegmentModel(case.arch, numerics=case.numerics, **case.size)
    load_floats(model, float_tensors(network, codes))
    program = load_network(network, case.numerics)
    return Pair(case, model, program, codes, random_latents(case, rng))


def noise_of(pair: Pair, seed: int) -> torch.Tensor | None:
    case = pair.case
    if not case.arch.common_randomness:
        return None
    planes = [
        noise_planes(
            channel_levels(case.arch),
            seed=seed,
            frame=t,
            height=case.height,
            width=case.width,
            numerics=case.numerics,
        )
        for t in range(case.num_frames)
    ]
    return torch.from_numpy(np.stack(planes) / 2.0**case.numerics.feature_frac).float()


def test_pictures_agree(pair):
    case = pair.case
    latents = [torch.from_numpy(latent.astype(np.float32)) for latent in pair.latents]
    with torch.no_grad():
        expected = pair.model.picture(latents, noise_of(pair, 5)).numpy()
    rendered = render(pair.program, pair.latents, pair.codes, **case.size, noise_seed=5)
    integers = np.stack(list(rendered)) / 2.0**case.numerics.synth_frac
    assert integers.shape == expected.shape == (case.num_frames, 3, case.height, case.width)
    assert np.abs(integers - expected).max() < case.tolerance
    # The pictures are pictures: they vary, and nothing sits at the limits.
    if case.height > 1:
        assert expected.std() > 0.02
    assert np.abs(expected).max() < 4


def test_bits_agree(pair):
    case = pair.case
    latents = [torch.from_numpy(latent.astype(np.float32)) for latent in pair.latents]
    with torch.no_grad():
        total = float(pair.model.entropy(latents))
    bits = [slice_bits(pair.model, pair.latents, k) for k in range(len(latents))]
    assert total == pytest.approx(sum(map(sum, bits)), rel=1e-4)
    rates = latent_rate(pair.program, pair.latents, **case.size, partition=Partition()) / 65536
    assert rates.sum() == pytest.approx(sent_bits(pair.model, pair.latents), rel=0.015, abs=4)
    present = [bool(latent.any()) for latent in pair.latents]
    assert all((rate > 0) == here for rate, here in zip(rates, present, strict=True))


def test_features_from_coarser_grids_equal_loops():
    """What each latent sees of the grids coded before: the slice of its first frame, in place."""
    case = Case(replace(CLIP, ifce_levels=(0, 3)), num_frames=7, height=19, width=23)
    rng = np.random.default_rng(13)
    model = SegmentModel(case.arch, numerics=case.numerics, **case.size)
    arch, entropy = case.arch, model.entropy
    for ifce in entropy.ifce.values():
        torch.nn.init.normal_(ifce.bias)
    latents = [rng.integers(-9, 10, shape).astype(np.float32) for shape in model.shapes]
    tensors = [torch.from_numpy(latent) for latent in latents]
    checked = 0
    for k, grid in enumerate(arch.grids):
        with torch.no_grad():
            made = entropy.contexts(k, tensors)[arch.num_contexts :].numpy()
        made = made.reshape(arch.ifce_features, *model.shapes[k])
        finer = [i for i in range(k) if arch.grids[i].level > grid.level]
        if not finer:
            assert not made.any()
            continue
        named = {n: t.detach().numpy() for n, t in model.tensors().items()}
        for j, y, x in np.ndindex(model.shapes[k]):
            seen = []
            for i in finer:
                source, frame = arch.grids[i], j * max(grid.time_stride, 1)
                number = frame // source.time_stride if source.time_stride else 0
                shift = source.level - grid.level
                seen.append(latents[i][number, y >> shift, x >> shift])
            expected = named[f"ifce.{k}.weight"] @ np.array(seen) + named[f"ifce.{k}.bias"]
            np.testing.assert_allclose(made[:, j, y, x], expected, rtol=1e-4, atol=1e-4)
        checked += 1
    assert checked == len(arch.grids) - 1


@pytest.mark.parametrize("partition", [Partition(), Partition(split_frames=True, bands=3)])
def test_latents_survive_their_coding_at_their_rate(pair, partition):
    case = pair.case
    present, substreams = encode_latents(
        pair.program, pair.latents, **case.size, partition=partition
    )
    decoded = decode_latents(
        pair.program, present, substreams, **case.size, partition=partition, threads=2
    )
    for before, after in zip(pair.latents, decoded, strict=True):
        np.testing.assert_array_equal(before, after)
    bits = 8 * sum(map(len, substreams))
    rate = latent_rate(pair.program, pair.latents, **case.size, partition=partition).sum() / 65536
    assert rate - 24 * len(substreams) <= bits <= rate * 1.001 + 16 * len(substreams)


@pytest.mark.parametrize("loud", ["temporal.0.taps", "synth.0.weight"])
def test_saturation_is_part_of_the_float_model(loud):
    """Filters along time and synthesis layers whose results saturate, in both programs alike."""
    arch = replace(CLIP, temporal=CLIP.temporal[:1], up_taps=4)
    case = Case(arch, NARROW, num_frames=4, height=9, width=11)
    rng = np.random.default_rng(3)
    network = random_network(case, rng)
    network.exponents["features"] = 6
    network.values[loud] *= 20
    for spec in param_specs(arch):
        if spec.group == "up":
            # What overshoots between samples would saturate in only one of the programs.
            network.values[spec.name] = default_values(spec, network.exponents["up"])
    program = load_network(network, case.numerics)
    latents = [np.clip(20 * latent, -255, 255) for latent in random_latents(case, rng)]
    rendered = render(program, latents, {}, **case.size)
    integers = np.stack(list(rendered)) / 2.0**case.numerics.synth_frac
    errors = []
    for act_max in (case.numerics.act_max, 1 << 40):
        numerics = replace(case.numerics, act_max=act_max)
        model = SegmentModel(case.arch, numerics=numerics, **case.size)
        load_floats(model, float_tensors(network, {}))
        with torch.no_grad():
            floats = [torch.from_numpy(latent.astype(np.float32)) for latent in latents]
            # As clamped samples: the last sum needs no saturation of its own in training.
            samples = model.picture(floats).clamp(0, 1).numpy()
        errors.append(np.abs(integers.clip(0, 1) - samples).max())
    assert errors[0] < 0.05
    assert errors[1] > 10 * errors[0]


def test_names_and_shapes_are_those_of_the_stream(pair):
    case, tensors = pair.case, pair.model.tensors()
    specs = (*param_specs(case.arch), *segment_specs(case.arch, case.num_frames))
    assert {s.name: s.shape for s in specs} == {n: tuple(t.shape) for n, t in tensors.items()}


def test_every_parameter_has_a_gradient():
    case = replace(CASES["clip"], arch=NOISY)
    rng = np.random.default_rng(12)
    network = random_network(case, rng)
    model = SegmentModel(case.arch, numerics=case.numerics, **case.size)
    tensors = float_tensors(network, random_codes(case, network, rng))
    own = model.tensors()
    with torch.no_grad():
        for name, tensor in own.items():
            if not name.endswith(".taps"):
                tensor.copy_(tensors[name])
        for block in model.picture.temporal:
            if isinstance(block, TemporalCK):
                # Zero at the start of a training, which hides everything before it.
                torch.nn.init.normal_(block.ck.kernel.out.weight)
    latents = [torch.from_numpy(latent.astype(np.float32)).requires_grad_()
               for latent in random_latents(case, rng)]  # fmt: skip
    pair = Pair(case, model, load_network(network, case.numerics), {}, [])
    channels, bits = model(latents, noise_of(pair, 1))
    (channels.square().sum() + bits).backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and parameter.numel():
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name
    assert all(latent.grad.abs().sum() > 0 for latent in latents)


def test_frames_take_the_slices_of_their_strides():
    slow = torch.arange(3.0)[:, None, None, None].expand(3, 2, 1, 1)
    assert expand_frames(slow, 2, 5)[:, 0, 0, 0].tolist() == [0, 0, 1, 1, 2]
    assert expand_frames(slow[:1], 0, 4)[:, 1, 0, 0].tolist() == [0, 0, 0, 0]
    blocks = {
        1: torch.full((4, 1, 1, 1), 7.0),
        2: torch.full((2, 1, 1, 1), 5.0),
        0: torch.full((1, 1, 1, 1), 3.0),
        4: torch.full((1, 1, 1, 1), 4.0),
    }
    assert stack_frames(blocks, 4)[0, :, 0, 0].tolist() == [3, 4, 5, 7]
