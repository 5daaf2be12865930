"""The stack of feature channels: from latent grids up to full resolution."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from codec.arch import Architecture, Grid, temporal_at
from codec.fixedpoint.formats import storage_dtype
from codec.fixedpoint.latent_store import is_zero
from codec.fixedpoint.program import Program, TimeFilter
from codec.fixedpoint.temporal import convolve, filter_time
from codec.fixedpoint.upsampling import filter_planes, interpolate


@dataclass(frozen=True)
class Block:
    """Channels that share a time stride; those that are zero throughout are not stored.

    `planes` (slices, stored, h, w) are those of the channels `kept` (stored,) of `num_channels`;
    `active` (slices, stored) bool says which of them are not zero. Slice floor(t / stride) serves
    frame t, with stride 0 slice 0.
    """

    time_stride: int
    num_channels: int
    kept: tuple[int, ...]
    planes: np.ndarray
    active: np.ndarray

    def slice_at(self, frame: int) -> int:
        """The slice that serves a frame."""
        return frame // self.time_stride if self.time_stride else 0

    def part(self, number: int) -> Block:
        """Slice `number` alone."""
        part = slice(number, number + 1)
        return replace(self, planes=self.planes[part], active=self.active[part])


@dataclass(frozen=True)
class LowStack:
    """Blocks by time stride at `level`, below which no temporal layer follows.

    Without temporal layers there are no blocks yet, and `level` is one above the coarsest.
    """

    level: int
    blocks: dict[int, Block]


class Features(NamedTuple):
    """Full-resolution features of one frame, without those that are zero.

    `active` (C,) bool tells which channels the planes (stored, H, W) are.
    """

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
    dtype = storage_dtype(numerics)
    if is_zero(latents):
        slices, height, width = latents.shape
        planes, active = np.zeros((slices, 0, height, width), dtype), np.zeros((slices, 0), bool)
        return Block(grid.time_stride, 1, (), planes, active)
    active = latents.reshape(len(latents), -1).any(axis=1)
    planes = latents.astype(np.int32) << numerics.feature_frac
    planes = np.clip(planes, -numerics.act_max, numerics.act_max).astype(dtype)
    if grid.level in program.pre:
        rows, taps = program.pre[grid.level], program.arch.pre_taps
        planes = filter_planes(planes, active, rows, num_taps=taps, threads=threads)
    return Block(grid.time_stride, 1, (0,), planes[:, None], active[:, None])


def _append(block: Block | None, other: Block) -> Block:
    if block is None:
        return other
    return Block(
        block.time_stride,
        block.num_channels + other.num_channels,
        (*block.kept, *(block.num_channels + channel for channel in other.kept)),
        np.concatenate([block.planes, other.planes], axis=1),
        np.concatenate([block.active, other.active], axis=1),
    )


def _double(
    program: Program, block: Block, level: int, shape: tuple[int, int], threads: int
) -> Block:
    slices, stored, height, width = block.planes.shape
    planes = interpolate(
        block.planes.reshape(slices * stored, height, width),
        block.active.ravel(),
        program.up[level],
        num_taps=program.arch.up_taps // 2,
        shape=shape,
        threads=threads,
    )
    return replace(block, planes=planes.reshape(slices, stored, *shape))


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
    """All channels in the order of the blocks, each frame with its slices: (T, C, h, w)."""
    ordered = [blocks[stride] for stride in sorted(blocks, key=_block_order)]
    channels = sum(block.num_channels for block in ordered)
    planes = ordered[0].planes
    out = np.zeros((num_frames, channels, *planes.shape[2:]), planes.dtype)
    first = 0
    for block in ordered:
        for t in range(num_frames):
            out[t, [first + channel for channel in block.kept]] = block.planes[block.slice_at(t)]
        first += block.num_channels
    return out


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
    own = codes.get(f"temporal.{index}.codes")
    return convolve(planes, layer, own, numerics=program.numerics, threads=threads)


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
            kept, active = tuple(range(planes.shape[1])), np.ones(planes.shape[:2], bool)
            blocks = {1: Block(1, len(kept), kept, planes, active)}
    return LowStack(last, blocks)


class FrameFeatures:
    """Full-resolution features of any frame, from the result of `temporal_stack`.

    A slice is brought to full resolution once for frames that are asked for one after the other.
    The arrays may be shared between frames: nobody writes to them.
    """

    def __init__(
        self,
        program: Program,
        low: LowStack,
        latents: Sequence[np.ndarray],
        *,
        height: int,
        width: int,
    ) -> None:
        self._program, self._low, self._latents = program, low, latents
        self._size = height, width
        finer = {g.time_stride for g in program.arch.latent_grids if g.level < low.level}
        self._strides = sorted({*low.blocks, *finer}, key=_block_order)
        self._reached: dict[int, tuple[int, Block]] = {}

    def at(self, frame: int, threads: int = 1) -> Features:
        """Features of one frame; not for calls from several threads at once."""
        for stride in self._strides:
            number = frame // stride if stride else 0
            if self._reached.get(stride, (-1,))[0] != number:
                self._reached[stride] = number, self._full_slice(stride, number, threads)
        return _features([self._reached[stride][1] for stride in self._strides])

    def _full_slice(self, stride: int, number: int, threads: int) -> Block:
        """Slice `number` of the block of a stride at full resolution."""
        program, low = self._program, self._low
        block = low.blocks[stride].part(number) if stride in low.blocks else None
        own = {
            i: self._latents[i][number : number + 1]
            for i, grid in enumerate(program.arch.grids)
            if grid.time_stride == stride
        }
        for level in range(low.level - 1, -1, -1):
            shape = _shape_at(level, *self._size)
            block = _descend(program, block, own, level=level, shape=shape, threads=threads)
        assert block is not None
        return block


def _features(blocks: Sequence[Block]) -> Features:
    """The channels of blocks of one full-resolution slice each, in their order."""
    active = np.zeros(sum(block.num_channels for block in blocks), bool)
    first = 0
    for block in blocks:
        active[[first + channel for channel in block.kept]] = True
        first += block.num_channels
    if len(blocks) == 1:
        return Features(blocks[0].planes[0], active)
    return Features(np.concatenate([block.planes[0] for block in blocks]), active)
