"""How the command ends when something is wrong: one line, an exit code, nothing left behind."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from codec.bitstream.chunks import VERSION
from codec.outputs import MARK
from codec.training.phase import SNAPSHOT_EVERY_S

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = ROOT / "tests" / "golden" / "still.modc"
CLIP = ROOT / "samples" / "tiny_63x47.y4m"

Run = Callable[..., subprocess.CompletedProcess]

_STREAM = GOLDEN.read_bytes()


def _flipped(at: int) -> bytes:
    return _STREAM[:at] + bytes([_STREAM[at] ^ 0x55]) + _STREAM[at + 1 :]


BROKEN = {
    "empty": (b"", 3),
    "text": (b"This is a text.\n" * 20, 3),
    "wrong magic": (_flipped(1), 3),
    "later version": (_STREAM[:4] + bytes([VERSION + 1]) + _STREAM[5:], 6),
    "damaged": (_flipped(len(_STREAM) // 2), 5),
    "wrong end": (_flipped(len(_STREAM) - 1), 5),
    "truncated": (_STREAM[: len(_STREAM) * 2 // 3], 5),
}


def _check_one_line(done: subprocess.CompletedProcess, exit_code: int) -> None:
    lines = done.stderr.splitlines()
    assert done.returncode == exit_code, done.stderr
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("modcodec: error: ")
    assert done.stdout == ""


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_streams(kind: str, modcodec: Run, tmp_path: Path) -> None:
    data, exit_code = BROKEN[kind]
    (tmp_path / "a.modc").write_bytes(data)
    done = modcodec("decode", "a.modc", "-o", "a.png")
    _check_one_line(done, exit_code)
    assert "a.modc" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["a.modc"]


def test_verify_and_info_agree_with_decode(modcodec: Run, tmp_path: Path) -> None:
    for kind, command in (("later version", "verify"), ("damaged", "info")):
        data, exit_code = BROKEN[kind]
        (tmp_path / "a.modc").write_bytes(data)
        _check_one_line(modcodec(command, "a.modc"), exit_code)


def test_a_batch_goes_on_and_fails_at_the_end(modcodec: Run, tmp_path: Path) -> None:
    shutil.copy(GOLDEN, tmp_path / "good.modc")
    (tmp_path / "bad.modc").write_bytes(BROKEN["damaged"][0])
    (tmp_path / "text.modc").write_bytes(BROKEN["text"][0])
    (tmp_path / "out").mkdir()
    sources = ("bad.modc", "good.modc", "none.modc")
    done = modcodec("decode", *sources, "--output-dir", "out", "--jobs", 2, "--json")
    assert done.returncode == 8, done.stderr
    told = json.loads(done.stdout)
    assert [entry["input"] for entry in told] == list(sources)
    assert [entry.get("exit_code") for entry in told] == [5, None, 3]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["good.png"]
    assert "2 of 3 inputs failed" in done.stderr
    assert modcodec("verify", "good.modc", "bad.modc").returncode == 5
    assert modcodec("verify", "good.modc", "text.modc").returncode == 8


@pytest.mark.parametrize(
    ("arguments", "exit_code", "says"),
    [
        (["encode", "photo.png", "-q", "101"], 2, "quality"),
        (["encode", "photo.png", "-q", "50", "--rd-lambda", "0.1"], 2, "one of them"),
        (["encode", "photo.png", "--rd-lambda", "-1"], 2, "positive"),
        (["encode", "photo.png", "--steps", "0"], 2, "steps"),
        (["encode", "photo.png", "--device", "tpu"], 2, "device"),
        (["encode", "photo.png", "-p", "fats"], 2, "fast"),
        (["encode", "photo.png", "-y", "-n"], 2, "-y and -n"),
        (["encode", "photo.png", "--progress", "dots"], 2, "--progress"),
        (["encode", "photo.png", "text.png", "-o", "x.modc"], 2, "--output-dir"),
        (["encode", "photo.png", "-o", "photo.png", "-y"], 2, "same file"),
        (["encode", "-"], 2, "-o"),
        (["encode", "none.png"], 3, "none.png"),
        (["encode", "text.png"], 3, "text.png"),
        (["encode", "photo.png", "-o", "no/such/a.modc"], 4, "no folder"),
        (["encode", "photo.png", "-o", "there.modc"], 4, "exists already"),
        (["decode", "there.modc", "-o", "photo.png"], 4, "exists already"),
        (["decode", "there.modc", "-o", "a.xyz"], 4, "xyz"),
        (["decode", "there.modc", "--frames", "5:5"], 2, "--frames"),
        (["decode", "there.modc", "-o", "a.png", "--output-format", "png"], 2, "-o names"),
        (["decode", "there.modc", "-o", "a.png", "--codec", "x264"], 2, "codec"),
        (["decode", "there.modc", "-o", "a.png", "--max-pixels", "10"], 5, "the 10 allowed"),
        (["compare", "photo.png", "there.modc"], 3, "sizes must be equal"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_done(
    arguments: list[str], exit_code: int, says: str, modcodec: Run, tmp_path: Path
) -> None:
    shutil.copy(ROOT / "samples" / "photo.png", tmp_path)
    shutil.copy(GOLDEN, tmp_path / "there.modc")
    (tmp_path / "text.png").write_text("no picture")
    before = sorted(tmp_path.iterdir())
    done = modcodec(*arguments)
    _check_one_line(done, exit_code)
    assert says in done.stderr
    assert sorted(tmp_path.iterdir()) == before


def test_wrong_options_are_usage_errors(modcodec: Run) -> None:
    for arguments in (["encode"], ["encode", "a.png", "--qualty", "3"], ["enc"], ["-v"]):
        done = modcodec(*arguments)
        assert done.returncode == 2, arguments
        assert "Traceback" not in done.stderr


def test_existing_outputs_are_skipped_with_n(modcodec: Run, tmp_path: Path) -> None:
    shutil.copy(ROOT / "samples" / "photo.png", tmp_path)
    (tmp_path / "photo.modc").write_bytes(b"mine")
    done = modcodec("encode", "photo.png", "-n")
    assert done.returncode == 0
    assert "skipped" in done.stdout
    assert (tmp_path / "photo.modc").read_bytes() == b"mine"


def test_a_traceback_only_with_v(modcodec: Run) -> None:
    assert "Traceback" in modcodec("info", "none.modc", "-v").stderr
    assert "Traceback" not in modcodec("info", "none.modc").stderr


def test_errors_are_json_where_progress_is(modcodec: Run) -> None:
    done = modcodec("encode", "none.png", "--progress", "json")
    error = json.loads(done.stderr)
    assert (error["type"], error["exit_code"]) == ("error", 3)
    assert done.returncode == 3


def test_a_reader_that_goes_away_is_no_error_to_talk_about(
    cli_command: list[str], cli_environment: dict[str, str]
) -> None:
    for arguments, exit_code in (
        (["info", str(GOLDEN)], 0),
        (["decode", str(GOLDEN), "-o", "-"], 1),
    ):
        # Closed before the command starts: afterwards it could have written everything already.
        reader, writer = os.pipe()
        os.close(reader)
        process = subprocess.Popen(
            [*cli_command, *arguments],
            env=cli_environment,
            stdout=writer,
            stderr=subprocess.PIPE,
        )
        os.close(writer)
        assert process.stderr.read() == b""
        process.stderr.close()
        assert process.wait(timeout=60) == exit_code


def _start_encode(
    command: list[str], environment: dict[str, str], target: Path
) -> subprocess.Popen:
    arguments = ["encode", str(CLIP), "-o", str(target), "--steps", "100000", "--progress", "json"]
    return subprocess.Popen(
        [*command, *arguments], env=environment, stderr=subprocess.PIPE, text=True
    )


def _wait_for_stage(process: subprocess.Popen, stage: str) -> None:
    for line in process.stderr:
        if json.loads(line).get("stage") == stage:
            return
    pytest.fail(f"the encoder ended before {stage}")


@pytest.mark.parametrize(
    ("number", "stage", "exit_code"),
    [
        (signal.SIGINT, "train", 130),
        (signal.SIGTERM, "train", 143),
        (signal.SIGKILL, "", -9),
        (signal.SIGKILL, "estimate", -9),
        (signal.SIGKILL, "train", -9),
    ],
)
def test_an_encode_that_is_stopped_leaves_no_target(
    number: signal.Signals,
    stage: str,
    exit_code: int,
    cli_command: list[str],
    cli_environment: dict[str, str],
    tmp_path: Path,
) -> None:
    target = tmp_path / "clip.modc"
    process = _start_encode(cli_command, cli_environment, target)
    if stage:
        _wait_for_stage(process, stage)
    else:
        time.sleep(0.5)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == exit_code
    left = [path.name for path in tmp_path.iterdir()]
    if number == signal.SIGKILL:
        assert all(MARK in name for name in left)
    else:
        assert left == []
    assert "Traceback" not in errors


def test_an_existing_target_survives_a_kill(
    cli_command: list[str], cli_environment: dict[str, str], tmp_path: Path
) -> None:
    target = tmp_path / "clip.modc"
    target.write_bytes(b"old")
    process = _start_encode([*cli_command], cli_environment, target)
    process.communicate(timeout=60)
    assert process.returncode == 4
    arguments = ["encode", str(CLIP), "-o", str(target), "-y", "--progress", "json"]
    process = subprocess.Popen(
        [*cli_command, *arguments], env=cli_environment, stderr=subprocess.PIPE, text=True
    )
    _wait_for_stage(process, "estimate")
    process.kill()
    process.communicate(timeout=60)
    assert target.read_bytes() == b"old"


def test_an_interrupted_encode_tells_how_to_go_on(
    cli_command: list[str], cli_environment: dict[str, str], tmp_path: Path
) -> None:
    target = tmp_path / "clip.modc"
    preset = tmp_path / "one.toml"
    text = (ROOT / "configs" / "instant.toml").read_text()
    preset.write_text(re.sub("candidates = .*", "candidates = 1", text))
    arguments = ["encode", str(CLIP), "-o", str(target), "-p", str(preset), "--steps", "100000"]
    process = subprocess.Popen(
        [*cli_command, *arguments, "--progress", "lines"],
        env=cli_environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    for line in process.stderr:
        if "train  step" in line:
            break
    time.sleep(SNAPSHOT_EVERY_S + 3)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    checkpoint = tmp_path / "clip.modc.checkpoint"
    assert checkpoint.is_file()
    assert not target.exists()
    assert f"with --resume goes on from {checkpoint}" in errors
    again = subprocess.run(
        [*cli_command, *arguments, "--resume", "--seed", "7"],
        env=cli_environment,
        capture_output=True,
        text=True,
    )
    assert again.returncode == 2
    assert "another seed" in again.stderr
    assert checkpoint.is_file()


@pytest.mark.parametrize(
    ("arguments", "exit_code", "words"),
    [
        (["--target", "size=400", "--steps", "2"], 7, "nearest was"),
        (["--target", "ssim=50"], 2, "psnr=38"),
        (["--target", "psnr=38", "-q", "50"], 2, "exclude each other"),
        (["--time", "soon"], 2, "90s"),
        (["--time", "9s", "--steps", "3"], 2, "exclude each other"),
        (["-o", "-", "--resume"], 2, "only an encode to a file"),
    ],
)
def test_wrong_targets_and_times(
    arguments: list[str],
    exit_code: int,
    words: str,
    cli_command: list[str],
    cli_environment: dict[str, str],
    tmp_path: Path,
) -> None:
    output = [] if "-o" in arguments else ["-o", str(tmp_path / "out.modc")]
    made = subprocess.run(
        [*cli_command, "encode", str(CLIP), "--limit", "2", *output, *arguments],
        env=cli_environment,
        capture_output=True,
        text=True,
    )
    assert made.returncode == exit_code
    assert words in made.stderr
    assert not (tmp_path / "out.modc").exists()
