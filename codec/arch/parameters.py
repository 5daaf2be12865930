"""The parameters of a network: tensors in the order of the stream, and the groups they are in."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from codec.arch.codes import num_codes
from codec.arch.motion import MOTION_CONTEXTS, MOTION_LAYERS
from codec.arch.network import (
    UP_DEFAULT_Q8,
    Architecture,
    ifce_sources,
    is_balanced,
    pre_levels,
    synthesis_inputs,
    temporal_inputs,
    up_stages,
)
from codec.arch.numerics import MIN_FEATURE_EXPONENT

# Exponents e of a group of parameters: value = q * 2^-e. The lower bounds keep every rescaling
# of an accumulator a right shift. The group "features" has no parameters: its exponent is the
# number of fraction bits of features (`Numerics.with_features`).
FEATURES = "features"
GROUP_EXPONENTS = {
    FEATURES: (MIN_FEATURE_EXPONENT, 13),
    "arm.weight": (0, 12),
    "arm.bias": (0, 18),
    "ifce.weight": (0, 12),
    "ifce.bias": (0, 18),
    "up": (4, 14),
    "temporal.weight": (0, 14),
    "temporal.bias": (0, 14),
    "temporal.code": (6, 12),
    "synth_in.weight": (5, 18),
    "synth.weight": (0, 18),
    "synth.bias": (0, 24),
}


@dataclass(frozen=True)
class ParamSpec:
    """One tensor of parameters: its name, shape, group (which shares a step), and where it starts.

    `default_q8` are the values (in 1/256, broadcast to the shape) that coded integers are
    differences from.
    """

    name: str
    shape: tuple[int, ...]
    group: str
    default_q8: tuple[int, ...] = (0,)

    @property
    def size(self) -> int:
        """Number of parameters."""
        return math.prod(self.shape)


def _arm_specs(name: str, width: int, num_layers: int) -> Iterator[ParamSpec]:
    for i in range(num_layers):
        yield ParamSpec(f"{name}.{i}.weight", (width, width), "arm.weight")
        yield ParamSpec(f"{name}.{i}.bias", (width,), "arm.bias")
    yield ParamSpec(f"{name}.out.weight", (2, width), "arm.weight")
    yield ParamSpec(f"{name}.out.bias", (2,), "arm.bias")
    if num_layers:
        yield ParamSpec(f"{name}.stab.weight", (2, width), "arm.weight")


def _ifce_specs(arch: Architecture) -> Iterator[ParamSpec]:
    for i in range(len(arch.grids)):
        sources = ifce_sources(arch, i)
        if sources:
            features = arch.ifce_features
            yield ParamSpec(f"ifce.{i}.weight", (features, len(sources)), "ifce.weight")
            yield ParamSpec(f"ifce.{i}.bias", (features,), "ifce.bias")


def _up_specs(arch: Architecture) -> Iterator[ParamSpec]:
    for level in up_stages(arch):
        yield ParamSpec(f"up.{level}", (arch.up_taps // 2,), "up", UP_DEFAULT_Q8[arch.up_taps])
    for level in pre_levels(arch):
        half = (arch.pre_taps + 1) // 2
        yield ParamSpec(f"pre.{level}", (half,), "up", (0,) * (half - 1) + (256,))


def _temporal_specs(arch: Architecture) -> Iterator[ParamSpec]:
    for i, layer in enumerate(arch.temporal):
        inputs, name, space = temporal_inputs(arch, i), f"temporal.{i}", layer.kernel_space
        if layer.kind == "ck":
            taps = layer.time_taps
            centre = 0 if layer.causal else layer.kernel_time // 2
            default = tuple(256 * (tap == centre) for tap in range(taps)) * layer.out
            yield ParamSpec(f"{name}.taps", (layer.out, taps), "temporal.weight", default)
            continue
        per_group = inputs // (layer.groups or inputs)
        shape = (layer.out, per_group, layer.kernel_time, space, space)
        yield ParamSpec(f"{name}.weight", shape, "temporal.weight")
        yield ParamSpec(f"{name}.bias", (layer.out,), "temporal.bias")
        if layer.gate:
            yield ParamSpec(f"{name}.gate", (layer.out,), "temporal.bias")
        if layer.code:
            yield ParamSpec(f"{name}.code_map", (inputs, layer.code), "temporal.code")


def _synthesis_specs(arch: Architecture) -> Iterator[ParamSpec]:
    for i, layer in enumerate(arch.synthesis):
        group = "synth_in.weight" if i == 0 else "synth.weight"
        side = layer.kernel_space
        taps = (side * side - 1,) if layer.kind == "difference" else (side, side)
        yield ParamSpec(f"synth.{i}.weight", (layer.out, synthesis_inputs(arch, i), *taps), group)
        if layer.kind != "difference" and not is_balanced(arch, i):
            yield ParamSpec(f"synth.{i}.bias", (layer.out,), "synth.bias")
    shape = (arch.num_straight, arch.num_features, 1, 1)
    yield ParamSpec("synth.stab.weight", shape, "synth_in.weight")
    if not arch.has_motion:
        yield ParamSpec("synth.stab.bias", (arch.num_straight,), "synth.bias")


def param_specs(arch: Architecture) -> tuple[ParamSpec, ...]:
    """All parameters of the networks, in the order of the stream."""
    return (
        *(_arm_specs("motion_arm", MOTION_CONTEXTS, MOTION_LAYERS) if arch.has_motion else ()),
        *_arm_specs("arm", arch.arm_width, arch.arm_layers),
        *_ifce_specs(arch),
        *_up_specs(arch),
        *_temporal_specs(arch),
        *_synthesis_specs(arch),
    )


def segment_specs(arch: Architecture, num_frames: int) -> tuple[ParamSpec, ...]:
    """Parameters that belong to a segment, not a network: the codes after the first, zero one."""
    return tuple(
        ParamSpec(f"temporal.{i}.codes", (codes - 1, layer.code), "temporal.code")
        for i, layer in enumerate(arch.temporal)
        if layer.code and (codes := num_codes(layer, num_frames, arch.anchor_span)) > 1
    )


def exponent_groups(arch: Architecture) -> tuple[str, ...]:
    """Groups that the architecture has, in the order of GROUP_EXPONENTS: features always."""
    present = {FEATURES, *(spec.group for spec in param_specs(arch))}
    return tuple(group for group in GROUP_EXPONENTS if group in present)
