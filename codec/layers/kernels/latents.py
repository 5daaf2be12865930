"""Latents in training: noisy soft rounding and the optimizer's step, computed by fused kernels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from codec.arch.numerics import LATENT_MAX
from codec.jit import njit_float, run_parallel, threads_for
from codec.layers.kernels.maths import tanh
from codec.layers.kernels.noise import gaussian

_CHUNK = 1 << 15
_LIMIT = np.float32(LATENT_MAX)
_HALF, _ONE, _ZERO = np.float32(0.5), np.float32(1.0), np.float32(0.0)

Chunk = tuple[int, slice]


def _chunks(arrays: Sequence[np.ndarray]) -> list[Chunk]:
    """(number of an array, part of it) for stretches of about equal size."""
    return [
        (k, slice(start, min(start + _CHUNK, array.size)))
        for k, array in enumerate(arrays)
        for start in range(0, array.size, _CHUNK)
    ]


def _threads(arrays: Sequence[np.ndarray]) -> int:
    return threads_for(sum(array.size for array in arrays))


@njit_float
def _softround_chunk(values, gain, noise_std, temperature, scale, seed, first, out, slopes):
    """out = softround(softround(gain values) + noise), clamped; slopes = d out / d values."""
    inverse = _ONE / temperature
    steepness = inverse * scale
    for j in range(values.size):
        x = values[j] * gain
        base = np.floor(x)
        curve = tanh((x - base - _HALF) * inverse)
        slope = (_ONE - curve * curve) * steepness
        noise = gaussian(seed, np.uint32(first + j))
        x = base + _HALF + curve * scale + noise_std * noise
        base = np.floor(x)
        curve = tanh((x - base - _HALF) * inverse)
        y = base + _HALF + curve * scale
        slope = slope * (_ONE - curve * curve) * steepness * gain
        out[j] = min(max(y, -_LIMIT), _LIMIT)
        slopes[j] = slope if abs(y) <= _LIMIT else _ZERO


@njit_float
def _scale_chunk(slopes, back, out):
    for j in range(slopes.size):
        out[j] = slopes[j] * back[j]


def noisy_softround(
    parameters: Sequence[Tensor], *, gain: float, noise_std: float, temperature: float, seed: int
) -> list[Tensor]:
    """Rounding with noise, as `layers.quantizers.noisy_softround` of gain * parameters.

    Args:
        parameters: float32 of any shape, on the CPU.
        noise_std: in bins.
        seed: of the noise, which is `noise.gaussian` of the place in the parameters one after the
            other; 0 <= seed < 2^32.
    """
    return list(_NoisySoftround.apply(gain, noise_std, temperature, seed, *parameters))


class _NoisySoftround(torch.autograd.Function):
    @staticmethod
    def forward(ctx, gain, noise_std, temperature, seed, *parameters: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        values = [p.detach().contiguous().numpy().ravel() for p in parameters]
        out = [np.empty_like(v) for v in values]
        ctx.slopes = [np.empty_like(v) for v in values]
        firsts = np.cumsum([0, *(v.size for v in values)])
        scale = 1.0 / (2.0 * math.tanh(0.5 / temperature))
        numbers = tuple(map(np.float32, (gain, noise_std, temperature, scale)))

        def job(place: Chunk) -> None:
            k, part = place
            first = np.int64(firsts[k] + part.start)
            own = (np.uint32(seed), first, out[k][part], ctx.slopes[k][part])
            _softround_chunk(values[k][part], *numbers, *own)

        run_parallel(job, _chunks(values), threads=_threads(values))
        shapes = [p.shape for p in parameters]
        return tuple(torch.from_numpy(o).view(shape) for o, shape in zip(out, shapes, strict=True))

    @staticmethod
    def backward(ctx, *grads: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        backs = [grad.contiguous().numpy().ravel() for grad in grads]
        out = [np.empty_like(back) for back in backs]

        def job(place: Chunk) -> None:
            k, part = place
            _scale_chunk(ctx.slopes[k][part], backs[k][part], out[k][part])

        run_parallel(job, _chunks(backs), threads=_threads(backs))
        shapes = [grad.shape for grad in grads]
        made = [torch.from_numpy(o).view(shape) for o, shape in zip(out, shapes, strict=True)]
        return None, None, None, None, *made


@njit_float
def _adam_chunk(values, gradient, mean, square, betas, rates, correction, eps):
    """x -= (rate m + own_rate g) / (sqrt(v) correction + eps) in place, for `FusedQHAdam`."""
    (first, second), (rate, own_rate) = betas, rates
    for j in range(values.size):
        g = gradient[j]
        m = first * mean[j] + (_ONE - first) * g
        v = second * square[j] + (_ONE - second) * g * g
        mean[j] = m
        square[j] = v
        values[j] -= (rate * m + own_rate * g) / (np.sqrt(v) * correction + eps)


class FusedQHAdam:
    """Quasi-hyperbolic Adam on latents: x -= lr (nu m + (1 - nu) g) / (sqrt(v) + eps).

    m and v are the moments of Adam (Kingma and Ba 2015) without their bias, nu is `momentum_share`.
    Its plain twin is `codec.training.qhadam.QHAdam`.
    """

    def __init__(
        self,
        parameters: Sequence[Tensor],
        *,
        betas: tuple[float, float],
        momentum_share: float,
        eps: float,
    ) -> None:
        self.param_groups = [{"params": list(parameters), "lr": 0.0}]
        self.betas, self.momentum_share = betas, momentum_share
        self.eps, self.steps = eps, 0
        self.moments = [
            tuple(np.zeros(p.numel(), np.float32) for _ in range(2)) for p in parameters
        ]

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget all gradients."""
        for parameter in self.param_groups[0]["params"]:
            parameter.grad = None

    def step(self) -> None:
        """Change every parameter that has a gradient."""
        self.steps += 1
        group, share = self.param_groups[0], self.momentum_share
        first, second = self.betas
        rate = share * group["lr"] / (1 - first**self.steps)
        rates = (np.float32(rate), np.float32((1 - share) * group["lr"]))
        correction = np.float32(1 / math.sqrt(1 - second**self.steps))
        betas, eps = (np.float32(first), np.float32(second)), np.float32(self.eps)
        values = [p.detach().numpy().ravel() for p in group["params"]]
        backs = [p.grad.contiguous().numpy().ravel() for p in group["params"]]

        def job(place: Chunk) -> None:
            k, part = place
            mean, square = self.moments[k]
            own = (values[k][part], backs[k][part], mean[part], square[part])
            _adam_chunk(*own, betas, rates, correction, eps)

        run_parallel(job, _chunks(values), threads=_threads(values))

    def state(self) -> dict[str, Tensor]:
        """Copies of the moments, and the number of steps."""
        pairs = [(f"{k}/{i}", m[i]) for k, m in enumerate(self.moments) for i in range(2)]
        state = {name: torch.from_numpy(moment.copy()) for name, moment in pairs}
        return state | {"steps": torch.tensor(self.steps)}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Go on with what `state` gave."""
        self.steps = int(state["steps"])
        self.moments = [
            tuple(state[f"{k}/{i}"].numpy().copy() for i in range(2))
            for k in range(len(self.moments))
        ]
