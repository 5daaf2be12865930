"""Frames predicted from frames: the fused model, the plain one and the decoder agree."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from latent_bits import sent_bits
from model_twins import assert_models_agree
from moving_clips import moving_architecture
from test_model import Case, float_tensors, load_floats, random_latents, random_network

from codec.arch import NARROW, WIDE, Architecture, Inter, frames_of, parse_layers, prediction_levels
from codec.bitstream.elements import Partition
from codec.fixedpoint.entropy import latent_rate
from codec.fixedpoint.program import load_network
from codec.fixedpoint.render import render
from codec.model.segment import SegmentModel

torch.set_num_threads(1)

PLAIN = moving_architecture()
LEVELS = replace(
    moving_architecture(static="0-2", slow="2:1", hyper="3", motion="2-4"),
    synthesis=parse_layers(
        ["6-1-linear-relu", "X+2-1-linear-none", "X-3-difference-relu", "X-1-residual-none"],
        num_out=3,
    ),
)
UNFILTERED = replace(
    PLAIN, synthesis=parse_layers(["6-1-linear-relu", "X+2-1-linear-none"], num_out=3)
)
SIZES = [(40, 53), (1, 1), (3, 70)]


@pytest.mark.parametrize("num_frames", [1, 2, 5])
@pytest.mark.parametrize(("height", "width"), SIZES, ids=str)
def test_fused_and_plain_models_agree(num_frames: int, height: int, width: int) -> None:
    assert_models_agree(PLAIN, num_frames=num_frames, height=height, width=width)


@pytest.mark.parametrize("arch", [LEVELS, UNFILTERED], ids=["levels", "unfiltered"])
def test_fused_and_plain_models_agree_for_other_networks(arch: Architecture) -> None:
    assert_models_agree(arch, num_frames=6, height=35, width=29)


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_fused_and_plain_models_agree_on_the_first_levels(count: int) -> None:
    prediction = prediction_levels(8, 32)[:count]
    num_frames = len(frames_of(prediction))
    assert_models_agree(PLAIN, num_frames=num_frames, height=21, width=34, prediction=prediction)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_first_levels_are_as_in_the_whole_segment(count: int) -> None:
    size = {"height": 21, "width": 34}
    torch.manual_seed(3)
    whole = SegmentModel(PLAIN, numerics=NARROW, num_frames=6, **size)
    prediction = prediction_levels(6, 32)[:count]
    numbers = frames_of(prediction)
    part = SegmentModel(
        PLAIN, numerics=NARROW, num_frames=len(numbers), prediction=prediction, **size
    )
    part.load_state_dict(whole.state_dict())
    latents = [2 * torch.randn(shape) for shape in whole.shapes]
    with torch.no_grad():
        expected = whole.picture(latents)[numbers]
        made = part.picture([latent[numbers] for latent in latents])
    torch.testing.assert_close(made, expected, rtol=0, atol=1e-5)


CASES = {
    "narrow": Case(PLAIN, NARROW, num_frames=5),
    "wide": Case(PLAIN, WIDE, num_frames=6),
    "1-frame": Case(PLAIN, WIDE, num_frames=1),
    "2-frames": Case(PLAIN, WIDE, num_frames=2, height=19, width=23),
    "1x1": Case(PLAIN, WIDE, num_frames=3, height=1, width=1),
    "unfiltered": Case(UNFILTERED, WIDE, num_frames=4),
    "levels": Case(LEVELS, WIDE, num_frames=7),
}


def made_by_both(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """Pictures on [0, 1] of the float model and of the decoder, with equal random parameters."""
    network, model, latents = random_pair(case)
    with torch.no_grad():
        floats = model.picture([torch.from_numpy(latent).float() for latent in latents])
    program = load_network(network, case.numerics)
    integers = np.stack(list(render(program, latents, {}, **case.size)))
    return floats.clamp(0, 1).numpy(), integers / 2.0**case.numerics.synth_frac


def random_pair(case: Case):
    """A network, its float model, and latents whose vectors point some samples away."""
    rng = np.random.default_rng(21)
    network = random_network(case, rng)
    network.values["motion_arm.out.bias"][1] = round(6.3 * 2 ** network.exponents["arm.bias"])
    # Residues add up from frame to frame: around 0, and small.
    small = (".bias", "stab.weight", *(f"{i}.weight" for i in range(1, len(case.arch.synthesis))))
    for name in network.values:
        if name.startswith("synth.") and name.endswith(small):
            network.values[name] >>= 1
    model = SegmentModel(case.arch, numerics=case.numerics, **case.size)
    load_floats(model, float_tensors(network, {}))
    latents = random_latents(case, rng)
    motion = case.arch.num_motion_grids
    latents[:motion] = [6 * latent for latent in latents[:motion]]
    return network, model, latents


@pytest.mark.parametrize("name", [name for name in CASES if name != "levels"])
def test_the_decoder_shows_what_the_model_makes(name: str) -> None:
    case = CASES[name]
    floats, integers = made_by_both(case)
    assert integers.shape == floats.shape == (case.num_frames, 3, case.height, case.width)
    assert np.abs(integers - floats).max() < case.tolerance
    if case.height > 1:
        assert floats.std() > 0.02
        assert np.mean((floats > 0) & (floats < 1)) > 0.6


def test_with_several_levels_vectors_are_a_sixteenth_apart_at_most() -> None:
    """The decoder rounds a, and ratio a, before it subtracts; the model only the difference."""
    floats, integers = made_by_both(CASES["levels"])
    assert floats.std() > 0.02
    assert np.abs(integers - floats).max() < 0.05
    assert np.sqrt(np.mean((integers - floats) ** 2)) < 2e-3


def test_motion_moves_what_is_shown() -> None:
    case = CASES["wide"]
    network, _, latents = random_pair(case)
    program = load_network(network, case.numerics)
    still = [latent * (not grid.motion) for latent, grid in zip(latents, case.arch.grids,
                                                                 strict=True)]  # fmt: skip
    moved, plain = (
        np.stack(list(render(program, own, {}, **case.size))) for own in (latents, still)
    )
    assert (moved[0] == plain[0]).all()
    assert all((a != b).any() for a, b in zip(moved[1:], plain[1:], strict=True))


@pytest.mark.parametrize("name", CASES)
def test_the_decoder_counts_the_bits_of_the_model(name: str) -> None:
    case = CASES[name]
    network, model, latents = random_pair(case)
    program = load_network(network, case.numerics)
    rates = latent_rate(program, latents, **case.size, partition=Partition()) / 65536
    assert rates.sum() == pytest.approx(sent_bits(model, latents), rel=0.015, abs=4)


def test_every_parameter_and_latent_of_a_moving_clip_has_a_gradient() -> None:
    case = CASES["wide"]
    _, model, latents = random_pair(case)
    planes = [torch.from_numpy(latent).float().requires_grad_() for latent in latents]
    channels, bits = model(planes, None)
    (channels.square().sum() + bits).backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and parameter.numel():
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name
    assert all(plane.grad.abs().sum() > 0 for plane in planes)


def test_frames_without_references_are_the_residue_and_one_half() -> None:
    size = {"num_frames": 2, "height": 9, "width": 13}
    alone = ((Inter(0, -1, -1), Inter(1, -1, -1)),)
    model = SegmentModel(UNFILTERED, numerics=NARROW, prediction=alone, **size)
    latents = [torch.randn(shape) for shape in model.shapes]
    with torch.no_grad():
        trunk = model.picture.synthesise(model.picture.features(latents))
        torch.testing.assert_close(model.picture(latents), trunk[:, :3] + 0.5)
