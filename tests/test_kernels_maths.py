"""Elementary functions and noise of the float kernels against float64."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from codec.jit import njit_float
from codec.layers.kernels import maths, noise


@njit_float(cache=False)
def _exp(x, out):
    for j in range(x.size):
        out[j] = maths.exp(x[j])


@njit_float(cache=False)
def _one_minus_exp_minus(x, out):
    for j in range(x.size):
        out[j] = maths.one_minus_exp_minus(x[j])


@njit_float(cache=False)
def _log(x, out):
    for j in range(x.size):
        out[j] = maths.log(x[j])


@njit_float(cache=False)
def _tanh(x, out):
    for j in range(x.size):
        out[j] = maths.tanh(x[j])


@njit_float(cache=False)
def _gaussian(seed, first, out):
    for j in range(out.size):
        out[j] = noise.gaussian(seed, np.uint32(first + j))


def evaluated(function: Callable, x: np.ndarray) -> np.ndarray:
    """function(x) by the kernel, for float32 x."""
    out = np.empty_like(x)
    function(x, out)
    return out


def test_exp_is_exact_to_float32_and_held_where_it_would_overflow() -> None:
    x = np.linspace(-86, 87, 100_001).astype(np.float32)
    expected = np.exp(x.astype(np.float64))
    assert np.abs(evaluated(_exp, x) / expected - 1).max() < 4e-7
    beyond = evaluated(_exp, np.array([-1e4, 1e4, 0], np.float32))
    assert 0 < beyond[0] < 2e-38
    assert 1e38 < beyond[1] < np.inf
    assert beyond[2] == 1


def test_small_masses_keep_their_digits() -> None:
    x = np.concatenate([np.geomspace(1e-12, 80, 50_001), [0.0]]).astype(np.float32)
    expected = -np.expm1(-x.astype(np.float64))
    made = evaluated(_one_minus_exp_minus, x)
    assert made[-1] == 0
    assert np.abs(made[:-1] / expected[:-1] - 1).max() < 6e-7


def test_log_of_everything_that_is_normal() -> None:
    x = np.concatenate([np.geomspace(1.2e-38, 3e38, 50_001), np.linspace(0.5, 2, 10_001)])
    x = x.astype(np.float32)
    expected = np.log(x.astype(np.float64))
    error = np.abs(evaluated(_log, x) - expected)
    assert (error / np.maximum(1, np.abs(expected))).max() < 4e-7


def test_tanh() -> None:
    x = np.linspace(-60, 60, 100_001).astype(np.float32)
    assert np.abs(evaluated(_tanh, x) - np.tanh(x.astype(np.float64))).max() < 4e-7


@pytest.mark.parametrize("seed", [0, 1, 0xFFFFFFFF])
def test_noise_is_that_of_the_plain_twin(seed: int) -> None:
    out = np.empty(10_000, np.float32)
    _gaussian(np.uint32(seed), np.int64(77), out)
    expected = noise.gaussian_reference(seed, np.arange(77, 77 + out.size))
    assert np.abs(out - expected).max() < 2e-5


def test_noise_is_gaussian_and_white() -> None:
    x = noise.gaussian_reference(12345, np.arange(1 << 20))
    other = noise.gaussian_reference(12346, np.arange(1 << 20))
    assert abs(x.mean()) < 5e-3
    assert abs(x.std() - 1) < 5e-3
    assert abs((x**4).mean() - 3) < 5e-2
    for lag in (1, 2, 768, 4096):
        assert abs(np.mean(x[lag:] * x[:-lag])) < 5e-3
    assert abs(np.mean(x * other)) < 5e-3
