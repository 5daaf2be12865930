"""How a clip is cut into segments: consecutive frames, bounded by a budget of pixels."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from codec.media.frames import Frame

# Luma pixels that a segment may hold: what training keeps in memory grows with it.
PIXEL_BUDGET = 4_000_000
MAX_SEGMENT_FRAMES = 64


def segment_length(height: int, width: int, *, pixel_budget: int = PIXEL_BUDGET) -> int:
    """Frames of a full segment: as many as the budget holds, 1 to 64."""
    return max(1, min(MAX_SEGMENT_FRAMES, pixel_budget // (height * width)))


def cut_frames(frames: Iterator[Frame], length: int) -> Iterator[list[Frame]]:
    """Lists of `length` consecutive frames, the last one shorter; nothing is read ahead."""
    while segment := list(islice(frames, length)):
        yield segment
