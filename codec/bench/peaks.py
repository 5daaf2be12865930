"""What the machine can do at most: multiply-adds from registers, and copies of large memory."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from codec.jit import njit, run_parallel
from codec.layers.kernels.vectors import LANES, add, address, multiply_add, splat, store

# Chains of multiply-adds that wait only for themselves: enough to hide their latency, and few
# enough for the registers of AVX.
CHAINS = 12
# Milliseconds each, and many of them: some find all cores free on a machine that others use too.
TURNS = 1 << 21
TURN_ROUNDS = 100
COPY_BYTES = 1 << 28
COPY_ROUNDS = 15


@dataclass(frozen=True)
class Peak:
    """The best of some rounds on so many threads.

    `gmac_s` are 10^9 multiply-adds of float32 a second, `copy_gb_s` 10^9 bytes read and written.
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

    def multiply(_: int) -> None:
        # What a value becomes stays near 2: no infinity, no denormal number.
        out = np.empty(LANES, np.float32)
        _multiply_adds(TURNS, np.float32(0.5), np.float32(1.0), out)

    source = np.ones((threads, COPY_BYTES // threads), np.uint8)
    target = np.zeros_like(source)

    def copy(row: int) -> None:
        np.copyto(target[row], source[row])

    multiply_s = _best_seconds(multiply, threads, TURN_ROUNDS)
    copy_s = _best_seconds(copy, threads, COPY_ROUNDS)
    return Peak(
        threads=threads,
        gmac_s=threads * TURNS * CHAINS * LANES / multiply_s / 1e9,
        copy_gb_s=2 * source.size / copy_s / 1e9,
    )


def _best_seconds(job: Callable[[int], None], threads: int, rounds: int) -> float:
    def seconds() -> float:
        started = time.perf_counter()
        run_parallel(job, range(threads), threads=threads)
        return time.perf_counter() - started

    seconds()
    return min(seconds() for _ in range(rounds))
