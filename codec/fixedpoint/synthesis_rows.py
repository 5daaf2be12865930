"""The layers of the synthesis made ready to run."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from codec.arch import Architecture, Layer, Numerics, is_balanced, synthesis_inputs
from codec.fixedpoint.affine import Rows, make_rows
from codec.fixedpoint.parameters import Parameters


def load_synthesis(
    arch: Architecture, params: Parameters, numerics: Numerics
) -> tuple[tuple[Rows, ...], Rows]:
    """The layers in order, and the stabiliser.

    Raises:
        BitstreamError: a row of weights whose accumulator could leave its type.
    """
    loaded: list[Rows] = []
    for i in range(len(arch.synthesis)):
        loaded.append(_load_layer(arch, params, i, numerics, loaded))
    bias: np.ndarray | int = 0
    frac = numerics.feature_frac + params.exponent("synth_in.weight")
    if not arch.has_motion:
        bias = params.aligned("synth.stab.bias", "synth.bias", frac)
    stab = make_rows(
        "synth.stab.weight",
        params.value("synth.stab.weight")[:, :, 0, 0],
        bias,
        form=(frac - numerics.synth_frac, -numerics.act_max, numerics.act_max),
        input_max=numerics.act_max,
        acc_max=numerics.acc_max,
    )
    return tuple(loaded), stab


def _load_layer(
    arch: Architecture,
    params: Parameters,
    index: int,
    numerics: Numerics,
    before: Sequence[Rows],
) -> Rows:
    """One layer; `before` are those before it."""
    layer, name = arch.synthesis[index], f"synth.{index}"
    e = params.exponent("synth_in.weight" if index == 0 else "synth.weight")
    frac = e + (numerics.synth_frac if index else numerics.feature_frac)
    weight, identity = _taps(params.value(f"{name}.weight"), layer), 0
    if layer.kind != "linear":
        identity = _identity(layer, synthesis_inputs(arch, index), e)
    bias: np.ndarray | int = 0
    if is_balanced(arch, index):
        bias = -((weight + identity) @ _at_zero(before, weight.shape[1]))
    elif layer.kind != "difference":
        bias = params.aligned(f"{name}.bias", "synth.bias", frac)
    low = 0 if layer.relu else -numerics.act_max
    return make_rows(
        f"{name}.weight",
        weight,
        bias,
        form=(frac - numerics.synth_frac, low, numerics.act_max),
        residual=identity,
        input_max=numerics.act_max,
        acc_max=numerics.acc_max,
    )


def _taps(weight: np.ndarray, layer: Layer) -> np.ndarray:
    """(out, in * kernel^2); the centre of a difference layer takes away what the others add."""
    if layer.kind == "difference":
        centre = layer.kernel_space**2 // 2
        weight = np.insert(weight, centre, -weight.sum(axis=2), axis=2)
    return weight.reshape(len(weight), -1)


def _identity(layer: Layer, inputs: int, exponent: int) -> np.ndarray:
    """Weights of the identity path of a layer, (out, in * kernel^2)."""
    identity = np.zeros((layer.out, inputs, layer.kernel_space**2), np.int64)
    identity[range(layer.out), range(layer.out), layer.kernel_space**2 // 2] = 1 << exponent
    return identity.reshape(layer.out, -1)


def _at_zero(layers: Sequence[Rows], num_inputs: int) -> np.ndarray:
    """What 1x1 layers make of features that are zero, or these if there are no layers: (out,)."""
    values = np.zeros(layers[0].weight.shape[1] if layers else num_inputs, np.int64)
    for weight, bias, (shift, low, high) in layers:
        values = np.clip((weight.astype(np.int64) @ values + bias) >> shift, low, high)
    return values
