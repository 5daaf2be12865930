"""What all tests share: one cache of compiled kernels, and the command line in a new process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def pytest_configure(config: pytest.Config) -> None:
    """Choose the kernel cache before anything imports numba; subprocesses inherit it."""
    # A background job ignores Ctrl-C and so would its children: the tests send it to them.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if "MODCODEC_CACHE_DIR" in os.environ:
        return
    cache = getattr(config, "cache", None)
    folder = cache.mkdir("kernels") if cache else tempfile.mkdtemp(prefix="modcodec-kernels-")
    os.environ["MODCODEC_CACHE_DIR"] = str(folder)


@pytest.fixture(scope="session")
def cli_command() -> list[str]:
    """The start of a command line that runs this checkout's modcodec."""
    return [sys.executable, "-m", "cli"]


@pytest.fixture(scope="session")
def cli_environment() -> dict[str, str]:
    """The environment of a modcodec process: this one's, with the checkout first on the path."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


@pytest.fixture
def modcodec(
    cli_command: list[str], cli_environment: dict[str, str], tmp_path: Path
) -> Callable[..., subprocess.CompletedProcess]:
    """`modcodec(*arguments)` runs the command in a new process, in a folder of the test's own."""

    def run(*arguments: object, **options: object) -> subprocess.CompletedProcess:
        settings = {"cwd": tmp_path, "text": True, "timeout": 300, **options}
        return subprocess.run(
            [*cli_command, *map(str, arguments)],
            env=cli_environment,
            capture_output=True,
            check=False,
            **settings,
        )

    return run
