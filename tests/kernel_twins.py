"""Comparison of fused kernels in float32 with their plain twins in float64."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

VALUE_TOLERANCE = 1e-5
GRADIENT_TOLERANCE = 1e-4


def relative_error(made: Tensor, expected: Tensor) -> float:
    """Relative L2 error; of two tensors of zeros it is 0."""
    made, expected = made.detach().double(), expected.detach().double()
    distance, norm = (made - expected).norm().item(), expected.norm().item()
    return distance / norm if norm else distance


def assert_twins(
    fused: Callable[..., Tensor | Sequence[Tensor]],
    plain: Callable[..., Tensor | Sequence[Tensor]],
    inputs: Sequence[Tensor],
) -> None:
    """Values of both functions on `inputs` agree, and the gradients of a random projection."""
    own = [x.detach().clone().requires_grad_() for x in inputs]
    theirs = [x.detach().double().requires_grad_() for x in inputs]
    made, expected = _as_list(fused(*own)), _as_list(plain(*theirs))
    assert len(made) == len(expected)
    total, total_plain = torch.zeros(()), torch.zeros((), dtype=torch.double)
    for a, b in zip(made, expected, strict=True):
        assert a.shape == b.shape
        assert relative_error(a, b) < VALUE_TOLERANCE
        weights = torch.randn(a.shape)
        total, total_plain = total + (a * weights).sum(), total_plain + (b * weights).sum()
    total.backward()
    total_plain.backward()
    for number, (a, b) in enumerate(zip(own, theirs, strict=True)):
        if b.numel():
            expected_grad = torch.zeros_like(b) if b.grad is None else b.grad
            made_grad = torch.zeros_like(a) if a.grad is None else a.grad
            error = relative_error(made_grad, expected_grad)
            assert error < GRADIENT_TOLERANCE, f"gradient of input {number}: {error}"


def _as_list(outputs: Tensor | Sequence[Tensor]) -> list[Tensor]:
    return [outputs] if isinstance(outputs, Tensor) else list(outputs)
