"""The one door to numba: where compiled kernels are cached, how they are compiled and run."""

from __future__ import annotations

import atexit
import functools
import hashlib
import importlib.metadata
import os
import shutil
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, TypeVar

_Job = TypeVar("_Job")
_Result = TypeVar("_Result")

_PACKAGE = Path(__file__).resolve().parent
# A kernel compiles the kernels and constants of other files into itself, but numba's cache looks
# only at the file that it is in: the cache folder is therefore named after all of them.
_KERNEL_SOURCES = ("analysis", "arch", "bitstream", "fixedpoint", "layers/kernels")


def source_hash() -> str:
    """16 hex digits over every source file that kernels are compiled from."""
    digest = hashlib.sha256(Path(__file__).read_bytes())
    for folder in _KERNEL_SOURCES:
        for path in sorted((_PACKAGE / folder).glob("*.py")):
            digest.update(f"{folder}/{path.name}".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _version() -> str:
    try:
        return importlib.metadata.version("modcodec")
    except importlib.metadata.PackageNotFoundError:
        return "source"


def _user_cache() -> Path:
    if sys.platform == "win32" and os.environ.get("LOCALAPPDATA"):
        return Path(os.environ["LOCALAPPDATA"])
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def _wanted_cache_dir() -> Path:
    tag = Path("modcodec", _version(), source_hash())
    if own := os.environ.get("MODCODEC_CACHE_DIR"):
        return Path(own, *tag.parts[1:])
    base = Path(os.environ.get("NUMBA_CACHE_DIR") or _user_cache())
    # A worker process inherits the folder that its parent chose.
    return base if base.parts[-3:] == tag.parts else base / tag


def _is_writable(path: Path) -> bool:
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            return True
    except OSError:
        return False


def choose_cache_dir() -> Path:
    """The folder for compiled kernels: `BASE/modcodec/VERSION/HASH`, made and writable.

    BASE is NUMBA_CACHE_DIR, else XDG_CACHE_HOME, else ~/.cache (LOCALAPPDATA on Windows);
    MODCODEC_CACHE_DIR replaces `BASE/modcodec`. Where that cannot be written, it is a temporary
    folder that goes with the process.
    """
    try:
        path = _wanted_cache_dir()
    except RuntimeError:  # no home directory
        path = None
    if path is not None and _is_writable(path):
        return path
    tag = Path("modcodec", _version(), source_hash())
    folder = tempfile.mkdtemp(prefix="modcodec-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = Path(folder, tag)
    path.mkdir(parents=True)
    return path


CACHE_DIR = choose_cache_dir()
os.environ["NUMBA_CACHE_DIR"] = str(CACHE_DIR)

import numba  # noqa: E402  numba reads its cache folder when it is imported
from numba.core import event  # noqa: E402

# Covers a program that had imported numba before.
numba.config.CACHE_DIR = str(CACHE_DIR)


def njit(function: Callable | None = None, **options: Any) -> Callable:
    """Compile a kernel without the GIL, cached on disk, with exact arithmetic (no fastmath).

    Used as `@njit` or as `@njit(inline="always")`; kernels are single-threaded.
    """
    settings = {"nogil": True, "cache": True, "no_cfunc_wrapper": True, **options}
    compiler = numba.njit(**settings)
    return compiler if function is None else compiler(function)


def inner(function: Callable | None = None, **options: Any) -> Callable:
    """As `njit`, for functions that only kernels call: they are cached as parts of those.

    Without an entry from Python they take half the time to compile.
    """
    return njit(function, **{"cache": False, "no_cpython_wrapper": True, **options})


# What kernels of the float wing may do to sums and products: contract them, reorder sums. NaN and
# infinity keep their meaning, which shows a training that diverged.
_FLOAT_OPTIONS = {"fastmath": {"contract", "reassoc", "nsz", "arcp"}, "error_model": "numpy"}


def njit_float(function: Callable | None = None, **options: Any) -> Callable:
    """`njit` for float kernels: sums may be reordered, a division by zero gives infinity."""
    return njit(function, **_FLOAT_OPTIONS, **options)


def inner_float(function: Callable | None = None, **options: Any) -> Callable:
    """`inner` for float kernels."""
    return inner(function, **_FLOAT_OPTIONS, **options)


class _FirstCompilation(event.Listener):
    """Calls a function when the first compilation starts."""

    def __init__(self, notify: Callable[[], None]) -> None:
        self._waiting = [notify]

    def on_start(self, _: event.Event) -> None:
        if self._waiting:
            self._waiting.pop()()

    def on_end(self, _: event.Event) -> None:
        pass


def announce_compilation(notify: Callable[[], None]) -> None:
    """Call `notify` once: when this process first compiles a kernel that no cache holds."""
    event.register("numba:compile", _FirstCompilation(notify))


_inside = threading.local()
_threads = os.cpu_count() or 1
_SAMPLES_WORTH_A_THREAD = 1 << 16


def set_threads(count: int) -> None:
    """How many threads kernels of training run on, in this process; at least 1."""
    global _threads
    _threads = max(1, count)


def get_threads() -> int:
    """What `set_threads` said last; all cores before it was called."""
    return _threads


def threads_for(samples: int) -> int:
    """Threads for a kernel of training on so many samples: one where more would only wait."""
    return _threads if samples >= _SAMPLES_WORTH_A_THREAD else 1


@functools.cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="modcodec")


if hasattr(os, "register_at_fork"):
    # The threads of a pool do not exist in a forked child.
    os.register_at_fork(after_in_child=_pool.cache_clear)


def run_parallel(
    function: Callable[[_Job], _Result], jobs: Sequence[_Job], *, threads: int
) -> list[_Result]:
    """`[function(job) for job in jobs]`, on up to `threads` threads.

    The caller cuts the work into jobs without looking at `threads`, and results come in the order
    of the jobs, so that they do not depend on the number of threads. The first failing job's
    exception is raised. A call from inside a job runs inline.
    """
    if threads <= 1 or len(jobs) <= 1 or _is_inside():
        return [function(job) for job in jobs]
    results: list[Any] = [None] * len(jobs)
    failures: dict[int, BaseException] = {}
    numbers = iter(range(len(jobs)))

    def work() -> None:
        # Numbers are taken in order: a job before the first failing one has been started.
        for number in numbers:
            try:
                results[number] = function(jobs[number])
            except BaseException as error:
                failures[number] = error
            if failures:
                return

    helpers = [
        _pool(threads - 1).submit(_run_inside, work) for _ in range(min(threads, len(jobs)) - 1)
    ]
    _run_inside(work)
    for helper in helpers:
        helper.result()
    if failures:
        raise failures[min(failures)]
    return results


def map_ahead(
    function: Callable[[_Job], _Result], jobs: Iterable[_Job], *, threads: int
) -> Iterator[_Result]:
    """`map(function, jobs)`, where up to `threads - 1` jobs run while this thread makes the next.

    Results come in the order of the jobs. Jobs are made in the thread that iterates, at most
    `threads` ahead of their results.
    """
    if threads <= 1 or _is_inside():
        yield from map(function, jobs)
        return
    running: deque[Future[_Result]] = deque()
    try:
        for job in jobs:
            running.append(_pool(threads - 1).submit(_run_inside, function, job))
            if len(running) >= threads:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()
    finally:
        for future in running:
            future.cancel()
        wait(running)


def _is_inside() -> bool:
    """Whether this thread is running a job."""
    return getattr(_inside, "job", False)


def _run_inside(function: Callable[..., _Result], *arguments: Any) -> _Result:
    _inside.job = True
    try:
        return function(*arguments)
    finally:
        _inside.job = False
