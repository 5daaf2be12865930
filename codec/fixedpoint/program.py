"""From the parameters of a network chunk to the program that kernels run, bounds checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from codec.arch import (
    Architecture,
    Layer,
    Numerics,
    ifce_sources,
    pre_levels,
    temporal_inputs,
    up_stages,
)
from codec.arch.motion import MOTION_CONTEXTS, MOTION_LAYERS
from codec.arch.network import CONTEXT_ORDER
from codec.arch.numerics import (
    ACC32_MAX,
    CONTEXT_ACT_MAX,
    CONTEXT_FRAC,
    LATENT_MAX,
    LOG_SCALE_MIN,
    LOG_SCALE_OFFSET,
    MU_FRAC,
    NUM_SCALES,
    SCALE_STEPS_PER_NAT,
)
from codec.arch.parameters import FEATURES
from codec.bitstream.elements import Network
from codec.fixedpoint.adaptive import BAKED_FRAC, Modulated, bake
from codec.fixedpoint.affine import Rows, Stack, make_rows, pack
from codec.fixedpoint.formats import sum_dtype
from codec.fixedpoint.parameters import Parameters
from codec.fixedpoint.synthesis_rows import load_synthesis

MU_MAX_Q4 = LATENT_MAX << MU_FRAC
# The ARM's second output plus this is the index of a scale.
SCALE_BIAS = (LOG_SCALE_OFFSET - LOG_SCALE_MIN) * SCALE_STEPS_PER_NAT
_SCALE_FRAC = SCALE_STEPS_PER_NAT.bit_length() - 1


class Arm(NamedTuple):
    """The entropy model's network as one stack: hidden layers, then a row each for mu and scale.

    Hidden layers work on x = [contexts | features], the last two on [h | x], or on x alone where
    nothing is hidden. The last one gives the index of a scale less SCALE_BIAS. `contexts` (N, 2)
    are the neighbours (dy, dx).
    """

    stack: Stack
    contexts: np.ndarray
    num_features: int


@dataclass(frozen=True)
class TimeFilter:
    """A depthwise filter along time: a row for each channel, tap l of lag first_lag + l frames."""

    rows: Stack
    first_lag: int
    num_lags: int


@dataclass(frozen=True)
class Convolution:
    """A convolution over time and space: its rows by group, or the `Modulated` weights behind them.

    `gate` (out,) multiplies the result with `gate_exponent` fraction bits. `anchor_span` says which
    prediction levels there are.
    """

    layer: Layer
    rows: Stack | Modulated
    gate: np.ndarray | None
    gate_exponent: int
    anchor_span: int


@dataclass(frozen=True)
class Program:
    """A network made ready to run; everything in it is checked and constant.

    `motion_arm` is for motion grids, `arm` for the others. `ifce` is by index of the grid, `up`
    (even and odd outputs) and `pre` by level; `temporal` and `synthesis` are in order.
    """

    arch: Architecture
    numerics: Numerics
    arm: Arm
    motion_arm: Arm | None
    ifce: dict[int, Stack]
    up: dict[int, Stack]
    pre: dict[int, Stack]
    temporal: tuple[TimeFilter | Convolution, ...]
    synthesis: tuple[Rows, ...]
    stab: Rows

    def arm_of(self, index: int) -> Arm:
        """The entropy model's network for grid number `index`."""
        return self.motion_arm if self.arch.grids[index].motion else self.arm


def _load_arm(
    name: str, params: Parameters, *, num_contexts: int, num_features: int, num_layers: int
) -> Arm:
    e = params.exponent("arm.weight")
    frac = CONTEXT_FRAC + e
    bound = {"input_max": CONTEXT_ACT_MAX, "acc_max": ACC32_MAX}
    hidden = [
        make_rows(
            f"{name}.{i}.weight",
            params.value(f"{name}.{i}.weight"),
            params.aligned(f"{name}.{i}.bias", "arm.bias", frac),
            form=(e, 0, CONTEXT_ACT_MAX),
            residual=np.eye(num_contexts + num_features, dtype=np.int64) << e,
            **bound,
        )
        for i in range(num_layers)
    ]
    weight = params.value(f"{name}.out.weight")
    if hidden:
        weight = np.concatenate([weight, params.value(f"{name}.stab.weight")], axis=1)
    bias = params.aligned(f"{name}.out.bias", "arm.bias", frac)
    mu_form = (frac - MU_FRAC, -MU_MAX_Q4, MU_MAX_Q4)
    scale_form = (frac - _SCALE_FRAC, -SCALE_BIAS, NUM_SCALES - 1 - SCALE_BIAS)
    mu = make_rows(f"{name}.out.weight", weight[:1], bias[:1], form=mu_form, **bound)
    scale = make_rows(f"{name}.out.weight", weight[1:], bias[1:], form=scale_form, **bound)
    contexts = np.array(CONTEXT_ORDER[:num_contexts], np.int64)
    return Arm(pack(*hidden, mu, scale), contexts, num_features)


def _load_ifce(arch: Architecture, params: Parameters) -> dict[int, Stack]:
    loaded = {}
    for index in range(len(arch.grids)):
        if ifce_sources(arch, index):
            e = params.exponent("ifce.weight")
            rows = make_rows(
                f"ifce.{index}.weight",
                params.value(f"ifce.{index}.weight"),
                params.aligned(f"ifce.{index}.bias", "ifce.bias", CONTEXT_FRAC + e),
                form=(e, -CONTEXT_ACT_MAX, CONTEXT_ACT_MAX),
                input_max=CONTEXT_ACT_MAX,
                acc_max=ACC32_MAX,
            )
            loaded[index] = pack(rows)
    return loaded


def interpolation_taps(half: np.ndarray) -> np.ndarray:
    """Taps of the even outputs, for inputs n - m/2 to n + m/2 - 1, from the half kernel (m,).

    The input at distance 1/4 + i/2 gets half[m - 1 - i]; those of the odd outputs are the reverse,
    for inputs n - m/2 + 1 to n + m/2.
    """
    m = half.size
    places = [2 * j if j >= 0 else -2 * j - 1 for j in range(-m // 2, m // 2)]
    return half[[m - 1 - place for place in places]]


def _load_filters(
    arch: Architecture, params: Parameters, numerics: Numerics
) -> tuple[dict[int, Stack], dict[int, Stack]]:
    def rows(name: str, taps: np.ndarray) -> Rows:
        form = (params.exponent("up"), -numerics.act_max, numerics.act_max)
        bound = {"input_max": numerics.act_max, "acc_max": numerics.acc_max}
        return make_rows(name, taps[None], 0, form=form, **bound)

    up, pre = {}, {}
    for level in up_stages(arch):
        taps = interpolation_taps(params.value(f"up.{level}"))
        up[level] = pack(rows(f"up.{level}", taps), rows(f"up.{level}", taps[::-1]))
    for level in pre_levels(arch):
        half = params.value(f"pre.{level}")
        pre[level] = pack(rows(f"pre.{level}", np.concatenate([half, half[-2::-1]])))
    return up, pre


def _load_time_filter(
    params: Parameters, index: int, layer: Layer, numerics: Numerics
) -> TimeFilter:
    name = f"temporal.{index}.taps"
    taps = params.value(name)
    form = (params.exponent("temporal.weight"), -numerics.act_max, numerics.act_max)
    bound = {"input_max": numerics.act_max, "acc_max": numerics.acc_max}
    first_lag = 0 if layer.causal else -(layer.kernel_time // 2)
    rows = pack(make_rows(name, taps, 0, form=form, **bound))
    return TimeFilter(rows, first_lag, taps.shape[1])


def _load_gate(params: Parameters, index: int, numerics: Numerics) -> np.ndarray:
    gate, e = params.value(f"temporal.{index}.gate"), params.exponent("temporal.bias")
    form = (e, -numerics.act_max, numerics.act_max)
    bound = {"input_max": numerics.act_max, "acc_max": numerics.acc_max}
    make_rows(f"temporal.{index}.gate", gate[:, None], 0, form=form, **bound)
    return gate.astype(sum_dtype(numerics))


def _load_modulated(
    params: Parameters, index: int, layer: Layer, inputs: int, numerics: Numerics
) -> Modulated:
    name, weight = f"temporal.{index}", params.value(f"temporal.{index}.weight")
    code_map, code_exponent = np.zeros((inputs, 0), np.int64), BAKED_FRAC
    if layer.code:
        code_map = params.value(f"{name}.code_map")
        code_exponent = params.exponent("temporal.code")
    modulated = Modulated(
        name=f"{name}.weight",
        weight=weight.reshape(*weight.shape[:2], -1),
        weight_exponent=params.exponent("temporal.weight"),
        code_map=code_map,
        code_exponent=code_exponent,
        bias=params.aligned(f"{name}.bias", "temporal.bias", numerics.feature_frac + BAKED_FRAC),
        demod=layer.demod,
        form=(BAKED_FRAC, 0 if layer.relu else -numerics.act_max, numerics.act_max),
        input_max=numerics.act_max,
        acc_max=numerics.acc_max,
    )
    bake(modulated, np.zeros(layer.code, np.int64))
    return modulated


def _load_convolution(
    arch: Architecture, params: Parameters, index: int, numerics: Numerics
) -> Convolution:
    name, layer, inputs = f"temporal.{index}", arch.temporal[index], temporal_inputs(arch, index)
    if layer.kind == "adaptive":
        rows = _load_modulated(params, index, layer, inputs, numerics)
    else:
        weight, e = params.value(f"{name}.weight"), params.exponent("temporal.weight")
        bias = params.aligned(f"{name}.bias", "temporal.bias", numerics.feature_frac + e)
        groups = layer.groups or inputs
        rows = pack(
            *(
                make_rows(
                    f"{name}.weight",
                    weight_of_group.reshape(len(weight_of_group), -1),
                    bias_of_group,
                    form=(e, 0 if layer.relu else -numerics.act_max, numerics.act_max),
                    input_max=numerics.act_max,
                    acc_max=numerics.acc_max,
                )
                for weight_of_group, bias_of_group in zip(
                    np.split(weight, groups), np.split(bias, groups), strict=True
                )
            )
        )
    gate = _load_gate(params, index, numerics) if layer.gate else None
    return Convolution(layer, rows, gate, params.exponent("temporal.bias"), arch.anchor_span)


def _load_temporal(
    arch: Architecture, params: Parameters, numerics: Numerics
) -> tuple[TimeFilter | Convolution, ...]:
    return tuple(
        _load_time_filter(params, index, layer, numerics)
        if layer.kind == "ck"
        else _load_convolution(arch, params, index, numerics)
        for index, layer in enumerate(arch.temporal)
    )


def load_network(network: Network, numerics: Numerics) -> Program:
    """Make the program of `network`: integers aligned, every accumulator bound checked.

    Raises:
        BitstreamError: an exponent or value outside its range, or a row of weights whose
            accumulator could leave its type; the message names the tensor.
    """
    arch, params = network.arch, Parameters(network)
    numerics = numerics.with_features(params.exponent(FEATURES))
    up, pre = _load_filters(arch, params, numerics)
    synthesis, stab = load_synthesis(arch, params, numerics)
    return Program(
        arch=arch,
        numerics=numerics,
        arm=_load_arm(
            "arm",
            params,
            num_contexts=arch.num_contexts,
            num_features=arch.ifce_features,
            num_layers=arch.arm_layers,
        ),
        motion_arm=_load_arm(
            "motion_arm",
            params,
            num_contexts=MOTION_CONTEXTS,
            num_features=0,
            num_layers=MOTION_LAYERS,
        )
        if arch.has_motion
        else None,
        ifce=_load_ifce(arch, params),
        up=up,
        pre=pre,
        temporal=_load_temporal(arch, params, numerics),
        synthesis=synthesis,
        stab=stab,
    )
