"""How the latents of a segment lie in memory while their rate is computed, and how they are cut."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from codec.arch import Architecture, Grid, grid_shape, ifce_sources, slice_of
from codec.arch.motion import MOTION_CONTEXTS
from codec.arch.network import CONTEXT_ORDER, CONTEXT_REACH_SIDE, CONTEXT_REACH_UP

# Rows of tiles are read some pixels beyond the last one.
SLACK = 512
# Latents of a strip, which is computed in one go: its gradients stay in the cache.
_STRIP_LATENTS = 12288
_JOBS = 16

# Columns of RateLayout.strips.
START = 0  # where the slice begins in the store, margins included
STRIDE = 1  # floats from row to row
WIDTH = 2
FIRST_ROW = 3
END_ROW = 4
FEATURES = 5  # where the features of the slice begin, or -1
FEATURE_WIDTH = 6
FEATURE_SIZE = 7  # floats of a plane of features


class GridPlace(NamedTuple):
    """Where a grid is in the store: its slices from `base` on, (height + 4) rows of `stride`."""

    base: int
    slices: int
    height: int
    width: int
    stride: int

    @property
    def slice_size(self) -> int:
        """Floats of a slice with its margins."""
        return (self.height + CONTEXT_REACH_UP) * self.stride

    @property
    def first_latent(self) -> int:
        """Where the first latent of the first slice is."""
        return self.base + CONTEXT_REACH_UP * self.stride + CONTEXT_REACH_SIDE

    def view(self, store: np.ndarray) -> np.ndarray:
        """The latents (slices, height, width) in a store."""
        whole = store[self.base : self.base + self.slices * self.slice_size]
        planes = whole.reshape(self.slices, -1, self.stride)
        side = CONTEXT_REACH_SIDE
        return planes[:, CONTEXT_REACH_UP:, side : side + self.width]


class FeaturePlan(NamedTuple):
    """What the IFCE of one grid reads and where its features go.

    `sources` (slices, sources, 2) int64 are places and row strides of the source slices in the
    store, `source_levels` (sources,) how many halvings a source is from the features, coarse to
    fine. `shapes` (levels, 2) are rows and columns at each halving. `base` is where the planes
    (slices, features, rows, columns) begin.
    """

    grid: int
    grids: tuple[int, ...]
    sources: np.ndarray
    source_levels: np.ndarray
    shapes: np.ndarray
    base: int


@dataclass(frozen=True)
class RateLayout:
    """The memory of latents that share an ARM, and the strips that they are worked off in."""

    places: tuple[GridPlace, ...]
    features: tuple[FeaturePlan, ...]
    strips: np.ndarray
    jobs: tuple[tuple[int, int], ...]
    num_feature_floats: int
    contexts: np.ndarray

    @property
    def store_size(self) -> int:
        """Floats of a store."""
        last = self.places[-1]
        return last.base + last.slices * last.slice_size + SLACK

    def new_store(self) -> np.ndarray:
        """A store of zeros, float32."""
        return np.zeros(self.store_size, np.float32)


def make_layout(
    arch: Architecture, part: range, *, num_frames: int, height: int, width: int
) -> RateLayout:
    """The layout of the grids `part`, which share an ARM, for segments of this size."""
    places = _places(arch, part, num_frames, height, width)
    is_motion = arch.grids[part.start].motion > 0
    contexts = CONTEXT_ORDER[: MOTION_CONTEXTS if is_motion else arch.num_contexts]
    plans, base = [], 0
    for index in part:
        if ifce_sources(arch, index):
            plan = _feature_plan(arch, places, index, base, height, width)
            plans.append(plan)
            base += places[index].slices * arch.ifce_features * int(np.prod(plan.shapes[0]))
    strips = _strips(arch, places, {plan.grid: plan for plan in plans})
    return RateLayout(
        places=tuple(places.values()),
        features=tuple(plans),
        strips=strips,
        jobs=_jobs(strips),
        num_feature_floats=base + SLACK,
        contexts=np.array(contexts, np.int64),
    )


def _places(
    arch: Architecture, part: range, num_frames: int, height: int, width: int
) -> dict[int, GridPlace]:
    places, base = {}, 0
    for index in part:
        grid = arch.grids[index]
        h, w = grid_shape(grid, height, width)
        place = GridPlace(base, grid.num_slices(num_frames), h, w, w + 2 * CONTEXT_REACH_SIDE)
        places[index] = place
        base += place.slices * place.slice_size
    return places


def _feature_plan(
    arch: Architecture,
    places: Mapping[int, GridPlace],
    index: int,
    base: int,
    height: int,
    width: int,
) -> FeaturePlan:
    grid, grids = arch.grids[index], ifce_sources(arch, index)
    halvings = np.array([arch.grids[s].level - grid.level - 1 for s in grids], np.int64)
    sources = np.zeros((places[index].slices, len(grids), 2), np.int64)
    for number in range(len(sources)):
        for s, source in enumerate(grids):
            place = places[source]
            used = slice_of(arch.grids[source], number * grid.time_stride)
            sources[number, s] = place.first_latent + used * place.slice_size, place.stride
    levels = range(grid.level + 1, grid.level + 2 + int(halvings.max()))
    shapes = np.array([grid_shape(Grid(level), height, width) for level in levels], np.int64)
    return FeaturePlan(index, tuple(grids), sources, halvings, shapes, base)


def _strips(
    arch: Architecture, places: Mapping[int, GridPlace], plans: Mapping[int, FeaturePlan]
) -> np.ndarray:
    strips = []
    for index, place in places.items():
        # Two rows share a row of features, so strips begin at even rows.
        rows = max(2, _STRIP_LATENTS // place.width // 2 * 2)
        plan = plans.get(index)
        for number in range(place.slices):
            features, feature_width, size = -1, 0, 0
            if plan is not None:
                feature_width, size = int(plan.shapes[0, 1]), int(np.prod(plan.shapes[0]))
                features = plan.base + number * arch.ifce_features * size
            start = place.base + number * place.slice_size
            for top in range(0, place.height, rows):
                end = min(top + rows, place.height)
                row = (start, place.stride, place.width, top, end, features, feature_width, size)
                strips.append(row)
    return np.array(strips, np.int64)


def _jobs(strips: np.ndarray) -> tuple[tuple[int, int], ...]:
    """(first strip, end) of about equal numbers of latents; they do not depend on threads."""
    sizes = np.cumsum((strips[:, END_ROW] - strips[:, FIRST_ROW]) * strips[:, WIDTH])
    bounds = np.searchsorted(sizes, np.arange(1, _JOBS + 1) * sizes[-1] / _JOBS) + 1
    ends = np.unique(np.minimum(bounds, len(strips)))
    return tuple(zip([0, *ends[:-1].tolist()], ends.tolist(), strict=True))
