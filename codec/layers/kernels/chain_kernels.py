"""The last doubling of features and the 1x1 layers on them, and their gradients, row by row.

Features of full resolution would be most of the memory of a step. Here a row of them exists at a
time, and activations between layers for one tile of it; the backward pass computes both again.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from codec.jit import inner_float, njit_float
from codec.layers.kernels.pyramid_kernels import (
    double_line,
    double_row_back,
    new_columns,
    new_line,
    source_line,
)
from codec.layers.kernels.tiles import (
    BIASES,
    GRADIENTS,
    INFINITE,
    INPUTS,
    OUTPUTS,
    PITCH,
    TILE,
    TILE_STEP,
    WEIGHTS,
    add_weight_gradients,
    aligned_zeros,
    copy_row,
    fold_layers,
    masked_sums,
    padded_outputs,
    round_up,
    weighted_sums,
)
from codec.layers.kernels.vectors import FLOAT_BYTES, address

_ROW = np.int64(PITCH * FLOAT_BYTES)
_WORD = np.int64(FLOAT_BYTES)
_ZERO, _ONE = np.float32(0.0), np.float32(1.0)


class Chain(NamedTuple):
    """Layers of `inputs` channels, packed by `pack_layers`.

    Rows of `layers`: the layers and the parallel map forward; what each layer from the second on
    sends back; what goes back to the inputs, from the first layer and the map together. `limits`
    (count, 2) hold the activations. The parallel map reads the first `straight` inputs.
    """

    weights: np.ndarray
    layers: np.ndarray
    limits: np.ndarray
    inputs: int
    straight: int
    num_gradients: int


class Inputs(NamedTuple):
    """Where the channels of one frame come from: `number` (channels,) int64.

    Channel c is the double of `doubled[number[c]]` (planes, h, w), or for negative numbers
    `plain[-1 - number[c]]` (planes, H, W). `phases` (2, 4) are the taps of the doubling.
    """

    doubled: np.ndarray
    plain: np.ndarray
    number: np.ndarray
    phases: np.ndarray


class Lines(NamedTuple):
    """Scratch for one row of pixels.

    `rows` (channels, width and a tile) and `back` like it hold the inputs and their gradients,
    `halves` (channels, ...) the source lines of doubled channels.
    """

    rows: np.ndarray
    back: np.ndarray
    halves: np.ndarray
    columns: np.ndarray


@inner_float
def _row_count(chain):
    """Rows of scratch before the activations of the layers: ones, and the map's gradients."""
    return 1 + chain.layers[chain.limits.shape[0], OUTPUTS]


@inner_float
def _widest(chain):
    widest = chain.inputs
    for layer in range(chain.layers.shape[0]):
        widest = max(widest, chain.layers[layer, OUTPUTS])
    return padded_outputs(widest)


@inner_float
def _new_scratch(chain):
    count, group = chain.limits.shape[0], _widest(chain)
    scratch = aligned_zeros((_row_count(chain) + (count + 4) * group) * PITCH)
    scratch[:TILE] = np.float32(1.0)
    return scratch


@inner_float
def _new_lines(inputs, width):
    channels, half = inputs.number.size, inputs.doubled.shape[2]
    # Rows of a power of two apart would share few sets of the cache.
    stride = round_up(width, 32) + PITCH
    halves = np.empty((channels, new_line(half).size), np.float32)
    rows = np.zeros((2, channels, stride), np.float32)
    return Lines(rows[0], rows[1], halves, new_columns(half))


@inner_float
def _load_row(inputs, y, width, lines):
    """The inputs at row y, every channel."""
    for c in range(inputs.number.size):
        number, row = inputs.number[c], lines.rows[c, :width]
        if number < 0:
            row[:] = inputs.plain[-1 - number, y]
        else:
            source_line(inputs.doubled[number], y, inputs.phases, lines.halves[c])
            double_line(lines.halves[c], inputs.phases, row)


@inner_float
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


@inner_float
def _dense(chain, row, table, target, length):
    """Rows of a layer without limits."""
    base = address(chain.weights, 0)
    weights = base + chain.layers[row, WEIGHTS] * _WORD
    bias = base + chain.layers[row, BIASES] * _WORD
    outputs, inputs = chain.layers[row, OUTPUTS], chain.layers[row, INPUTS]
    weighted_sums(table, inputs, weights, bias, outputs, target, _ROW, length, -INFINITE, INFINITE)


@njit_float
def chain_rows(chain, inputs, y0, y1, trunk, straight):
    """Rows y0 to y1 of the outputs of the layers and of the parallel map.

    `trunk` and `straight` (outputs, H, W) are those of one frame.
    """
    count, group, width = chain.limits.shape[0], _widest(chain), straight.shape[2]
    scratch, lines = _new_scratch(chain), _new_lines(inputs, width)
    tables = np.zeros((count + 1, group + 8), np.int64)
    spare = _row_count(chain) + count * group
    for y in range(y0, y1):
        _load_row(inputs, y, width, lines)
        for x in range(0, width, TILE):
            length = min(TILE, width - x)
            whole = round_up(length, TILE_STEP)
            for c in range(chain.inputs):
                tables[0, c] = address(lines.rows, c * lines.rows.shape[1] + x)
            _hidden(chain, tables, scratch, count, group, whole)
            _dense(chain, count, tables[0], address(scratch, spare * PITCH), whole)
            for c in range(straight.shape[0]):
                copy_row((straight[c, y], x), (scratch, (spare + c) * PITCH), length)
            for c in range(trunk.shape[0]):
                copy_row((trunk[c, y], x), (scratch, (spare - group + c) * PITCH), length)


@inner_float
def _load_gradients(back, values, y, x, limits, scratch, row, length, whole):
    """Gradients of outputs into rows of scratch, 0 where the clamped value is at a limit."""
    low, high = limits[0], limits[1]
    for c in range(back.shape[0]):
        source, made = back[c, y, x : x + length], values[c, y, x : x + length]
        out = scratch[(row + c) * PITCH : (row + c) * PITCH + whole]
        for j in range(length):
            is_free = (made[j] > low) & (made[j] < high)
            out[j] = source[j] * (_ONE if is_free else _ZERO)
        out[length:] = _ZERO


@inner_float
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
        row, base = count + layer, address(chain.weights, 0)
        weights = base + chain.layers[row, WEIGHTS] * _WORD
        bias = base + chain.layers[row, BIASES] * _WORD
        low, high = chain.limits[layer - 1, 0], chain.limits[layer - 1, 1]
        masked_sums(
            backs, outputs, weights, bias, inputs, target, _ROW, length, tables[layer, 0], low, high
        )
        for i in range(inputs):
            backs[i] = target + i * _ROW


@inner_float
def _inputs_back(inputs, y, width, lines, doubled_back, plain_back, slots, taps_back):
    """Send the gradients of the inputs at row y back to the planes that they came from."""
    for c in range(inputs.number.size):
        number, slot, row = inputs.number[c], slots[c], lines.back[c, :width]
        if number < 0:
            plain_back[slot, y, :] = row
        else:
            double_row_back(
                inputs.doubled[number], y, lines.halves[c], row, doubled_back[slot],
                inputs.phases, lines.columns, taps_back[0], taps_back[1],
            )  # fmt: skip


@inner_float
def _tile_back(chain, tables, trunk, trunk_back, straight_back, y, x, length, scratch, sums, first):
    """Gradients of the inputs of a tile, into the rows of scratch from `first + 3 groups` on."""
    count, group, outputs = chain.limits.shape[0], _widest(chain), straight_back.shape[0]
    whole, straight_row = round_up(length, TILE_STEP), 1
    backs, straights = np.zeros(2 * group + 8, np.int64), np.zeros(group + 8, np.int64)
    free = np.array([-INFINITE, INFINITE], np.float32)
    _load_gradients(straight_back, straight_back, y, x, free, scratch, straight_row, length, whole)
    for c in range(outputs):
        straights[c] = address(scratch, (straight_row + c) * PITCH)
    if count:
        _load_gradients(
            trunk_back, trunk, y, x, chain.limits[count - 1], scratch, first, length, whole
        )
        for c in range(trunk.shape[0]):
            backs[c] = address(scratch, (first + c) * PITCH)
        _layers_back(chain, tables, backs, sums, scratch, group, whole)
    for c in range(outputs):
        backs[(chain.layers[0, OUTPUTS] if count else 0) + c] = straights[c]
    tables[0, chain.straight] = address(scratch, 0)
    place = address(sums, chain.layers[count, GRADIENTS])
    add_weight_gradients(straights, outputs, tables[0], chain.straight + 1, place, whole)
    target = address(scratch, (first + 3 * group) * PITCH)
    _dense(chain, chain.layers.shape[0] - 1, backs, target, whole)


@njit_float
def chain_rows_back(
    chain, inputs, y0, y1, trunk, trunk_back, straight_back, doubled_back, plain_back, slots, out
):
    """Gradients behind `chain_rows` for the rows y0 to y1 of a frame.

    Args:
        trunk, trunk_back, straight_back: (outputs, H, W), what came out, and gradients.
        doubled_back, plain_back: (slots, h, w) and (slots, H, W); the first is added to, at the
            rows that the doubling of these rows reads.
        slots: (channels,) int64, where in these the gradients of each channel go.
        out: flat; gets the gradients of the layers, then of the parallel map, each (outputs,
            inputs + 1) with the bias last, and then of the taps (rows or columns, 2, 4).
    """
    count, group, width = chain.limits.shape[0], _widest(chain), straight_back.shape[2]
    scratch, lines = _new_scratch(chain), _new_lines(inputs, width)
    tables = np.zeros((count + 1, group + 8), np.int64)
    sums, taps_back = aligned_zeros(chain.num_gradients), np.zeros((2, 2, 4), np.float32)
    first = _row_count(chain) + count * group
    for y in range(y0, y1):
        _load_row(inputs, y, width, lines)
        for x in range(0, width, TILE):
            length = min(TILE, width - x)
            for c in range(chain.inputs):
                tables[0, c] = address(lines.rows, c * lines.rows.shape[1] + x)
            _hidden(chain, tables, scratch, count - 1, group, round_up(length, TILE_STEP))
            _tile_back(
                chain, tables, trunk, trunk_back, straight_back, y, x, length, scratch, sums, first
            )
            for c in range(chain.inputs):
                source = (scratch, (first + 3 * group + c) * PITCH)
                copy_row((lines.back[c], x), source, length)
        _inputs_back(inputs, y, width, lines, doubled_back, plain_back, slots, taps_back)
    place = fold_layers(chain.layers, count + 1, sums, out)
    out[place : place + taps_back.size] = taps_back.ravel()


@njit_float
def add_planes(planes, target, sources):
    """planes[target] += the sum of planes[sources], in their order; planes (count, h, w)."""
    for source in sources:
        for y in range(planes.shape[1]):
            row, other = planes[target, y], planes[source, y]
            for x in range(row.size):
                row[x] += other[x]
