"""Outputs: complete or absent, overwritten only if asked, nothing left behind by any ending."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from codec.errors import OutputError, OutputExistsError, UsageError
from codec.outputs import (
    MARK,
    Existing,
    atomic_output,
    existing_rule,
    may_write,
    refuse_same_file,
)

REFUSE, OVERWRITE, SKIP = Existing.REFUSE, Existing.OVERWRITE, Existing.SKIP


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_output_appears_only_when_complete(tmp_path: Path) -> None:
    target = tmp_path / "a.modc"
    with atomic_output(str(target), REFUSE) as part:
        part.write_bytes(b"half")
        assert not target.exists()
        assert part.parent == tmp_path
        assert part.suffix == ".modc"
        assert MARK in part.name
    assert target.read_bytes() == b"half"
    assert _names(tmp_path) == ["a.modc"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_failure_leaves_nothing_and_keeps_what_was_there(
    tmp_path: Path, error: type[BaseException]
) -> None:
    target = tmp_path / "a.modc"
    target.write_bytes(b"old")

    def fail() -> None:
        with atomic_output(str(target), OVERWRITE) as part:
            part.write_bytes(b"new")
            raise error

    with pytest.raises(error):
        fail()
    assert target.read_bytes() == b"old"
    assert _names(tmp_path) == ["a.modc"]


def test_errors_name_the_target(tmp_path: Path) -> None:
    target = tmp_path / "a.mp4"

    def fail() -> None:
        with atomic_output(str(target), REFUSE) as part:
            raise OutputError(f"{part}: cannot be written: it is too odd")

    with pytest.raises(OutputError) as caught:
        fail()
    assert str(caught.value) == f"{target}: cannot be written: it is too odd"


def test_a_target_that_appears_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    target = tmp_path / "a.modc"

    def race() -> None:
        with atomic_output(str(target), REFUSE) as part:
            part.write_bytes(b"ours")
            target.write_bytes(b"theirs")

    with pytest.raises(OutputExistsError):
        race()
    assert target.read_bytes() == b"theirs"
    assert _names(tmp_path) == ["a.modc"]


def test_overwriting_through_a_link_keeps_the_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.modc").write_bytes(b"old")
    link = tmp_path / "link.modc"
    link.symlink_to("real/a.modc")
    with atomic_output(str(link), OVERWRITE) as part:
        part.write_bytes(b"new")
    assert link.is_symlink()
    assert (tmp_path / "real" / "a.modc").read_bytes() == b"new"


def test_numbered_files_move_together(tmp_path: Path) -> None:
    pattern = str(tmp_path / "f%02d.png")
    with atomic_output(pattern, REFUSE) as part:
        for index in range(3):
            Path(str(part) % index).write_bytes(bytes([index]))
        assert not (tmp_path / "f00.png").exists()
    assert _names(tmp_path) == ["f00.png", "f01.png", "f02.png"]
    with pytest.raises(OutputExistsError), atomic_output(pattern, REFUSE) as part:
        Path(str(part) % 2).write_bytes(b"other")
    assert (tmp_path / "f02.png").read_bytes() == b"\x02"
    assert not may_write(pattern, SKIP)
    assert may_write(str(tmp_path / "f%02d.jpg"), REFUSE)
    assert len(_names(tmp_path)) == 3


def test_rules_for_targets_that_exist(tmp_path: Path) -> None:
    target = tmp_path / "a.modc"
    assert may_write(str(target), REFUSE)
    target.write_bytes(b"old")
    assert may_write(str(target), OVERWRITE)
    assert not may_write(str(target), SKIP)
    with pytest.raises(OutputExistsError, match="-y overwrites"):
        may_write(str(target), REFUSE)
    assert may_write("-", REFUSE)
    assert may_write(os.devnull, REFUSE)
    with pytest.raises(OutputError, match="folder"):
        may_write(str(tmp_path), OVERWRITE)
    with pytest.raises(OutputError, match="no folder"):
        may_write(str(tmp_path / "none" / "a.modc"), REFUSE)
    with pytest.raises(UsageError):
        existing_rule(overwrite=True, keep=True)
    assert existing_rule(overwrite=False, keep=True) is SKIP


def test_unwritable_target_is_an_output_error(tmp_path: Path) -> None:
    with (
        pytest.raises(OutputError, match="cannot be written"),
        atomic_output(str(tmp_path / "a.png"), REFUSE) as part,
    ):
        (part.parent / "none" / "x").write_bytes(b"")
    assert _names(tmp_path) == []


def test_input_is_never_overwritten(tmp_path: Path) -> None:
    source = tmp_path / "a.modc"
    source.write_bytes(b"data")
    (tmp_path / "link.modc").symlink_to(source)
    for target in (source, tmp_path / "link.modc"):
        with pytest.raises(UsageError, match="same file"):
            refuse_same_file(str(source), str(target))
    refuse_same_file(str(source), str(tmp_path / "b.modc"))
    refuse_same_file("-", "-")


def test_devices_get_the_bytes(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = subprocess.Popen(["cat", str(pipe)], stdout=subprocess.PIPE)
    with atomic_output(str(pipe), REFUSE) as part:
        part.write_bytes(b"through")
    assert reader.communicate(timeout=20)[0] == b"through"
    assert _names(tmp_path) == ["pipe"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_signals_leave_no_target(
    tmp_path: Path, number: signal.Signals, cli_environment: dict[str, str]
) -> None:
    program = (
        "import sys, time\n"
        "from cli.batch import stop_on_signals\n"
        "from codec.outputs import Existing, atomic_output\n"
        "stop_on_signals()\n"
        "with atomic_output(sys.argv[1], Existing.REFUSE) as part:\n"
        "    part.write_bytes(b'half')\n"
        "    print('ready', flush=True)\n"
        "    time.sleep(60)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "a.modc")],
        env=cli_environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(number)
    process.communicate(timeout=20)
    assert process.returncode != 0
    left = _names(tmp_path)
    if number == signal.SIGKILL:
        assert [MARK in name for name in left] == [True]
    else:
        assert left == []


def test_output_keeps_usual_permissions(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_bytes(b"")
    with atomic_output(str(tmp_path / "a.modc"), REFUSE) as part:
        part.write_bytes(b"")
    assert (tmp_path / "a.modc").stat().st_mode == plain.stat().st_mode
