"""Many inputs: where each result goes, one after the other or in processes, and what failed."""

from __future__ import annotations

import contextlib
import json
import signal
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from cli.failures import INTERNAL, INTERRUPTED, Failure, complain, explain
from codec.errors import BatchError, CodecError, UsageError
from codec.outputs import STDIO

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.context import SpawnProcess

Report = dict[str, Any]
Task = Callable[[str], Report]


@dataclass(frozen=True)
class Outcome:
    """What became of one input: its report, or why there is none."""

    source: str
    report: Report | None = None
    failure: Failure | None = None

    def as_dict(self) -> Report:
        """The report as JSON, or the error in its place."""
        if self.failure is None:
            return self.report or {}
        return {
            "input": self.source,
            "error": self.failure.message,
            "exit_code": self.failure.exit_code,
        }


def target_in(folder: str | None, source: str, suffix: str) -> str:
    """NAME with another suffix, in `folder` or beside the source."""
    if source == STDIO:
        raise UsageError("the input is a pipe and has no name; name the output with -o")
    if not Path(source).name:
        raise UsageError(f"{source!r} names no file")
    path = Path(source).with_suffix(suffix)
    return str(path if folder is None else Path(folder) / path.name)


def check_batch(sources: Sequence[str], *, output: str | None, folder: str | None) -> None:
    """Raise UsageError where several inputs cannot all have an output of their own."""
    if output is not None and folder is not None:
        raise UsageError("-o names one file and --output-dir a folder; give one of them")
    if output is not None and len(sources) > 1:
        raise UsageError("-o names one output for several inputs; use --output-dir")
    if folder is not None and not Path(folder).is_dir():
        raise UsageError(f"{folder}: there is no such folder")
    if len(sources) > 1 and STDIO in sources:
        raise UsageError("standard input can only be the one input")
    names = [
        Path(source).stem if folder else str(Path(source).with_suffix("")) for source in sources
    ]
    name, count = Counter(names).most_common(1)[0]
    if count > 1:
        raise UsageError(f"{count} inputs are named {name}: their outputs would be the same")


def run_all(
    sources: Sequence[str],
    task: Task,
    *,
    jobs: int = 1,
    on_report: Callable[[Report], None] | None = None,
    json_errors: bool = False,
    verbose: bool = False,
) -> list[Outcome]:
    """Run `task` on every input; one failure does not stop the rest, and each is told at once.

    The exception of a single input is raised instead. With `jobs` > 1 inputs are run by that many
    spawned processes at a time; then `task` must be picklable. `on_report` gets each report as it
    comes, in this process.
    """
    outcomes: dict[str, Outcome] = {}
    # Closing stops the processes that still run, whatever ends the loop.
    with contextlib.closing(_outcomes(sources, task, jobs=jobs, verbose=verbose)) as arriving:
        for outcome in arriving:
            outcomes[outcome.source] = outcome
            if outcome.failure is not None:
                complain(outcome.failure, as_json=json_errors)
            elif on_report is not None:
                on_report(outcome.report)
    return [outcomes[source] for source in sources]


def print_json(outcomes: Sequence[Outcome], stream: TextIO) -> None:
    """One object for a single input, a list for several."""
    values = [outcome.as_dict() for outcome in outcomes]
    print(json.dumps(values[0] if len(values) == 1 else values, indent=2), file=stream)


def raise_if_any_failed(outcomes: Sequence[Outcome]) -> None:
    """Raise BatchError if any input failed."""
    failed = sum(outcome.failure is not None for outcome in outcomes)
    if failed:
        raise BatchError(f"{failed} of {len(outcomes)} inputs failed")


def _outcomes(sources: Sequence[str], task: Task, *, jobs: int, verbose: bool) -> Iterator[Outcome]:
    unique = list(dict.fromkeys(sources))
    if len(sources) == 1:
        yield Outcome(sources[0], _named(task, sources[0]))
    elif jobs > 1:
        yield from _run_processes(unique, task, jobs=jobs, verbose=verbose)
    else:
        yield from (_attempt(task, source, verbose=verbose) for source in unique)


def _named(task: Task, source: str) -> Report:
    try:
        return task(source)
    except CodecError as error:
        error.args = (explain(error, source=source).message,)
        raise


def _attempt(task: Task, source: str, *, verbose: bool) -> Outcome:
    try:
        return Outcome(source, task(source))
    except BrokenPipeError:
        raise
    except Exception as error:
        if verbose:
            traceback.print_exc()
        return Outcome(source, failure=explain(error, source=source))


def _run_processes(
    sources: Sequence[str], task: Task, *, jobs: int, verbose: bool
) -> Iterator[Outcome]:
    from multiprocessing.connection import wait

    waiting = list(sources)[::-1]
    running: dict[Connection, tuple[str, SpawnProcess]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                running |= _start(task, waiting.pop(), verbose=verbose)
            for connection in wait(list(running)):
                yield _collect(*running.pop(connection), connection)
    finally:
        _stop([process for _, process in running.values()])


def _start(task: Task, source: str, *, verbose: bool) -> dict[Connection, tuple[str, SpawnProcess]]:
    import multiprocessing

    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(sender, task, source, verbose))
    process.start()
    # Only the child may hold the sending end, or its death would not be seen.
    sender.close()
    return {receiver: (source, process)}


def _child(sender: Connection, task: Task, source: str, verbose: bool) -> None:
    stop_on_signals()
    try:
        sender.send(_attempt(task, source, verbose=verbose))
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def _collect(source: str, process: SpawnProcess, connection: Connection) -> Outcome:
    with connection:
        try:
            outcome = connection.recv()
        except EOFError:
            outcome = None
    process.join()
    if outcome is None:
        message = f"{source}: its process ended with exit code {process.exitcode}"
        outcome = Outcome(source, failure=Failure(INTERNAL, message))
    return outcome


def _stop(processes: Sequence[SpawnProcess]) -> None:
    for process in processes:
        process.terminate()
    for process in processes:
        process.join()


def stop_on_signals() -> None:
    """Make SIGTERM and SIGHUP end the program as an exception does: outputs are cleaned up."""

    def stop(number: int, frame: object) -> None:
        sys.exit(128 + number)

    for name in ("SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), stop)
