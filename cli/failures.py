"""What the user is told when something fails: one line, an exit code, and with -v a traceback."""

from __future__ import annotations

import functools
import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass

import typer

from cli.progress import write_json_line
from codec.errors import CodecError
from codec.outputs import STDIO

INTERRUPTED = 130
INTERNAL = 1
# torch raises its own classes, and this module must not import torch to name them.
_TORCH_MEMORY_ERRORS = ("OutOfMemoryError", "DefaultCPUAllocator")


@dataclass(frozen=True)
class Failure:
    """One line for the user, and the exit code that goes with it."""

    exit_code: int
    message: str


def explain(error: BaseException, *, source: str = "") -> Failure:
    """What to tell about an exception; `source` names the input if the message does not."""
    if isinstance(error, CodecError):
        message, exit_code = str(error), error.exit_code
    elif isinstance(error, KeyboardInterrupt):
        message, exit_code = "interrupted; no unfinished output was kept", INTERRUPTED
    elif _is_memory_error(error):
        message = "not enough memory; take fewer frames with --limit or a smaller picture"
        exit_code = INTERNAL
    else:
        text = " ".join(str(error).split())
        message = f"internal error: {type(error).__name__}: {text} (run with -v for the traceback)"
        exit_code = INTERNAL
    message = " ".join(message.split())
    if source and source != STDIO and source not in message:
        message = f"{source}: {message}"
    return Failure(exit_code, message)


def complain(failure: Failure, *, as_json: bool = False) -> None:
    """Write a failure to standard error, as a JSON object where progress is JSON too."""
    if as_json:
        write_json_line(
            {"type": "error", "message": failure.message, "exit_code": failure.exit_code}
        )
    else:
        print(f"modcodec: error: {failure.message}", file=sys.stderr, flush=True)


def guarded(command: Callable[..., None]) -> Callable[..., None]:
    """The command, with every exception turned into one line and an exit code."""

    @functools.wraps(command)
    def run(**options: object) -> None:
        try:
            command(**options)
            sys.stdout.flush()
        except typer.Exit:
            raise
        except BrokenPipeError as error:
            _silence_stdout()
            # Whoever reads a listing may stop; a picture or clip that was cut short is a failure.
            raise typer.Exit(INTERNAL if options.get("output") == STDIO else 0) from error
        except (Exception, KeyboardInterrupt) as error:
            if options.get("verbose"):
                traceback.print_exc()
            failure = explain(error)
            complain(failure, as_json=options.get("progress") == "json")
            raise typer.Exit(failure.exit_code) from error

    return run


def _is_memory_error(error: BaseException) -> bool:
    text = f"{type(error).__name__} {error}"
    return isinstance(error, MemoryError) or any(name in text for name in _TORCH_MEMORY_ERRORS)


def _silence_stdout() -> None:
    # Python flushes standard output once more when it ends.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
