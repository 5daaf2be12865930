"""CKConvND against direct sums and Toeplitz products, and its kernel network and window."""

from __future__ import annotations

import copy
import itertools
import pickle

import numpy as np
import pytest
import torch
from torch import nn

from codec.errors import GridDtypeError, UsageError
from codec.layers import SIREN, CKConvND, ExponentialModulationND

MODES = {
    "linear": ("double", "zero"),
    "periodic": ("single", "circular"),
    "near": ("single", "zero"),
}


def make(data_dim: int, channels: int, modes: tuple[str, ...], **options: object) -> CKConvND:
    torch.manual_seed(5)
    grid_type, fft_padding = zip(*(MODES[mode] for mode in modes), strict=True)
    return CKConvND(
        data_dim, channels, grid_type=grid_type, fft_padding=fft_padding, **options
    ).double()


def toeplitz(kernel: np.ndarray, size: int, mode: str) -> np.ndarray:
    """(size, size) matrix M[n, m] = kernel at displacement n - m, modulo size if periodic."""
    centre, matrix = len(kernel) // 2, np.zeros((size, size))
    for n, m, shift in itertools.product(range(size), range(size), (-size, 0, size)):
        tap = centre + n - m + shift
        if 0 <= tap < len(kernel) and (shift == 0 or mode == "periodic"):
            matrix[n, m] += kernel[tap]
    return matrix


def direct_sum(x: np.ndarray, kernel: np.ndarray, modes: tuple[str, ...]) -> np.ndarray:
    """y(n) = sum_d kernel(centre + d) x(n - d) for x (*dims), one displacement at a time."""
    out = np.zeros_like(x)
    for tap in np.ndindex(*kernel.shape):
        shifted = x
        for axis, (t, size, mode) in enumerate(zip(tap, kernel.shape, modes, strict=True)):
            move = t - size // 2
            shifted = np.roll(shifted, move, axis)
            if mode != "periodic":
                gone = [slice(None)] * x.ndim
                gone[axis] = slice(0, move) if move >= 0 else slice(x.shape[axis] + move, None)
                shifted = shifted.copy()
                shifted[tuple(gone)] = 0
        out += kernel[tap] * shifted
    return out


@pytest.mark.parametrize("mode", sorted(MODES))
@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 21])
def test_1d_equals_toeplitz_product(mode, size):
    layer = make(1, 3, (mode,))
    x = torch.randn(2, 3, size).double()
    out = layer(x).detach().numpy()
    kernel = layer.kernel_values((size,)).detach().numpy()
    for c in range(3):
        matrix = toeplitz(kernel[c], size, mode) + layer.shortcut[c].item() * np.eye(size)
        np.testing.assert_allclose(out[:, c], x[:, c].numpy() @ matrix.T, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("modes", list(itertools.product(sorted(MODES), repeat=2)))
def test_2d_equals_direct_sum(modes):
    layer = make(2, 2, modes)
    for dims in ((5, 4), (1, 6)):
        x = torch.randn(1, 2, *dims).double()
        out, kernel = layer(x).detach().numpy(), layer.kernel_values(dims).detach().numpy()
        for c in range(2):
            expected = direct_sum(x[0, c].numpy(), kernel[c], modes)
            expected += layer.shortcut[c].item() * x[0, c].numpy()
            np.testing.assert_allclose(out[0, c], expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("modes", list(itertools.product(("linear", "periodic"), repeat=3)))
def test_3d_equals_direct_sum(modes):
    layer = make(3, 2, modes)
    x = torch.randn(1, 2, 3, 4, 5).double()
    out, kernel = layer(x).detach().numpy(), layer.kernel_values((3, 4, 5)).detach().numpy()
    for c in range(2):
        expected = direct_sum(x[0, c].numpy(), kernel[c], modes)
        expected += layer.shortcut[c].item() * x[0, c].numpy()
        np.testing.assert_allclose(out[0, c], expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("size", [1, 2, 9])
def test_causal_sees_no_future(size):
    torch.manual_seed(2)
    layer = CKConvND(1, 2, is_causal=True).double()
    x = torch.randn(1, 2, size).double()
    kernel = layer.kernel_values((size,)).detach().numpy()
    assert kernel.shape == (2, size)
    whole = CKConvND(1, 2, kernel=layer.kernel, mask=layer.mask).double().kernel_values((size,))
    np.testing.assert_array_equal(kernel, whole.detach().numpy()[:, size - 1 :])
    for c in range(2):
        expected = np.convolve(x[0, c].numpy(), kernel[c])[:size]
        expected += layer.shortcut[c].item() * x[0, c].numpy()
        np.testing.assert_allclose(layer(x)[0, c].detach().numpy(), expected, atol=1e-12)


def test_float32_and_half_follow_float64():
    layer = make(2, 3, ("linear", "periodic"))
    x = torch.randn(2, 3, 9, 8).double()
    exact = layer(x)
    single = copy.deepcopy(layer).float()(x.float())
    assert single.dtype == torch.float32
    torch.testing.assert_close(single, exact.float(), rtol=1e-4, atol=1e-5)
    half = copy.deepcopy(layer).float()(x.half())
    assert half.dtype == torch.float16
    torch.testing.assert_close(half.double(), exact, rtol=5e-3, atol=5e-3)


def test_kernel_is_network_times_window():
    layer = make(2, 4, ("linear", "periodic"))
    kernel = layer.kernel_values((4, 6))
    assert kernel.shape == (4, 7, 5)
    rows, columns = np.linspace(-1, 1, 7), np.linspace(-1, 1, 5)
    rates = np.linspace(2.3, 13.81, 4) / 2
    hidden, out = layer.kernel.hidden, layer.kernel.out
    for i, j in np.ndindex(7, 5):
        values = np.array([rows[i], columns[j]])
        for linear in hidden:
            values = np.sin(linear.weight.detach().numpy() @ values + linear.bias.detach().numpy())
        values = out.weight.detach().numpy() @ values + out.bias.detach().numpy()
        values *= np.exp(-abs(rows[i]) * rates) * np.exp(-abs(columns[j]) * rates)
        np.testing.assert_allclose(kernel[:, i, j].detach().numpy(), values, rtol=3e-5, atol=3e-6)


class Ramp(nn.Module):
    """A kernel that counts: value = index of the point."""

    def forward(self, lens):
        points = torch.arange(2 * lens[0] - 1, dtype=torch.float32)
        return points[None, :, None], torch.linspace(-1, 1, len(points))[None, :, None]


def test_kernel_and_mask_are_replaceable():
    layer = CKConvND(1, 1, kernel=Ramp(), mask=nn.Identity())
    assert layer.kernel_values((3,)).tolist() == [[0, 1, 2, 3, 4]]
    nn.init.zeros_(layer.shortcut)
    impulse = torch.tensor([[[1.0, 0.0, 0.0]]])
    torch.testing.assert_close(layer(impulse), torch.tensor([[[2.0, 3.0, 4.0]]]))
    masked = CKConvND(1, 1, kernel=Ramp(), mask=ExponentialModulationND(1, 1))
    expected = [i * np.exp(-2.3 * abs(i - 2) / 2) for i in range(5)]
    assert masked.kernel_values((3,))[0].tolist() == pytest.approx(expected, rel=1e-6)
    with pytest.raises(UsageError, match=r"must give \(1, \*dims, 2\)"):
        CKConvND(1, 2, kernel=Ramp(), mask=nn.Identity()).kernel_values((3,))


def test_gradients_reach_input_shortcut_and_network():
    layer = make(1, 2, ("linear",), kernel=SIREN(1, 2, hidden_dims=(3,)))
    x = torch.randn(1, 2, 4).double().requires_grad_()
    assert torch.autograd.gradcheck(layer, (x,))
    names = ["shortcut", "kernel.hidden.0.weight", "kernel.out.bias"]
    values = [layer.get_parameter(name).detach().clone().requires_grad_() for name in names]

    def run(*tensors):
        named = dict(zip(names, tensors, strict=True))
        return torch.func.functional_call(layer, named, (x.detach(),))

    assert torch.autograd.gradcheck(run, tuple(values))


def test_initial_values():
    torch.manual_seed(0)
    layer = CKConvND(2, 4096, kernel=Ramp())
    assert layer.shortcut.abs().max().item() <= 1 / 64
    assert layer.shortcut.std().item() * 64 == pytest.approx(3**-0.5, rel=0.05)
    siren = SIREN(2, 512, hidden_dims=(256, 128), omega_0=4.0, length=9)
    first, second, out = *(layer.weight for layer in siren.hidden), siren.out.weight
    for weight, bound in (
        (first, 2 * np.pi * 4 / 2),
        (second, (6 / 256) ** 0.5),
        (out, (6 / 128) ** 0.5 / 9),
    ):
        assert 0.98 * bound < weight.abs().max().item() <= bound
        assert weight.std().item() == pytest.approx(bound * 3**-0.5, rel=0.05)
    assert all(not layer.bias.any() for layer in (*siren.hidden, siren.out))


def test_random_numbers_come_from_the_global_generator():
    torch.manual_seed(7)
    first = CKConvND(1, 2).state_dict()
    torch.manual_seed(7)
    again = CKConvND(1, 2).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_siren_grid():
    values, grid = SIREN(2, 3)((3, 1))
    assert values.shape == (1, 5, 1, 3)
    assert grid.dtype == torch.float32
    assert grid[0, :, 0].tolist() == [[-1, 0], [-0.5, 0], [0, 0], [0.5, 0], [1, 0]]


def test_sequence_of_paddings_chooses_the_grid():
    layer = CKConvND(2, 1, fft_padding=["circular", "zero"])
    assert layer.grid_type == ("single", "double")
    assert layer.kernel_values((5, 5)).shape == (1, 5, 9)
    assert "grid_type=('single', 'double')" in repr(layer)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"fft_padding": "circular"}, "needs grid_type 'single'"),
        ({"fft_padding": "mirror"}, "'zero', 'circular'"),
        ({"fft_padding": ["zero"]}, "a sequence of 2"),
        ({"grid_type": "triple"}, "'double', 'single'"),
        ({"grid_type": None}, "grid_type is None"),
        ({"is_causal": True}, "causal CKConvND is 1-D"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(UsageError, match=message):
        CKConvND(2, 4, **arguments)


def test_wrong_shapes_are_refused():
    with pytest.raises(UsageError, match="1 to 3 dimensions"):
        CKConvND(4, 2)
    with pytest.raises(UsageError, match="causal"):
        CKConvND(1, 2, grid_type="single", fft_padding="circular", is_causal=True)
    layer = CKConvND(2, 3)
    with pytest.raises(UsageError, match=r"expects \(B, 3, \?, \?\), got \(1, 2, 4, 4\)"):
        layer(torch.zeros(1, 2, 4, 4))
    with pytest.raises(UsageError, match="needs 2 sizes"):
        layer.kernel_values((4,))
    with pytest.raises(UsageError, match="needs 2 sizes"):
        layer(torch.zeros(1, 3, 0, 4))
    with pytest.raises(UsageError, match="SIREN sizes"):
        SIREN(1, 2, hidden_dims=())
    with pytest.raises(UsageError, match="needs 1 lengths"):
        SIREN(1, 2)((3, 3))


def test_window_values():
    mask = ExponentialModulationND(3, 5, fast_decay_pct=9.0, slow_decay_pct=3.0)
    rng = np.random.default_rng(0)
    grid = rng.uniform(-1, 1, (1, 2, 3, 4, 3)).astype(np.float32)
    x = rng.normal(size=(2, 2, 3, 4, 5))
    out = mask(torch.from_numpy(grid), torch.from_numpy(x)).numpy()
    for place in np.ndindex(2, 3, 4, 5):
        rate = (3 + 6 * place[-1] / 4) / 3
        window = np.exp(-rate * np.abs(grid[0][place[:-1]].astype(float)).sum())
        np.testing.assert_allclose(out[:, *place], x[:, *place] * window, rtol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_window_keeps_the_type_of_x(dtype):
    mask = ExponentialModulationND(1, 2)
    x = torch.ones(1, 3, 2, dtype=dtype)
    out = mask(torch.linspace(-1, 1, 3)[None, :, None], x)
    assert out.dtype == dtype
    assert out[0, 1].tolist() == [1, 1]
    assert out[0, 0].tolist() == pytest.approx([np.exp(-2.3), np.exp(-13.81)], rel=8e-3, abs=1e-7)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_window_refuses_other_grids(dtype):
    mask, grid = ExponentialModulationND(1, 2), torch.zeros(1, 3, 1, dtype=dtype)
    for kind in (GridDtypeError, AssertionError, UsageError):
        with pytest.raises(kind, match="must be float32"):
            mask(grid, torch.ones(1, 3, 2))
    with pytest.raises(UsageError, match="the grid must be"):
        mask(torch.zeros(1, 3, 2), torch.ones(1, 3, 2))
    with pytest.raises(UsageError, match="x must be"):
        mask(torch.zeros(1, 3, 1), torch.ones(1, 4, 2))


def test_window_is_never_trained():
    mask = ExponentialModulationND(2, 4)
    before = mask.weight.clone()
    assert list(mask.state_dict()) == ["weight"]
    assert not mask.weight.requires_grad
    mask.requires_grad_(True)
    optimizer = torch.optim.AdamW(mask.parameters(), lr=1.0)
    x = torch.ones(1, 3, 3, 4, requires_grad=True)
    mask(torch.full((1, 3, 3, 2), 0.5), x).sum().backward()
    optimizer.step()
    assert x.grad is not None
    assert torch.equal(mask.weight, before)


def test_window_marks_survive_copies():
    mask = ExponentialModulationND(1, 3)
    for module in (mask, copy.deepcopy(mask), pickle.loads(pickle.dumps(mask)), mask.double()):
        assert module.weight._no_weight_decay is True
    text = repr(mask)
    for name in ("data_dim=1", "num_channels=3", "fast_decay_pct=13.81", "slow_decay_pct=2.3"):
        assert name in text
