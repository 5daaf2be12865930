"""The kernel of all layers against the same sums in Python, wherever tiles and groups end."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codec.arch import NARROW, WIDE, Numerics
from codec.fixedpoint.affine import ONE, affine, make_rows, pack
from codec.fixedpoint.formats import storage_dtype


@pytest.mark.parametrize("numerics", [NARROW, WIDE], ids=["narrow", "wide"])
@settings(deadline=None, max_examples=60)
@given(
    outputs=st.integers(1, 9),
    taps=st.integers(1, 9),
    length=st.one_of(st.integers(1, 40), st.sampled_from([255, 256, 257])),
    shift=st.integers(0, 12),
    seed=st.integers(0),
)
def test_affine(
    numerics: Numerics, outputs: int, taps: int, length: int, shift: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    bound = {"input_max": numerics.act_max, "acc_max": numerics.acc_max}
    weight, bias = rng.integers(-500, 501, (outputs, taps)), rng.integers(-(10**6), 10**6, outputs)
    form = (shift, int(rng.integers(-numerics.act_max, 1)), numerics.act_max)
    first = make_rows("w", weight[:, ::-1], bias, form=form, **bound)
    stack = pack(first, make_rows("w", weight, bias, form=form, **bound))
    size, step = 700, length + 3
    source = rng.integers(-numerics.act_max, numerics.act_max + 1, size)
    source = source.astype(storage_dtype(numerics))
    start, offsets = int(rng.integers(0, 100)), rng.integers(0, size - 100 - length + 1, taps)
    made = np.full(5 + outputs * step, 77, source.dtype)
    affine(source, start, offsets, length, stack, ONE, made, 5, step)
    inputs = np.stack([source[start + offset :][:length] for offset in offsets]).astype(np.int64)
    sums = weight @ inputs + bias[:, None] + ((1 << shift) >> 1)
    expected = np.full_like(made, 77)
    for o, row in enumerate(np.clip(sums >> shift, form[1], form[2])):
        expected[5 + o * step :][:length] = row
    assert np.array_equal(made, expected)
