"""`modcodec verify`: whether files are whole and decode to the pictures that their hashes name."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial

import typer

from cli.batch import Outcome, Report, print_json, raise_if_any_failed, run_all
from cli.params import Inputs, Jobs, Json, MaxPixels, Quiet, Threads, Verbose
from cli.progress import announce_compilation
from cli.startup import spare_numpy_its_threads
from codec.errors import BitstreamError
from codec.outputs import STDIO

NAME = "verify"


def command(
    inputs: Inputs,
    threads: Threads = None,
    max_pixels: MaxPixels = None,
    jobs: Jobs = 1,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Check that .modc files are whole.

    Structure, checksums and the hash of every decoded frame are checked. Exits with 5 if any file
    is corrupt, and with 8 if of several files some failed otherwise.
    """
    task = partial(verify_one, threads=threads, max_pixels=max_pixels, quiet=quiet)
    show = None if quiet or as_json else _show
    outcomes = run_all(inputs, task, jobs=jobs, on_report=show, verbose=verbose)
    if as_json:
        print_json(outcomes, sys.stdout)
    if _any_corrupt(outcomes):
        raise typer.Exit(BitstreamError.exit_code)
    raise_if_any_failed(outcomes)


def verify_one(source: str, *, threads: int | None, max_pixels: int | None, quiet: bool) -> Report:
    """Decode one file to its end and tell what was checked."""
    spare_numpy_its_threads()
    from codec.api import verify

    announce_compilation("none" if quiet else "lines")
    checked = verify(
        sys.stdin.buffer if source == STDIO else source, threads=threads, max_pixels=max_pixels
    )
    return {"input": source, "ok": True, **checked.as_dict()}


def _any_corrupt(outcomes: Sequence[Outcome]) -> bool:
    codes = {outcome.failure.exit_code for outcome in outcomes if outcome.failure}
    return BitstreamError.exit_code in codes


def _show(report: Report) -> None:
    count = report["num_frames"]
    print(f"{report['input']}: ok, {count} frame{'' if count == 1 else 's'}", flush=True)
