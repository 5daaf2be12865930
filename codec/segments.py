"""How a clip is cut into segments: at scene cuts, and within what training may keep in memory."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from statistics import mean

import numpy as np

from codec.errors import UsageError
from codec.media.convert import area_means
from codec.media.frames import Frame

# Where no limit of memory is given: this one, or that share of a machine that has less. Each
# segment pays for a first frame, so long ones are smaller (docs/experiments.md).
MOST_MEMORY_BYTES, MEMORY_SHARE = 6 << 30, 0.6
# The same on CUDA, where plain PyTorch takes the memory of the device, several times as much.
CUDA_PIXELS = 4_000_000
MAX_SEGMENT_FRAMES = 64
# An encode needs about so many bytes, and so many for each luma pixel of a segment: what was
# measured, a little rounded up (docs/experiments.md).
BASE_BYTES = 480 << 20
BYTES_PER_PIXEL = 512

# Of cgroups, version 2, seen from inside of one.
CONTAINER_LIMIT = Path("/sys/fs/cgroup/memory.max")

# Scenes are told apart on pictures of at most so many cells a side, moved by up to REACH cells.
CELLS = 32
REACH = 4
# A new scene differs from the last frame by more than this share of what the flatter of both
# differs from its mean (clips that move fast: up to 0.3; unrelated pictures: 1 and more), by more
# than so much of the range of samples, and by so many times what frames before did.
SCENE_SHARE = 0.55
LEAST_CHANGE = 0.02
TIMES_BEFORE = 2.5
RECENT_CHANGES = 8
# A scene of fewer frames does not pay for networks of its own; a flash of light is one, too.
LEAST_SCENE_FRAMES = 4


def machine_memory_bytes() -> int | None:
    """Memory of this machine, or of its container if that has less and tells; None if none does."""
    limits = []
    with suppress(AttributeError, OSError, ValueError):
        limits.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    with suppress(OSError, ValueError):
        limits.append(int(CONTAINER_LIMIT.read_text(encoding="ascii")))
    return min(limits, default=None)


def usual_pixels(device_type: str) -> int:
    """Luma pixels of a segment where no limit is given, trained on "cpu" or "cuda"."""
    if device_type == "cuda":
        return CUDA_PIXELS
    memory = machine_memory_bytes()
    shares = [] if memory is None else [int(MEMORY_SHARE * memory)]
    return pixel_budget(min([MOST_MEMORY_BYTES, *shares]))


def pixel_budget(max_memory_bytes: int) -> int:
    """Luma pixels of a segment that can be trained in so much memory; 0 if not even one."""
    return max(0, max_memory_bytes - BASE_BYTES) // BYTES_PER_PIXEL


def segment_length(
    height: int, width: int, *, max_memory_bytes: int | None = None, device_type: str = "cpu"
) -> int:
    """Frames of the longest segments, 1 to 64; without a limit, one frame may take any memory.

    Raises:
        UsageError: the memory does not suffice for one frame.
    """
    num_pixels = height * width
    has_limit = max_memory_bytes is not None
    pixels = pixel_budget(max_memory_bytes) if has_limit else usual_pixels(device_type)
    length = pixels // num_pixels
    if length == 0 and has_limit:
        needed = -(-(BASE_BYTES + num_pixels * BYTES_PER_PIXEL) >> 20)
        raise UsageError(
            f"max_memory is too small for a frame of {width}x{height};"
            f" give {needed}MiB or more, or a smaller picture"
        )
    return max(1, min(MAX_SEGMENT_FRAMES, length))


def balanced_length(longest: int, num_left: int | None) -> int:
    """Frames of the next segment: all that are left in equal parts, if their number is known."""
    if num_left is None or num_left <= 0:
        return longest
    num_segments = -(-num_left // longest)
    return -(-num_left // num_segments)


def cut_frames(
    frames: Iterator[Frame], longest: int, *, peak: int, num_frames: int | None = None
) -> Iterator[list[Frame]]:
    """Lists of consecutive frames, none longer than `longest`; a new scene begins a new one.

    A frame is read ahead only where it shows that a scene has ended.

    Args:
        longest: at least 1.
        peak: of the first plane's samples.
        num_frames: if known or promised, for segments of about the same length.
    """
    scenes = SceneChanges(peak)
    segment: list[Frame] = []
    num_left, length = num_frames, longest
    for frame in frames:
        if scenes.begins_with(frame) and len(segment) >= LEAST_SCENE_FRAMES:
            yield segment
            segment = []
        if not segment:
            length = balanced_length(longest, num_left)
        segment.append(frame)
        num_left = None if num_left is None else num_left - 1
        if len(segment) == length:
            yield segment
            segment = []
    if segment:
        yield segment


class SceneChanges:
    """Tells for one frame after the other whether it begins a scene; it sees the first plane."""

    def __init__(self, peak: int) -> None:
        self._peak = peak
        self._last: np.ndarray | None = None
        self._recent: deque[float] = deque(maxlen=RECENT_CHANGES)

    def begins_with(self, frame: Frame) -> bool:
        """Whether the frame is unlike the one before, and more so than that was unlike its own."""
        plane = frame.planes[0]
        small = area_means(plane, -(-max(plane.shape) // CELLS)) / self._peak
        last, self._last = self._last, small
        if last is None:
            return False
        change = _change(last, small)
        level = max(LEAST_CHANGE, SCENE_SHARE * min(_contrast(last), _contrast(small)))
        usual = mean(self._recent) if self._recent else 0.0
        is_cut = change > level and change > TIMES_BEFORE * usual
        if is_cut:
            self._recent.clear()
        else:
            self._recent.append(change)
        return is_cut


def _contrast(picture: np.ndarray) -> float:
    return float(np.abs(picture - picture.mean()).mean())


def _change(before: np.ndarray, after: np.ndarray) -> float:
    """Least mean absolute difference over whole shifts, brightness apart."""
    rows, columns = before.shape
    reach_y, reach_x = (min(REACH, size // 4) for size in before.shape)
    least = np.inf
    for dy in range(-reach_y, reach_y + 1):
        for dx in range(-reach_x, reach_x + 1):
            there = before[max(0, dy) : rows + min(0, dy), max(0, dx) : columns + min(0, dx)]
            here = after[max(0, -dy) : rows - max(0, dy), max(0, -dx) : columns - max(0, dx)]
            least = min(least, _contrast(here - there))
    return float(least)
