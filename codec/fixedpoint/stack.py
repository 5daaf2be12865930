"""The stack of feature channels: from latent grids up to full resolution."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from codec.arch import Architecture, Grid, temporal_at
from codec.fixedpoint.formats import storage_dtype
from codec.fixedpoint.program import Program, TimeFilter
from codec.fixedpoint.temporal import convolve, filter_time, rows_of_frames
from codec.fixedpoint.upsampling import filter_planes, interpolate


@dataclass(frozen=True)
class Block:
    """Channels that share a time stride: planes (slices, C, h, w), and which are not all zero.

    `active` is (slices, C) bool; slice floor(t / stride) serves frame t, with stride 0 slice 0.
    """

    time_stride: int
    planes: np.ndarray
    active: np.ndarray

    def slice_at(self, frame: int) -> int:
        """The slice that serves a frame."""
        return frame // self.time_stride if self.time_stride else 0


@dataclass(frozen=True)
class LowStack:
    """Blocks by time stride at `level`, below which no temporal layer follows.

    Without temporal layers there are no blocks yet, and `level` is one above the coarsest.
    """

    level: int
    blocks: dict[int, Block]


class Features(NamedTuple):
    """Full-resolution features of one frame: planes (C, H, W), active (C,) bool as in `Block`."""

    planes: np.ndarray
    active: np.ndarray


def _block_order(time_stride: int) -> int:
    return -time_stride if time_stride else -(1 << 30)


def _joining(arch: Architecture, level: int) -> list[tuple[int, Grid]]:
    """(index, grid) of the latent grids that join the stack at a level, in coding order."""
    return [(i, g) for i, g in enumerate(arch.grids) if not g.hyper and g.level == level]


def channel_levels(arch: Architecture) -> tuple[int, ...]:
    """Level of the grid that each feature channel came from; 0 for outputs of temporal layers."""
    blocks: dict[int, list[int]] = {}
    for level in range(arch.max_level, -1, -1):
        for _, grid in _joining(arch, level):
            blocks.setdefault(grid.time_stride, []).append(level)
        for index in temporal_at(arch, level):
            blocks = {1: [0] * arch.temporal[index].out}
    return tuple(level for stride in sorted(blocks, key=_block_order) for level in blocks[stride])


def _shape_at(level: int, height: int, width: int) -> tuple[int, int]:
    return -(-height >> level), -(-width >> level)


def _join(program: Program, grid: Grid, latents: np.ndarray, threads: int) -> Block:
    """The slices (S, h, w) of a grid as a block of one channel in the feature format, filtered."""
    numerics = program.numerics
    active = latents.reshape(len(latents), -1).any(axis=1)
    planes = latents.astype(storage_dtype(numerics)) << numerics.feature_frac
    planes = np.clip(planes, -numerics.act_max, numerics.act_max)
    if grid.level in program.pre:
        rows, taps = program.pre[grid.level], program.arch.pre_taps
        planes = filter_planes(planes, active, rows, num_taps=taps, threads=threads)
    return Block(grid.time_stride, planes[:, None], active[:, None])


def _append(block: Block | None, other: Block) -> Block:
    if block is None:
        return other
    return Block(
        block.time_stride,
        np.concatenate([block.planes, other.planes], axis=1),
        np.concatenate([block.active, other.active], axis=1),
    )


def _double(
    program: Program, block: Block, level: int, shape: tuple[int, int], threads: int
) -> Block:
    slices, channels, height, width = block.planes.shape
    planes = interpolate(
        block.planes.reshape(slices * channels, height, width),
        block.active.ravel(),
        program.up[level],
        num_taps=program.arch.up_taps // 2,
        shape=shape,
        threads=threads,
    )
    return Block(block.time_stride, planes.reshape(slices, channels, *shape), block.active)


def _descend(
    program: Program,
    block: Block | None,
    latents: Mapping[int, np.ndarray],
    *,
    level: int,
    shape: tuple[int, int],
    threads: int,
) -> Block | None:
    """One block a level further: doubled to `shape`, then joined by the grids in `latents`."""
    if block is not None:
        block = _double(program, block, level, shape, threads)
    for index, grid in _joining(program.arch, level):
        if index in latents:
            block = _append(block, _join(program, grid, latents[index], threads))
    return block


def _expand(blocks: Mapping[int, Block], num_frames: int) -> np.ndarray:
    """All blocks in their order, each frame with the slices that serve it: (T, C, h, w)."""
    parts = []
    for stride in sorted(blocks, key=_block_order):
        slices = [blocks[stride].slice_at(t) for t in range(num_frames)]
        parts.append(blocks[stride].planes[slices])
    return np.concatenate(parts, axis=1)


def run_temporal(
    program: Program,
    index: int,
    planes: np.ndarray,
    codes: Mapping[str, np.ndarray],
    *,
    threads: int = 1,
) -> np.ndarray:
    """Temporal layer number `index` on planes (T, C, h, w), with the codes of the segment.

    Raises:
        BitstreamError: a code under which an accumulator could leave its type.
    """
    layer = program.temporal[index]
    if isinstance(layer, TimeFilter):
        return filter_time(planes, layer, threads=threads)
    rows = rows_of_frames(layer, codes.get(f"temporal.{index}.codes"), len(planes))
    return convolve(planes, layer, rows, numerics=program.numerics, threads=threads)


def temporal_stack(
    program: Program,
    latents: Sequence[np.ndarray],
    codes: Mapping[str, np.ndarray],
    *,
    num_frames: int,
    height: int,
    width: int,
    threads: int = 1,
) -> LowStack:
    """The part of the stack that needs all frames at once: down to the last temporal layer.

    Args:
        program: a checked network.
        latents: int16 (slices, h, w) of each grid, in coding order.
        codes: of the segment, by name (`codec.arch.segment_specs`).

    Raises:
        BitstreamError: a code under which an accumulator could leave its type.
    """
    arch = program.arch
    last = min((layer.level for layer in arch.temporal), default=arch.max_level + 1)
    blocks: dict[int, Block] = {}
    for level in range(arch.max_level, last - 1, -1):
        for stride in {*blocks, *(grid.time_stride for _, grid in _joining(arch, level))}:
            block = _descend(
                program,
                blocks.get(stride),
                {i: latents[i] for i, g in enumerate(arch.grids) if g.time_stride == stride},
                level=level,
                shape=_shape_at(level, height, width),
                threads=threads,
            )
            blocks[stride] = block
        for index in temporal_at(arch, level):
            planes = _expand(blocks, num_frames)
            planes = run_temporal(program, index, planes, codes, threads=threads)
            blocks = {1: Block(1, planes, np.ones(planes.shape[:2], bool))}
    return LowStack(last, blocks)


def frame_features(
    program: Program,
    low: LowStack,
    latents: Sequence[np.ndarray],
    *,
    num_frames: int,
    height: int,
    width: int,
    threads: int = 1,
) -> Iterator[Features]:
    """Full-resolution features frame by frame, from the result of `temporal_stack`.

    A slice is brought to full resolution once, when the first frame that it serves is reached. The
    arrays may be shared between frames: nobody writes to them.
    """
    arch = program.arch
    finer = {g.time_stride for g in arch.latent_grids if g.level < low.level}
    strides = sorted({*low.blocks, *finer}, key=_block_order)
    reached: dict[int, tuple[int, Block]] = {}
    for frame in range(num_frames):
        for stride in strides:
            number = frame // stride if stride else 0
            if stride in reached and reached[stride][0] == number:
                continue
            block = low.blocks.get(stride)
            if block is not None:
                part = slice(number, number + 1)
                block = Block(stride, block.planes[part], block.active[part])
            own = {
                i: latents[i][number : number + 1]
                for i, grid in enumerate(arch.grids)
                if grid.time_stride == stride
            }
            for level in range(low.level - 1, -1, -1):
                block = _descend(
                    program,
                    block,
                    own,
                    level=level,
                    shape=_shape_at(level, height, width),
                    threads=threads,
                )
            reached[stride] = (number, block)
        blocks = [reached[stride][1] for stride in strides]
        if len(blocks) == 1:
            yield Features(blocks[0].planes[0], blocks[0].active[0])
        else:
            yield Features(
                np.concatenate([block.planes[0] for block in blocks]),
                np.concatenate([block.active[0] for block in blocks]),
            )
