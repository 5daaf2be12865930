"""AdaptiveConv3DMod against weights that are really modulated, demodulated and convolved."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from codec.errors import UsageError
from codec.layers import AdaptiveConv3DMod


def make(dim: int, dim_out: int, **options: object) -> AdaptiveConv3DMod:
    torch.manual_seed(1)
    settings = {"spatial_kernel": 3, "time_kernel": 3, **options}
    return AdaptiveConv3DMod(dim, dim_out=dim_out, **settings).double()


def baked_weights(layer: AdaptiveConv3DMod, mod: np.ndarray) -> np.ndarray:
    """Modulated and demodulated weights of one code, in float64 loops."""
    weights = layer.weights.detach().numpy().copy()
    for i in range(weights.shape[1]):
        weights[:, i] *= 1 + mod[i]
    if layer.demod:
        for o in range(weights.shape[0]):
            weights[o] /= np.sqrt(max((weights[o] ** 2).sum(), layer.eps))
    return weights


def correlate(x: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Same-size cross-correlation with zero padding of x (C, T, H, W), one tap at a time."""
    out = np.zeros((weights.shape[0], *x.shape[1:]))
    reach = [size // 2 for size in weights.shape[2:]]
    padded = np.pad(x, [(0, 0), *((r, r) for r in reach)])
    _, frames, rows, columns = x.shape
    for t, v, u in np.ndindex(*weights.shape[2:]):
        window = padded[:, t : t + frames, v : v + rows, u : u + columns]
        out += np.tensordot(weights[:, :, t, v, u], window, axes=1)
    return out


@pytest.mark.parametrize("demod", [True, False])
@pytest.mark.parametrize(("time_kernel", "spatial_kernel"), [(3, 3), (1, 5), (5, 1), (1, 1)])
def test_forward_equals_baked_weights(demod, time_kernel, spatial_kernel):
    layer = make(4, 3, demod=demod, time_kernel=time_kernel, spatial_kernel=spatial_kernel)
    x, mod = torch.randn(2, 4, 5, 6, 7).double(), torch.randn(2, 4).double()
    out = layer(x, mod).detach().numpy()
    for b in range(2):
        expected = correlate(x[b].numpy(), baked_weights(layer, mod[b].numpy()))
        np.testing.assert_allclose(out[b], expected, rtol=1e-12, atol=1e-12)


def test_float32_equals_grouped_convolution_form():
    torch.manual_seed(3)
    layer = AdaptiveConv3DMod(6, spatial_kernel=3, time_kernel=3)
    x, mod = torch.randn(4, 6, 4, 8, 8), torch.randn(4, 6)
    weights = layer.weights[None] * (mod[:, None, :, None, None, None] + 1)
    weights = weights * weights.square().sum((2, 3, 4, 5), keepdim=True).clamp(min=1e-8).rsqrt()
    grouped = F.conv3d(
        F.pad(x.reshape(1, 24, 4, 8, 8), (1,) * 6), weights.flatten(0, 1), groups=4
    ).reshape(4, 6, 4, 8, 8)
    torch.testing.assert_close(layer(x, mod), grouped, rtol=1e-5, atol=1e-5)


def test_no_code_means_code_zero_and_demodulation_stays():
    layer, x = make(3, 5), torch.randn(2, 3, 3, 4, 4).double()
    torch.testing.assert_close(layer(x), layer(x, torch.zeros(2, 3).double()))
    baked = baked_weights(layer, np.zeros(3))
    assert (baked**2).sum((1, 2, 3, 4)) == pytest.approx(1)
    np.testing.assert_allclose(
        layer(x)[0].detach().numpy(), correlate(x[0].numpy(), baked), rtol=1e-12, atol=1e-12
    )


def test_demodulation_is_bounded_by_eps():
    layer, x = make(2, 2, eps=1e-4), torch.randn(1, 2, 2, 3, 3).double()
    with torch.no_grad():
        layer.weights.mul_(1e-6)
    expected = correlate(x[0].numpy(), layer.weights.detach().numpy() * 100)
    np.testing.assert_allclose(layer(x)[0].detach().numpy(), expected, rtol=1e-10, atol=1e-18)


@pytest.mark.parametrize("demod", [True, False])
@pytest.mark.parametrize("num_frames", [1, 2, 6])
def test_codes_in_time_follow_the_output_frame(demod, num_frames):
    layer = make(3, 2, demod=demod, time_kernel=5)
    x = torch.randn(2, 3, num_frames, 4, 5).double()
    mod = torch.randn(2, 3, num_frames).double()
    out = layer.forward_per_frame(x, mod).detach().numpy()
    for b in range(2):
        for t in range(num_frames):
            whole = correlate(x[b].numpy(), baked_weights(layer, mod[b, :, t].numpy()))
            np.testing.assert_allclose(out[b, :, t], whole[:, t], rtol=1e-12, atol=1e-12)


def test_gradients():
    layer = make(2, 2, time_kernel=3)
    x = torch.randn(1, 2, 3, 3, 3).double().requires_grad_()
    mod = torch.randn(1, 2).double().requires_grad_()
    moving = torch.randn(1, 2, 3).double().requires_grad_()
    call = torch.func.functional_call
    weights = layer.weights.detach().clone().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda w, a, m: call(layer, {"weights": w}, (a, m)), (weights, x, mod)
    )
    assert torch.autograd.gradcheck(layer.forward_per_frame, (x, moving))


def test_initial_distribution_and_attributes():
    torch.manual_seed(0)
    layer = AdaptiveConv3DMod(32, dim_out=64, spatial_kernel=3, time_kernel=5)
    assert layer.weights.shape == (64, 32, 5, 3, 3)
    assert layer.padding == (1, 1, 1, 1, 2, 2)
    assert list(layer.state_dict()) == ["weights"]
    fan_in = 32 * 5 * 3 * 3
    assert layer.weights.std().item() * fan_in**0.5 == pytest.approx(0.75, rel=0.01)
    assert abs(layer.weights.mean().item()) < 4 * 0.75 / fan_in**0.5 / layer.weights.numel() ** 0.5
    assert AdaptiveConv3DMod(7, spatial_kernel=1, time_kernel=1).weights.shape[0] == 7


@pytest.mark.parametrize(("time_kernel", "spatial_kernel"), [(2, 3), (3, 4), (0, 3)])
def test_even_kernels_are_refused(time_kernel, spatial_kernel):
    with pytest.raises(UsageError, match="must be odd"):
        AdaptiveConv3DMod(2, spatial_kernel=spatial_kernel, time_kernel=time_kernel)


def test_wrong_shapes_are_refused():
    layer, x = make(3, 3), torch.zeros(2, 3, 2, 4, 4).double()
    with pytest.raises(UsageError, match=r"expects \(B, 3, T, H, W\), got \(2, 4, 2, 4, 4\)"):
        layer(torch.zeros(2, 4, 2, 4, 4).double())
    with pytest.raises(UsageError, match="expects"):
        layer(x[0])
    with pytest.raises(UsageError, match=r"mod must be \(2, 3\), got \(1, 3\)"):
        layer(x, torch.zeros(1, 3).double())
    with pytest.raises(UsageError, match=r"mod must be \(2, 3, 2\)"):
        layer.forward_per_frame(x, torch.zeros(2, 3).double())
    with pytest.raises(UsageError, match="at least 1"):
        AdaptiveConv3DMod(0, spatial_kernel=3, time_kernel=3)
