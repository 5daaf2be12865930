"""The payload of a segment: place, time, hashes, modulation codes, and the coded latents."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise

import numpy as np

from codec.arch.network import Architecture
from codec.arch.parameters import segment_specs
from codec.bitstream.elements import MAX_BANDS, Partition, Segment
from codec.bitstream.fields import Cursor, FieldWriter
from codec.bitstream.header import MAX_TIME
from codec.bitstream.limits import Limits
from codec.bitstream.network import read_codes, write_codes
from codec.errors import LimitError
from codec.media.frames import ClipInfo

MAX_FIRST_FRAME = (1 << 32) - 1
MAX_NETWORK_ID = (1 << 32) - 1
MAX_PTS = (1 << 62) - 1

_MOTION = 1 << 0
_CODING_ORDER = 1 << 1
_RECT = 1 << 2
_FIRST_PTS = 1 << 3
_PTS_STEPS = 1 << 4
_GRID_MASK = 1 << 5
_PARTITION = 1 << 6
_MORE = 1 << 7
# A still is one frame at time 0 that fills the picture.
_NOT_IN_STILLS = _RECT | _FIRST_PTS | _PTS_STEPS


def full_rect(info: ClipInfo) -> tuple[int, int, int, int]:
    """(top, left, height, width) of the whole frame."""
    return (0, 0, info.height, info.width)


def _flags(segment: Segment, info: ClipInfo) -> int:
    flags = 0
    if segment.rect != full_rect(info):
        flags |= _RECT
    if not info.is_still:
        steps = {after - before for before, after in pairwise(segment.pts_ticks)}
        if segment.pts_ticks[0] != segment.first_frame * info.frame_ticks:
            flags |= _FIRST_PTS
        if steps - {info.frame_ticks}:
            flags |= _PTS_STEPS
    if not all(segment.grid_present):
        flags |= _GRID_MASK
    if segment.partition != Partition():
        flags |= _PARTITION
    return flags


def write_segment(segment: Segment, *, info: ClipInfo, arch: Architecture) -> bytes:
    """Payload of a segment chunk, or the last part of a still."""
    assert len(segment.grid_present) == len(arch.grids)
    assert len(segment.frame_hashes) == len(segment.pts_ticks) == segment.num_frames
    assert len(segment.substreams) == segment.partition.num_substreams(segment.num_frames)
    writer, flags = FieldWriter(), _flags(segment, info)
    writer.u8(flags)
    if not info.is_still:
        writer.varint(segment.first_frame)
        writer.varint(segment.num_frames)
        writer.varint(segment.network_id)
        _write_place_and_times(writer, segment, flags, info.frame_ticks)
    if flags & _GRID_MASK:
        writer.raw(np.packbits(segment.grid_present, bitorder="little").tobytes())
    if flags & _PARTITION:
        writer.u8(int(segment.partition.split_frames) | segment.partition.bands - 1 << 1)
    if arch.common_randomness:
        writer.varint(segment.noise_seed)
    for frame_hash in segment.frame_hashes:
        writer.u32(frame_hash)
    if segment_specs(arch, segment.num_frames):
        writer.sized(write_codes(segment.codes, arch=arch, num_frames=segment.num_frames))
    for substream in segment.substreams[:-1]:
        writer.varint(len(substream))
    for substream in segment.substreams:
        writer.raw(substream)
    return writer.finish()


def read_segment(
    cursor: Cursor, *, info: ClipInfo, limits: Limits, find_arch: Callable[[int], Architecture]
) -> Segment:
    """Inverse of `write_segment`; consumes the whole payload.

    Args:
        cursor: at the first byte of the payload.
        info: the header of the stream.
        limits: frames and codes that are allowed.
        find_arch: gives the architecture of a network id or raises BitstreamError.

    Raises:
        BitstreamError: a damaged payload.
        LimitError: more than the limits allow.
        UnsupportedVersionError: motion, a coding order, or other bits of later versions.
    """
    flags = cursor.u8("flags of the segment")
    _check_flags(cursor, flags, info)
    first_frame, num_frames, network_id = 0, 1, 0
    if not info.is_still:
        first_frame, num_frames = read_range(cursor)
        network_id = cursor.varint("network id", high=MAX_NETWORK_ID)
    if num_frames > limits.max_frames:
        raise LimitError(f"a segment has {num_frames} frames; {limits.max_frames} are allowed")
    arch = find_arch(network_id)
    rect = _read_rect(cursor, info) if flags & _RECT else full_rect(info)
    pts_ticks = _read_times(cursor, flags, info, first_frame, num_frames)
    grid_present = _read_grid_mask(cursor, flags, len(arch.grids))
    partition = _read_partition(cursor) if flags & _PARTITION else Partition()
    noise_seed = cursor.varint("noise seed", high=(1 << 32) - 1) if arch.common_randomness else 0
    frame_hashes = np.frombuffer(cursor.take(4 * num_frames, "frame hashes"), "<u4").tolist()
    codes = {}
    if segment_specs(arch, num_frames):
        data = cursor.sized("codes")
        codes = read_codes(cursor, data, arch=arch, num_frames=num_frames, limits=limits)
    return Segment(
        first_frame=first_frame,
        num_frames=num_frames,
        rect=rect,
        network_id=network_id,
        grid_present=grid_present,
        substreams=_read_substreams(cursor, partition.num_substreams(num_frames)),
        frame_hashes=tuple(frame_hashes),
        pts_ticks=pts_ticks,
        codes=codes,
        noise_seed=noise_seed,
        partition=partition,
    )


def _check_flags(cursor: Cursor, flags: int, info: ClipInfo) -> None:
    reserved = ((_MOTION, "motion"), (_CODING_ORDER, "a coding order"), (_MORE, "flag bit 7"))
    for bit, name in reserved:
        if flags & bit:
            raise cursor.unsupported(f"{name} in a segment")
    if info.is_still and flags & _NOT_IN_STILLS:
        raise cursor.error("a still has neither a rectangle nor frame times")


def read_range(cursor: Cursor) -> tuple[int, int]:
    """(first frame, number of frames), which follow the flags of a segment of a clip."""
    first_frame = cursor.varint("first frame", high=MAX_FIRST_FRAME)
    return first_frame, cursor.varint("number of frames", low=1, high=MAX_FIRST_FRAME)


def _write_place_and_times(
    writer: FieldWriter, segment: Segment, flags: int, frame_ticks: int
) -> None:
    if flags & _RECT:
        for value in segment.rect:
            writer.varint(value)
    if flags & _FIRST_PTS:
        writer.svarint(segment.pts_ticks[0])
    if flags & _PTS_STEPS:
        for before, after in pairwise(segment.pts_ticks):
            assert after > before, "frame times must increase"
            writer.svarint(after - before - frame_ticks)


def _read_times(
    cursor: Cursor, flags: int, info: ClipInfo, first_frame: int, num_frames: int
) -> tuple[int, ...]:
    """PTS of each frame: given, or steps of the nominal frame duration."""
    if info.is_still:
        return (0,)
    pts = first_frame * info.frame_ticks
    if flags & _FIRST_PTS:
        pts = cursor.svarint("first frame time")
    times = [pts]
    for _ in range(num_frames - 1):
        step = info.frame_ticks
        if flags & _PTS_STEPS:
            step += cursor.svarint("frame time")
        if not 0 < step <= MAX_TIME:
            raise cursor.error("frame times do not increase, or by too much")
        times.append(times[-1] + step)
    if not -MAX_PTS <= times[0] <= times[-1] <= MAX_PTS:
        raise cursor.error("a frame time is out of range")
    return tuple(times)


def _read_rect(cursor: Cursor, info: ClipInfo) -> tuple[int, int, int, int]:
    top = cursor.varint("top of the rectangle", high=info.height - 1)
    left = cursor.varint("left of the rectangle", high=info.width - 1)
    height = cursor.varint("height of the rectangle", low=1, high=info.height - top)
    width = cursor.varint("width of the rectangle", low=1, high=info.width - left)
    down_y, down_x = info.format.chroma_shifts
    for start, size, whole, shift in (
        (top, height, info.height, down_y),
        (left, width, info.width, down_x),
    ):
        # Chroma samples must not be shared by two rectangles.
        if start % (1 << shift) or (start + size < whole and size % (1 << shift)):
            raise cursor.error("the edges of a rectangle cut through chroma samples")
    return top, left, height, width


def _read_grid_mask(cursor: Cursor, flags: int, num_grids: int) -> tuple[bool, ...]:
    if not flags & _GRID_MASK:
        return (True,) * num_grids
    mask = int.from_bytes(cursor.take(-(-num_grids // 8), "grid mask"), "little")
    if mask >> num_grids:
        raise cursor.error(f"the grid mask has bits beyond grid {num_grids - 1}")
    return tuple(bool(mask >> index & 1) for index in range(num_grids))


def _read_partition(cursor: Cursor) -> Partition:
    value = cursor.u8("partition")
    if value >> 1 >= MAX_BANDS:
        raise cursor.unsupported(f"partition {value} of a segment")
    return Partition(bool(value & 1), (value >> 1) + 1)


def _read_substreams(cursor: Cursor, count: int) -> tuple[bytes, ...]:
    lengths: Iterable[int] = [cursor.varint("substream length") for _ in range(count - 1)]
    parts = [bytes(cursor.take(length, "substream")) for length in lengths]
    return (*parts, bytes(cursor.rest()))
