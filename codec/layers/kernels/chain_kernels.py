"""Fused 1x1 layers with a parallel linear map, and their gradients, over stretches of pixels.

Layers of one pixel do not care about rows, so a plane is one line. The activations between layers
exist for one tile at a time; the backward pass computes them again.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from codec.jit import njit_float
from codec.layers.kernels.tiles import (
    INFINITE,
    PITCH,
    TILE,
    TILE_STEP,
    add_weight_gradients,
    aligned_zeros,
    copy_row,
    fold_gradients,
    mask_rows,
    padded_outputs,
    round_up,
    weighted_sums,
)
from codec.layers.kernels.vectors import FLOAT_BYTES, address

_ROW = np.int64(PITCH * FLOAT_BYTES)
_WORD = np.int64(FLOAT_BYTES)

# Columns of Chain.layers, as in `rate_kernels`.
WEIGHTS, BIASES, OUTPUTS, INPUTS, GRADIENTS = range(5)


class Chain(NamedTuple):
    """Layers of `inputs` channels, packed for `weighted_sums`.

    Rows of `layers` (2 count + 2, 5) int64: the layers and the parallel map forward, then what each
    layer from the second on sends back, in a row of its own; what goes back to the inputs is last,
    from the first layer and the map together. `limits` (count, 2) hold the activations. The
    parallel map reads the first `straight` inputs. `tile` is how many pixels are computed at once.
    """

    weights: np.ndarray
    layers: np.ndarray
    limits: np.ndarray
    inputs: int
    straight: int
    tile: int
    num_gradients: int


class Span(NamedTuple):
    """Pixels `start` to `end` of a frame, whose planes have `size` pixels each."""

    size: int
    start: int
    end: int


@njit_float
def _row_count(chain):
    """Rows of scratch before the activations of the layers: ones, inputs, outputs."""
    return 1 + chain.inputs + padded_outputs(chain.layers[chain.limits.shape[0], OUTPUTS])


@njit_float
def _widest(chain):
    widest = chain.inputs
    for layer in range(chain.layers.shape[0]):
        widest = max(widest, chain.layers[layer, OUTPUTS])
    return padded_outputs(widest)


@njit_float
def _new_scratch(chain):
    count, group = chain.limits.shape[0], _widest(chain)
    scratch = aligned_zeros((_row_count(chain) + (count + 4) * group) * PITCH)
    scratch[:TILE] = np.float32(1.0)
    return scratch


@njit_float
def _point(table, planes, place, size, count, length, whole, at_end, scratch, row):
    """Addresses of `count` rows of a tile; at the end of the planes they are copied to scratch."""
    for c in range(count):
        table[c] = address(planes, place + c * size)
        if at_end:
            copy_row((scratch, (row + c) * PITCH), (planes, place + c * size), length)
            table[c] = address(scratch, (row + c) * PITCH)


@njit_float
def _hidden(chain, tables, scratch, count, group, length):
    """The first `count` layers of a tile; `tables` (layers + 1, ...) gets what each layer reads."""
    base = address(chain.weights, 0)
    for layer in range(count):
        target = address(scratch, (_row_count(chain) + layer * group) * PITCH)
        weights = base + chain.layers[layer, WEIGHTS] * _WORD
        bias = base + chain.layers[layer, BIASES] * _WORD
        outputs, inputs = chain.layers[layer, OUTPUTS], chain.layers[layer, INPUTS]
        low, high = chain.limits[layer, 0], chain.limits[layer, 1]
        weighted_sums(
            tables[layer], inputs, weights, bias, outputs, target, _ROW, length, low, high
        )
        for i in range(outputs):
            tables[layer + 1, i] = target + i * _ROW


@njit_float
def _dense(chain, row, table, target, length):
    """Rows of a layer without limits."""
    base = address(chain.weights, 0)
    weights = base + chain.layers[row, WEIGHTS] * _WORD
    bias = base + chain.layers[row, BIASES] * _WORD
    outputs, inputs = chain.layers[row, OUTPUTS], chain.layers[row, INPUTS]
    weighted_sums(table, inputs, weights, bias, outputs, target, _ROW, length, -INFINITE, INFINITE)


@njit_float
def chain_pixels(chain, planes, trunk, straight, span):
    """Outputs of the layers and of the parallel map for the pixels of a span.

    `planes` are the inputs of one frame, `trunk` and `straight` its outputs, all flat.
    """
    count, group = chain.limits.shape[0], _widest(chain)
    scratch = _new_scratch(chain)
    tables = np.zeros((count + 1, group + 8), np.int64)
    for p in range(span.start, span.end, chain.tile):
        length = min(chain.tile, span.end - p)
        whole = round_up(length, TILE_STEP)
        at_end = p + whole > span.size
        _point(
            tables[0], planes, p, span.size, chain.inputs, length, whole, at_end,
            scratch, 1,
        )  # fmt: skip
        _hidden(chain, tables, scratch, count, group, whole)
        spare = _row_count(chain) + count * group
        _dense(chain, count, tables[0], address(scratch, spare * PITCH), whole)
        for c in range(chain.layers[count, OUTPUTS]):
            target = c * span.size + p
            copy_row((straight, target), (scratch, (spare + c) * PITCH), length)
        if count:
            first = _row_count(chain) + (count - 1) * group
            for c in range(chain.layers[count - 1, OUTPUTS]):
                target = c * span.size + p
                copy_row((trunk, target), (scratch, (first + c) * PITCH), length)


@njit_float
def _load_gradients(back, values, span, p, rows, limits, scratch, row, length, whole):
    """Gradients of outputs into rows of scratch, 0 where the clamped value is at a limit."""
    for c in range(rows):
        place = np.uint64(c * span.size + p)
        target = np.uint64((row + c) * PITCH)
        for j in range(length):
            k = np.uint64(j)
            value = values[place + k]
            is_free = (value > limits[0]) & (value < limits[1])
            scratch[target + k] = back[place + k] if is_free else np.float32(0.0)
        for j in range(length, whole):
            scratch[target + np.uint64(j)] = np.float32(0.0)


@njit_float
def _layers_back(chain, tables, backs, sums, scratch, group, length):
    """Send the gradients in `backs`, of the last layer, back to the first layer's outputs."""
    count = chain.limits.shape[0]
    spare = _row_count(chain) + (count + 1) * group
    for layer in range(count - 1, -1, -1):
        outputs, inputs = chain.layers[layer, OUTPUTS], chain.layers[layer, INPUTS]
        tables[layer, inputs] = address(scratch, 0)
        place = address(sums, chain.layers[layer, GRADIENTS])
        add_weight_gradients(backs, outputs, tables[layer], inputs + 1, place, length)
        if layer == 0:
            return
        target = address(scratch, (spare + (layer & 1) * group) * PITCH)
        _dense(chain, count + 1 + layer, backs, target, length)
        low, high = chain.limits[layer - 1, 0], chain.limits[layer - 1, 1]
        mask_rows(target, tables[layer, 0], _ROW, inputs, length, low, high)
        for i in range(inputs):
            backs[i] = target + i * _ROW


@njit_float
def chain_pixels_back(
    chain, planes, trunk, trunk_back, straight_back, span, planes_back, gradients
):
    """Gradients behind `chain_pixels` for the pixels of a span.

    `planes_back` gets those of the inputs, `gradients` those of the layers and then of the parallel
    map, each (outputs, inputs + 1) with the bias last.
    """
    count, group = chain.limits.shape[0], _widest(chain)
    scratch = _new_scratch(chain)
    tables = np.zeros((count + 1, group + 8), np.int64)
    backs, straights = np.zeros(2 * group + 8, np.int64), np.zeros(group + 8, np.int64)
    sums = aligned_zeros(chain.num_gradients)
    free = np.array([-INFINITE, INFINITE], np.float32)
    first = _row_count(chain) + count * group
    last = first + 3 * group
    outputs = chain.layers[count, OUTPUTS]
    own = chain.layers[count - 1, OUTPUTS] if count else 0
    for p in range(span.start, span.end, chain.tile):
        length = min(chain.tile, span.end - p)
        whole = round_up(length, TILE_STEP)
        at_end = p + whole > span.size
        _point(
            tables[0], planes, p, span.size, chain.inputs, length, whole, at_end,
            scratch, 1,
        )  # fmt: skip
        _hidden(chain, tables, scratch, count - 1, group, whole)
        straight_row = 1 + chain.inputs
        _load_gradients(
            straight_back, straight_back, span, p, outputs, free, scratch, straight_row, length,
            whole,
        )  # fmt: skip
        for c in range(outputs):
            straights[c] = address(scratch, (straight_row + c) * PITCH)
        if count:
            _load_gradients(
                trunk_back, trunk, span, p, own, chain.limits[count - 1], scratch, first, length,
                whole,
            )  # fmt: skip
            for c in range(own):
                backs[c] = address(scratch, (first + c) * PITCH)
            _layers_back(chain, tables, backs, sums, scratch, group, whole)
        for c in range(outputs):
            backs[(chain.layers[0, OUTPUTS] if count else 0) + c] = straights[c]
        tables[0, chain.straight] = address(scratch, 0)
        place = address(sums, chain.layers[count, GRADIENTS])
        add_weight_gradients(straights, outputs, tables[0], chain.straight + 1, place, whole)
        _dense(chain, 2 * count + 1, backs, address(scratch, last * PITCH), whole)
        for c in range(chain.inputs):
            target = c * span.size + p
            copy_row((planes_back, target), (scratch, (last + c) * PITCH), length)
    _fold(chain, sums, gradients)


@njit_float
def _fold(chain, sums, gradients):
    target = 0
    for layer in range(chain.limits.shape[0] + 1):
        outputs, inputs = chain.layers[layer, OUTPUTS], chain.layers[layer, INPUTS] + 1
        fold_gradients(sums[chain.layers[layer, GRADIENTS] :], outputs, inputs, gradients[target:])
        target += outputs * inputs
