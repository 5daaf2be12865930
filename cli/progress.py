"""Progress of an encode: a bar on a terminal, plain lines in a log, JSON lines for programs."""

from __future__ import annotations

import contextlib
import functools
import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any, TextIO

from codec.errors import UsageError
from codec.options import Progress

Reporter = Callable[[Progress], None]

MODES = ("auto", "bar", "lines", "json", "none")
LINE_EVERY_S = 10.0


def resolve_mode(mode: str, *, quiet: bool, stream: TextIO | None = None) -> str:
    """The mode that "auto" stands for: a bar on a terminal, else lines; none with --quiet."""
    if mode not in MODES:
        raise UsageError(f"--progress must be one of {', '.join(MODES)}, not {mode!r}")
    if mode != "auto":
        return mode
    if quiet:
        return "none"
    return "bar" if (stream or sys.stderr).isatty() else "lines"


@contextlib.contextmanager
def progress_reporter(mode: str, *, name: str) -> Iterator[Reporter]:
    """A function that shows each Progress on standard error, as a resolved `mode` says."""
    if mode == "bar":
        with _bar(name) as report:
            yield report
    elif mode == "lines":
        yield _lines(name)
    elif mode == "json":
        yield lambda progress: write_json_line(_as_json(progress) | {"input": name})
    else:
        yield lambda progress: None


@functools.cache
def announce_compilation(mode: str) -> None:
    """Say once on standard error, in a resolved `mode`, if kernels are compiled; imports numba."""
    from codec import jit

    if mode == "json":
        jit.announce_compilation(lambda: write_json_line({"type": "compiling"}))
    elif mode != "none":
        line = "compiling kernels (once, up to a minute)..."
        jit.announce_compilation(lambda: print(line, file=sys.stderr, flush=True))


def write_json_line(values: dict[str, Any]) -> None:
    """One JSON object on one line of standard error; readers ignore types that they do not know."""
    sys.stderr.write(json.dumps(values) + "\n")
    sys.stderr.flush()


def format_duration(seconds: float) -> str:
    """`1:05`, or `2:03:07` from an hour on; `?` where it is not known."""
    if not math.isfinite(seconds):
        return "?"
    minutes, second = divmod(max(0, round(seconds)), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def describe(progress: Progress) -> str:
    """One line of text: stage, step, rate, PSNR and time left, as far as they are known."""
    if progress.stage == "estimate":
        each = progress.num_steps // progress.num_segments
        time_left = format_duration(progress.seconds_left)
        return f"expected time {time_left} (minutes:seconds); --steps {each} repeats this"
    words = [progress.stage]
    if progress.num_segments > 1:
        words.append(f"segment {progress.segment + 1}/{progress.num_segments}")
    if progress.num_steps:
        words.append(f"step {progress.step}/{progress.num_steps}")
    return "  ".join(words + _measured(progress))


def _measured(progress: Progress) -> list[str]:
    words = []
    if math.isfinite(progress.bpp):
        words.append(f"{progress.bpp:.4f} bpp")
    if math.isfinite(progress.psnr_db):
        words.append(f"{progress.psnr_db:.2f} dB")
    if math.isfinite(progress.seconds_left):
        words.append(f"{format_duration(progress.seconds_left)} left")
    return words


def _as_json(progress: Progress) -> dict[str, Any]:
    values = asdict(progress)
    # JSON has no NaN, which stands for what is not known yet.
    unknown = {key: None for key, value in values.items() if value != value}
    return {"type": "progress", **values, **unknown}


def _lines(name: str) -> Reporter:
    last_time, last_stage = -math.inf, ""

    def report(progress: Progress) -> None:
        nonlocal last_time, last_stage
        now = time.monotonic()
        if progress.stage == last_stage and now - last_time < LINE_EVERY_S:
            return
        last_time, last_stage = now, progress.stage
        print(f"{name}: {describe(progress)}", file=sys.stderr, flush=True)

    return report


@contextlib.contextmanager
def _bar(name: str) -> Iterator[Reporter]:
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as RichProgress

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[text]}", markup=False),
    )
    with RichProgress(*columns, console=Console(stderr=True), transient=True) as live:
        task = live.add_task(name, total=None, text="")

        def report(progress: Progress) -> None:
            if progress.stage == "estimate":
                live.console.print(f"{name}: {describe(progress)}", markup=False, highlight=False)
            else:
                total = progress.num_steps or None
                live.update(task, total=total, completed=progress.step, text=describe(progress))

        yield report
