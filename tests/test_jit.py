"""Where kernels are cached, and that running them on threads changes nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from codec import jit

REPORT = """
from codec import jit
print(jit.CACHE_DIR)
"""
USE_KERNEL = """
from codec import jit
import numpy as np
from codec.bitstream import rangecoder
jit.announce_compilation(lambda: print("compiling"))
rangecoder.new_decoder_state(np.zeros(3, np.uint8))
rangecoder.decode_quantile(rangecoder.new_decoder_state(np.zeros(3, np.uint8)))
print(jit.CACHE_DIR)
"""


def run(code, **environment):
    """Lines that `code` prints in a new process with only these cache settings."""
    names = ("NUMBA_CACHE_DIR", "MODCODEC_CACHE_DIR", "XDG_CACHE_HOME")
    env = {name: value for name, value in os.environ.items() if name not in names}
    env |= environment | {"PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split("\n")[:-1]


def test_cache_folder_by_environment(tmp_path):
    tag = Path("modcodec", jit._version(), jit.source_hash())
    for name in ("XDG_CACHE_HOME", "NUMBA_CACHE_DIR"):
        assert run(REPORT, **{name: str(tmp_path)})[0] == str(tmp_path / tag)
    own = run(REPORT, MODCODEC_CACHE_DIR=str(tmp_path), NUMBA_CACHE_DIR="/elsewhere")[0]
    assert own == str(tmp_path / tag.parts[1] / tag.parts[2])
    inherited = run(REPORT, NUMBA_CACHE_DIR=str(tmp_path / tag))[0]
    assert inherited == str(tmp_path / tag)


def test_compiling_is_announced_once_and_done_once(tmp_path):
    line, folder = run(USE_KERNEL, MODCODEC_CACHE_DIR=str(tmp_path))
    assert line == "compiling"
    assert list(Path(folder).rglob("*.nbi"))
    assert run(USE_KERNEL, MODCODEC_CACHE_DIR=str(tmp_path)) == [folder]


def test_unwritable_cache_falls_back_to_a_temporary_folder(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    line, folder = run(USE_KERNEL, MODCODEC_CACHE_DIR=str(blocked))
    assert line == "compiling"
    assert not Path(folder).exists()


def test_hash_follows_the_sources(tmp_path, monkeypatch):
    (tmp_path / "bitstream").mkdir()
    source = tmp_path / "bitstream" / "kernel.py"
    source.write_text("one = 1")
    monkeypatch.setattr(jit, "_PACKAGE", tmp_path)
    before = jit.source_hash()
    source.write_text("one = 2")
    assert jit.source_hash() != before


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_results_keep_the_order_of_the_jobs(threads):
    assert jit.run_parallel(lambda n: n * n, range(50), threads=threads) == [
        n * n for n in range(50)
    ]
    assert jit.run_parallel(lambda n: n, [], threads=threads) == []


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_mapping_ahead_keeps_the_order_and_is_not_far_ahead(threads):
    started = []

    def jobs():
        for n in range(20):
            started.append(n)
            yield n

    for number, result in enumerate(jit.map_ahead(lambda n: n * n, jobs(), threads=threads)):
        assert result == number * number
        assert len(started) <= number + threads
    assert len(started) == 20


def test_mapping_ahead_raises_in_the_order_of_the_jobs():
    results = jit.map_ahead(lambda n: 1 // (2 - n), iter(range(9)), threads=3)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_two_threads_work_at_the_same_time():
    meeting = threading.Barrier(2, timeout=20)
    arrivals = jit.run_parallel(lambda _: meeting.wait(), [0, 1], threads=2)
    assert sorted(arrivals) == [0, 1]


def test_a_failing_job_is_reported_and_nested_calls_do_not_hang():
    def nested(n):
        return sum(jit.run_parallel(lambda m: n * m, range(4), threads=2))

    assert jit.run_parallel(nested, range(8), threads=2) == [6 * n for n in range(8)]
    with pytest.raises(ZeroDivisionError):
        jit.run_parallel(lambda n: 1 // n, [1, 0, 2], threads=2)
