"""Batches: outputs that cannot collide, failures that do not stop the rest, processes that end."""

from __future__ import annotations

import io
import json
import os
import time
from functools import partial
from pathlib import Path

import pytest

from cli import batch
from codec.errors import BatchError, InputError, UsageError


def _work(source: str, *, folder: str = "") -> dict:
    if "bad" in source:
        raise InputError("cannot be read")
    if "bug" in source:
        raise RuntimeError("two\nlines")
    if "dies" in source:
        os._exit(9)
    if "slow" in source:
        Path(folder, source).touch()
        time.sleep(60)
    return {"input": source, "pid": os.getpid()}


@pytest.mark.parametrize("jobs", [1, 2])
def test_failures_do_not_stop_the_rest(jobs: int, capsys: pytest.CaptureFixture) -> None:
    reports: list[dict] = []
    sources = ["a", "bad", "b", "bug", "c", "a"]
    outcomes = batch.run_all(sources, _work, jobs=jobs, on_report=reports.append)
    assert [outcome.source for outcome in outcomes] == sources
    assert [outcome.failure and outcome.failure.exit_code for outcome in outcomes] == [
        None, 3, None, 1, None, None,
    ]  # fmt: skip
    assert sorted(report["input"] for report in reports) == ["a", "b", "c"]
    assert all((report["pid"] == os.getpid()) == (jobs == 1) for report in reports)
    errors = capsys.readouterr().err.splitlines()
    assert "modcodec: error: bad: cannot be read" in errors
    assert len(errors) == 2
    with pytest.raises(BatchError, match="2 of 6 inputs failed"):
        batch.raise_if_any_failed(outcomes)


def test_a_dead_process_fails_alone(capsys: pytest.CaptureFixture) -> None:
    outcomes = batch.run_all(["dies", "a"], _work, jobs=2)
    assert "exit code 9" in outcomes[0].failure.message
    assert outcomes[1].failure is None
    assert "dies" in capsys.readouterr().err


def test_processes_are_stopped_when_the_batch_is(tmp_path: Path) -> None:
    def interrupt(report: dict) -> None:
        while not (tmp_path / "slow").exists():
            time.sleep(0.05)
        raise KeyboardInterrupt

    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        batch.run_all(
            ["slow", "a"], partial(_work, folder=str(tmp_path)), jobs=2, on_report=interrupt
        )
    assert time.monotonic() - start < 30


def test_the_error_of_a_single_input_is_raised_with_its_name() -> None:
    with pytest.raises(InputError, match=r"^bad\.png: cannot be read$"):
        batch.run_all(["bad.png"], _work)
    with pytest.raises(RuntimeError):
        batch.run_all(["bug"], _work)


def test_json_is_an_object_or_a_list() -> None:
    failed = batch.Failure(3, "no")
    outcomes = [batch.Outcome("a", {"input": "a"}), batch.Outcome("b", failure=failed)]
    for count, expected in [
        (1, {"input": "a"}),
        (2, [{"input": "a"}, {"input": "b", "error": "no", "exit_code": 3}]),
    ]:
        stream = io.StringIO()
        batch.print_json(outcomes[:count], stream)
        assert json.loads(stream.getvalue()) == expected


def test_targets_lie_beside_the_input_or_in_the_folder() -> None:
    assert batch.target_in(None, "x/photo.v2.png", ".modc") == str(Path("x/photo.v2.modc"))
    assert batch.target_in("out", "x/photo.png", ".modc") == str(Path("out/photo.modc"))
    with pytest.raises(UsageError, match="-o"):
        batch.target_in(None, "-", ".modc")


@pytest.mark.parametrize(
    ("sources", "output", "folder", "message"),
    [
        (["a.png"], "b.modc", ".", "give one of them"),
        (["a.png", "b.png"], "b.modc", None, "--output-dir"),
        (["a.png", "-"], None, ".", "standard input"),
        (["a.png", "a.jpg"], None, None, "would be the same"),
        (["x/a.png", "y/a.png"], None, ".", "would be the same"),
        (["a.png"], None, "no/such", "no such folder"),
    ],
)
def test_batches_that_cannot_work_are_refused(
    sources: list[str], output: str | None, folder: str | None, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        batch.check_batch(sources, output=output, folder=folder)


def test_same_names_in_different_folders_do_not_collide() -> None:
    batch.check_batch(["x/a.png", "y/a.png"], output=None, folder=None)
