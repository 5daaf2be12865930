"""The integer tables of the codec: Laplace distributions and Gaussian noise."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from codec.arch.numerics import MU_FRAC, NUM_SCALES

NUM_FRACS = 1 << MU_FRAC
_TABLE_FILE = Path(__file__).with_name("tables.npz")


class Tables(NamedTuple):
    """The tables as kernels take them, all int32; nobody writes to them.

    Args:
        cdf: cumulative frequencies, 0 to 2^16, of all rows; the row of scale s and fraction f has
            2 W_s + 3 entries: W_s * 2 + 1 values, the escape, and the end.
        row_start: where row `s * 16 + f + 8` starts in `cdf`.
        half_width: W_s of each scale.
        golomb_order: order of the Exp-Golomb code after an escape, of each scale.
        gauss_q6: 256 values of a standard normal distribution in 1/64.
    """

    cdf: np.ndarray
    row_start: np.ndarray
    half_width: np.ndarray
    golomb_order: np.ndarray
    gauss_q6: np.ndarray


def _read() -> dict[str, np.ndarray]:
    with np.load(_TABLE_FILE) as file:
        return {name: file[name] for name in ("half_width", "golomb_order", "freqs", "gauss_q6")}


@functools.cache
def load_tables() -> Tables:
    """The tables of the package."""
    raw = _read()
    half_width = raw["half_width"].astype(np.int32)
    row_start = np.zeros(NUM_SCALES * NUM_FRACS, np.int32)
    row_start[1:] = np.cumsum(np.repeat(2 * half_width + 3, NUM_FRACS))[:-1]
    freqs = raw["freqs"].astype(np.int64)
    cdf = np.zeros(freqs.size + row_start.size, np.int64)
    # Each row begins with 0: the sums run on through all rows and 2^16 a row is taken off again.
    is_first = np.zeros(cdf.size, bool)
    is_first[row_start] = True
    cdf[~is_first] = freqs
    cdf = np.cumsum(cdf) - ((np.cumsum(is_first) - 1) << 16)
    return Tables(
        cdf=cdf.astype(np.int32),
        row_start=row_start,
        half_width=half_width,
        golomb_order=raw["golomb_order"].astype(np.int32),
        gauss_q6=raw["gauss_q6"].astype(np.int32),
    )


def tables_sha256() -> str:
    """Hash of the integers: half widths, Golomb orders, frequencies (u16), Gaussian table (i16).

    All little-endian, in this order.
    """
    raw = _read()
    digest = hashlib.sha256()
    for name in ("half_width", "golomb_order", "freqs"):
        digest.update(raw[name].astype("<u2").tobytes())
    digest.update(raw["gauss_q6"].astype("<i2").tobytes())
    return digest.hexdigest()
