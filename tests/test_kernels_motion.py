"""The fused prediction of frames against the plain one: values and gradients on odd shapes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from kernel_twins import assert_twins
from torch import Tensor

from codec import jit
from codec.layers import motion
from codec.layers.kernels.motion import predict


def smooth_and_flat(frames: int, rows: int, columns: int) -> Tensor:
    """Vectors that many neighbours share, in a part of each frame whole samples or zero."""
    vectors = torch.full((frames, 2, rows, columns), 21.3)
    vectors[:, :, rows // 2 :, columns // 3 :] = 0
    vectors[:, 0, : rows // 2, columns // 2 :] = -32
    vectors[:, 1, rows // 3 :, : columns // 4] = 16
    return vectors


FIELDS: dict[str, Callable[[int, int, int], Tensor]] = {
    "zero": lambda *shape: torch.zeros(shape[0], 2, *shape[1:]),
    "flat": smooth_and_flat,
    "varied": lambda *shape: 24 * torch.randn(shape[0], 2, *shape[1:]),
    "wide": lambda *shape: 4000 * torch.randn(shape[0], 2, *shape[1:]),
    "beyond": lambda *shape: 30000 * torch.randn(shape[0], 2, *shape[1:]),
}


def inputs_of(
    field: str, shape: tuple[int, int, int, int], references: int, level: int
) -> list[Tensor]:
    """Trunk, references, and vectors of N frames (N, C, H, W)."""
    frames, channels, height, width = shape
    blocks = (frames, -(-height >> level), -(-width >> level))
    return [
        0.4 * torch.randn(frames, channels + 2, height, width),
        torch.rand(references, channels, height, width),
        FIELDS[field](*blocks),
        -0.7 * FIELDS[field](*blocks),
    ]


SHAPES = [
    ((4, 3, 37, 53), 2),
    ((4, 1, 16, 300), 3),
    ((4, 2, 9, 530), 2),
    ((4, 3, 70, 66), 6),
]
CASES = [
    *((field, shape, level) for field in FIELDS for shape, level in SHAPES),
    *((field, (4, 2, 3, 5), 3) for field in ("zero", "flat", "varied")),
]


@pytest.mark.parametrize(("field", "shape", "level"), CASES, ids=str)
def test_frames_of_two_references_one_and_none(
    field: str, shape: tuple[int, int, int, int], level: int
) -> None:
    torch.manual_seed(1)
    pasts, futures = [2, 1, -1, 1], [0, 1, -1, 0]
    inputs = inputs_of(field, shape, 3, level)

    def call(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def on(trunk: Tensor, references: Tensor, first: Tensor, second: Tensor) -> Tensor:
            return function(
                trunk, references, pasts, futures, first, second, block_level=level
            )  # fmt: skip

        return on

    assert_twins(call(predict), call(motion.predict), inputs)


@pytest.mark.parametrize("size", [(1, 1), (2, 5)], ids=str)
def test_tiny_pictures_that_vectors_point_away_from(size: tuple[int, int]) -> None:
    torch.manual_seed(3)
    trunk, references, first, second = inputs_of("varied", (1, 2, *size), 2, 2)
    first = 4000 + first.abs()  # only replicated samples are read: slopes are 0, but for rounding

    def call(function: Callable[..., Tensor], trunk: Tensor, references: Tensor) -> Tensor:
        away = first.to(trunk).requires_grad_()
        out = function(trunk, references, [0], [0], away, second.to(trunk), block_level=2)
        (slope,) = torch.autograd.grad(out.sum(), away, retain_graph=True)
        assert slope.abs().max() < 1e-5
        return out

    assert_twins(
        lambda *inputs: call(predict, *inputs),
        lambda *inputs: call(motion.predict, *inputs),
        [trunk, references],
    )


def test_the_first_frame_of_a_segment_has_no_references() -> None:
    trunk, vectors = torch.randn(1, 5, 4, 6, requires_grad=True), torch.zeros(1, 2, 1, 2)
    made = predict(
        trunk, torch.empty(0, 3, 4, 6), [-1], [-1], vectors, vectors, block_level=2
    )  # fmt: skip
    torch.testing.assert_close(made, trunk[:, :3] + 0.5)
    made.sum().backward()
    assert trunk.grad[:, :3].eq(1).all()
    assert not trunk.grad[:, 3:].any()


def test_vectors_that_are_no_numbers_read_what_is_there() -> None:
    inputs = inputs_of("varied", (1, 1, 8, 8), 1, 2)
    inputs[2][0, :, 0, 0] = torch.nan
    inputs[2][0, :, 1, 1] = torch.inf
    inputs[2].requires_grad_()
    made = predict(*inputs[:2], [0], [0], *inputs[2:], block_level=2)
    made.sum().backward()
    assert made.isfinite().all()


def test_gains_of_one_still_learn() -> None:
    # Where the gain is not transmitted it is 1, the upper end of its range.
    trunk, references, first, second = inputs_of("flat", (1, 1, 8, 8), 2, 2)
    trunk.zero_().requires_grad_()
    predict(trunk, references, [0], [1], first, second, block_level=2).sum().backward()
    assert trunk.grad[0, 2].all()


def test_threads_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(2)
    monkeypatch.setattr(jit, "_SAMPLES_WORTH_A_THREAD", 1)
    inputs = inputs_of("varied", (3, 3, 90, 200), 3, 2)
    weights, made = torch.randn(3, 3, 90, 200), []
    for threads in (1, 2, 5):
        monkeypatch.setattr(jit, "_threads", threads)
        own = [x.clone().requires_grad_() for x in inputs]
        out = predict(*own[:2], [0, 1, 1], [2, 1, 2], *own[2:], block_level=2)
        made.append([out, *torch.autograd.grad(out, own, weights)])
    for others in made[1:]:
        assert all(torch.equal(a, b) for a, b in zip(made[0], others, strict=True))
