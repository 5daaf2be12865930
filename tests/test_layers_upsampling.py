"""The x2 interpolation and the filters before joining, against loops and known interpolators."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from codec.layers.upsampling import (
    Upsampling,
    apply_separable,
    default_half_kernel,
    filter_basis,
    interpolation_basis,
)

torch.set_num_threads(1)
CPU = torch.device("cpu")
SIZES = [(1, 1), (1, 6), (2, 1), (3, 5), (7, 4)]


def interpolated(line: np.ndarray, half: np.ndarray, cropped: int) -> np.ndarray:
    """x2 along one line: output o lies at o/2 - 1/4; the kernel has a tap every half sample."""
    kernel = {0.25 + i / 2: tap for i, tap in enumerate(half[::-1])}
    out = np.zeros(cropped)
    for o in range(cropped):
        for i in range(-9, len(line) + 9):
            tap = kernel.get(abs(i - (o / 2 - 0.25)), 0.0)
            out[o] += tap * line[min(max(i, 0), len(line) - 1)]
    return out


def filtered(line: np.ndarray, half: np.ndarray) -> np.ndarray:
    """A symmetric filter with replicated ends."""
    taps = np.concatenate([half, half[-2::-1]])
    return np.convolve(np.pad(line, len(half) - 1, "edge"), taps, "valid")


def separable(plane: np.ndarray, rows, columns) -> np.ndarray:
    vertical = np.stack([rows(line) for line in plane.T]).T
    return np.stack([columns(line) for line in vertical])


def module(up_taps: int, pre_taps: int) -> Upsampling:
    torch.manual_seed(up_taps + pre_taps)
    made = Upsampling(up_taps=up_taps, pre_taps=pre_taps, stages=(1, 0), filtered=(0,))
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return made


@pytest.mark.parametrize("up_taps", [4, 8])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("odd", [(0, 0), (1, 0), (0, 1), (1, 1)])
def test_interpolation_equals_loops(up_taps, size, odd):
    made = module(up_taps, 1)
    half = made.up["1"].detach().numpy().astype(np.float64)
    x = np.random.default_rng(3).normal(size=(2, 3, *size))
    height, width = 2 * size[0] - odd[0], 2 * size[1] - odd[1]
    out = made.interpolate(torch.from_numpy(x).float(), 1, height, width).detach().numpy()
    assert out.shape == (2, 3, height, width)
    for s, c in np.ndindex(2, 3):
        expected = separable(
            x[s, c],
            lambda line: interpolated(line, half, height),
            lambda line: interpolated(line, half, width),
        )
        np.testing.assert_allclose(out[s, c], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("pre_taps", [3, 5, 7])
@pytest.mark.parametrize("size", SIZES)
def test_joining_filters_equal_loops(pre_taps, size):
    made = module(4, pre_taps)
    half = made.pre["0"].detach().numpy().astype(np.float64)
    latent = np.random.default_rng(4).integers(-9, 10, (3, *size)).astype(np.float64)
    out = made.join(torch.from_numpy(latent).float(), 0).detach().numpy()
    assert out.shape == (3, 1, *size)
    for s in range(3):
        expected = separable(
            latent[s], lambda line: filtered(line, half), lambda line: filtered(line, half)
        )
        np.testing.assert_allclose(out[s, 0], expected, rtol=1e-4, atol=1e-4)


def test_levels_without_filter_join_as_they_are():
    latent = torch.randn(2, 4, 5)
    assert torch.equal(module(4, 3).join(latent, 1), latent.unsqueeze(1))


@pytest.mark.parametrize(("up_taps", "mode"), [(4, "bilinear"), (8, "bicubic")])
def test_initial_interpolation_is_the_known_one(up_taps, mode):
    made = Upsampling(up_taps=up_taps, pre_taps=7, stages=(0,), filtered=(0,))
    x = torch.randn(2, 3, 6, 5)
    expected = F.interpolate(x, scale_factor=2, mode=mode, align_corners=False)
    torch.testing.assert_close(made.interpolate(x, 0, 12, 10), expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(made.interpolate(x, 0, 11, 9), expected[..., :11, :9], rtol=0,
                               atol=1e-5)  # fmt: skip
    flat = torch.full((1, 1, 3, 4), 7.0)
    torch.testing.assert_close(made.interpolate(flat, 0, 6, 8), torch.full((1, 1, 6, 8), 7.0))
    assert default_half_kernel(up_taps).sum() == 1


def test_initial_filters_change_nothing():
    made = Upsampling(up_taps=8, pre_taps=7, stages=(0,), filtered=(0,))
    latent = torch.randn(2, 5, 6)
    assert torch.equal(made.join(latent, 0), latent.unsqueeze(1))


@pytest.mark.parametrize(
    ("rows", "columns", "num_half"),
    [
        (interpolation_basis(4, 3, 5, CPU), interpolation_basis(4, 2, 4, CPU), 4),
        (interpolation_basis(2, 1, 2, CPU), interpolation_basis(2, 4, 7, CPU), 2),
        (filter_basis(4, 3, CPU), filter_basis(4, 2, CPU), 4),
    ],
)
def test_gradients_of_taps_and_planes(rows, columns, num_half):
    torch.manual_seed(5)
    x = torch.randn(2, rows.shape[2], columns.shape[2], dtype=torch.float64, requires_grad=True)
    half = torch.randn(num_half, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda x, half: apply_separable(x, half, rows.double(), columns.double()), (x, half)
    )


def test_every_stage_and_level_has_its_own_kernel():
    made = module(8, 5)
    names = {name: tuple(tensor.shape) for name, tensor in made.tensors().items()}
    assert names == {"up.1": (4,), "up.0": (4,), "pre.0": (3,)}
    x = torch.randn(1, 1, 4, 4)
    assert not torch.equal(made.interpolate(x, 1, 8, 8), made.interpolate(x, 0, 8, 8))
