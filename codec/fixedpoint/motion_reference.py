"""Plain twins of motion compensation: one block, and one sample, at a time, in numpy int64."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from codec.arch import Architecture, Grid, Inter, Numerics, grid_shape
from codec.arch.motion import INTERPOLATION_Q7
from codec.fixedpoint.formats import rshift, sat


def _inside(place: int, size: int) -> int:
    """The place, replicated outside 0 .. size - 1."""
    return min(max(place, 0), size - 1)


def double_reference(field: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Twin of `codec.fixedpoint.motion.double_field`, from the four values around each output."""
    rows, columns = field.shape
    out = np.zeros(shape, np.int64)
    for y, x in np.ndindex(*shape):
        total = 0
        for weight_y, i in ((3, y >> 1), (1, (y >> 1) + (1 if y & 1 else -1))):
            for weight_x, j in ((3, x >> 1), (1, (x >> 1) + (1 if x & 1 else -1))):
                value = field[_inside(i, rows), _inside(j, columns)]
                total += weight_y * weight_x * int(value)
        out[y, x] = rshift(total, 4)
    return out


def motion_vectors_reference(
    arch: Architecture, latents: Sequence[np.ndarray], *, num_frames: int, height: int, width: int
) -> np.ndarray:
    """Twin of `codec.fixedpoint.motion.motion_vectors`, one component after the other."""
    fields = []
    for t in range(num_frames):
        for component in (1, 2, 3, 4):
            own = {}
            for grid, values in zip(arch.grids, latents, strict=True):
                if grid.motion == component:
                    own[grid.level] = own.get(grid.level, 0) + values[t].astype(np.int64) * 256
            level = max(own, default=arch.block_level)
            field = own.get(level, np.zeros(grid_shape(Grid(level), height, width), np.int64))
            while level > arch.block_level:
                level -= 1
                shape = grid_shape(Grid(level), height, width)
                field = double_reference(field, shape) + own.get(level, 0)
            fields.append(rshift(field, 4 + arch.vector_frac))
    return np.stack(fields).reshape(num_frames, 4, *fields[0].shape)


def vectors_reference(field: np.ndarray, inter: Inter) -> list[list[np.ndarray]]:
    """Twin of `codec.fixedpoint.motion.vectors_of`: [columns, rows] for each reference."""
    if inter.past < 0:
        return []
    past, future = [], []
    for axis in (0, 1):
        a, b = field[axis].astype(np.int64), field[2 + axis].astype(np.int64)
        past.append(sat(a, 16384))
        future.append(sat(b - ((inter.ratio_q8 * a + 128) >> 8), 16384))
    return [past] if inter.future == inter.past else [past, future]


def warp_reference(
    reference: np.ndarray, vectors: Sequence[np.ndarray], *, level: int
) -> np.ndarray:
    """Twin of `codec.fixedpoint.motion.warp` for a whole picture (C, H, W)."""
    channels, height, width = reference.shape
    out = np.zeros(reference.shape, np.int64)
    for y, x in np.ndindex(height, width):
        vx, vy = (int(v[y >> level, x >> level]) for v in vectors)
        rows = [_inside(y + (vy >> 4) + j - 3, height) for j in range(8)]
        columns = [_inside(x + (vx >> 4) + k - 3, width) for k in range(8)]
        taps_x, taps_y = np.array(INTERPOLATION_Q7[vx & 15]), np.array(INTERPOLATION_Q7[vy & 15])
        for c in range(channels):
            samples = reference[c][np.ix_(rows, columns)].astype(np.int64)
            across = rshift(samples @ taps_x, 7)
            out[c, y, x] = rshift(int(taps_y @ across), 7)
    return out


def compose_reference(
    straight: np.ndarray, warped: Sequence[np.ndarray], *, numerics: Numerics
) -> np.ndarray:
    """Residue plus prediction from straight (C + 2, H, W) and up to two warped pictures."""
    one, frac = 1 << numerics.synth_frac, numerics.synth_frac
    values = straight.astype(np.int64)
    residue, blend, gain = values[:-2], values[-2], values[-1]
    prediction = one // 2
    if warped:
        mixed = warped[0]
        if len(warped) == 2:
            beta = np.clip(one // 2 + blend, 0, one)
            mixed = rshift(beta * warped[0] + (one - beta) * warped[1], frac)
        prediction = rshift(np.clip(one + gain, 0, one) * mixed, frac)
    return sat(residue + prediction, numerics.act_max)
