"""Keeps the memory that a training step frees for the next step, where the C library is glibc."""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3


def keep_freed_memory() -> None:
    """Tell malloc not to give large blocks back to the system, for this process.

    A step allocates and frees the same large tensors; by default each is mapped anew, and the page
    faults take a quarter of the time of a step (docs/experiments.md). Other C libraries are left
    alone.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return
    mallopt(_M_MMAP_THRESHOLD, 1 << 30)
    mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)
