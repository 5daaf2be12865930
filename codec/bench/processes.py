"""Measuring in a process of its own: nothing that ran before is in its memory or caches."""

from __future__ import annotations

import contextlib
import multiprocessing
import sys
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeVar

from codec.errors import CodecError

_Result = TypeVar("_Result")
_STATUS = Path("/proc/self/status")


def run_in_process(function: Callable[..., _Result], *arguments: Any) -> _Result:
    """`function(*arguments)` in a new process; all of it must be picklable.

    Raises:
        CodecError: the process died, perhaps for want of memory.
        Exception: whatever the function raised.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(sender, function, arguments))
    process.start()
    # Only the child may hold the sending end, or its death would not be seen.
    sender.close()
    try:
        with receiver, contextlib.suppress(EOFError):
            is_good, value = receiver.recv()
            if is_good:
                return value
            raise value
        process.join()
        raise CodecError(f"a process that measures ended with exit code {process.exitcode}")
    finally:
        process.terminate()
        process.join()


def _child(sender: Connection, function: Callable, arguments: tuple) -> None:
    try:
        message = (True, function(*arguments))
    except KeyboardInterrupt:
        # The parent hears of it too, and tells.
        return
    except Exception as error:
        # The traceback itself does not survive the way to the parent.
        error.add_note(traceback.format_exc())
        message = (False, error)
    sender.send(message)


def peak_memory_bytes() -> int:
    """The most memory that this process had resident so far."""
    if _STATUS.exists():
        # Unlike ru_maxrss, which starts at what the parent process had when it made this one.
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) << 10
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak << 10
