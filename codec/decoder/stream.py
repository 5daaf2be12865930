"""An opened stream: all of its frames, a range of them, or only a check of everything."""

from __future__ import annotations

import io
import os
import weakref
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import BinaryIO

from codec.bitstream.elements import Segment
from codec.bitstream.index import Totals
from codec.bitstream.limits import Limits
from codec.bitstream.random_access import RandomReader
from codec.bitstream.reader import StreamReader
from codec.decoder.composer import Composer
from codec.errors import InputError, UsageError
from codec.media.frames import AudioTrack, ClipInfo, Frame

Source = str | os.PathLike | bytes | BinaryIO


class Stream:
    """An opened stream; also a context that closes the file it opened.

    Opening reads up to the first segment. A file that can be sought may be decoded any number of
    times, and a range of its frames without reading the others; a pipe once, in order.

    Attributes:
        info: format, colour and timing.
        metadata: 'icc', 'exif', 'xmp'.
        audio: the sound, if there is any.
    """

    def __init__(self, source: Source, *, limits: Limits | None, threads: int | None) -> None:
        self._file = open_file(source)
        # Closes the file also where nobody uses the context.
        self._close = weakref.finalize(self, close_file, self._file, source)
        self._limits = limits or Limits()
        self._threads = threads or os.cpu_count() or 1
        self._is_seekable = self._file.seekable() and self._file.tell() == 0
        self._segments: Iterator[Segment] | None = None
        self._begin()
        self.info: ClipInfo = self._reader.info
        self.metadata: dict[str, bytes] = self._reader.metadata
        self.audio: AudioTrack | None = self._reader.audio

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file, if the source was a path."""
        self._close()

    @property
    def totals(self) -> Totals | None:
        """Counts of the whole stream, once it has been decoded to its end."""
        return self._reader.totals

    def _begin(self) -> None:
        """Start reading at the first byte."""
        self._reader = StreamReader(self._file, limits=self._limits)
        segments = self._reader.segments()
        self._segments = chain([next(segments)], segments)

    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[Frame]:
        """Decode frames `start` to `stop` (None: to the end), checking the hash of each.

        With stop None the stream is read to its end and its totals are checked.

        Raises:
            UsageError: a range without frames, or a pipe that was read before.
            BitstreamError and others: as the reader, `check_segment` and `decode_segment`.
        """
        if start < 0 or (stop is not None and stop <= start):
            raise UsageError(f"frames {start} to {stop}: there is no frame in this range")
        if self._is_seekable and not self.info.is_still and (start > 0 or stop is not None):
            return self._chosen_frames(start, stop)
        if self._segments is None and not self._is_seekable:
            raise UsageError("a pipe can be decoded once only")
        if self._segments is None:
            self._file.seek(0)
            self._begin()
        segments, self._segments = self._segments, None
        return self._decode(self._reader, segments, start, stop)

    def _chosen_frames(self, start: int, stop: int | None) -> Iterator[Frame]:
        """Frames of a file that can be sought, from the segments that hold them."""
        self._segments = None
        self._file.seek(0)
        reader = RandomReader(self._file, limits=self._limits)
        chosen = [
            entry
            for entry in reader.segments
            if entry.first_frame + entry.num_frames > start
            and (stop is None or entry.first_frame < stop)
        ]
        return self._decode(reader, map(reader.segment, chosen), start, stop)

    def _decode(
        self,
        reader: StreamReader | RandomReader,
        segments: Iterator[Segment],
        start: int,
        stop: int | None,
    ) -> Iterator[Frame]:
        composer = Composer(reader, limits=self._limits, threads=self._threads)
        has_frames = False
        for frame in composer.frames(segments, start, stop):
            has_frames = True
            yield frame
        if not has_frames:
            raise UsageError(f"the stream has no frame {start}, counted from 0")


def open_file(source: Source) -> BinaryIO:
    """The bytes of a source as a file; raises InputError where it cannot be opened."""
    if isinstance(source, bytes):
        return io.BytesIO(source)
    if not isinstance(source, str | os.PathLike):
        return source
    try:
        return Path(source).open("rb")
    except OSError as error:
        raise InputError(f"{source}: {error.strerror or error}") from error


def close_file(file: BinaryIO, source: Source) -> None:
    """Close what `open_file` opened."""
    if file is not source:
        file.close()


def open_stream(
    source: Source, *, limits: Limits | None = None, threads: int | None = None
) -> Stream:
    """Open a stream for decoding.

    Args:
        source: a path, the bytes themselves, or a file opened for reading bytes.
        limits: what the stream may ask for.
        threads: None takes all cores; the result does not depend on it.

    Raises:
        InputError: the file cannot be read.
        NotModcodecError, UnsupportedVersionError, BitstreamError: the stream is not good.
    """
    return Stream(source, limits=limits, threads=threads)


@dataclass(frozen=True, kw_only=True)
class VerifyReport:
    """What was checked: all checksums, and that every frame decodes to its hash."""

    num_frames: int
    num_segments: int
    num_bytes: int

    def as_dict(self) -> dict[str, int]:
        """The report as JSON can carry it."""
        return asdict(self)


def verify(
    source: Source, *, limits: Limits | None = None, threads: int | None = None
) -> VerifyReport:
    """Decode a whole stream and check structure, checksums, totals and the hash of every frame.

    Raises:
        InputError, NotModcodecError, UnsupportedVersionError, BitstreamError: the first thing that
            is wrong.
    """
    with open_stream(source, limits=limits, threads=threads) as stream:
        num_frames = sum(1 for _ in stream.frames())
        totals = stream.totals
        assert totals is not None
    return VerifyReport(
        num_frames=num_frames, num_segments=totals.num_segments, num_bytes=totals.num_bytes
    )
