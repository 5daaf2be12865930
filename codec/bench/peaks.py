"""What the machine can do at most: multiply-adds from registers, and copies of large memory."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from codec.bench.machine import usable_cores
from codec.jit import njit, run_parallel
from codec.layers.kernels.vectors import LANES, add, address, multiply_add, splat, store

# Chains of multiply-adds that wait only for themselves: enough to hide their latency, and few
# enough for the registers of AVX.
CHAINS = 12
TURNS = 1 << 23
COPY_BYTES = 1 << 28
ROUNDS = 15


@dataclass(frozen=True)
class Peak:
    """The best of some rounds on so many threads.

    `gmac_s` are 10^9 multiply-adds of float32 a second, each thread by its own processor time: what
    other programs take does not make the peak lower. `copy_gb_s` are 10^9 bytes read and written.
    """

    threads: int
    gmac_s: float
    copy_gb_s: float


@njit
def _multiply_adds(turns, factor, summand, out):
    """CHAINS * turns multiply-adds of vectors; out (LANES,) gets their sum."""
    a, b = splat(factor), splat(summand)
    c0, c1, c2, c3, c4, c5 = b, b, b, b, b, b
    c6, c7, c8, c9, c10, c11 = b, b, b, b, b, b
    for _ in range(turns):
        c0, c1, c2 = multiply_add(c0, a, b), multiply_add(c1, a, b), multiply_add(c2, a, b)
        c3, c4, c5 = multiply_add(c3, a, b), multiply_add(c4, a, b), multiply_add(c5, a, b)
        c6, c7, c8 = multiply_add(c6, a, b), multiply_add(c7, a, b), multiply_add(c8, a, b)
        c9, c10, c11 = multiply_add(c9, a, b), multiply_add(c10, a, b), multiply_add(c11, a, b)
    low = add(add(add(c0, c1), add(c2, c3)), add(c4, c5))
    high = add(add(add(c6, c7), add(c8, c9)), add(c10, c11))
    store(address(out, 0), add(low, high))


def measure_peak(threads: int) -> Peak:
    """Run both loops on `threads` threads."""
    multiply_rates = [_multiply_rate(threads) for _ in range(ROUNDS)]
    source = np.ones((threads, COPY_BYTES // threads), np.uint8)
    target = np.zeros_like(source)
    copy_rates = [_copy_rate(source, target) for _ in range(ROUNDS)]
    return Peak(threads, max(multiply_rates) / 1e9, max(copy_rates) / 1e9)


def _multiply_rate(threads: int) -> float:
    """Multiply-adds a second of all threads together."""

    def job(_: int) -> float:
        out = np.empty(LANES, np.float32)
        started = time.thread_time()
        # What a value becomes stays near 2: no infinity, no denormal number.
        _multiply_adds(TURNS, np.float32(0.5), np.float32(1.0), out)
        return TURNS * CHAINS * LANES / (time.thread_time() - started)

    rates = run_parallel(job, range(threads), threads=threads)
    # Threads that share a core have turns, each of which counts in full.
    return sum(rates) * min(1.0, usable_cores() / threads)


def _copy_rate(source: np.ndarray, target: np.ndarray) -> float:
    """Bytes a second, read and written, with a thread for each row."""

    def job(row: int) -> None:
        np.copyto(target[row], source[row])

    started = time.perf_counter()
    run_parallel(job, range(len(source)), threads=len(source))
    return 2 * source.size / (time.perf_counter() - started)
