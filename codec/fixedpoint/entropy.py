"""Latents to substreams and back, and what latents cost: the entropy model with its range coder."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from codec.arch.numerics import LATENT_MAX
from codec.bitstream.elements import Partition
from codec.bitstream.rangecoder import (
    ERROR,
    flush,
    is_exhausted,
    new_decoder_state,
    new_encoder_state,
)
from codec.bitstream.rate import symbol_costs_q16
from codec.bitstream.tables import load_tables
from codec.errors import BitstreamError
from codec.fixedpoint.affine import Rows, pack
from codec.fixedpoint.empty_flags import EmptyFlags, flags_cost_q16
from codec.fixedpoint.entropy_decoding import decode_band
from codec.fixedpoint.entropy_kernels import (
    Band,
    Ifce,
    Laplace,
    arm_columns,
    cost_rows,
    encode_rows,
    rate_rows,
)
from codec.fixedpoint.latent_store import (
    LatentStore,
    Step,
    band_rows,
    coding_groups,
    ifce_places,
    is_zero,
    new_store,
    steps_of_grid,
    store_latents,
)
from codec.fixedpoint.program import Program
from codec.fixedpoint.strips import cut_rows
from codec.jit import run_parallel

# No latent takes more: a symbol and an escape of 16 bits each, rounded up.
_MAX_LATENT_BYTES = 6
_SPARE_BYTES = 64
_NO_ROWS = pack(Rows(np.zeros((0, 0), np.int32), np.zeros(0, np.int32), (0, 0, 0)))


def _laplace() -> Laplace:
    tables = load_tables()
    return Laplace(tables.cdf, tables.row_start, tables.half_width, tables.golomb_order)


def _band(store: LatentStore, step: Step, rows: tuple[int, int]) -> Band:
    place = store.places[step.grid]
    return Band(place.base + step.number * place.size, place.stride, place.width, *rows)


class _Features:
    """The IFCE of any slice: rows of its grid, and where its sources are in the store."""

    def __init__(self, program: Program, store: LatentStore) -> None:
        self._rows = program.ifce
        self._places = [ifce_places(program.arch, store, k) for k in range(len(store.places))]

    def of(self, step: Step) -> Ifce:
        return Ifce(self._rows.get(step.grid, _NO_ROWS), self._places[step.grid][step.number])


def _used_bands(store: LatentStore, step: Step, partition: Partition) -> list[tuple[int, int, int]]:
    """(number, first row, end) of the bands of a slice that have rows."""
    rows = band_rows(store.places[step.grid].height, partition.bands)
    return [(number, top, bottom) for number, (top, bottom) in enumerate(rows) if bottom > top]


def _is_flagged(store: LatentStore, step: Step) -> bool:
    return store.places[step.grid].slices > 1


def encode_latents(
    program: Program,
    latents: Sequence[np.ndarray],
    *,
    num_frames: int,
    height: int,
    width: int,
    partition: Partition,
    threads: int = 1,
) -> tuple[tuple[bool, ...], tuple[bytes, ...]]:
    """(grid_present, substreams) of a segment, as `codec.bitstream.elements.Segment` holds them.

    Args:
        program: a checked network.
        latents: int16 (slices, h, w) of each grid in coding order, in [-255, 255].
        partition: how the substreams are cut; they are coded in parallel.
    """
    assert all(v.min() >= -LATENT_MAX and v.max() <= LATENT_MAX for v in latents)
    present = tuple(not is_zero(values) for values in latents)
    size = {"num_frames": num_frames, "height": height, "width": width}
    store = store_latents(program.arch, latents, **size)
    groups = coding_groups(program.arch, partition, num_frames=num_frames, present=present)
    steps = [step for group in groups for step in group]
    features, laplace = _Features(program, store), _laplace()

    def job(substream: int) -> bytes:
        row, band = divmod(substream, partition.bands)
        own = [step for step in steps if step.row == row]
        return _encode_substream(program, store, own, band, partition, features, laplace)

    substreams = range(partition.num_substreams(num_frames))
    return present, tuple(run_parallel(job, substreams, threads=threads))


def _encode_substream(
    program: Program,
    store: LatentStore,
    steps: Sequence[Step],
    band: int,
    partition: Partition,
    features: _Features,
    laplace: Laplace,
) -> bytes:
    places = [(step, rows) for step in steps for rows in _used_bands(store, step, partition)]
    places = [(step, rows[1:]) for step, rows in places if rows[0] == band]
    count = sum((rows[1] - rows[0]) * store.places[step.grid].width for step, rows in places)
    buffer = np.empty(count * _MAX_LATENT_BYTES + len(places) * 2 + _SPARE_BYTES, np.uint8)
    state, flags = new_encoder_state(), defaultdict(EmptyFlags)
    for step, (top, bottom) in places:
        if _is_flagged(store, step):
            is_empty = not store.view(step.grid)[step.number, top:bottom].any()
            flags[step.grid].encode(state, buffer, is_empty)
            if is_empty:
                continue
        place, ifce = _band(store, step, (top, bottom)), features.of(step)
        for y0, y1 in cut_rows(bottom - top, place.width):
            rows = (top + y0, top + y1)
            arm = program.arm_of(step.grid)
            encode_rows(store.flat, place, *rows, arm, ifce, laplace, state, buffer)
    length = flush(state, buffer)
    assert state[ERROR] == 0, f"the range coder stopped with error {state[ERROR]}"
    return buffer[:length].tobytes()


def decode_latents(
    program: Program,
    grid_present: Sequence[bool],
    substreams: Sequence[bytes],
    *,
    num_frames: int,
    height: int,
    width: int,
    partition: Partition,
    threads: int = 1,
) -> list[np.ndarray]:
    """The latents of a segment, int16 (slices, h, w) of each grid in coding order.

    Bands run in parallel, and with `split_frames` so do the frames. Grids that are absent come as
    one zero seen everywhere, which takes no memory and cannot be written.

    Raises:
        BitstreamError: a substream that no encoder writes, or with bytes left over.
    """
    size = {"num_frames": num_frames, "height": height, "width": width}
    store = new_store(program.arch, present=grid_present, **size)
    features, laplace = _Features(program, store), _laplace()
    arms = (program.arm, program.motion_arm)
    columns = [arm and arm_columns(arm) for arm in arms]
    parts = [np.frombuffer(part, np.uint8) for part in substreams]
    states = [new_decoder_state(part) for part in parts]
    flags: dict[tuple[int, int], EmptyFlags] = defaultdict(EmptyFlags)

    def job(place: tuple[Step, tuple[int, int, int]]) -> None:
        step, (number, top, bottom) = place
        index = step.row * partition.bands + number
        state, data = states[index], parts[index]
        if _is_flagged(store, step) and flags[index, step.grid].decode(state, data):
            return
        band, ifce = _band(store, step, (top, bottom)), features.of(step)
        own = columns[program.arch.grids[step.grid].motion > 0]
        error = decode_band(store.flat, band, own, ifce, laplace, state, data)
        if error:
            raise BitstreamError(
                f"substream {index}: the latents of grid {step.grid} are damaged (error {error})"
            )

    for group in coding_groups(
        program.arch, partition, num_frames=num_frames, present=grid_present
    ):
        jobs = [(step, rows) for step in group for rows in _used_bands(store, step, partition)]
        run_parallel(job, jobs, threads=threads)
    for index, (state, data) in enumerate(zip(states, parts, strict=True)):
        if not is_exhausted(state, data):
            raise BitstreamError(f"substream {index}: bytes are left over after its last latent")
    return [
        store.view(k).copy() if is_present else store.view(k)
        for k, is_present in enumerate(grid_present)
    ]


def latent_rate(
    program: Program,
    latents: Sequence[np.ndarray],
    *,
    num_frames: int,
    height: int,
    width: int,
    partition: Partition,
    grids: Sequence[int] | None = None,
    threads: int = 1,
) -> np.ndarray:
    """What the latents cost in the range coder, without running it.

    Args:
        program, latents, partition: as for `encode_latents`.
        grids: numbers of the grids that are wanted; None means all.

    Returns:
        Cost of each grid in 2^-16 bits, int64 (grids,); 0 for grids not wanted and for zero grids.
    """
    size = {"num_frames": num_frames, "height": height, "width": width}
    store = store_latents(program.arch, latents, **size)
    features, laplace, costs = _Features(program, store), _laplace(), symbol_costs_q16()
    rates = np.zeros(len(latents), np.int64)
    jobs = []
    for k in range(len(latents)) if grids is None else grids:
        if store.places[k].size:
            steps = steps_of_grid(program.arch, partition, k, store.places[k].slices)
            rates[k], of_grid = _rate_jobs(store, steps, partition)
            jobs += of_grid

    def job(place: tuple[Step, Band, tuple[int, int]]) -> int:
        step, band, rows = place
        arm, ifce = program.arm_of(step.grid), features.of(step)
        return rate_rows(store.flat, band, *rows, arm, ifce, laplace, costs)

    for (step, _, _), rate in zip(jobs, run_parallel(job, jobs, threads=threads), strict=True):
        rates[step.grid] += rate
    return rates


def _rate_jobs(
    store: LatentStore, steps: Sequence[Step], partition: Partition
) -> tuple[int, list[tuple[Step, Band, tuple[int, int]]]]:
    """Cost of the flags of a grid's slices, and the strips whose latents are coded."""
    flags, freqs, jobs = defaultdict(EmptyFlags), [], []
    for step in steps:
        for number, top, bottom in _used_bands(store, step, partition):
            if _is_flagged(store, step):
                is_empty = not store.view(step.grid)[step.number, top:bottom].any()
                freqs.append(flags[step.row, number].freq(is_empty))
                if is_empty:
                    continue
            band = _band(store, step, (top, bottom))
            strips = cut_rows(bottom - top, band.width)
            jobs += [(step, band, (top + y0, top + y1)) for y0, y1 in strips]
    return flags_cost_q16(freqs), jobs


def latent_costs(
    program: Program,
    latents: Sequence[np.ndarray],
    *,
    num_frames: int,
    height: int,
    width: int,
    threads: int = 1,
) -> list[np.ndarray]:
    """What each latent costs if it is one less, as it is, and one more, in one band a slice.

    Arguments as for `latent_rate`. Contexts are those of the latents as they are.

    Returns:
        int32 (3, slices, h, w) of each grid, in 2^-16 bits; zeros for zero slices.
    """
    size = {"num_frames": num_frames, "height": height, "width": width}
    store = store_latents(program.arch, latents, **size)
    features, laplace, symbols = _Features(program, store), _laplace(), symbol_costs_q16()
    made = [np.zeros((3, *latent.shape), np.int32) for latent in latents]
    steps = [
        Step(k, number, 0)
        for k, place in enumerate(store.places)
        if place.size
        for number in range(place.slices)
        if latents[k][number].any()
    ]

    def job(place: tuple[Step, tuple[int, int]]) -> None:
        step, rows = place
        band = _band(store, step, (0, store.places[step.grid].height))
        out, ifce = made[step.grid][:, step.number], features.of(step)
        arm = program.arm_of(step.grid)
        cost_rows(store.flat, band, *rows, arm, ifce, laplace, symbols, out)

    strips = [
        (step, rows)
        for step in steps
        for rows in cut_rows(store.places[step.grid].height, store.places[step.grid].width)
    ]
    run_parallel(job, strips, threads=threads)
    return made
