"""Progress: one line a stage in a log, one object a line for programs, a bar only on a terminal."""

from __future__ import annotations

import io
import json
import math
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from cli import progress as shown
from codec.errors import UsageError
from codec.options import Progress

ESTIMATE = Progress(stage="estimate", num_steps=30, seconds_left=125.0)
STEP = Progress(stage="training", step=30, num_steps=60, bpp=0.5, psnr_db=33.333, seconds_left=61)


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_mode_follows_the_stream() -> None:
    assert shown.resolve_mode("auto", quiet=False, stream=_Terminal()) == "bar"
    assert shown.resolve_mode("auto", quiet=False, stream=io.StringIO()) == "lines"
    assert shown.resolve_mode("auto", quiet=True, stream=_Terminal()) == "none"
    assert shown.resolve_mode("json", quiet=True, stream=_Terminal()) == "json"
    with pytest.raises(UsageError, match="bar, lines"):
        shown.resolve_mode("dots", quiet=False)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00"), (59.6, "1:00"), (125, "2:05"), (3723, "1:02:03"), (-3, "0:00"), (math.nan, "?")],
)
def test_durations(seconds: float, text: str) -> None:
    assert shown.format_duration(seconds) == text


def test_lines_come_at_stages_and_at_intervals(
    capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 1.0, 10.0, 11.5])
    monkeypatch.setattr(shown.time, "monotonic", lambda: next(clock))
    with shown.progress_reporter("lines", name="a.png") as report:
        for progress in (ESTIMATE, STEP, STEP, STEP):
            report(progress)
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert len(lines) == 3
    assert lines[0] == "a.png: expected time 2:05 (minutes:seconds); --steps 30 repeats this"
    assert lines[1] == lines[2]
    for part in ("a.png: training", "step 30/60", "0.5000 bpp", "33.33 dB", "1:01 left"):
        assert part in lines[1]


def test_json_lines_are_objects_without_nan(capsys: pytest.CaptureFixture) -> None:
    with shown.progress_reporter("json", name="a.png") as report:
        report(ESTIMATE)
        report(STEP)
    captured = capsys.readouterr()
    first, second = (json.loads(line) for line in captured.err.splitlines())
    assert first["type"] == second["type"] == "progress"
    assert (first["stage"], first["psnr_db"], first["seconds_left"]) == ("estimate", None, 125.0)
    assert (second["step"], second["num_steps"], second["input"]) == (30, 60, "a.png")
    assert captured.out == ""


def test_bar_and_none(capsys: pytest.CaptureFixture) -> None:
    for mode in ("bar", "none"):
        with shown.progress_reporter(mode, name="a[b].png") as report:
            report(ESTIMATE)
            report(STEP)
        captured = capsys.readouterr()
        assert captured.out == ""
        assert ("a[b].png: expected time 2:05" in captured.err) == (mode == "bar")


def test_compiling_is_announced_on_standard_error(
    modcodec: Callable[..., subprocess.CompletedProcess],
    cli_environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setitem(cli_environment, "MODCODEC_CACHE_DIR", str(tmp_path / "cache"))
    still = Path(__file__).parent / "golden" / "still.modc"
    first, second = (modcodec("info", still) for _ in range(2))
    assert first.stderr.splitlines() == ["compiling kernels (once, up to a minute)..."]
    assert second.stderr == ""
    assert first.stdout == second.stdout
