"""Time of whole processes: the interpreter, imports, and commands as a shell runs them."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from codec.bench.cases import Subject
from codec.bench.timing import Times, run_rounds, summary
from codec.errors import CodecError

IMPORTS = ("numpy", "numba", "av", "codec.decoder", "torch")


@dataclass(frozen=True)
class ProcessTime:
    """A process from its start to its end, compiled kernels in the cache."""

    what: str
    times: Times


def measure_startup(command: Sequence[str], *, repeat: int) -> list[ProcessTime]:
    """The bare interpreter, single imports, and `modcodec --version`.

    Args:
        command: how modcodec is started.
        repeat: rounds in which each has its turn.
    """
    processes = {"interpreter alone": [sys.executable, "-c", ""]}
    for module in IMPORTS:
        processes[f"interpreter, import {module}"] = [sys.executable, "-c", f"import {module}"]
    processes["modcodec --version"] = [*command, "--version"]
    return _time_processes(processes, repeat)


def measure_decode_command(
    command: Sequence[str], data: bytes, subject: Subject, *, threads: int, repeat: int
) -> ProcessTime:
    """`modcodec decode` of a file to PNG, or to raw y4m for a clip."""
    with tempfile.TemporaryDirectory(prefix="modcodec-bench-") as folder:
        source, suffix = Path(folder, "in.modc"), "png" if subject.is_still else "y4m"
        source.write_bytes(data)
        target = Path(folder, f"out.{suffix}")
        arguments = ["decode", str(source), "-o", str(target), "-y", "--threads", str(threads)]
        what = f"modcodec decode, {subject.name} to {suffix}, threads {threads}"
        return _time_processes({what: [*command, *arguments]}, repeat)[0]


def _time_processes(processes: dict[str, list[str]], repeat: int) -> list[ProcessTime]:
    runs = {what: lambda line=line: {"": _run_ms(line)} for what, line in processes.items()}
    rounds = run_rounds(runs, repeat)
    return [ProcessTime(what, summary([r[""] for r in laps])) for what, laps in rounds.items()]


def _run_ms(line: Sequence[str]) -> float:
    started = time.perf_counter()
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    elapsed_ms = (time.perf_counter() - started) * 1e3
    if done.returncode:
        raise CodecError(f"{' '.join(line)} failed: {done.stderr.strip()}")
    return elapsed_ms
