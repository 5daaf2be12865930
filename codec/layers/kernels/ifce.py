"""IFCE features from coarser latents, and their gradients, without a plane for every source.

The features are linear in sources that are each constant over squares of pixels. So they are summed
from coarse to fine, doubled in size at each level; their gradients are summed over 2x2 squares from
fine to coarse.
"""

from __future__ import annotations

import numpy as np

from codec.arch.numerics import CONTEXT_ACT_MAX, CONTEXT_FRAC
from codec.jit import inner_float, njit_float, run_parallel, threads_for
from codec.layers.kernels.rate_layout import FeaturePlan
from codec.layers.kernels.vectors import (
    LANES,
    add,
    address,
    load,
    load_evens,
    load_odds,
    multiply_add,
    splat,
    store_pairs,
)
from codec.layers.kernels.vectors import (
    store as store_vector,
)

_LIMIT = np.float32(CONTEXT_ACT_MAX / (1 << CONTEXT_FRAC))


@inner_float
def _add_sources(plane, rows, columns, store, sources, halvings, level, weights):
    """plane += sum of weight * source over the sources of one level."""
    for s in range(sources.shape[0]):
        if halvings[s] == level:
            weight = weights[s]
            for y in range(rows):
                line, at = sources[s, 0] + y * sources[s, 1], y * columns
                row, source = plane[at : at + columns], store[line : line + columns]
                for x in range(columns):
                    row[x] += weight * source[x]


@inner_float
def _double(small, small_columns, plane, rows, columns):
    """plane(y, x) = small(y / 2, x / 2)."""
    whole = (columns >> 1) // LANES * LANES
    for y in range(rows):
        line, at = (y >> 1) * small_columns, y * columns
        for x in range(0, whole, LANES):
            values = load(address(small, line + x))
            store_pairs(address(plane, at + 2 * x), values, values)
        for x in range(2 * whole, columns):
            plane[at + x] = small[line + (x >> 1)]


@njit_float
def _features(store, sources, halvings, shapes, weights, bias, out):
    """One plane of features, clamped, into `out` (rows * columns)."""
    levels, size = shapes.shape[0], shapes[0, 0] * shapes[0, 1]
    planes = np.zeros((2, size), np.float32)
    last = levels - 1
    planes[last & 1, : shapes[last, 0] * shapes[last, 1]] = bias
    for level in range(last, -1, -1):
        rows, columns = shapes[level, 0], shapes[level, 1]
        plane = planes[level & 1]
        if level < last:
            _double(planes[(level + 1) & 1], shapes[level + 1, 1], plane, rows, columns)
        _add_sources(plane, rows, columns, store, sources, halvings, level, weights)
    for j in range(size):
        out[j] = min(max(planes[0, j], -_LIMIT), _LIMIT)


@inner_float
def _halve(plane, rows, columns, small, small_rows, small_columns):
    """small(y, x) = the sum of the pixels of `plane` that it covers."""
    pairs = columns >> 1
    whole = pairs // LANES * LANES
    for y in range(small_rows):
        first = 2 * y * columns
        # A last row without a partner counts once: it is added to half of itself twice.
        second = first + columns if 2 * y + 1 < rows else first
        share = np.float32(1.0) if second > first else np.float32(0.5)
        at, shares = y * small_columns, splat(share)
        for x in range(0, whole, LANES):
            upper, lower = address(plane, first + 2 * x), address(plane, second + 2 * x)
            total = add(
                add(load_evens(upper), load_odds(upper)), add(load_evens(lower), load_odds(lower))
            )
            store_vector(
                address(small, at + x), multiply_add(shares, total, splat(np.float32(0.0)))
            )
        for x in range(whole, pairs):
            upper = plane[first + 2 * x] + plane[first + 2 * x + 1]
            small[at + x] = share * (upper + plane[second + 2 * x] + plane[second + 2 * x + 1])
        if columns & 1:
            small[at + pairs] = share * (plane[first + columns - 1] + plane[second + columns - 1])


@inner_float
def _source_products(plane, rows, columns, store, sources, halvings, level, out):
    """out[s] = sum over pixels of plane * source, for the sources of one level."""
    for s in range(sources.shape[0]):
        if halvings[s] == level:
            total = 0.0
            for y in range(rows):
                line, at, part = sources[s, 0] + y * sources[s, 1], y * columns, np.float32(0.0)
                row, source = plane[at : at + columns], store[line : line + columns]
                for x in range(columns):
                    part += row[x] * source[x]
                total += part
            out[s] = total


@njit_float
def _features_back(values, back, store, sources, halvings, shapes, pyramid, out):
    """Gradients of one plane of features at all levels, and of its weights and bias into `out`.

    `pyramid` gets one level after the other, fine to coarse.
    """
    place = 0
    for level in range(shapes.shape[0]):
        rows, columns = shapes[level, 0], shapes[level, 1]
        plane = pyramid[place : place + rows * columns]
        if level == 0:
            for j in range(rows * columns):
                plane[j] = back[j] if abs(values[j]) < _LIMIT else np.float32(0.0)
        else:
            finer = shapes[level - 1, 0] * shapes[level - 1, 1]
            source = pyramid[place - finer : place]
            _halve(source, shapes[level - 1, 0], shapes[level - 1, 1], plane, rows, columns)
        _source_products(plane, rows, columns, store, sources, halvings, level, out)
        place += rows * columns
    total = 0.0
    for j in range(place - rows * columns, place):
        total += pyramid[j]
    out[sources.shape[0]] = total


@njit_float
def _add_to_source(store_back, sources, s, pyramids, place, shape, weights):
    """Gradients of source `s` over all slices: weights (features,), pyramids (slices, F, size)."""
    for number in range(sources.shape[0]):
        for f in range(weights.size):
            plane, weight = pyramids[number, f], weights[f]
            for y in range(shape[0]):
                line, at = sources[number, s, 0] + y * sources[number, s, 1], place + y * shape[1]
                row, source = store_back[line : line + shape[1]], plane[at : at + shape[1]]
                for x in range(shape[1]):
                    row[x] += weight * source[x]


def make_features(
    plan: FeaturePlan,
    store: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray,
    features: np.ndarray,
) -> None:
    """Write the planes of one grid's IFCE, `weight` (features, sources), into `features`."""
    size, slices, num_features = int(np.prod(plan.shapes[0])), len(plan.sources), len(weight)

    def job(place: tuple[int, int]) -> None:
        number, f = place
        start = plan.base + (number * num_features + f) * size
        out = features[start : start + size]
        _features(
            store, plan.sources[number], plan.source_levels, plan.shapes, weight[f], bias[f], out
        )

    jobs = [(n, f) for n in range(slices) for f in range(num_features)]
    run_parallel(job, jobs, threads=threads_for(slices * num_features * size))


def features_gradient(
    plan: FeaturePlan,
    store: np.ndarray,
    weight: np.ndarray,
    features: np.ndarray,
    features_back: np.ndarray,
    store_back: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Gradients of weight and bias; those of the sources are added to `store_back`.

    Args:
        features, features_back: planes of all IFCEs and their gradients.
    """
    num_features, num_sources = weight.shape
    size, slices = int(np.prod(plan.shapes[0])), len(plan.sources)
    sizes = plan.shapes.prod(axis=1)
    pyramids = np.empty((slices, num_features, int(sizes.sum())), np.float32)
    parts = np.empty((slices, num_features, num_sources + 1), np.float64)

    def job(place: tuple[int, int]) -> None:
        number, f = place
        plane = slice(plan.base + (number * num_features + f) * size, None)
        _features_back(
            features[plane], features_back[plane], store, plan.sources[number],
            plan.source_levels, plan.shapes, pyramids[number, f], parts[number, f],
        )  # fmt: skip

    def source_job(s: int) -> None:
        level = int(plan.source_levels[s])
        column = np.ascontiguousarray(weight[:, s])
        first, shape = int(sizes[:level].sum()), plan.shapes[level]
        _add_to_source(store_back, plan.sources, s, pyramids, first, shape, column)

    jobs = [(n, f) for n in range(slices) for f in range(num_features)]
    run_parallel(job, jobs, threads=threads_for(slices * num_features * size))
    run_parallel(source_job, range(num_sources), threads=threads_for(pyramids.size))
    total = parts.sum(axis=0)
    return total[:, :-1].astype(np.float32), total[:, -1].astype(np.float32)
