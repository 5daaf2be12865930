"""The rate of latents as a differentiable function, computed by fused kernels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from codec.arch.network import CONTEXT_REACH_UP
from codec.jit import run_parallel, threads_for
from codec.layers.kernels.ifce import features_gradient, make_features
from codec.layers.kernels.rate_kernels import (
    Network,
    add_halos,
    rate_gradient_strips,
    rate_strips,
)
from codec.layers.kernels.rate_layout import STRIDE, RateLayout
from codec.layers.kernels.tiles import pack_layers

Arrays = dict[str, np.ndarray]


def latent_bits(
    layout: RateLayout, latents: Sequence[Tensor], tensors: Mapping[str, Tensor]
) -> Tensor:
    """Bits of all latents of a segment; the fused form of `EntropyModel.forward`.

    Args:
        layout: of the segment.
        latents: float32 (slices, h, w) of each grid in coding order, on the CPU.
        tensors: of the entropy model, by their names in the stream.

    Returns:
        A scalar, with gradients for latents and tensors.
    """
    inputs = [*latents, *tensors.values()]
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in inputs):
        return _LatentBits.apply(layout, tuple(tensors), *inputs)
    return latents[0].new_tensor(_evaluation(layout, tuple(tensors), inputs).bits())


class _LatentBits(torch.autograd.Function):
    """Values and gradients come of one pass: the backward pass only scales them."""

    @staticmethod
    def forward(ctx, layout: RateLayout, names: tuple[str, ...], *inputs: Tensor) -> Tensor:  # type: ignore[override]
        ctx.layout, ctx.names = layout, names
        run = _evaluation(layout, names, inputs)
        bits, ctx.store_back, ctx.gradients = run.bits_and_gradients()
        return inputs[0].new_tensor(bits)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        scale = grad.item()
        latents = [
            torch.from_numpy(place.view(ctx.store_back) * np.float32(scale))
            for place in ctx.layout.places
        ]
        tensors = [torch.from_numpy(ctx.gradients[name]) * scale for name in ctx.names]
        return None, None, *latents, *tensors


def _evaluation(layout: RateLayout, names: Sequence[str], inputs: Sequence[Tensor]) -> _Rate:
    """`inputs` are the latents and then the tensors that `names` are the names of."""
    count, store = len(layout.places), layout.new_store()
    for place, latent in zip(layout.places, inputs[:count], strict=True):
        place.view(store)[...] = latent.detach().numpy()
    arrays = {
        name: np.ascontiguousarray(tensor.detach().numpy())
        for name, tensor in zip(names, inputs[count:], strict=True)
    }
    return _Rate(layout, store, arrays)


class _Rate:
    """One evaluation: the latents in a store, the features of the IFCEs, the packed network."""

    def __init__(self, layout: RateLayout, store: np.ndarray, arrays: Arrays) -> None:
        self.layout, self.store, self.arrays = layout, store, arrays
        self.threads = threads_for(store.size)
        self.features = np.zeros(layout.num_feature_floats, np.float32)
        for plan in layout.features:
            weight, bias = arrays[f"ifce.{plan.grid}.weight"], arrays[f"ifce.{plan.grid}.bias"]
            make_features(plan, store, weight, bias, self.features)
        self.network = pack_network(arrays, layout.contexts)

    def bits(self) -> float:
        def job(bounds: tuple[int, int]) -> float:
            strips = self.layout.strips[slice(*bounds)]
            return rate_strips(strips, self.store, self.features, self.network)

        return sum(run_parallel(job, self.layout.jobs, threads=self.threads))

    def bits_and_gradients(self) -> tuple[float, np.ndarray, Arrays]:
        """Bits, gradients of the store, and of the tensors by name."""
        layout = self.layout
        store_back = np.empty_like(self.store)
        features_back = np.zeros_like(self.features)
        strips = layout.strips
        halos = np.empty((len(strips), CONTEXT_REACH_UP * strips[:, STRIDE].max()), np.float32)
        width, hidden = self.network.width, len(self.network.layers) // 2 - 1
        shapes = [(width, width + 1)] * hidden + [(2, (2 if hidden else 1) * width + 1)]
        sums = np.empty((len(layout.jobs), sum(o * i for o, i in shapes)), np.float32)

        def job(number: int) -> float:
            own = slice(*layout.jobs[number])
            return rate_gradient_strips(
                strips[own], self.store, self.features, self.network,
                store_back, features_back, halos[own], sums[number],
            )  # fmt: skip

        bits = sum(run_parallel(job, range(len(layout.jobs)), threads=self.threads))
        add_halos(strips, halos, store_back)
        gradients = _name_gradients(sums.sum(axis=0), shapes)
        for plan in layout.features:
            name = f"ifce.{plan.grid}"
            gradients[f"{name}.weight"], gradients[f"{name}.bias"] = features_gradient(
                plan, self.store, self.arrays[f"{name}.weight"], self.features, features_back,
                store_back,
            )  # fmt: skip
        return bits, store_back, gradients


def pack_network(arrays: Arrays, contexts: np.ndarray) -> Network:
    """The tensors of an ARM, by their names in the stream, as kernels read them."""
    output, stabiliser = arrays["arm.out.weight"], arrays.get("arm.stab.weight")
    width, hidden = output.shape[1], sum(name.startswith("arm.") for name in arrays) // 2 - 1
    identity = np.eye(width, dtype=np.float32)
    weights = [arrays[f"arm.{i}.weight"] + identity for i in range(hidden)]
    biases = [arrays[f"arm.{i}.bias"] for i in range(hidden)]
    whole = output if stabiliser is None else np.concatenate([output, stabiliser], axis=1)
    back = [weight.T for weight in weights]
    if back:
        back[0] = np.concatenate([back[0], stabiliser.T], axis=1)
    forward = [*zip(weights, biases, strict=True), (whole, arrays["arm.out.bias"])]
    packed, table, sums = pack_layers(forward, [*back, output.T])
    return Network(packed, table, contexts, width, sums)


def _name_gradients(flat: np.ndarray, shapes: Sequence[tuple[int, int]]) -> Arrays:
    """Gradients of the tensors of an ARM, from those of its layers in one array."""
    named, place = {}, 0
    for layer, (outputs, inputs) in enumerate(shapes):
        rows = flat[place : place + outputs * inputs].reshape(outputs, inputs)
        place += outputs * inputs
        is_output = layer == len(shapes) - 1
        name = "out" if is_output else str(layer)
        named[f"arm.{name}.bias"] = rows[:, -1].copy()
        if is_output and layer:
            half = (inputs - 1) // 2
            named["arm.out.weight"] = rows[:, :half].copy()
            named["arm.stab.weight"] = rows[:, half:-1].copy()
        else:
            named[f"arm.{name}.weight"] = rows[:, :-1].copy()
    return named
