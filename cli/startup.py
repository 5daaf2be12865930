"""What makes the process of a short command start and end sooner."""

from __future__ import annotations

import atexit
import functools
import gc
import os
import time

# Objects that are made before Python looks for unreachable ones; loading numba makes a million.
_GC_OBJECTS = 200_000
_LOADED_S = time.monotonic()


def collect_seldom() -> None:
    """Spare the process the searches for garbage while libraries load, and as it ends.

    They take longer than decoding a picture.
    """
    gc.set_threshold(_GC_OBJECTS)
    atexit.register(gc.freeze)


def spare_numpy_its_threads() -> None:
    """Let NumPy, which is imported afterwards, start no threads for matrix products.

    Decoding has none, and starting the threads takes longer than decoding a picture.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


@functools.cache
def startup_seconds() -> float:
    """Seconds from the import of this module to the first call: what came before the work."""
    return time.monotonic() - _LOADED_S
