"""Latent grids: their strides in space and time, their shapes, and the order they are coded in."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from codec.errors import UsageError

MAX_LEVEL = 15
MAX_TIME_STRIDE_LOG2 = 6
MOTION_COMPONENTS = 4  # columns and rows of the first vector; the same of what the second adds


@dataclass(frozen=True)
class Grid:
    """One scalar latent grid.

    `level` is the log2 of its space stride; `time_stride` the frames a slice serves, 0 for a static
    grid (one slice a segment). A hyper grid feeds no features; it serves the entropy model, or as
    `motion` 1 to 4 the motion vectors (`codec.arch.motion`).
    """

    level: int
    time_stride: int = 0
    hyper: bool = False
    motion: int = 0

    def num_slices(self, num_frames: int) -> int:
        """Slices in a segment of `num_frames` frames: 1 if static, else ceil(T / s)."""
        return 1 if self.time_stride == 0 else -(-num_frames // self.time_stride)


def slice_of(grid: Grid, frame: int) -> int:
    """The slice of `grid` that frame number `frame` of the segment uses: floor(t / s)."""
    return frame // grid.time_stride if grid.time_stride else 0


def grid_shape(grid: Grid, height: int, width: int) -> tuple[int, int]:
    """(rows, columns) of one slice: the picture size over 2^level, rounded up."""
    return -(-height >> grid.level), -(-width >> grid.level)


def coding_order(grids: Iterable[Grid]) -> tuple[Grid, ...]:
    """Motion, then static, slow and dynamic grids; each coarse to fine, hyper before latent."""

    def key(grid: Grid) -> tuple[int, ...]:
        slowness = 1 << 30 if grid.time_stride == 0 else grid.time_stride
        place = (-slowness, -grid.level, 0 if grid.hyper else 1)
        return (0, grid.motion, *place) if grid.motion else (1, 0, *place)

    return tuple(sorted(grids, key=key))


def parse_levels(text: str) -> tuple[int, ...]:
    """Levels from `0-6`, `0,2,4` or `` (none).

    Raises:
        UsageError: not levels from 0 to 15.
    """
    levels: list[int] = []
    for piece in text.replace(" ", "").split(",") if text.strip() else []:
        match = re.fullmatch(r"([0-9]{1,9})(?:-([0-9]{1,9}))?", piece)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if not match or not first <= last <= MAX_LEVEL:
            raise UsageError(f"levels {text!r}: {piece!r} is not a level or range such as 0-6")
        levels.extend(range(first, last + 1))
    return tuple(levels)


def parse_grids(
    *, static: str = "", slow: str = "", dynamic: str = "", hyper: str = "", motion: str = ""
) -> tuple[Grid, ...]:
    """Grids in coding order from level ranges; `slow` reads `STRIDE:LEVELS`, several split by `;`.

    Hyper grids are static where there are no dynamic grids, dynamic otherwise. Each component of
    the motion vectors has the levels of `motion`.

    Raises:
        UsageError: a text that does not parse, or no latent grid at all.
    """
    grids = [Grid(level, 0) for level in parse_levels(static)]
    grids += [Grid(level, 1) for level in parse_levels(dynamic)]
    grids += [Grid(level, 1 if dynamic.strip() else 0, hyper=True) for level in parse_levels(hyper)]
    grids += [
        Grid(level, 1, hyper=True, motion=component + 1)
        for component in range(MOTION_COMPONENTS)
        for level in parse_levels(motion)
    ]
    for piece in slow.split(";") if slow.strip() else []:
        stride, colon, levels = piece.partition(":")
        if not colon or stride.strip() not in ("2", "4", "8", "16", "32", "64"):
            raise UsageError(f"slow grids {piece!r}: write STRIDE:LEVELS, stride 2, 4, ... 64")
        grids += [Grid(level, int(stride)) for level in parse_levels(levels)]
    if not any(not grid.hyper for grid in grids):
        raise UsageError("an architecture needs at least one latent grid")
    if len(set(grids)) != len(grids):
        raise UsageError("an architecture names the same grid twice")
    return coding_order(grids)
