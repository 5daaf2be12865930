"""Whole frames from segments, which may be rectangles and overlap in time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from codec.arch import numerics_for_depth
from codec.bitstream.elements import Segment
from codec.bitstream.limits import Limits
from codec.bitstream.random_access import RandomReader
from codec.bitstream.reader import StreamReader
from codec.decoder.segments import Planes, check_segment, decode_segment
from codec.errors import BitstreamError
from codec.fixedpoint.program import Program, load_network
from codec.media.frames import Frame

_PROGRAMS = 4


@dataclass(frozen=True)
class _Piece:
    """A segment that is being decoded; `planes` gives its rectangle frame by frame.

    `samples` are the numbers that are held for it.
    """

    segment: Segment
    planes: Iterator[Planes]
    samples: int

    @property
    def end(self) -> int:
        """Number of the first frame behind it."""
        return self.segment.first_frame + self.segment.num_frames


class Composer:
    """Whole frames from segments, which may be rectangles of them and overlap in time."""

    def __init__(
        self, reader: StreamReader | RandomReader, *, limits: Limits, threads: int
    ) -> None:
        self._reader = reader
        self._limits = limits
        self._threads = threads
        self._numerics = numerics_for_depth(reader.info.format.coded_depth)
        self._programs: dict[int, Program] = {}

    def _program(self, network_id: int) -> Program:
        if network_id not in self._programs:
            if len(self._programs) == _PROGRAMS:
                del self._programs[next(iter(self._programs))]
            network = self._reader.network(network_id)
            self._programs[network_id] = load_network(network, self._numerics)
        return self._programs[network_id]

    def _open(self, segment: Segment, frame: int, held_samples: int) -> _Piece:
        with _naming(segment):
            arch = self._reader.network(segment.network_id).arch
            samples = check_segment(segment, arch, self._limits, held_samples=held_samples)
            program = self._program(segment.network_id)
        first = max(0, frame - segment.first_frame)
        planes = decode_segment(
            segment,
            program,
            self._reader.info,
            frames=range(first, segment.num_frames),
            threads=self._threads,
        )
        return _Piece(segment, planes, samples)

    def frames(self, segments: Iterator[Segment], start: int, stop: int | None) -> Iterator[Frame]:
        """Frames `start` to `stop` from segments by rising first frame; none are read ahead.

        Raises:
            BitstreamError: as `decode_segment`, or part of a frame has no segment.
        """
        info, number = self._reader.info, start
        active: list[_Piece] = []
        waiting: Segment | None = None
        while stop is None or number < stop:
            active = [piece for piece in active if piece.end > number]
            while sum(_area(piece.segment) for piece in active) < info.height * info.width:
                waiting = waiting or next(segments, None)
                if waiting is None or waiting.first_frame > number:
                    break
                if waiting.first_frame + waiting.num_frames > number:
                    held_samples = sum(piece.samples for piece in active)
                    active.append(self._open(waiting, number, held_samples))
                waiting = None
            if not active and waiting is None:
                return
            yield self._compose(active, number)
            number += 1

    def _compose(self, active: list[_Piece], number: int) -> Frame:
        info = self._reader.info
        if sum(_area(piece.segment) for piece in active) != info.height * info.width:
            raise BitstreamError(f"the segments do not fill frame {number}")
        parts = []
        for piece in active:
            with _naming(piece.segment):
                parts.append((piece.segment.rect, next(piece.planes)))
        first = active[0].segment
        pts_ticks = first.pts_ticks[number - first.first_frame]
        if len(parts) == 1:
            return Frame(parts[0][1], pts_ticks)
        shapes = info.format.plane_shapes(info.height, info.width)
        whole = tuple(np.empty(shape, info.format.dtype) for shape in shapes)
        for (top, left, _, _), planes in parts:
            for index, (target, plane) in enumerate(zip(whole, planes, strict=True)):
                down_y, down_x = info.format.chroma_shifts if index in (1, 2) else (0, 0)
                y, x = top >> down_y, left >> down_x
                target[y : y + plane.shape[0], x : x + plane.shape[1]] = plane
        return Frame(whole, pts_ticks)


def _area(segment: Segment) -> int:
    return segment.rect[2] * segment.rect[3]


@contextmanager
def _naming(segment: Segment) -> Iterator[None]:
    """Say in errors which segment they are about."""
    try:
        yield
    except BitstreamError as error:
        name = f"segment of frames {segment.first_frame} to "
        name += f"{segment.first_frame + segment.num_frames - 1}"
        raise type(error)(f"{name}: {error}") from error
