"""The fused segment model against the plain one, for architectures of every kind."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from kernel_twins import relative_error
from model_twins import assert_models_agree

from codec.arch import NARROW
from codec.arch.presets import Plan, build_architectures, load_preset
from codec.model.fused import FusedSegmentModel
from codec.model.segment import SegmentModel
from codec.training.backend import FUSED, PLAIN, backend_for

IMAGE, CLIP = load_preset("medium").image, load_preset("fast").clip
PLANS = {
    "image": (IMAGE, 1),
    "clip": (CLIP, 9),
    "a first layer of 3x3": (
        replace(IMAGE, synthesis=["8-3-linear-relu", "X-1-linear-none", "X-3-residual-none"]),
        1,
    ),
    "common randomness": (replace(IMAGE, common_randomness=True), 2),
    "temporal layers at full resolution": (
        replace(
            CLIP,
            temporal=[
                "X-3x3-conv-relu@1/4,res=1,gate=1,groups=0",
                "6-3x3-adaptive-none@1/1,code=2,every=2",
            ],
        ),
        5,
    ),
    "one layer": (replace(IMAGE, synthesis=["X-1-linear-none"]), 1),
    "grids of full size only": (replace(IMAGE, static="0", hyper="", ifce_levels=""), 2),
}


@pytest.mark.parametrize("name", list(PLANS))
@pytest.mark.parametrize(("height", "width"), [(40, 53), (1, 1), (3, 270)], ids=str)
def test_channels_bits_and_gradients(name: str, height: int, width: int) -> None:
    plan, num_frames = PLANS[name]
    size = {"num_frames": num_frames, "height": height, "width": width}
    assert_models_agree(build_architectures(plan, num_channels=3, **size)[0], **size)


def test_a_plan_without_half_size_features_has_them() -> None:
    plan: Plan = PLANS["grids of full size only"][0]
    arch = build_architectures(plan, num_channels=3, num_frames=2, height=40, width=53)[0]
    assert arch.max_level == 0


def test_kernels_are_for_the_cpu() -> None:
    assert backend_for(torch.device("cpu")) is FUSED
    assert backend_for(torch.device("cuda")) is PLAIN


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")
def test_the_plain_model_on_cuda_agrees_with_kernels_on_the_cpu() -> None:
    arch = build_architectures(IMAGE, num_channels=3, num_frames=1, height=40, width=53)[0]
    size = {"num_frames": 1, "height": 40, "width": 53}
    fused = FusedSegmentModel(arch, numerics=NARROW, **size)
    plain = SegmentModel(arch, numerics=NARROW, **size)
    plain.load_state_dict(fused.state_dict())
    plain.cuda()
    latents = [torch.randn(shape) for shape in fused.shapes]
    made = fused(latents, None)
    expected = plain([x.cuda() for x in latents], None)
    for a, b in zip(made, expected, strict=True):
        assert relative_error(a, b.cpu()) < 1e-4
