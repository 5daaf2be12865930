"""The fused rate of latents against the plain entropy model: bits, and gradients of everything."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_twins import GRADIENT_TOLERANCE, VALUE_TOLERANCE, relative_error

from codec.arch import Architecture, parse_grids, parse_layers
from codec.jit import get_threads, set_threads
from codec.layers.kernels.rate_layout import END_ROW, FIRST_ROW, WIDTH
from codec.model.entropy import EntropyModel
from codec.model.fused import FusedEntropyModel
from codec.model.picture import latent_shapes

IMAGE = Architecture(
    grids=parse_grids(static="0-4", hyper="2-4"),
    num_contexts=14,
    ifce_features=6,
    ifce_levels=(0, 2),
    arm_layers=2,
    temporal=(),
    synthesis=parse_layers(["X-1-linear-none"], num_out=3),
)
CLIP = replace(IMAGE, grids=parse_grids(static="0-4", slow="2:2", dynamic="1-3", hyper="3"))
PLAIN_ARM = replace(IMAGE, num_contexts=24, ifce_features=0, ifce_levels=(0, 0), arm_layers=0)
MOVING = replace(
    CLIP,
    grids=parse_grids(static="1", dynamic="0-3", hyper="3", motion="2-4"),
    synthesis=parse_layers(["X+2-1-linear-none"], num_out=3),
)
SMALL_ARM = replace(IMAGE, num_contexts=5, ifce_features=1, ifce_levels=(1, 2), arm_layers=1)


def models(
    arch: Architecture, *, seed: int, **size: int
) -> tuple[FusedEntropyModel, EntropyModel, list[torch.Tensor]]:
    """The same random network twice, the plain one in float64, and latents to code."""
    torch.manual_seed(seed)
    fused = FusedEntropyModel(arch, **size)
    for parameter in fused.parameters():
        parameter.data += 0.05 * torch.randn(parameter.shape)
    # Wide distributions: no latent is near the most bits that one can cost, which is a kink.
    fused.arm.out_weight.data *= 0.2
    fused.arm.out_bias.data[1] += 4
    if arch.has_motion:
        fused.motion_arm.out_bias.data[1] += 4
    plain = EntropyModel(arch, **size)
    plain.load_state_dict(fused.state_dict())
    latents = [torch.randn(shape) for shape in latent_shapes(arch, **size)]
    return fused, plain.double(), latents


def assert_same_bits_and_gradients(arch: Architecture, *, seed: int, **size: int) -> None:
    """One evaluation of both models, with and without gradients."""
    fused, plain, latents = models(arch, seed=seed, **size)
    own = [x.clone().requires_grad_() for x in latents]
    theirs = [x.double().requires_grad_() for x in latents]
    bits, expected = fused(own), plain(theirs)
    (2 * bits).backward()
    (2 * expected).backward()
    assert relative_error(bits, expected) < VALUE_TOLERANCE
    with torch.no_grad():
        assert relative_error(fused(latents), expected) < VALUE_TOLERANCE
    # A gradient may cancel to almost nothing, in a grid of one latent.
    least = 0.01 * max(b.grad.norm().item() for b in theirs)
    for a, b in zip(own, theirs, strict=True):
        distance = (a.grad.double() - b.grad).norm().item()
        assert distance < GRADIENT_TOLERANCE * max(b.grad.norm().item(), least)
    for (name, a), b in zip(fused.named_parameters(), plain.parameters(), strict=True):
        assert relative_error(a.grad, b.grad) < GRADIENT_TOLERANCE, name


@pytest.mark.parametrize("arch", [IMAGE, CLIP, MOVING, PLAIN_ARM, SMALL_ARM], ids=str)
@pytest.mark.parametrize(
    ("num_frames", "height", "width"), [(1, 1, 1), (3, 37, 53), (2, 5, 300), (1, 70, 3)], ids=str
)
def test_bits_and_gradients(arch: Architecture, num_frames: int, height: int, width: int) -> None:
    size = {"num_frames": num_frames, "height": height, "width": width}
    assert_same_bits_and_gradients(arch, seed=num_frames + height, **size)


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 4), st.integers(0, 1000))
def test_bits_and_gradients_of_any_size(height: int, width: int, frames: int, seed: int) -> None:
    size = {"num_frames": frames, "height": height, "width": width}
    assert_same_bits_and_gradients(CLIP, seed=seed, **size)


def test_a_large_grid_is_cut_into_strips_that_leave_no_seams() -> None:
    size = {"num_frames": 1, "height": 150, "width": 400}
    fused, _, _ = models(IMAGE, seed=1, **size)
    (layout,) = fused.layouts
    strips = layout.strips
    assert (strips[:, FIRST_ROW] > 0).any()
    rows = (strips[:, END_ROW] - strips[:, FIRST_ROW]) * strips[:, WIDTH]
    shapes = latent_shapes(IMAGE, **size)
    assert rows.sum() == sum(s * h * w for s, h, w in shapes)
    assert len(layout.jobs) > 1
    assert_same_bits_and_gradients(IMAGE, seed=1, **size)


def test_the_number_of_threads_changes_nothing() -> None:
    size = {"num_frames": 2, "height": 90, "width": 300}
    fused, _, latents = models(MOVING, seed=2, **size)
    results, before = [], get_threads()
    try:
        for threads in (1, 2, 3):
            set_threads(threads)
            own = [x.clone().requires_grad_() for x in latents]
            fused.zero_grad()
            bits = fused(own)
            bits.backward()
            results.append([bits, *(x.grad for x in own), *(p.grad for p in fused.parameters())])
    finally:
        set_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))
