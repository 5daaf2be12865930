"""How planes are cut into jobs: by their size alone, so that no result depends on the threads."""

from __future__ import annotations

# Some tens of microseconds of work, so that handing it to a thread does not count.
SAMPLES_PER_JOB = 1 << 15


def cut_rows(height: int, width: int) -> list[tuple[int, int]]:
    """(first, end) of the strips of rows of one plane, about SAMPLES_PER_JOB samples each."""
    rows = max(1, SAMPLES_PER_JOB // width)
    return [(y, min(y + rows, height)) for y in range(0, height, rows)]


def cut_planes(planes: int, height: int, width: int) -> list[tuple[int, int, int, int]]:
    """(first plane, end, first row, end) of the jobs on a stack of planes; small ones share one."""
    together = max(1, SAMPLES_PER_JOB // (height * width))
    if together == 1:
        strips = cut_rows(height, width)
        return [(p, p + 1, *strip) for p in range(planes) for strip in strips]
    return [(p, min(p + together, planes), 0, height) for p in range(0, planes, together)]
