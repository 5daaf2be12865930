"""The layers of the synthesis, before and after prediction: strips of rows, worked in tiles."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from codec.arch import Layer
from codec.fixedpoint.affine import OUTPUTS, TAPS, ZERO, Rows, Stack, affine, pack
from codec.fixedpoint.program import Program
from codec.fixedpoint.temporal import add_saturated
from codec.jit import inner, njit, run_parallel

_TILE = 256
_STEP = np.int64(_TILE)
# A strip computes the rows around it again that its kernels reach; this many rows make that cheap.
_MIN_STRIP_ROWS = 48
_STRIP_SAMPLES = 16384


class Run(NamedTuple):
    """One layer with `kernel` x `kernel` taps and the 1x1 layers that follow it.

    `reach` counts the rows above and below a strip that later runs need of its output, `margin` the
    columns at each side that the next one needs.
    """

    stack: Stack
    kernel: int
    reach: int
    margin: int


def cut_runs(layers: Sequence[Layer]) -> list[tuple[int, int]]:
    """(first layer, end) of the runs: a run is one layer and the 1x1 layers that follow it."""
    starts = [i for i, layer in enumerate(layers) if i == 0 or layer.kernel_space > 1]
    return list(zip(starts, [*starts[1:], len(layers)], strict=True))


def _restrict(rows: Rows, channels: np.ndarray, kernel: int) -> Rows:
    """The rows with the taps of the inputs `channels` alone; an input has kernel^2 taps."""
    inputs = rows.weight.shape[1] // kernel**2
    real = rows.weight.reshape(-1, inputs, kernel**2)
    return rows._replace(weight=real[:, channels].reshape(rows.weight.shape[0], -1))


def _make_runs(layers: Sequence[Layer], all_rows: Sequence[Rows]) -> list[Run]:
    """The runs of layers and their rows."""
    runs = []
    for start, end in cut_runs(layers):
        rows, kernel = all_rows[start:end], layers[start].kernel_space
        later = [layer.kernel_space // 2 for layer in layers[end:]]
        runs.append(Run(pack(*rows), kernel, sum(later), later[0] if later else 0))
    return runs


@inner
def _first_offsets(source, first_row, height, kernel, y, offsets):
    """Where the taps (channel, row, column) of picture row y start in the source, replicated."""
    channels, rows, stride = source.shape
    f = 0
    for i in range(channels):
        for dy in range(kernel):
            row = min(max(y + dy - kernel // 2, 0), height - 1) - first_row
            for dx in range(kernel):
                offsets[f] = (i * rows + row) * stride + dx
                f += 1


@inner
def _inner_layers(stack, length, tiles, offsets):
    """Layers after the first on tiles (2, channels, _TILE), flat; gives the place of the result."""
    current, size = 0, tiles.size >> 1
    for i in range(1, stack.meta.shape[0]):
        for f in range(stack.meta[i, TAPS]):
            offsets[f] = f * _TILE
        source, target = current * size, (1 - current) * size
        affine(tiles, source, offsets, length, stack, i, tiles, target, _STEP)
        current = 1 - current
    return current * size


@njit
def _run_rows(source, source_row, height, stack, kernel, out, out_row, margin):
    """A run of layers on the rows of a picture of `height` rows that `out` holds.

    source (C, rows, W + kernel - 1) begins with picture row `source_row`, out (C_out, rows, W + 2
    margin) with `out_row`; out gets its lines replicated into the margins.
    """
    flat, outputs, width = source.ravel(), out.shape[0], out.shape[2] - 2 * margin
    widest, most_taps = 0, 0
    for i in range(stack.meta.shape[0]):
        widest = max(widest, stack.meta[i, OUTPUTS])
        most_taps = max(most_taps, stack.meta[i, TAPS])
    tiles = np.zeros(2 * widest * _TILE, source.dtype)
    first_offsets, offsets = np.zeros(most_taps, np.int64), np.zeros(most_taps, np.int64)
    for y in range(out.shape[1]):
        _first_offsets(source, source_row, height, kernel, out_row + y, first_offsets)
        for x in range(0, width, _TILE):
            length = min(_TILE, width - x)
            affine(flat, x, first_offsets, length, stack, ZERO, tiles, ZERO, _STEP)
            result = _inner_layers(stack, length, tiles, offsets)
            for c in range(outputs):
                for j in range(length):
                    out[c, y, margin + x + j] = tiles[result + c * _TILE + j]
        for c in range(outputs):
            for j in range(margin):
                out[c, y, j] = out[c, y, margin]
                out[c, y, margin + width + j] = out[c, y, margin + width - 1]


def _strip(
    runs: Sequence[Run], planes: np.ndarray, noise: np.ndarray | None, rows: tuple[int, int]
) -> np.ndarray:
    """All runs on some rows of a picture: (C_out, rows, W) from planes (C, H, W)."""
    _, height, width = planes.shape

    def with_halo(reach: int) -> tuple[int, int]:
        return max(0, rows[0] - reach), min(height, rows[1] + reach)

    reach = runs[0].kernel // 2
    first, end = with_halo(runs[0].reach + reach)
    source = planes[:, first:end]
    if noise is not None:
        source = np.concatenate([source, noise[:, first:end]])
    source = np.pad(source, ((0, 0), (0, 0), (reach, reach)), mode="edge") if reach else source
    source = np.ascontiguousarray(source)
    for run in runs:
        top, bottom = with_halo(run.reach)
        outputs = run.stack.meta[-1, OUTPUTS]
        out = np.empty((outputs, bottom - top, width + 2 * run.margin), planes.dtype)
        _run_rows(source, first, height, run.stack, run.kernel, out, top, run.margin)
        source, first = out, top
    return source


def _in_strips(
    make: Callable[[tuple[int, int]], np.ndarray], out: np.ndarray, threads: int
) -> None:
    """Fill `out` (C, H, W) with what `make` gives for (first row, end) of each strip."""
    _, height, width = out.shape
    step = max(_MIN_STRIP_ROWS, _STRIP_SAMPLES // width)

    def job(first: int) -> None:
        rows = (first, min(first + step, height))
        out[:, slice(*rows)] = make(rows)

    run_parallel(job, range(0, height, step), threads=threads)


def synthesise(
    program: Program,
    planes: np.ndarray,
    active: np.ndarray,
    *,
    noise: np.ndarray | None = None,
    threads: int = 1,
) -> np.ndarray:
    """The trunk with its stabiliser: out = sat(trunk(features, noise) + stab(features)).

    Without motion the trunk is the whole synthesis.

    Args:
        program: a checked network.
        planes: features of one frame, those that are not zero: (stored, H, W).
        active: (C,) bool, which channels these are.
        noise: (C, H, W) common randomness, where the architecture has it.

    Returns:
        (arch.num_straight, H, W) in the synthesis format.
    """
    arch, limit = program.arch, program.numerics.act_max
    channels = np.flatnonzero(active)
    stab = [Run(pack(_restrict(program.stab, channels, 1)), 1, 0, 0)]
    if noise is not None:
        channels = np.concatenate([channels, len(active) + np.arange(len(active))])
    layers = arch.synthesis[: arch.num_trunk]
    rows = list(program.synthesis[: arch.num_trunk])
    rows[0] = _restrict(rows[0], channels, layers[0].kernel_space)
    trunk = _make_runs(layers, rows)
    out = np.empty((arch.num_straight, *planes.shape[1:]), planes.dtype)

    def make(rows: tuple[int, int]) -> np.ndarray:
        made, other = _strip(trunk, planes, noise, rows), _strip(stab, planes, None, rows)
        add_saturated(made.ravel(), other.ravel(), limit)
        return made

    _in_strips(make, out, threads)
    return out


def filter_composed(program: Program, planes: np.ndarray, *, threads: int = 1) -> np.ndarray:
    """The layers behind the prediction, on planes (C, H, W), held to [0, 1]: a picture.

    Args:
        program: a checked network with motion.
        planes: residue plus prediction in the synthesis format, within +-act_max.
    """
    arch, one = program.arch, 1 << program.numerics.synth_frac
    layers = arch.synthesis[arch.num_trunk :]
    if not layers:
        return np.clip(planes, 0, one)
    runs = _make_runs(layers, program.synthesis[arch.num_trunk :])
    out = np.empty_like(planes)
    _in_strips(lambda rows: np.clip(_strip(runs, planes, None, rows), 0, one), out, threads)
    return out
