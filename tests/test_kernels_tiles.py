"""Dense layers on tiles against matrix products."""

from __future__ import annotations

import numpy as np
import pytest

from codec.jit import njit_float
from codec.layers.kernels import tiles
from codec.layers.kernels.vectors import FLOAT_BYTES, address


@njit_float(cache=False)
def _layer(x, weights, bias, y, outputs, low, high):
    table = np.array([address(x, i * x.shape[1]) for i in range(x.shape[0])])
    tiles.weighted_sums(
        table, x.shape[0], address(weights, 0), address(bias, 0), outputs, address(y, 0),
        y.shape[1] * FLOAT_BYTES, x.shape[1], low, high,
    )  # fmt: skip


@njit_float(cache=False)
def _gradients(back, x, out):
    rows = np.zeros(back.shape[0] + 4, np.int64)
    columns = np.zeros(x.shape[0] + 4, np.int64)
    for o in range(back.shape[0]):
        rows[o] = address(back, o * back.shape[1])
    for i in range(x.shape[0]):
        columns[i] = address(x, i * x.shape[1])
    sums = tiles.aligned_zeros(tiles.gradient_floats(back.shape[0], x.shape[0]))
    for _ in range(2):
        tiles.add_weight_gradients(
            rows, back.shape[0], columns, x.shape[0], address(sums, 0), x.shape[1]
        )
    tiles.fold_gradients(sums, back.shape[0], x.shape[0], out)


@njit_float(cache=False)
def _masked(x, weights, bias, y, outputs, values, low, high):
    table = np.array([address(x, i * x.shape[1]) for i in range(x.shape[0])])
    tiles.masked_sums(
        table, x.shape[0], address(weights, 0), address(bias, 0), outputs, address(y, 0),
        y.shape[1] * FLOAT_BYTES, x.shape[1], address(values, 0), low, high,
    )  # fmt: skip


SHAPES = [(1, 1), (2, 40), (3, 27), (4, 5), (6, 6), (7, 3), (9, 51), (14, 20), (20, 22), (48, 7)]


@pytest.mark.parametrize(("outputs", "inputs"), SHAPES)
def test_layers_are_matrix_products_held_to_their_limits(outputs: int, inputs: int) -> None:
    rng = np.random.default_rng(outputs * 100 + inputs)
    length = 3 * tiles.TILE_STEP
    weight = rng.normal(size=(outputs, inputs)).astype(np.float32)
    bias = rng.normal(size=outputs).astype(np.float32)
    x = rng.normal(size=(inputs, length)).astype(np.float32)
    packed = tiles.pack_layer(weight, bias)
    y = np.full((int(tiles.padded_outputs(outputs)), length), np.nan, np.float32)
    _layer(x, *packed, y, outputs, np.float32(-0.5), np.float32(1.5))
    expected = np.clip(weight.astype(float) @ x + bias[:, None], -0.5, 1.5)
    np.testing.assert_allclose(y[:outputs], expected, atol=1e-4)


@pytest.mark.parametrize(("outputs", "inputs"), SHAPES)
def test_gradients_of_weights_add_up(outputs: int, inputs: int) -> None:
    rng = np.random.default_rng(outputs * 100 + inputs)
    length = 3 * tiles.TILE_STEP
    back = rng.normal(size=(outputs, length)).astype(np.float32)
    x = rng.normal(size=(inputs, length)).astype(np.float32)
    out = np.zeros(outputs * inputs, np.float32)
    _gradients(back, x, out)
    expected = 2 * back.astype(float) @ x.T
    np.testing.assert_allclose(out.reshape(outputs, inputs), expected, atol=1e-4)


@pytest.mark.parametrize(("outputs", "inputs"), SHAPES)
def test_masks_drop_the_gradients_of_clamped_values(outputs: int, inputs: int) -> None:
    rng = np.random.default_rng(5)
    weight = rng.normal(size=(outputs, inputs)).astype(np.float32)
    x = rng.normal(size=(inputs, 2 * tiles.TILE_STEP)).astype(np.float32)
    rows = int(tiles.padded_outputs(outputs))
    values = rng.choice(np.array([0, 0.5, 1, 2], np.float32), (rows, x.shape[1]))
    y = np.full_like(values, np.nan)
    _masked(x, *tiles.pack_layer(weight), y, outputs, values, np.float32(0), np.float32(1))
    expected = np.where(values[:outputs] == 0.5, weight.astype(float) @ x, 0)
    np.testing.assert_allclose(y[:outputs], expected, atol=1e-4)


def test_rows_of_scratch_start_a_cache_line() -> None:
    for count in (1, 17, 1000):
        zeros = tiles.aligned_zeros(count)
        assert zeros.shape == (count,)
        assert zeros.ctypes.data % 64 == 0
        assert not zeros.any()
