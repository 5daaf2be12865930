"""Contexts, ARM, IFCE, the bits of a latent and the quantizers, against loops in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from codec.arch.network import CONTEXT_ORDER
from codec.layers.arm import Arm, Ifce, gather_contexts, laplace_bits, upsample_nearest
from codec.layers.quantizers import hard_round, noisy_softround, softround

torch.set_num_threads(1)
ACT_LIMIT = 32767 / 128


def neighbour(plane: np.ndarray, y: int, x: int) -> float:
    """A sample of a plane, zero outside."""
    height, width = plane.shape
    return plane[y, x] if 0 <= y < height and 0 <= x < width else 0.0


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 3, 2), (3, 5, 7), (1, 9, 4), (2, 1, 11)])
@pytest.mark.parametrize("num_contexts", [1, 6, 14, 24])
def test_contexts_equal_loops_in_value_and_gradient(shape, num_contexts):
    rng = np.random.default_rng(1)
    latent = torch.from_numpy(rng.normal(size=shape)).requires_grad_()
    weight = rng.normal(size=(num_contexts, *shape))
    out = gather_contexts(latent, num_contexts)
    (out * torch.from_numpy(weight)).sum().backward()
    planes, gradient = latent.detach().numpy(), np.zeros(shape)
    for n, (dy, dx) in enumerate(CONTEXT_ORDER[:num_contexts]):
        for s, y, x in np.ndindex(shape):
            assert out[n, s, y, x].item() == neighbour(planes[s], y + dy, x + dx)
            if y + dy >= 0 and 0 <= x + dx < shape[2]:
                gradient[s, y + dy, x + dx] += weight[n, s, y, x]
    np.testing.assert_allclose(latent.grad.numpy(), gradient, rtol=1e-12, atol=1e-14)


def test_contexts_pass_gradcheck():
    latent = torch.randn(2, 4, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: gather_contexts(x, 24), latent)


@pytest.mark.parametrize("shift", [0, 1, 2, 5])
@pytest.mark.parametrize("size", [(1, 1), (5, 7), (8, 8), (33, 18)])
def test_nearest_upsampling_repeats_and_crops(shift, size):
    height, width = size
    small = torch.randn(2, 3, -(-height >> shift), -(-width >> shift))
    wide = upsample_nearest(small, shift, height, width)
    assert wide.shape == (2, 3, height, width)
    for y, x in np.ndindex(height, width):
        assert torch.equal(wide[..., y, x], small[..., y >> shift, x >> shift])


def test_ifce_is_a_saturated_linear_map():
    torch.manual_seed(0)
    ifce = Ifce(3, 2)
    for parameter in ifce.parameters():
        torch.nn.init.normal_(parameter)
    sources = torch.randint(-255, 256, (4, 3, 2, 5)).float()
    out = ifce(sources).detach().numpy()
    assert out.shape == (2, 4, 2, 5)
    for s, y, x in np.ndindex(4, 2, 5):
        linear = ifce.weight.detach().numpy() @ sources[s, :, y, x].numpy()
        expected = np.clip(linear + ifce.bias.detach().numpy(), -ACT_LIMIT, ACT_LIMIT)
        np.testing.assert_allclose(out[:, s, y, x], expected, rtol=1e-5, atol=1e-4)
    assert (np.abs(out) == np.float32(ACT_LIMIT)).any()


def random_arm(width: int, num_layers: int) -> Arm:
    torch.manual_seed(width + num_layers)
    arm = Arm(width, num_layers).double()
    for parameter in arm.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return arm


@pytest.mark.parametrize("num_layers", [0, 1, 3])
def test_arm_equals_loops(num_layers):
    arm, width = random_arm(5, num_layers), 5
    x = torch.from_numpy(np.random.default_rng(2).normal(size=(width, 40)) * 60)
    mu, log_scale = (out.detach().numpy() for out in arm(x))
    named = {name: tensor.detach().numpy() for name, tensor in arm.tensors().items()}
    seen = {"mu": False, "scale": False}
    for column in range(x.shape[1]):
        inputs = hidden = x[:, column].numpy()
        for i in range(num_layers):
            hidden = named[f"{i}.weight"] @ hidden + named[f"{i}.bias"] + hidden
            hidden = np.minimum(np.maximum(hidden, 0), ACT_LIMIT)
        out = named["out.weight"] @ hidden + named["out.bias"]
        if num_layers:
            out = out + named["stab.weight"] @ inputs
        assert mu[column] == pytest.approx(min(max(out[0], -255), 255), abs=1e-9)
        assert log_scale[column] == pytest.approx(min(max(out[1] - 4, -5), 5), abs=1e-9)
        seen["mu"] |= abs(out[0]) < 255
        seen["scale"] |= abs(out[1] - 4) < 5
    assert all(seen.values())


def test_arm_starts_as_the_stream_expects():
    arm = Arm(4, 2)
    assert list(arm.tensors()) == [
        "0.weight", "0.bias", "1.weight", "1.bias", "out.weight", "out.bias", "stab.weight",
    ]  # fmt: skip
    assert "stab.weight" not in Arm(4, 0).tensors()
    mu, log_scale = arm(torch.zeros(4, 3))
    assert mu.tolist() == [0, 0, 0]
    assert log_scale.tolist() == [-4, -4, -4]


def laplace_mass(value: float, mu: float, log_scale: float) -> float:
    """Mass of [value - 1/2, value + 1/2], from the distribution function of each side."""
    scale = math.exp(log_scale)
    low, high = value - mu - 0.5, value - mu + 0.5
    if low >= 0:
        return 0.5 * math.exp(-low / scale) * -math.expm1(-1 / scale)
    if high <= 0:
        return 0.5 * math.exp(high / scale) * -math.expm1(-1 / scale)
    return -0.5 * math.expm1(low / scale) - 0.5 * math.expm1(-high / scale)


def exact_bits(value: float, mu: float, log_scale: float) -> float:
    mass = laplace_mass(value, mu, log_scale)
    return 16.0 if mass < 2**-16 else -math.log2(mass)


VALUES = st.integers(-255, 255).map(float)
NEAR = st.floats(-30, 30)
LOG_SCALES = st.floats(-5, 5)


@given(VALUES, NEAR, LOG_SCALES)
@settings(deadline=None, max_examples=400, derandomize=True)
def test_bits_equal_the_laplace_mass(value, offset, log_scale):
    mu = min(max(value + offset, -255), 255)
    exact = exact_bits(value, mu, log_scale)
    for dtype, tolerance in ((torch.float64, 1e-9), (torch.float32, 2e-3)):
        tensors = [torch.tensor([x], dtype=dtype) for x in (value, mu, log_scale)]
        assert laplace_bits(*tensors).item() == pytest.approx(exact, abs=tolerance, rel=1e-4)


@given(VALUES, NEAR, LOG_SCALES)
@settings(deadline=None, max_examples=200, derandomize=True)
def test_gradients_of_bits_equal_differences(value, offset, log_scale):
    arguments = [value, min(max(value + offset, -255.0), 255.0), log_scale]
    if exact_bits(*arguments) > 15.9 or abs(arguments[0] - arguments[1]) < 1e-3:
        return
    tensors = [torch.tensor([x], dtype=torch.float64, requires_grad=True) for x in arguments]
    laplace_bits(*tensors).backward()
    for i, tensor in enumerate(tensors):
        step = 1e-6
        up, down = ([x + s * (j == i) for j, x in enumerate(arguments)] for s in (step, -step))
        difference = (exact_bits(*up) - exact_bits(*down)) / (2 * step)
        assert tensor.grad.item() == pytest.approx(difference, rel=1e-4, abs=1e-5)


def test_bits_at_the_extremes_are_numbers_of_at_most_sixteen():
    axis = torch.tensor([-255.0, -254.5, -1.0, -0.5, 0.0, 0.49999, 0.5, 1.0, 255.0])
    scales = torch.tensor([-5.0, -4.0, 0.0, 5.0])
    value, mu, log_scale = (t.flatten() for t in torch.meshgrid(axis, axis, scales, indexing="ij"))
    tensors = [t.clone().requires_grad_() for t in (value, mu, log_scale)]
    bits = laplace_bits(*tensors)
    assert bits.isfinite().all()
    assert bits.min() >= 0
    assert bits.max() == 16
    bits.sum().backward()
    for tensor in tensors:
        assert tensor.grad.isfinite().all()
    far = (value - mu).abs() > 100
    assert far.any()
    assert bits[far & (log_scale < 1)].eq(16).all()


@given(st.floats(-300, 300), st.floats(0.02, 20))
@settings(deadline=None, max_examples=200, derandomize=True)
def test_softround_keeps_integers_halves_and_order(x, temperature):
    def at(value: float) -> float:
        return softround(torch.tensor(value, dtype=torch.float64), temperature).item()

    base = math.floor(x)
    fraction = x - base
    hand = (
        base + 0.5 + math.tanh((fraction - 0.5) / temperature) / (2 * math.tanh(0.5 / temperature))
    )
    assert at(x) == pytest.approx(hand, abs=1e-9)
    assert base - 1e-9 <= at(x) <= base + 1 + 1e-9
    assert at(float(base)) == pytest.approx(base, abs=1e-9)
    assert at(base + 0.5) == pytest.approx(base + 0.5, abs=1e-9)
    assert at(x + 0.01) >= at(x) - 1e-9


def test_softround_tends_to_rounding_and_to_the_identity():
    x = torch.linspace(-3, 3, 601, dtype=torch.float64)
    away = (x - x.floor() - 0.5).abs() > 0.05
    torch.testing.assert_close(softround(x, 0.005)[away], x.round()[away], atol=1e-8, rtol=0)
    torch.testing.assert_close(softround(x, 100.0), x, atol=1e-5, rtol=0)


def test_noise_moves_latents_between_roundings_and_never_out_of_range():
    x = torch.tensor([0.2, 0.2, -0.4, 254.9, 300.0, -300.0], dtype=torch.float64)
    noise = torch.tensor([0.0, 0.7, -0.3, 3.0, 0.0, 0.0], dtype=torch.float64)
    expected = softround(softround(x, 0.3) + noise, 0.3).clamp(-255, 255)
    torch.testing.assert_close(noisy_softround(x, noise, 0.3), expected)
    assert noisy_softround(x, noise, 0.3)[3:].tolist() == [255, 255, -255]
    sharp = noisy_softround(x, noise, 0.01)
    torch.testing.assert_close(sharp[:3], torch.tensor([0.0, 1.0, 0.0]).double())


def test_hard_round_gives_integers_in_range_without_gradient():
    x = torch.tensor([0.5, 1.5, -0.5, 2.4, 400.0, -400.0], requires_grad=True)
    rounded = hard_round(x)
    assert rounded.tolist() == [0, 2, 0, 2, 255, -255]
    assert not rounded.requires_grad
