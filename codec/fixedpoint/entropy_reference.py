"""Plain twin of the entropy model and its coder: one latent at a time, from the parameters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from codec.arch import Architecture, grid_shape, ifce_sources, slice_of
from codec.arch.motion import MOTION_CONTEXTS, MOTION_LAYERS
from codec.arch.network import CONTEXT_ORDER
from codec.arch.numerics import ACC32_MAX, CONTEXT_ACT_MAX, LATENT_MAX, NUM_SCALES
from codec.bitstream.elements import Network, Partition
from codec.bitstream.rangecoder_reference import ReferenceDecoder, ReferenceEncoder
from codec.bitstream.tables import load_tables
from codec.errors import BitstreamError
from codec.fixedpoint.formats import align, rshift, sat

_TOTAL = 65536


def _sum(name: str, values: np.ndarray) -> np.ndarray:
    """An accumulator, which must fit 32 bits."""
    assert np.abs(values).max() <= ACC32_MAX, f"{name} leaves its bound"
    return values


class ReferenceModel:
    """Location and scale of any latent; `latents` (slices, h, w) of each grid may still change."""

    def __init__(self, network: Network, latents: Sequence[np.ndarray]) -> None:
        self.arch = network.arch
        self.exponents = network.exponents
        self.values = {name: q.astype(np.int64) for name, q in network.values.items()}
        self.latents = latents

    def features(self, grid: int, number: int, y: int, x: int) -> np.ndarray:
        """IFCE features of position (y, x) of slice `number`, Q7."""
        sources = ifce_sources(self.arch, grid)
        if self.arch.grids[grid].motion:
            return np.zeros(0, np.int64)
        if not sources:
            return np.zeros(self.arch.ifce_features, np.int64)
        level, frame = self.arch.grids[grid].level, number * self.arch.grids[grid].time_stride
        inputs = []
        for source in sources:
            down = self.arch.grids[source].level - level - 1
            used = slice_of(self.arch.grids[source], frame)
            inputs.append(int(self.latents[source][used, y >> 1 >> down, x >> 1 >> down]) << 7)
        e, eb = self.exponents["ifce.weight"], self.exponents["ifce.bias"]
        bias = align(self.values[f"ifce.{grid}.bias"], eb, 7 + e)
        acc = _sum("ifce", self.values[f"ifce.{grid}.weight"] @ np.array(inputs) + bias)
        return sat(rshift(acc, e), CONTEXT_ACT_MAX)

    def contexts(self, grid: int, number: int, top: int, y: int, x: int) -> np.ndarray:
        """Neighbours of position (y, x) in a band that begins at row `top`, Q7."""
        plane, is_motion = self.latents[grid][number], self.arch.grids[grid].motion > 0
        found = []
        for dy, dx in CONTEXT_ORDER[: MOTION_CONTEXTS if is_motion else self.arch.num_contexts]:
            is_inside = y + dy >= top and 0 <= x + dx < plane.shape[1]
            found.append(int(plane[y + dy, x + dx]) << 7 if is_inside else 0)
        return np.array(found, np.int64)

    def predict(self, grid: int, number: int, top: int, y: int, x: int) -> tuple[int, int]:
        """(location in Q4, scale index) of one latent."""
        e, eb = self.exponents["arm.weight"], self.exponents["arm.bias"]
        inputs = np.concatenate(
            [self.contexts(grid, number, top, y, x), self.features(grid, number, y, x)]
        )
        is_motion = self.arch.grids[grid].motion > 0
        name, layers = ("motion_arm", MOTION_LAYERS) if is_motion else ("arm", self.arch.arm_layers)
        hidden = inputs
        for i in range(layers):
            bias = align(self.values[f"{name}.{i}.bias"], eb, 7 + e)
            acc = self.values[f"{name}.{i}.weight"] @ hidden + bias + (hidden << e)
            hidden = sat(np.maximum(rshift(_sum(name, acc), e), 0), CONTEXT_ACT_MAX)
        acc = self.values[f"{name}.out.weight"] @ hidden
        acc = acc + align(self.values[f"{name}.out.bias"], eb, 7 + e)
        if layers:
            acc = acc + self.values[f"{name}.stab.weight"] @ inputs
        location, scale = (int(value) for value in _sum(f"{name}.out", acc))
        return (
            sat(rshift(location, 7 + e - 4), LATENT_MAX * 16),
            min(max(rshift(scale, 7 + e - 3) + 8, 0), NUM_SCALES - 1),
        )


def _coding_order(
    arch: Architecture, present: Sequence[bool], partition: Partition, num_frames: int
) -> Iterator[tuple[int, int, int]]:
    """(grid, slice, substream row) of a segment in coding order."""
    for k, grid in enumerate(arch.grids):
        if present[k] and grid.time_stride != 1:
            for number in range(grid.num_slices(num_frames)):
                yield k, number, 0
    for t in range(num_frames):
        for k, grid in enumerate(arch.grids):
            if present[k] and grid.time_stride == 1:
                yield k, t, 1 + t if partition.split_frames else 0


def _bands(height: int, count: int) -> Iterator[tuple[int, int, int]]:
    for band in range(count):
        top, bottom = height * band // count, height * (band + 1) // count
        if bottom > top:
            yield band, top, bottom


def _full_freq(before: Sequence[bool]) -> int:
    """Frequency of the flag of a full band after those of a grid in a substream: True is empty."""
    full, empty = 1 + before.count(False), 1 + before.count(True)
    return min(max(65536 * full // (full + empty), 1024), 64512)


def encode_latents_reference(
    network: Network,
    latents: Sequence[np.ndarray],
    *,
    num_frames: int,
    partition: Partition,
) -> tuple[tuple[bool, ...], tuple[bytes, ...]]:
    """Twin of `codec.fixedpoint.entropy.encode_latents`."""
    present = tuple(bool(values.any()) for values in latents)
    model, tables = ReferenceModel(network, latents), load_tables()
    coders = [ReferenceEncoder() for _ in range(partition.num_substreams(num_frames))]
    flags: dict[tuple[int, int], list[bool]] = {}
    for k, number, row in _coding_order(network.arch, present, partition, num_frames):
        plane = latents[k][number]
        for band, top, bottom in _bands(plane.shape[0], partition.bands):
            substream = row * partition.bands + band
            coder = coders[substream]
            if len(latents[k]) > 1:
                is_empty = not plane[top:bottom].any()
                before = flags.setdefault((substream, k), [])
                full = _full_freq(before)
                before.append(is_empty)
                coder.encode(*((full, _TOTAL - full) if is_empty else (0, full)))
                if is_empty:
                    continue
            for y, x in np.ndindex(bottom - top, plane.shape[1]):
                location, scale = model.predict(k, number, top, top + y, x)
                coder.encode_value(tables, int(plane[top + y, x]), location, scale)
    return present, tuple(coder.finish() for coder in coders)


def decode_latents_reference(
    network: Network,
    present: Sequence[bool],
    substreams: Sequence[bytes],
    *,
    num_frames: int,
    height: int,
    width: int,
    partition: Partition,
) -> list[np.ndarray]:
    """Twin of `codec.fixedpoint.entropy.decode_latents`.

    Raises:
        BitstreamError: a substream that no encoder writes, or with bytes left over.
    """
    arch = network.arch
    latents = [
        np.zeros((grid.num_slices(num_frames), *grid_shape(grid, height, width)), np.int16)
        for grid in arch.grids
    ]
    model, tables = ReferenceModel(network, latents), load_tables()
    coders = [ReferenceDecoder(data) for data in substreams]
    flags: dict[tuple[int, int], list[bool]] = {}
    for k, number, row in _coding_order(arch, present, partition, num_frames):
        plane = latents[k][number]
        for band, top, bottom in _bands(plane.shape[0], partition.bands):
            substream = row * partition.bands + band
            coder = coders[substream]
            if len(latents[k]) > 1:
                before = flags.setdefault((substream, k), [])
                full = _full_freq(before)
                is_empty = coder.decode_quantile() >= full
                before.append(is_empty)
                coder.decode_advance(*((full, _TOTAL - full) if is_empty else (0, full)))
                if is_empty:
                    continue
            for y, x in np.ndindex(bottom - top, plane.shape[1]):
                location, scale = model.predict(k, number, top, top + y, x)
                value = coder.decode_value(tables, location, scale)
                if abs(value) > LATENT_MAX:
                    raise BitstreamError(f"grid {k}: a latent of {value}")
                plane[top + y, x] = value
    if not all(coder.is_exhausted() for coder in coders):
        raise BitstreamError("a substream has bytes left over")
    return latents
