"""From full-resolution features to picture channels: layers in runs, worked off in tiles."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from codec.arch import Layer
from codec.fixedpoint.affine import OUTPUTS, TAPS, TAPS_PER_PASS, Rows, affine, pack
from codec.fixedpoint.program import Program
from codec.fixedpoint.strips import cut_rows
from codec.fixedpoint.temporal import add_saturated
from codec.jit import njit, run_parallel

_TILE = 256


def cut_runs(layers: Sequence[Layer]) -> list[tuple[int, int]]:
    """(first layer, end) of the runs: a run is one layer and the 1x1 layers that follow it."""
    starts = [i for i, layer in enumerate(layers) if i == 0 or layer.kernel_space > 1]
    return list(zip(starts, [*starts[1:], len(layers)], strict=True))


def _restrict(rows: Rows, channels: np.ndarray, kernel: int) -> Rows:
    """The rows with the taps of the inputs `channels` alone; an input has kernel^2 taps."""
    inputs = rows.weight.shape[1] // kernel**2
    real = rows.weight[:, : inputs * kernel**2].reshape(-1, inputs, kernel**2)
    kept = real[:, channels].reshape(rows.weight.shape[0], -1)
    return Rows(np.pad(kept, ((0, 0), (0, -kept.shape[1] % TAPS_PER_PASS))), rows.bias, rows.form)


@njit
def _first_offsets(source, channels, kernel, y, offsets):
    """Where the taps (channel, row, column) of output line y start in the source, replicated."""
    height, stride = source.shape[1:]
    f = 0
    for i in range(channels.size):
        for dy in range(kernel):
            row = min(max(y + dy - kernel // 2, 0), height - 1)
            for dx in range(kernel):
                offsets[f] = (channels[i] * height + row) * stride + dx
                f += 1


@njit
def _inner_layers(stack, length, acc, tiles, offsets):
    """Layers after the first on tiles[0] (channels, _TILE); says which tile has the result."""
    current = 0
    for i in range(1, stack.meta.shape[0]):
        offsets[:] = 0
        for f in range(stack.meta[i - 1, OUTPUTS]):
            offsets[f] = f * _TILE
        affine(tiles[current], 0, offsets, length, stack, i, acc, tiles[1 - current], 0, _TILE)
        current = 1 - current
    return current


@njit
def _run_strip(source, channels, kernel, stack, out, margin, y0, y1):
    """Lines y0 to y1 of a run of layers, from source (C, H, W + kernel - 1).

    `channels` are the source planes that the first layer reads; out is (C_out, H, W + 2 margin) and
    gets its lines replicated into the margins.
    """
    source_flat, outputs, stride = source.ravel(), out.shape[0], out.shape[2]
    width = stride - 2 * margin
    widest, most_taps = stack.meta[:, OUTPUTS].max(), stack.meta[:, TAPS].max()
    acc = np.zeros(_TILE, stack.bias.dtype)
    tiles = np.zeros((2, widest * _TILE), source.dtype)
    first_offsets, offsets = np.zeros(most_taps, np.int64), np.zeros(most_taps, np.int64)
    for y in range(y0, y1):
        _first_offsets(source, channels, kernel, y, first_offsets)
        for x in range(0, width, _TILE):
            length = min(_TILE, width - x)
            affine(source_flat, x, first_offsets, length, stack, 0, acc, tiles[0], 0, _TILE)
            result = tiles[_inner_layers(stack, length, acc, tiles, offsets)]
            for c in range(outputs):
                first = margin + x
                out[c, y, first : first + length] = result[c * _TILE : c * _TILE + length]
        for c in range(outputs):
            out[c, y, :margin] = out[c, y, margin]
            out[c, y, margin + width :] = out[c, y, margin + width - 1]


def _run(
    source: np.ndarray,
    channels: np.ndarray,
    layers: Sequence[Rows],
    *,
    kernel: int,
    margin: int,
    threads: int,
) -> np.ndarray:
    """A run of layers on source (C, H, W + kernel - 1), to (C_out, H, W + 2 margin)."""
    height, width = source.shape[1], source.shape[2] - kernel + 1
    stack = pack(*layers)
    out = np.empty((layers[-1].bias.size, height, width + 2 * margin), source.dtype)

    def job(strip: tuple[int, int]) -> None:
        _run_strip(source, channels, kernel, stack, out, margin, *strip)

    run_parallel(job, cut_rows(height, width), threads=threads)
    return out


def _margins(planes: np.ndarray, kernel: int) -> np.ndarray:
    reach = kernel // 2
    return np.pad(planes, ((0, 0), (0, 0), (reach, reach)), mode="edge") if reach else planes


def synthesise(
    program: Program,
    planes: np.ndarray,
    active: np.ndarray,
    *,
    noise: np.ndarray | None = None,
    threads: int = 1,
) -> np.ndarray:
    """The synthesis with its stabiliser: out = sat(trunk(features, noise) + stab(features)).

    Args:
        program: a checked network.
        planes: features of one frame (C, H, W) in the feature format.
        active: (C,) bool; planes where it is False are zero and are not read.
        noise: as many planes of common randomness, where the architecture has them.

    Returns:
        (C_out, H, W) in the synthesis format.
    """
    layers = program.arch.synthesis
    # A layer that reads nothing still has its bias: give it one plane.
    channels = np.flatnonzero(active) if active.any() else np.zeros(1, np.int64)
    stab_rows = _restrict(program.stab, channels, 1)
    stab = _run(planes, channels, [stab_rows], kernel=1, margin=0, threads=threads)
    if noise is not None:
        channels = np.concatenate([channels, np.arange(len(planes), 2 * len(planes))])
        planes = np.concatenate([planes, noise])
    runs = cut_runs(layers)
    source = _margins(planes, layers[0].kernel_space)
    for start, end in runs:
        kernel = layers[start].kernel_space
        margin = layers[end].kernel_space // 2 if end < len(layers) else 0
        rows = list(program.synthesis[start:end])
        if start == 0:
            rows[0] = _restrict(rows[0], channels, kernel)
        else:
            channels = np.arange(len(source))
        source = _run(source, channels, rows, kernel=kernel, margin=margin, threads=threads)
    flat, other = source.reshape(len(source), -1), stab.reshape(len(stab), -1)

    def add(c: int) -> None:
        add_saturated(flat[c], other[c], program.numerics.act_max)

    run_parallel(add, range(len(source)), threads=threads)
    return source
