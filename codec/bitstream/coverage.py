"""Checks that the segments of a clip cover every sample of every frame exactly once."""

from __future__ import annotations

from codec.errors import BitstreamError
from codec.media.frames import ClipInfo

MAX_RECTS = 256  # rectangles that one frame may be cut into

_Rect = tuple[int, int, int, int]


def _overlap(one: _Rect, other: _Rect) -> bool:
    top, left, height, width = one
    y, x, rows, columns = other
    return top < y + rows and y < top + height and left < x + columns and x < left + width


class Coverage:
    """The boxes (frames x rectangle) of all segments so far, which come by rising first frame."""

    def __init__(self, info: ClipInfo) -> None:
        self._frame_pixels = info.width * info.height
        self._active: list[tuple[int, _Rect]] = []
        self._last_first = 0
        self._volume = 0
        self.num_frames = 0
        self.num_segments = 0

    def add(self, *, first_frame: int, num_frames: int, rect: _Rect) -> None:
        """Note one more segment.

        Raises:
            BitstreamError: it overlaps another, comes out of order, or leaves frames out.
        """
        name = f"segment {self.num_segments} (frames from {first_frame})"
        if first_frame < self._last_first:
            raise BitstreamError(f"{name} comes after one that begins later")
        if first_frame > self.num_frames:
            raise BitstreamError(f"{name} leaves frames out after frame {self.num_frames - 1}")
        self._active = [(end, box) for end, box in self._active if end > first_frame]
        if any(_overlap(rect, box) for _, box in self._active):
            raise BitstreamError(f"{name} overlaps another segment")
        self._active.append((first_frame + num_frames, rect))
        if len(self._active) > MAX_RECTS:
            raise BitstreamError(f"{name}: a frame is cut into more than {MAX_RECTS} rectangles")
        self._last_first = first_frame
        self._volume += num_frames * rect[2] * rect[3]
        self.num_frames = max(self.num_frames, first_frame + num_frames)
        self.num_segments += 1

    def finish(self) -> None:
        """Check that nothing is left out.

        Raises:
            BitstreamError: some part of a frame has no segment, or there is none at all.
        """
        if not self.num_segments:
            raise BitstreamError("the stream has no segment")
        # No two boxes overlap, so they fill the clip exactly when their volumes add up to it.
        if self._volume != self.num_frames * self._frame_pixels:
            raise BitstreamError("the segments leave out parts of frames")
