"""Noisy rounding and Adam of latents as kernels against their plain twins."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from kernel_twins import assert_twins

from codec.layers.kernels.latents import FusedAdam, noisy_softround
from codec.layers.kernels.noise import gaussian_reference
from codec.layers.quantizers import noisy_softround as plain_softround

SHAPES = [(3, 50, 70), (1, 1, 1), (1, 1, 4), (1, 300, 301)]


@pytest.mark.parametrize("spread", [0.1, 20.0], ids=["usual", "beyond the range of latents"])
def test_noisy_rounding_is_that_of_the_plain_model(spread: float) -> None:
    torch.manual_seed(1)
    parameters = [torch.randn(shape) * spread for shape in SHAPES]
    counts = [p.numel() for p in parameters]
    noise = torch.from_numpy(gaussian_reference(99, np.arange(sum(counts)))).split(counts)

    def plain(*inputs: torch.Tensor) -> list[torch.Tensor]:
        return [
            plain_softround(x * 16.0, n.view(x.shape) * 0.2, 0.3)
            for x, n in zip(inputs, noise, strict=True)
        ]

    def fused(*inputs: torch.Tensor) -> list[torch.Tensor]:
        return noisy_softround(inputs, gain=16.0, noise_std=0.2, temperature=0.3, seed=99)

    assert_twins(fused, plain, parameters)


def test_adam_takes_the_steps_of_pytorch() -> None:
    torch.manual_seed(2)
    own = [torch.randn(shape, requires_grad=True) for shape in SHAPES]
    theirs = [p.detach().clone().requires_grad_() for p in own]
    settings = {"betas": (0.8, 0.95), "eps": 1e-15}
    fused, plain = FusedAdam(own, **settings), torch.optim.Adam(theirs, **settings)
    for step in range(6):
        for p, q in zip(own, theirs, strict=True):
            p.grad = torch.randn(p.shape) * 10.0**-step
            q.grad = p.grad.clone()
        for optimizer in (fused, plain):
            optimizer.param_groups[0]["lr"] = 0.01 / (step + 1)
            optimizer.step()
    for p, q in zip(own, theirs, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-7)
    fused.zero_grad()
    assert all(p.grad is None for p in own)
