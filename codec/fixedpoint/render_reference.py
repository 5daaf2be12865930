"""Plain twins of the picture path, straight from the parameters, in numpy int64."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from codec.arch import (
    Architecture,
    Grid,
    Numerics,
    code_owners,
    grid_shape,
    slice_of,
    temporal_at,
)
from codec.arch.parameters import FEATURES
from codec.bitstream.elements import Network
from codec.bitstream.tables import load_tables
from codec.fixedpoint.formats import align, rshift, sat
from codec.fixedpoint.motion_reference import (
    compose_reference,
    motion_vectors_reference,
    vectors_reference,
    warp_reference,
)


def _sum(values: np.ndarray, numerics: Numerics) -> np.ndarray:
    """An accumulator, which must keep its bound."""
    assert np.abs(values).max() <= numerics.acc_max, "an accumulator leaves its bound"
    return values


def _tap(planes: np.ndarray, axis: int, places: np.ndarray) -> np.ndarray:
    """`planes` at `places` of an axis, replicated outside."""
    return np.take(planes, np.clip(places, 0, planes.shape[axis] - 1), axis=axis)


def interpolate_reference(
    plane: np.ndarray, half: np.ndarray, e: int, *, shape: tuple[int, int], numerics: Numerics
) -> np.ndarray:
    """x2 interpolation of a plane (h, w), vertical then horizontal, cropped to `shape`."""
    m = half.size
    values = plane.astype(np.int64)
    for axis in (0, 1):
        n = np.arange(values.shape[axis])
        phases = []
        for parity, lags in ((0, range(-m // 2, m // 2)), (1, range(1 - m // 2, m // 2 + 1))):
            acc = 0
            for j in lags:
                # In quarters of an input sample: distance 1 + 2 i has tap m - 1 - i.
                quarters = abs(4 * j + 1) if parity == 0 else abs(4 * j - 1)
                acc = acc + half[m - 1 - (quarters - 1) // 2] * _tap(values, axis, n + j)
            phases.append(sat(rshift(_sum(acc, numerics), e), numerics.act_max))
        values = np.stack(phases, axis=axis + 1).reshape(
            (-1, values.shape[1]) if axis == 0 else (values.shape[0], -1)
        )
    return values[: shape[0], : shape[1]]


def filter_reference(
    plane: np.ndarray, half: np.ndarray, e: int, *, numerics: Numerics
) -> np.ndarray:
    """Symmetric filter of a plane (h, w), vertical then horizontal."""
    reach = half.size - 1
    values = plane.astype(np.int64)
    for axis in (0, 1):
        n = np.arange(values.shape[axis])
        acc = sum(
            half[reach - abs(j)] * _tap(values, axis, n + j) for j in range(-reach, reach + 1)
        )
        values = sat(rshift(_sum(acc, numerics), e), numerics.act_max)
    return values


def filter_time_reference(
    planes: np.ndarray, taps: np.ndarray, e: int, *, causal: bool, numerics: Numerics
) -> np.ndarray:
    """Depthwise filter along time on (T, C, h, w); frames outside read zero."""
    frames, out = len(planes), np.zeros(planes.shape, np.int64)
    for t in range(frames):
        for index in range(taps.shape[1]):
            frame = t - (index if causal else index - taps.shape[1] // 2)
            if 0 <= frame < frames:
                out[t] += taps[:, index, None, None] * planes[frame].astype(np.int64)
    return sat(rshift(_sum(out, numerics), e), numerics.act_max)


def convolve_reference(
    planes: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray,
    *,
    frame: int,
    groups: int,
    dilation: int,
    numerics: Numerics,
) -> np.ndarray:
    """Accumulators (out, h, w) of one frame of a convolution on (T, C, h, w), replicate padding."""
    outputs, per_group, *kernel = weight.shape
    values = planes.astype(np.int64)
    acc = np.broadcast_to(bias[:, None, None], (outputs, *planes.shape[2:])).astype(np.int64)
    for k, dy, dx in np.ndindex(*kernel):
        place = [(i - size // 2) * dilation for i, size in zip((k, dy, dx), kernel, strict=True)]
        shifted = values[min(max(frame + place[0], 0), len(planes) - 1)]
        shifted = _tap(shifted, 1, np.arange(planes.shape[2]) + place[1])
        shifted = _tap(shifted, 2, np.arange(planes.shape[3]) + place[2])
        for o in range(outputs):
            first = o // (outputs // groups) * per_group
            part = shifted[first : first + per_group]
            acc[o] += (weight[o, :, k, dy, dx, None, None] * part).sum(axis=0)
    return _sum(acc, numerics)


def bake_reference(
    weight: np.ndarray,
    e: int,
    *,
    code_map: np.ndarray,
    code_exponent: int,
    code: Sequence[int],
    demod: bool,
) -> np.ndarray:
    """Weights (out, in, ...) modulated by a code, Q12, with Python's unbounded integers."""
    scale = []
    for row in code_map.tolist():
        m = sum(a * int(z) for a, z in zip(row, code, strict=True))
        scale.append(sat(4096 + rshift(m, 2 * code_exponent - 12), 32767))
    baked = np.zeros(weight.shape, np.int64)
    for o, of_output in enumerate(weight.astype(np.int64)):
        p = [int(w) * scale[i] for (i, *_), w in np.ndenumerate(of_output)]
        if demod:
            k = max(0, max(abs(v) for v in p).bit_length() - 15)
            p = [v >> k for v in p]
            r = max(1, math.isqrt(sum(v * v for v in p)))
            p = [(2 * v * 4096 + r) // (2 * r) for v in p]
        else:
            p = [sat(rshift(v, e), 32767) for v in p]
        baked[o] = np.array(p).reshape(of_output.shape)
    return baked


def temporal_reference(
    network: Network,
    index: int,
    planes: np.ndarray,
    codes: Mapping[str, np.ndarray],
    *,
    numerics: Numerics,
) -> np.ndarray:
    """Temporal layer number `index` on (T, C, h, w)."""
    layer, name = network.arch.temporal[index], f"temporal.{index}"
    values, e = network.values, network.exponents["temporal.weight"]
    limit, frac = numerics.act_max, numerics.feature_frac
    if layer.kind == "ck":
        taps = values[f"{name}.taps"].astype(np.int64)
        return filter_time_reference(planes, taps, e, causal=layer.causal, numerics=numerics)
    eb = network.exponents["temporal.bias"]
    frames, channels = planes.shape[:2]
    owners = code_owners(layer, network.arch.prediction(frames))
    out = np.zeros((frames, layer.out, *planes.shape[2:]), np.int64)
    for t in range(frames):
        weight, exponent = values[f"{name}.weight"].astype(np.int64), e
        if layer.kind == "adaptive":
            exponent = 12
            code_map = values.get(f"{name}.code_map", np.zeros((channels, 0), np.int64))
            code = np.zeros(layer.code, np.int64)
            if owners[t]:
                code = codes[f"{name}.codes"][owners[t] - 1]
            weight = bake_reference(
                weight,
                e,
                code_map=code_map,
                code_exponent=network.exponents.get("temporal.code", 12),
                code=code,
                demod=layer.demod,
            )
        bias = align(values[f"{name}.bias"].astype(np.int64), eb, frac + exponent)
        acc = convolve_reference(
            planes,
            weight,
            bias,
            frame=t,
            groups=layer.groups or channels,
            dilation=layer.dilation,
            numerics=numerics,
        )
        out[t] = sat(rshift(acc, exponent), limit)
    if layer.relu:
        out = np.maximum(out, 0)
    if layer.gate:
        gate = values[f"{name}.gate"].astype(np.int64)[:, None, None]
        out = sat(rshift(_sum(gate * out, numerics), eb), limit)
    return sat(planes + out, limit) if layer.res else out


def _synthesis_layer(
    network: Network, name: str, planes: np.ndarray, *, is_first: bool, numerics: Numerics
) -> np.ndarray:
    """The layer `name` of the synthesis or its stabiliser on (C, H, W), without its relu."""
    group = "synth_in.weight" if is_first else "synth.weight"
    e = network.exponents[group]
    frac = numerics.feature_frac if is_first else numerics.synth_frac
    weight = network.values[f"{name}.weight"].astype(np.int64)
    kinds = {f"synth.{i}": layer.kind for i, layer in enumerate(network.arch.synthesis)}
    kind = kinds.get(name, "linear")
    if kind == "difference":
        acc = _differences(planes, weight)
    else:
        bias = network.values.get(f"{name}.bias", np.zeros(len(weight))).astype(np.int64)
        bias = align(bias, network.exponents.get("synth.bias", 0), frac + e)
        form = {"frame": 0, "groups": 1, "dilation": 1, "numerics": numerics}
        acc = convolve_reference(planes[None], weight[:, :, None], bias, **form)
    if kind != "linear":
        acc = _sum(acc + (planes << e), numerics)
    if name == f"synth.{network.arch.num_trunk - 1}" and network.arch.has_motion:
        inputs = _resting_inputs(network, numerics)
        rest = weight[:, :, 0, 0] @ inputs + (inputs << e if kind == "residual" else 0)
        acc = acc - rest[:, None, None]
    return sat(rshift(acc, frac + e - numerics.synth_frac), numerics.act_max)


def _differences(planes: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Weighted differences of the samples around to each one: weight (out, in, side^2 - 1)."""
    side = math.isqrt(weight.shape[2] + 1)
    around = [at for at in np.ndindex(side, side) if at != (side // 2, side // 2)]
    rows, columns, acc = *map(np.arange, planes.shape[1:]), 0
    for k, (y, x) in enumerate(around):
        moved = _tap(_tap(planes, 1, rows + y - side // 2), 2, columns + x - side // 2)
        acc = acc + np.einsum("oi,ihw->ohw", weight[:, :, k], moved - planes)
    return acc


def _resting_inputs(network: Network, numerics: Numerics) -> np.ndarray:
    """What enters the last layer of the trunk where all features are zero: (in,)."""
    zeros, before = np.zeros((network.arch.num_inputs, 1, 1)), range(network.arch.num_trunk - 1)
    return layers_reference(network, zeros, before, numerics=numerics)[:, 0, 0]


def layers_reference(
    network: Network, planes: np.ndarray, layers: range, *, numerics: Numerics
) -> np.ndarray:
    """Some layers of the synthesis on (C, H, W), one after the other."""
    x = planes.astype(np.int64)
    for i in layers:
        x = _synthesis_layer(network, f"synth.{i}", x, is_first=i == 0, numerics=numerics)
        x = np.maximum(x, 0) if network.arch.synthesis[i].relu else x
    return x


def synthesis_reference(
    network: Network, features: np.ndarray, noise: np.ndarray | None, *, numerics: Numerics
) -> np.ndarray:
    """Trunk of the synthesis with its stabiliser on features (C, H, W) of one frame."""
    stab = _synthesis_layer(network, "synth.stab", features, is_first=True, numerics=numerics)
    planes = features if noise is None else np.concatenate([features, noise])
    trunk = range(network.arch.num_trunk)
    made = layers_reference(network, planes, trunk, numerics=numerics)
    return sat(made + stab, numerics.act_max)


def _hash_reference(*values: int) -> int:
    state = 0
    for value in values:
        state = ((state ^ value) + 0x9E3779B9) % 2**32
        state ^= state >> 16
        state = state * 0x85EBCA6B % 2**32
        state ^= state >> 13
        state = state * 0xC2B2AE35 % 2**32
        state ^= state >> 16
    return state


def noise_reference(
    levels: Sequence[int], *, seed: int, frame: int, height: int, width: int, numerics: Numerics
) -> np.ndarray:
    """Planes of common randomness (C, H, W)."""
    gauss = load_tables().gauss_q6
    out = np.zeros((len(levels), height, width), np.int64)
    for c, y, x in np.ndindex(*out.shape):
        value = _hash_reference(seed, frame, c, y >> levels[c], x >> levels[c]) >> 24
        out[c, y, x] = int(gauss[value]) << (numerics.feature_frac - 6)
    return out


def _stack(
    network: Network,
    latents: Sequence[np.ndarray],
    codes: Mapping[str, np.ndarray],
    *,
    num_frames: int,
    height: int,
    width: int,
    numerics: Numerics,
) -> tuple[list[np.ndarray], list[int]]:
    """All feature channels, each (T, H, W), and the level of the grid that each came from."""
    arch, e = network.arch, network.exponents.get("up", 0)
    # One entry a channel: (place of its block, level, its planes in all frames).
    channels: list[tuple[int, int, np.ndarray]] = []
    for level in range(arch.max_level, -1, -1):
        shape = grid_shape(Grid(level), height, width)
        if level < arch.max_level:
            half = network.values[f"up.{level}"].astype(np.int64)
            channels = [
                (
                    block,
                    of,
                    _each(interpolate_reference, x, half, e, shape=shape, numerics=numerics),
                )
                for block, of, x in channels
            ]
        for index, grid in enumerate(arch.grids):
            if grid.hyper or grid.level != level:
                continue
            slices = [slice_of(grid, t) for t in range(num_frames)]
            x = latents[index][slices].astype(np.int64) << numerics.feature_frac
            x = sat(x, numerics.act_max)
            if f"pre.{level}" in network.values:
                half = network.values[f"pre.{level}"].astype(np.int64)
                x = _each(filter_reference, x, half, e, numerics=numerics)
            channels.append((-grid.time_stride or -1000, level, x))
        for index in temporal_at(arch, level):
            planes = np.stack([x for _, _, x in sorted(channels, key=lambda c: c[0])], axis=1)
            planes = temporal_reference(network, index, planes, codes, numerics=numerics)
            channels = [(-1, 0, planes[:, c]) for c in range(planes.shape[1])]
    ordered = sorted(channels, key=lambda c: c[0])
    return [x for _, _, x in ordered], [level for _, level, _ in ordered]


def _each(
    function: Callable[..., np.ndarray], planes: np.ndarray, *args: object, **options: object
) -> np.ndarray:
    return np.stack([function(plane, *args, **options) for plane in planes])


def channel_levels_reference(arch: Architecture) -> list[int]:
    """Level of each feature channel, from the definition of the blocks."""
    last = min((layer.level for layer in arch.temporal), default=arch.max_level + 1)
    outputs = [0] * arch.temporal[-1].out if arch.temporal else []
    finer = [grid for grid in arch.latent_grids if grid.level < last]
    slow = sorted(
        (grid for grid in finer if grid.time_stride != 1),
        key=lambda g: (-g.time_stride or -1000, -g.level),
    )
    dynamic = sorted(grid.level for grid in finer if grid.time_stride == 1)[::-1]
    return [grid.level for grid in slow] + outputs + dynamic


def render_reference(
    network: Network,
    latents: Sequence[np.ndarray],
    codes: Mapping[str, np.ndarray],
    *,
    num_frames: int,
    height: int,
    width: int,
    noise_seed: int,
    numerics: Numerics,
) -> np.ndarray:
    """Twin of `codec.fixedpoint.render.render`: (T, C, H, W) int64."""
    numerics = numerics.with_features(network.exponents[FEATURES])
    size = {"height": height, "width": width, "numerics": numerics}
    channels, levels = _stack(network, latents, codes, num_frames=num_frames, **size)
    frames = []
    for t in range(num_frames):
        features = np.stack([x[t] for x in channels])
        noise = None
        if network.arch.common_randomness:
            noise = noise_reference(levels, seed=noise_seed, frame=t, **size)
        frames.append(synthesis_reference(network, features, noise, numerics=numerics))
    if not network.arch.has_motion:
        return np.stack(frames)
    return np.stack(_predicted(network, latents, frames, numerics))


def _predicted(
    network: Network,
    latents: Sequence[np.ndarray],
    straight: Sequence[np.ndarray],
    numerics: Numerics,
) -> list[np.ndarray]:
    """The pictures of all frames, from what the trunk makes of each."""
    arch, (height, width) = network.arch, straight[0].shape[1:]
    size = {"num_frames": len(straight), "height": height, "width": width}
    fields = motion_vectors_reference(arch, latents, **size)
    made: dict[int, np.ndarray] = {}
    for inter in (inter for level in arch.prediction(len(straight)) for inter in level):
        vectors = vectors_reference(fields[inter.frame], inter)
        warped = [
            warp_reference(made[frame], vector, level=arch.block_level)
            for frame, vector in zip(inter[1:], vectors, strict=False)
        ]
        x = compose_reference(straight[inter.frame], warped, numerics=numerics)
        later = range(arch.num_trunk, len(arch.synthesis))
        x = layers_reference(network, x, later, numerics=numerics)
        made[inter.frame] = np.clip(x, 0, 1 << numerics.synth_frac)
    return [made[t] for t in range(len(straight))]
