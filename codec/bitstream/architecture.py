"""The architecture as bytes: about 20 for a still, every combination that the dataclass allows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace

from codec.arch.grids import (
    MAX_LEVEL,
    MAX_TIME_STRIDE_LOG2,
    MOTION_COMPONENTS,
    Grid,
    coding_order,
)
from codec.arch.network import MAX_GRIDS, PRE_TAPS, Architecture
from codec.arch.notation import (
    FLAG_KEYS,
    KEYS,
    KEYS_OF_KIND,
    KINDS,
    Layer,
    format_layer,
    parse_layer,
)
from codec.bitstream.fields import Cursor, FieldWriter
from codec.errors import LimitError, UsageError

_UP_TAPS = (8, 4)  # the flag bit is the place here
_STRIDES = (0, *(1 << log2 for log2 in range(MAX_TIME_STRIDE_LOG2 + 1)))
_HAS_KEYS = 0x80
_MAX_RUN = 16


def write_architecture(writer: FieldWriter, arch: Architecture) -> None:
    """Flags, ARM numbers, grids as runs of levels, then the layers."""
    first, last = arch.ifce_levels
    if not (0 <= first <= MAX_LEVEL and 0 <= last <= MAX_LEVEL):
        raise UsageError(f"ifce_levels {first}-{last}: levels are from 0 to {MAX_LEVEL}")
    writer.u8(
        int(arch.common_randomness)
        | _UP_TAPS.index(arch.up_taps) << 1
        | PRE_TAPS.index(arch.pre_taps) << 2
        | arch.arm_layers << 4
    )
    writer.u8(arch.num_contexts)
    writer.u8(arch.ifce_features)
    writer.u8(first | last << 4)
    _write_grids(writer, arch.grids)
    if arch.has_motion:
        writer.u8(arch.vector_frac | arch.anchor_span.bit_length() - 1 << 4)
    writer.u8(len(arch.temporal) | len(arch.synthesis) << 4)
    for layer in (*arch.temporal, *arch.synthesis):
        _write_layer(writer, layer)


def read_architecture(cursor: Cursor, *, max_grids: int = MAX_GRIDS) -> Architecture:
    """Inverse of `write_architecture`.

    Raises:
        LimitError: more than `max_grids` grids.
        BitstreamError: bytes that describe no architecture.
        UnsupportedVersionError: a reserved bit, or a kind of layer that the version does not have.
    """
    flags = cursor.u8("architecture flags")
    if flags & 0x80:
        raise cursor.unsupported("an architecture with bit 7 set")
    num_contexts, ifce_features = cursor.u8("number of contexts"), cursor.u8("IFCE features")
    ifce_levels = cursor.u8("IFCE levels")
    grids = _read_grids(cursor, max_grids)
    motion = _read_motion(cursor) if any(grid.motion for grid in grids) else {}
    counts = cursor.u8("numbers of layers")
    temporal = tuple(_read_layer(cursor) for _ in range(counts & 15))
    synthesis = tuple(_read_layer(cursor) for _ in range(counts >> 4))
    try:
        return Architecture(
            grids=grids,
            num_contexts=num_contexts,
            ifce_features=ifce_features,
            ifce_levels=(ifce_levels & 15, ifce_levels >> 4),
            arm_layers=flags >> 4 & 7,
            temporal=temporal,
            synthesis=synthesis,
            up_taps=_UP_TAPS[flags >> 1 & 1],
            pre_taps=PRE_TAPS[flags >> 2 & 3],
            common_randomness=bool(flags & 1),
            **motion,
        )
    except UsageError as error:
        raise cursor.error(f"no possible architecture: {error}") from error


def _runs(grids: Iterable[Grid]) -> Iterator[tuple[Grid, int]]:
    """(finest grid, number) of runs of grids with consecutive levels that are alike otherwise."""
    left = Counter(grids)
    while left:
        start = min(left, key=lambda grid: (grid.time_stride, grid.hyper, grid.motion, grid.level))
        count = 0
        while count < _MAX_RUN:
            grid = replace(start, level=start.level + count)
            if grid not in left:
                break
            left -= Counter([grid])
            count += 1
        yield start, count


def _write_grids(writer: FieldWriter, grids: tuple[Grid, ...]) -> None:
    runs = tuple(_runs(grids))
    writer.u8(len(runs))
    for grid, count in runs:
        if grid.time_stride not in _STRIDES or not 0 <= grid.level <= MAX_LEVEL:
            raise UsageError(f"{grid}: strides are powers of two, levels from 0 to {MAX_LEVEL}")
        writer.u8(int(grid.hyper) | _STRIDES.index(grid.time_stride) << 1 | grid.motion << 4)
        writer.u8(grid.level | count - 1 << 4)


def _read_grids(cursor: Cursor, max_grids: int) -> tuple[Grid, ...]:
    grids: list[Grid] = []
    for _ in range(cursor.u8("number of grid runs")):
        kind, levels = cursor.u8("kind of grids"), cursor.u8("levels of grids")
        first, count = levels & 15, (levels >> 4) + 1
        motion = kind >> 4
        if motion > MOTION_COMPONENTS or first + count - 1 > MAX_LEVEL:
            raise cursor.error("no such grids")
        stride, hyper = _STRIDES[kind >> 1 & 7], bool(kind & 1)
        grids += (Grid(first + i, stride, hyper, motion) for i in range(count))
        if len(grids) > max_grids:
            raise LimitError(f"a network has more than the {max_grids} grids that are allowed")
    return coding_order(grids)


def _read_motion(cursor: Cursor) -> dict[str, int]:
    """What the architecture says of motion beside its grids."""
    motion = cursor.u8("precision and order of motion")
    return {"vector_frac": motion & 15, "anchor_span": 1 << (motion >> 4)}


def _write_layer(writer: FieldWriter, layer: Layer) -> None:
    """Kind, activation, kernel; outputs; place of a temporal layer; keys that are not default."""
    default = Layer(1, 1, 1, layer.kind, False)
    keys = [key for key in KEYS if getattr(layer, key) != getattr(default, key)]
    writer.u8(
        KINDS.index(layer.kind)
        | int(layer.relu) << 3
        | layer.kernel_space >> 1 << 4
        | (_HAS_KEYS if keys else 0)
    )
    writer.u8(layer.out - 1)
    if layer.is_temporal:
        writer.u8(layer.kernel_time >> 1)
        writer.u8(layer.level)
    if keys:
        writer.u8(sum(1 << KEYS.index(key) for key in keys))
        for key in keys:
            if key not in FLAG_KEYS:
                writer.u8(getattr(layer, key))


def _read_layer(cursor: Cursor) -> Layer:
    head, out = cursor.u8("kind of a layer"), cursor.u8("outputs of a layer") + 1
    if head & 7 >= len(KINDS):
        raise cursor.unsupported(f"a layer of kind {head & 7}")
    layer = Layer(out, 1, 2 * (head >> 4 & 7) + 1, KINDS[head & 7], bool(head & 8))
    time = level = 0
    if layer.is_temporal:
        time, level = cursor.u8("time kernel"), cursor.u8("level of a layer")
    values = {"kernel_time": 2 * time + 1, "level": level}
    if head & _HAS_KEYS:
        values |= _read_keys(cursor, layer)
    layer = Layer(**{**vars(layer), **values})
    try:
        # The parser knows what a layer may be; a byte of a key that is default is not canonical.
        if parse_layer(format_layer(layer)) == layer:
            return layer
    except UsageError as error:
        raise cursor.error(f"no possible layer: {str(error).splitlines()[0]}") from error
    raise cursor.error("no possible layer")


def _read_keys(cursor: Cursor, layer: Layer) -> dict[str, int]:
    present = cursor.u8("keys of a layer")
    keys = [key for index, key in enumerate(KEYS) if present >> index & 1]
    values: dict[str, int] = {}
    for key in keys:
        default = getattr(layer, key)
        values[key] = not default if key in FLAG_KEYS else cursor.u8(key)
        if key not in KEYS_OF_KIND[layer.kind] or values[key] == default:
            raise cursor.error(f"{key} = {int(values[key])} is not for a {layer.kind} layer here")
    if not keys:
        raise cursor.error("a layer announces keys and has none")
    return values
