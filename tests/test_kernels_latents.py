"""Noisy rounding and the optimizer of latents as kernels against their plain twins."""

from __future__ import annotations

import numpy as np
import pytest
import pytorch_optimizer
import torch
from kernel_twins import assert_twins

from codec.layers.kernels.latents import FusedQHAdam, noisy_softround
from codec.layers.kernels.noise import gaussian_reference
from codec.layers.quantizers import noisy_softround as plain_softround
from codec.training.qhadam import QHAdam

SHAPES = [(3, 50, 70), (1, 1, 1), (1, 1, 4), (1, 300, 301)]


@pytest.mark.parametrize("noise_std", [0.2, -0.2])
@pytest.mark.parametrize("spread", [0.1, 20.0], ids=["usual", "beyond the range of latents"])
def test_noisy_rounding_is_that_of_the_plain_model(spread: float, noise_std: float) -> None:
    torch.manual_seed(1)
    parameters = [torch.randn(shape) * spread for shape in SHAPES]
    counts = [p.numel() for p in parameters]
    noise = torch.from_numpy(gaussian_reference(99, np.arange(sum(counts)))).split(counts)

    def plain(*inputs: torch.Tensor) -> list[torch.Tensor]:
        return [
            plain_softround(x * 16.0, n.view(x.shape) * noise_std, 0.3)
            for x, n in zip(inputs, noise, strict=True)
        ]

    def fused(*inputs: torch.Tensor) -> list[torch.Tensor]:
        return noisy_softround(inputs, gain=16.0, noise_std=noise_std, temperature=0.3, seed=99)

    assert_twins(fused, plain, parameters)


@pytest.mark.parametrize("share", [0.9, 0.3])
def test_the_optimizers_of_latents_take_the_steps_of_quasi_hyperbolic_adam(share: float) -> None:
    torch.manual_seed(2)
    first = [torch.randn(shape, requires_grad=True) for shape in SHAPES]
    copies = [[p.detach().clone().requires_grad_() for p in first] for _ in range(2)]
    settings = {"betas": (0.8, 0.95), "eps": 1e-15}
    optimizers = [
        FusedQHAdam(first, momentum_share=share, **settings),
        QHAdam(copies[0], momentum_share=share, **settings),
        pytorch_optimizer.QHAdam(copies[1], nus=(share, 1.0), **settings),
    ]
    for step in range(6):
        for p, q, r in zip(first, *copies, strict=True):
            p.grad = torch.randn(p.shape) * 10.0**-step
            q.grad, r.grad = p.grad.clone(), p.grad.clone()
        for optimizer in optimizers:
            optimizer.param_groups[0]["lr"] = 0.01 / (step + 1)
            optimizer.step()
    for p, q, r in zip(first, *copies, strict=True):
        torch.testing.assert_close(p, r, rtol=1e-5, atol=1e-7)
        torch.testing.assert_close(q, r, rtol=1e-5, atol=1e-7)
    optimizers[0].zero_grad()
    assert all(p.grad is None for p in first)
