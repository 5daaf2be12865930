"""How the latents of a segment lie in memory, in what order they are coded, and what IFCE reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from codec.arch import Architecture, grid_shape, ifce_sources, slice_of
from codec.arch.network import CONTEXT_REACH_SIDE, CONTEXT_REACH_UP
from codec.bitstream.elements import Partition


class GridPlace(NamedTuple):
    """Where the slices of a grid are: the first starts at `base`, each takes `size` entries."""

    base: int
    size: int
    stride: int
    slices: int
    height: int
    width: int


class LatentStore(NamedTuple):
    """All latents of a segment in one int16 array.

    A slice is (height + 4) rows of `stride` = width + 8 entries: four zero rows above it and four
    zero columns at each side stand for the neighbours outside. All slices of grids that are absent
    share one area of zeros.
    """

    flat: np.ndarray
    places: tuple[GridPlace, ...]

    def view(self, index: int) -> np.ndarray:
        """The latents of grid number `index`, (slices, h, w); read-only for an absent one."""
        place = self.places[index]
        if place.size == 0:
            shape = (place.slices, place.height, place.width)
            return np.broadcast_to(np.zeros((), np.int16), shape)
        whole = self.flat[place.base : place.base + place.slices * place.size]
        planes = whole.reshape(place.slices, -1, place.stride)
        side = CONTEXT_REACH_SIDE
        return planes[:, CONTEXT_REACH_UP:, side : side + place.width]


class Step(NamedTuple):
    """Slice `number` of grid `grid`, coded in substream row `row`."""

    grid: int
    number: int
    row: int


def is_zero(latents: np.ndarray) -> bool:
    """Whether all latents of a grid are zero; at once where it is one number seen everywhere."""
    return not (latents if any(latents.strides) else latents[:1, :1, :1]).any()


def new_store(
    arch: Architecture, *, present: Sequence[bool], num_frames: int, height: int, width: int
) -> LatentStore:
    """A store in which every latent is zero, with room for those of the grids that are present."""
    places, base, zeros = [], 0, 0
    for grid, is_present in zip(arch.grids, present, strict=True):
        h, w = grid_shape(grid, height, width)
        stride, slices = w + 2 * CONTEXT_REACH_SIDE, grid.num_slices(num_frames)
        size = (h + CONTEXT_REACH_UP) * stride
        places.append(GridPlace(base, size if is_present else 0, stride, slices, h, w))
        if is_present:
            base += slices * size
        else:
            zeros = max(zeros, size)
    places = [place if place.size else place._replace(base=base) for place in places]
    return LatentStore(np.zeros(base + zeros, np.int16), tuple(places))


def store_latents(
    arch: Architecture, latents: Sequence[np.ndarray], *, num_frames: int, height: int, width: int
) -> LatentStore:
    """A store with a copy of `latents`, one array (slices, h, w) a grid; zero grids are absent."""
    present = [not is_zero(values) for values in latents]
    size = {"num_frames": num_frames, "height": height, "width": width}
    store = new_store(arch, present=present, **size)
    for index, values in enumerate(latents):
        if present[index]:
            store.view(index)[...] = values
    return store


def band_rows(height: int, bands: int) -> list[tuple[int, int]]:
    """(first row, end) of each band of a slice."""
    return [(height * b // bands, height * (b + 1) // bands) for b in range(bands)]


def steps_of_grid(
    arch: Architecture, partition: Partition, index: int, num_slices: int
) -> list[Step]:
    """The steps of one grid: with `split_frames` each slice of a dynamic one has its own row."""
    is_split = partition.split_frames and arch.grids[index].time_stride == 1
    return [Step(index, number, 1 + number if is_split else 0) for number in range(num_slices)]


def coding_groups(
    arch: Architecture, partition: Partition, *, num_frames: int, present: Sequence[bool]
) -> list[list[Step]]:
    """Steps in coding order, in groups; the steps of a group do not depend on each other.

    Static and slow grids come slice by slice, then frame by frame the dynamic ones. With
    `split_frames` a dynamic grid's slices, each in a substream row of its own, form one group.
    """
    here = [(k, grid) for k, grid in enumerate(arch.grids) if present[k]]
    dynamic = [k for k, grid in here if grid.time_stride == 1]
    steps = {k: steps_of_grid(arch, partition, k, grid.num_slices(num_frames)) for k, grid in here}
    groups = [[step] for k, grid in here if grid.time_stride != 1 for step in steps[k]]
    if partition.split_frames:
        groups += [steps[k] for k in dynamic]
    else:
        groups += [[steps[k][t]] for t in range(num_frames) for k in dynamic]
    return groups


def ifce_places(arch: Architecture, store: LatentStore, index: int) -> np.ndarray:
    """What the IFCE of each slice of a grid reads: int64 (slices, sources, 3).

    A source is (where its slice's first latent is in the store, its row stride, log2 of how much
    coarser it is than the features); no sources where the grid has no IFCE.
    """
    grid, sources = arch.grids[index], ifce_sources(arch, index)
    table = np.zeros((store.places[index].slices, len(sources), 3), np.int64)
    for number in range(len(table)):
        for s, source in enumerate(sources):
            place = store.places[source]
            used = slice_of(arch.grids[source], number * grid.time_stride)
            first = place.base + used * place.size
            first += CONTEXT_REACH_UP * place.stride + CONTEXT_REACH_SIDE
            coarser = arch.grids[source].level - grid.level - 1
            table[number, s] = first, place.stride, coarser
    return table
