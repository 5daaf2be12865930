"""SOAP against the implementation of pytorch-optimizer."""

from __future__ import annotations

import pytest
import torch
from pytorch_optimizer import SOAP
from torch import Tensor, nn

from codec.training.soap import Soap

SHAPES = [(4, 6), (2, 5), (6, 7, 1, 1), (3, 3, 3, 3), (1, 1), (6,), (1,), (300, 3)]


def gradients(step: int) -> list[Tensor]:
    """Gradients of a changing scale, from a seed of the step's own."""
    generator = torch.Generator().manual_seed(step)
    scale = 1 / (1 + 0.1 * step)
    return [scale * torch.randn(shape, generator=generator) for shape in SHAPES]


@pytest.mark.parametrize("every", [1, 10])
def test_steps_are_those_of_the_package(every: int) -> None:
    own = [nn.Parameter(x) for x in gradients(1000)]
    theirs = [nn.Parameter(x.detach().clone()) for x in own]
    soap = Soap(own, betas=(0.95, 0.95), weight_decay=1e-2, precondition_every=every)
    package = SOAP(
        theirs,
        betas=(0.95, 0.95),
        weight_decay=1e-2,
        precondition_frequency=every,
        max_precondition_dim=256,
    )
    start = [p.detach().clone() for p in own]
    for step in range(40):
        for p, q, gradient in zip(own, theirs, gradients(step), strict=True):
            p.grad, q.grad = gradient.clone(), gradient.clone()
        package.param_groups[0]["lr"] = 0.01 / (1 + step)
        package.step()
        soap.step(0.01 / (1 + step))
    for p, q, first in zip(own, theirs, start, strict=True):
        moved = (q - first).norm()
        assert moved > 0
        assert (p - q).norm() < 2e-3 * moved
    soap.zero_grad()
    assert all(p.grad is None for p in own)


def test_the_first_step_only_measures() -> None:
    (parameter,) = own = [nn.Parameter(torch.ones(3, 3))]
    soap = Soap(own, betas=(0.9, 0.9), weight_decay=0.1, precondition_every=1)
    parameter.grad = torch.randn(3, 3)
    soap.step(0.1)
    assert torch.equal(parameter, torch.ones(3, 3))


def test_gradients_that_have_no_eigenvectors_leave_the_basis_as_it_is() -> None:
    parameter = nn.Parameter(torch.ones(3, 4))
    soap = Soap([parameter], betas=(0.95, 0.95), weight_decay=0.0, precondition_every=10)
    parameter.grad = torch.full((3, 4), torch.nan)
    soap.step(0.01)
    for basis, size in zip(soap.tensors[0].bases, (3, 4), strict=True):
        assert torch.equal(basis, torch.eye(size))
