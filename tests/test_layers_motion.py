"""Motion compensation in real numbers against slow loops, and its gradients."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from codec.arch.motion import INTERPOLATION_Q7
from codec.layers import motion

TAPS = np.array(INTERPOLATION_Q7) / 128


def doubled_row(x: np.ndarray, size: int) -> np.ndarray:
    """Bilinear x2 of one row, as the decoder's rules say it."""
    padded = np.pad(x, 1, mode="edge")
    out = np.empty(2 * len(x))
    out[0::2] = (3 * x + padded[:-2]) / 4
    out[1::2] = (3 * x + padded[2:]) / 4
    return out[:size]


def doubled(plane: np.ndarray, height: int, width: int) -> np.ndarray:
    across = np.stack([doubled_row(row, width) for row in plane])
    return np.stack([doubled_row(column, height) for column in across.T], axis=1)


def slow_warp(plane: np.ndarray, vectors: np.ndarray, side: int) -> np.ndarray:
    """One plane (H, W) displaced by integer vectors (2, rows, columns), sample by sample."""
    height, width = plane.shape
    out = np.zeros((height, width))
    for y in range(height):
        for x in range(width):
            vx, vy = (int(v) for v in vectors[:, y // side, x // side])
            for j in range(8):
                row = plane[min(max(y + (vy >> 4) + j - 3, 0), height - 1)]
                for k in range(8):
                    column = min(max(x + (vx >> 4) + k - 3, 0), width - 1)
                    out[y, x] += TAPS[vy & 15][j] * TAPS[vx & 15][k] * row[column]
    return out


def vectors_for(frames: int, height: int, width: int, level: int, scale: float) -> Tensor:
    """Random integer vectors (frames, 2, rows, columns)."""
    shape = (frames, 2, -(-height >> level), -(-width >> level))
    return (scale * torch.randn(shape, dtype=torch.double)).round()


@pytest.mark.parametrize("vector_frac", [0, 2, 4])
def test_vectors_are_the_sums_of_grids_at_the_blocks(vector_frac: int) -> None:
    torch.manual_seed(1)
    height, width, frames = 37, 90, 2
    levels = [(5, 3), (), (4,), (6, 5, 2)]

    def size(level: int) -> tuple[int, int]:
        return -(-height >> level), -(-width >> level)

    components = [
        [(level, torch.randn(frames, *size(level)).double()) for level in own] for own in levels
    ]
    made = motion.motion_vectors(
        components,
        num_frames=frames,
        height=height,
        width=width,
        block_level=2,
        vector_frac=vector_frac,
    )
    assert made.shape == (frames, 4, *size(2))
    for number, own in enumerate(components):
        for t in range(frames):
            total = np.zeros(size(2))
            for level, latents in own:
                field = latents[t].numpy()
                for finer in range(level - 1, 1, -1):
                    field = doubled(field, *size(finer))
                total += 2.0 ** (4 - vector_frac) * field
            np.testing.assert_allclose(made[t, number], total, atol=1e-12)


def test_gradients_reach_all_grids() -> None:
    grids = [torch.zeros(1, *size, requires_grad=True) for size in ((1, 2), (2, 3), (4, 6))]
    components = [[], list(zip((4, 3, 2), grids, strict=True)), [], []]
    made = motion.motion_vectors(
        components, num_frames=1, height=16, width=24, block_level=2, vector_frac=2
    )
    made.sum().backward()
    # Weights of an interpolation add up to 1: each grid moves all 24 blocks by 4 units a latent.
    for grid in grids:
        torch.testing.assert_close(grid.grad.sum(), torch.tensor(96.0))


def test_the_future_vector_is_a_difference_to_the_past_one_prolonged() -> None:
    ab = torch.tensor([[8.0, -4.0, 1.0, 2.0]] * 2).reshape(2, 4, 1, 1)
    past, future = motion.split_vectors(ab, [256, 128])
    assert past.flatten().tolist() == [8, -4, 8, -4]
    assert future.flatten().tolist() == [-7, 6, -3, 4]


def test_slopes_are_those_of_the_taps() -> None:
    plain, slopes = motion.interpolation_taps()
    assert np.allclose(plain.sum(axis=1), 1)
    assert np.allclose(slopes.sum(axis=1), 0)
    # Half a step of the rounded taps' own size, and what the window curves between phases.
    assert np.abs((plain[2:] - plain[:-2]) / 2 - slopes[1:-1]).max() < 1.5 / 128
    assert np.abs(slopes).max(axis=1).min() > 1 / 32


@pytest.mark.parametrize(
    ("height", "width", "level", "scale"),
    [(8, 12, 2, 30), (7, 9, 2, 5), (5, 21, 3, 60), (3, 2, 3, 20), (1, 1, 2, 9), (9, 6, 2, 4000)],
)
def test_frames_are_their_references_displaced(
    height: int, width: int, level: int, scale: float
) -> None:
    torch.manual_seed(2)
    references = torch.rand(3, 2, height, width, dtype=torch.double)
    pasts, futures = [0, 2, -1, 1], [1, 2, -1, 0]
    trunk = 0.4 * torch.randn(4, 4, height, width, dtype=torch.double)
    first, second = (vectors_for(4, height, width, level, scale) for _ in range(2))
    made = motion.predict(trunk, references, pasts, futures, first, second, block_level=level)
    alpha, beta = ((trunk[:, i] + c).clamp(0, 1).numpy() for i, c in ((3, 1.0), (2, 0.5)))
    for n, (past, future) in enumerate(zip(pasts, futures, strict=True)):
        for c in range(2):
            expected = np.full((height, width), 0.5)
            if past >= 0:
                w = [
                    slow_warp(references[index, c].numpy(), own[n].numpy(), 1 << level)
                    for index, own in ((past, first), (future, second))
                ]
                mean = beta[n] * w[0] + (1 - beta[n]) * w[1] if future != past else w[0]
                expected = alpha[n] * mean
            np.testing.assert_allclose(made[n, c], expected + trunk[n, c].numpy(), atol=1e-12)


def test_vectors_are_rounded_half_up_and_held() -> None:
    picture = torch.rand(1, 1, 8, 8)
    trunk = torch.zeros(1, 3, 8, 8)

    def made(v: float) -> Tensor:
        vectors = torch.full((1, 2, 1, 1), v)
        return motion.predict(trunk, picture, [0], [0], vectors, vectors, block_level=3)

    for given, meant in ((2.5, 3.0), (-2.5, -2.0), (0.49, 0.0), (1e9, 16384.0)):
        assert torch.equal(made(given), made(meant))


def test_without_references_nothing_is_read() -> None:
    trunk = torch.randn(2, 5, 4, 6)
    vectors = torch.full((2, 2, 1, 2), 7.0)
    none = torch.empty(0, 3, 4, 6)
    made = motion.predict(trunk, none, [-1, -1], [-1, -1], vectors, vectors, block_level=2)
    torch.testing.assert_close(made, trunk[:, :3] + 0.5)


def sampled(picture: Tensor, vx: float, vy: float) -> Tensor:
    """(H, W) displaced by any vector through the window that the taps round, edges replicated."""
    rows, columns = (torch.arange(size).double() for size in picture.shape)
    planes = picture
    for positions, v in ((rows, vy), (columns, vx)):
        whole, taps = math.floor(v / 16), []
        for k in range(-3, 5):
            x = k + whole - v / 16
            taps.append(
                (math.sin(math.pi * x) / (math.pi * x) if x else 1) * math.cos(x * math.pi / 8)
            )
        last = len(positions) - 1
        at = [(positions + whole + k).clamp(0, last).long() for k in range(-3, 5)]
        planes = sum(tap * planes[i] for tap, i in zip(taps, at, strict=True)).T / sum(taps)
    return planes


@pytest.mark.parametrize("vector", [(0, 0), (5, 0), (0, -7), (-21, 13), (40, 8), (-160, 161)])
def test_gradients_of_vectors_are_slopes_of_the_window(vector: tuple[int, int]) -> None:
    height, width, level, step = 24, 32, 3, 1e-3
    y, x = (torch.arange(size).double() for size in (height, width))
    picture = 0.5 + 0.3 * torch.sin(0.5 * x + 0.2) * torch.cos(0.4 * y)[:, None]
    vectors = torch.tensor(vector).double().reshape(1, 2, 1, 1).repeat(1, 1, 3, 4)
    vectors.requires_grad_()
    trunk, weights = torch.zeros(1, 3, height, width), torch.rand(height, width).double()
    made = motion.predict(
        trunk.double(), picture[None, None], [0], [0], vectors, vectors, block_level=level
    )
    (made[0, 0] * weights).sum().backward()
    for axis, (dx, dy) in enumerate(((step, 0.0), (0.0, step))):
        after = sampled(picture, vector[0] + dx, vector[1] + dy)
        before = sampled(picture, vector[0] - dx, vector[1] - dy)
        slope = weights * (after - before) / (2 * step)
        blocks = slope.reshape(3, 8, 4, 8).sum(dim=(1, 3))
        error = (vectors.grad[0, axis] - blocks).norm() / blocks.norm()
        assert error < 0.04  # the taps across the other axis are rounded


def test_what_is_clamped_has_no_gradient() -> None:
    trunk = torch.zeros(1, 3, 4, 4)
    trunk[0, 1], trunk[0, 2] = 0.7, 0.2
    trunk.requires_grad_()
    vectors = torch.full((1, 2, 1, 1), 20000.0, requires_grad=True)
    picture = torch.rand(2, 1, 4, 4)
    made = motion.predict(trunk, picture, [0], [1], vectors, vectors, block_level=2)
    made.sum().backward()
    assert not trunk.grad[0, 1:].any()
    assert not vectors.grad.any()
    assert torch.equal(trunk.grad[0, 0], torch.ones(4, 4))
