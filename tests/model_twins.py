"""Comparison of the fused segment model in float32 with the plain one in float64."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from kernel_twins import GRADIENT_TOLERANCE, VALUE_TOLERANCE, relative_error

from codec.arch import NARROW, Architecture
from codec.layers import upsampling
from codec.model.fused import FusedSegmentModel
from codec.model.picture import Prediction
from codec.model.segment import SegmentModel

CANCELLED = 1e-10  # a gradient in double precision that is nothing but rounding


@contextmanager
def double_bases() -> Iterator[None]:
    """The plain pyramid in float64: its matrices take the type of the model."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("interpolation_basis", "filter_basis"):
            made = getattr(upsampling, name)
            patch.setattr(upsampling, name, lambda *a, made=made: made(*a).double())
        yield


def assert_models_agree(
    arch: Architecture, *, num_frames: int, height: int, width: int, prediction: Prediction = ()
) -> None:
    """Channels, bits and gradients of the fused model are those of the plain one in float64."""
    size = {"num_frames": num_frames, "height": height, "width": width}
    torch.manual_seed(1)
    fused = FusedSegmentModel(arch, numerics=NARROW, prediction=prediction, **size)
    for parameter in fused.parameters():
        parameter.data += 0.05 * torch.randn(parameter.shape)
    fused.entropy.arm.out_bias.data[1] += 4
    if arch.has_motion:
        fused.entropy.motion_arm.out_bias.data[1] += 6
    plain = SegmentModel(arch, numerics=NARROW, prediction=prediction, **size)
    plain.load_state_dict(fused.state_dict())
    plain.double()
    # Vectors of some samples.
    scales = [6.0 if grid.motion else 1.0 for grid in arch.grids]
    own = [
        (scale * torch.randn(shape)).requires_grad_()
        for scale, shape in zip(scales, fused.shapes, strict=True)
    ]
    theirs = [x.detach().double().requires_grad_() for x in own]
    noise = None
    if arch.common_randomness:
        noise = torch.randn(num_frames, arch.num_features, height, width)
    with double_bases():
        made, expected = fused(own, noise), plain(theirs, None if noise is None else noise.double())
        weights = torch.randn(made[0].shape)
        for channels, bits in (made, expected):
            ((channels * weights).sum() + 0.01 * bits).backward()
    assert all(relative_error(a, b) < VALUE_TOLERANCE for a, b in zip(made, expected, strict=True))
    for a, b in zip(own, theirs, strict=True):
        assert relative_error(a.grad, b.grad) < GRADIENT_TOLERANCE
    for (label, a), b in zip(fused.named_parameters(), plain.parameters(), strict=True):
        assert (a.grad is None) == (b.grad is None), label
        if a.grad is None or not a.numel():
            continue
        if b.grad.abs().max() < CANCELLED:
            # Of one channel, demodulation takes away what a code does to it.
            assert a.grad.abs().max() < GRADIENT_TOLERANCE, label
        else:
            assert relative_error(a.grad, b.grad) < GRADIENT_TOLERANCE, label
