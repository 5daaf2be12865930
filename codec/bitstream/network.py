"""The payload of a network chunk: architecture, steps, and all parameters range coded."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from codec.arch.network import Architecture
from codec.arch.numerics import MAX_PARAM
from codec.arch.parameters import (
    FEATURES,
    GROUP_EXPONENTS,
    exponent_groups,
    param_specs,
    segment_specs,
)
from codec.bitstream.architecture import read_architecture, write_architecture
from codec.bitstream.elements import Network
from codec.bitstream.fields import Cursor, FieldWriter
from codec.bitstream.limits import Limits
from codec.bitstream.parameters import (
    EXPONENT_BITS,
    SCALE_BITS,
    ParameterDecoder,
    ParameterEncoder,
    default_values,
    scale_costs_q16,
)
from codec.errors import LimitError

MODE_COMPLETE = 0
MODE_DEFAULT = 1  # differences from a numbered default; none exist
MODE_DIFFERENCE = 2  # differences from a complete network of the same stream

# What a network may hold beside max_parameters, so that a small file cannot cost much time: more
# than 256 numbers a byte are no training's result.
FREE_PARAMETERS = 1 << 14
PARAMETERS_PER_BYTE = 256

_Tensors = dict[str, np.ndarray]


def num_parameters(arch: Architecture) -> int:
    """Numbers in a network."""
    return sum(spec.size for spec in param_specs(arch))


def _from_defaults(network: Network) -> _Tensors:
    """Values minus the defaults at the network's exponents."""
    return {
        spec.name: network.values[spec.name].astype(np.int64)
        - default_values(spec, network.exponents[spec.group])
        for spec in param_specs(network.arch)
    }


def _groups_of_tensors(arch: Architecture) -> tuple[str, ...]:
    """The groups that have a scale: all but that of the feature format."""
    return tuple(group for group in exponent_groups(arch) if group != FEATURES)


def _by_group(arch: Architecture, tensors: Mapping[str, np.ndarray]) -> dict[str, list[np.ndarray]]:
    groups: dict[str, list[np.ndarray]] = {group: [] for group in _groups_of_tensors(arch)}
    for spec in param_specs(arch):
        groups[spec.group].append(tensors[spec.name])
    return groups


def group_bits_q16(network: Network) -> dict[str, int]:
    """Bits of each group's parameters with its best scale, its exponent and scale included.

    In 2^-16 bits, exact up to the rounding of each symbol's cost; nothing is coded.
    """
    groups = _by_group(network.arch, _from_defaults(network))
    bits = {FEATURES: EXPONENT_BITS << 16}
    side = EXPONENT_BITS + SCALE_BITS << 16
    for group, part in groups.items():
        bits[group] = side + int(scale_costs_q16(part).min())
    return bits


def network_bits_q16(network: Network) -> int:
    """Bits of a complete network's body (all but the mode and the architecture), in 2^-16 bits."""
    return sum(group_bits_q16(network).values())


def _encode_body(arch: Architecture, tensors: _Tensors, exponents: Mapping[str, int]) -> bytes:
    """That of the features, per group its exponent and scale, then all tensors in order.

    Exponents only where `exponents` has them.
    """
    coder = ParameterEncoder(num_parameters(arch))
    if FEATURES in exponents:
        coder.bits(exponents[FEATURES], EXPONENT_BITS)
    scales: dict[str, int] = {}
    for group, part in _by_group(arch, tensors).items():
        if group in exponents:
            coder.bits(exponents[group], EXPONENT_BITS)
        scales[group] = int(scale_costs_q16(part).argmin())
        coder.bits(scales[group], SCALE_BITS)
    for spec in param_specs(arch):
        coder.array(tensors[spec.name], scales[spec.group])
    return coder.finish()


def write_network(network: Network) -> bytes:
    """Payload of a complete network."""
    writer = FieldWriter()
    writer.u8(MODE_COMPLETE)
    write_architecture(writer, network.arch)
    writer.raw(_encode_body(network.arch, _from_defaults(network), network.exponents))
    return writer.finish()


def write_network_difference(network: Network, *, base: Network, base_id: int) -> bytes:
    """Payload of a network by its differences from the complete network `base_id`.

    Both have the same architecture and exponents.
    """
    assert network.arch == base.arch
    assert network.exponents == base.exponents
    tensors = {
        name: values.astype(np.int64) - base.values[name] for name, values in network.values.items()
    }
    writer = FieldWriter()
    writer.u8(MODE_DIFFERENCE)
    writer.varint(base_id)
    writer.raw(_encode_body(network.arch, tensors, {}))
    return writer.finish()


def read_network(
    cursor: Cursor, *, limits: Limits, find_complete: Callable[[int], Network]
) -> Network:
    """Inverse of `write_network` and `write_network_difference`; consumes the whole payload.

    Args:
        cursor: at the first byte of the payload.
        limits: grids and parameters that are allowed.
        find_complete: gives the complete network of an id or raises BitstreamError.

    Raises:
        BitstreamError: a damaged payload.
        LimitError: too many grids or parameters.
        UnsupportedVersionError: a mode that this version does not have.
    """
    mode = cursor.u8("mode of the network")
    if mode == MODE_COMPLETE:
        arch = read_architecture(cursor, max_grids=limits.max_grids)
        return _read_complete(cursor, arch, limits)
    if mode == MODE_DIFFERENCE:
        return _read_difference(cursor, find_complete(cursor.varint("id of the base network")))
    if mode == MODE_DEFAULT:
        number = cursor.varint("number of the default")
        raise cursor.unsupported(f"a network coded against default number {number}")
    raise cursor.unsupported(f"a network coded in mode {mode}")


def _read_complete(cursor: Cursor, arch: Architecture, limits: Limits) -> Network:
    sized = FREE_PARAMETERS + PARAMETERS_PER_BYTE * cursor.remaining
    allowed = min(limits.max_parameters, sized)
    if num_parameters(arch) > allowed:
        raise LimitError(
            f"a network of {cursor.remaining} bytes has {num_parameters(arch)} parameters; "
            f"{allowed} are allowed"
        )
    body = ParameterDecoder(cursor.rest(), what="network")
    exponents, scales = {}, {}
    for group in exponent_groups(arch):
        exponents[group] = body.bits(EXPONENT_BITS)
        low, high = GROUP_EXPONENTS[group]
        if not low <= exponents[group] <= high:
            raise cursor.error(f"exponent {exponents[group]} of {group} is not in {low}..{high}")
        if group != FEATURES:
            scales[group] = body.scale()
    bases = {spec.name: default_values(spec, exponents[spec.group]) for spec in param_specs(arch)}
    return Network(arch, exponents, _read_sums(cursor, body, arch, bases, scales))


def _read_difference(cursor: Cursor, base: Network) -> Network:
    body = ParameterDecoder(cursor.rest(), what="network")
    scales = {group: body.scale() for group in _groups_of_tensors(base.arch)}
    values = _read_sums(cursor, body, base.arch, base.values, scales)
    return Network(base.arch, base.exponents, values)


def _read_sums(
    cursor: Cursor,
    body: ParameterDecoder,
    arch: Architecture,
    bases: Mapping[str, np.ndarray],
    scales: Mapping[str, int],
) -> _Tensors:
    """Base plus decoded difference of every tensor, int32, each within MAX_PARAM."""
    values: _Tensors = {}
    for spec in param_specs(arch):
        tensor = body.array(spec.size, scales[spec.group]).reshape(spec.shape) + bases[spec.name]
        if (np.abs(tensor) > MAX_PARAM).any():
            raise cursor.error(f"a value of {spec.name} is beyond {MAX_PARAM}")
        values[spec.name] = tensor.astype(np.int32)
    body.finish()
    return values


def write_codes(codes: Mapping[str, np.ndarray], *, arch: Architecture, num_frames: int) -> bytes:
    """The modulation codes of a segment; empty where the architecture has none."""
    specs = segment_specs(arch, num_frames)
    if not specs:
        return b""
    coder = ParameterEncoder(sum(spec.size for spec in specs))
    scale_idx = int(scale_costs_q16(codes[spec.name] for spec in specs).argmin())
    coder.bits(scale_idx, SCALE_BITS)
    for spec in specs:
        coder.array(codes[spec.name], scale_idx)
    return coder.finish()


def read_codes(
    cursor: Cursor, data: memoryview, *, arch: Architecture, num_frames: int, limits: Limits
) -> _Tensors:
    """Inverse of `write_codes`, for an architecture that has codes.

    Raises:
        BitstreamError: damaged codes.
        LimitError: more numbers than `limits.max_parameters`.
    """
    specs = segment_specs(arch, num_frames)
    count = sum(spec.size for spec in specs)
    if count > limits.max_parameters:
        raise LimitError(f"a segment has {count} codes; {limits.max_parameters} are allowed")
    body = ParameterDecoder(data, what="codes of a segment")
    scale_idx = body.scale()
    codes: _Tensors = {}
    for spec in specs:
        tensor = body.array(spec.size, scale_idx).reshape(spec.shape)
        if (np.abs(tensor) > MAX_PARAM).any():
            raise cursor.error(f"a value of {spec.name} is beyond {MAX_PARAM}")
        codes[spec.name] = tensor.astype(np.int32)
    body.finish()
    return codes
