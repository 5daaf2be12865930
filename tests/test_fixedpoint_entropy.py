"""Latents to substreams and back: against the plain twin, in all partitions, on any threads."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import pytest
from fixedpoint_networks import CLIP, architecture, random_latents, random_network
from hypothesis import given, settings
from hypothesis import strategies as st

from codec.arch import NARROW, Architecture
from codec.bitstream.elements import Network, Partition
from codec.errors import BitstreamError
from codec.fixedpoint.empty_flags import EmptyFlags, flags_cost_q16
from codec.fixedpoint.entropy import (
    decode_latents,
    encode_latents,
    latent_costs,
    latent_rate,
)
from codec.fixedpoint.entropy_reference import (
    decode_latents_reference,
    encode_latents_reference,
)
from codec.fixedpoint.program import load_network

STILL = architecture()
ARCHITECTURES = {
    "still": STILL,
    "no hidden layers": architecture(arm_layers=0, contexts=24, ifce_features=5),
    "one hidden layer": architecture(arm_layers=1, contexts=1, ifce_features=0),
    "clip": CLIP,
    "widest": architecture(contexts=24, ifce_features=31),
    "deep": architecture(static="0,3", hyper="0-4", arm_layers=7, contexts=14),
}
PARTITIONS = [Partition(), Partition(bands=3), Partition(True), Partition(True, 2)]
ANY = st.sampled_from(sorted(ARCHITECTURES))


def sparse_latents(arch: Architecture, seed: int, **size: int) -> list[np.ndarray]:
    """Small and large latents; some grids, slices and bands are all zero."""
    rng = np.random.default_rng(seed)
    latents = random_latents(arch, **size, seed=seed, limit=2)
    for values in latents:
        values[rng.random(values.shape) < 0.01] = rng.integers(-255, 256)
        values[rng.random(len(values)) < 0.3] = 0
        if rng.random() < 0.3:
            values[:, : values.shape[1] // 2] = 0
    return latents


@settings(deadline=None, max_examples=25)
@given(
    name=ANY,
    partition=st.sampled_from(PARTITIONS),
    frames=st.integers(1, 4),
    height=st.integers(1, 23),
    width=st.integers(1, 23),
    magnitude=st.sampled_from([1, 8, 60]),
    seed=st.integers(0, 2**32),
)
def test_coding_agrees_with_the_plain_twin(
    name: str,
    partition: Partition,
    frames: int,
    height: int,
    width: int,
    magnitude: int,
    seed: int,
) -> None:
    arch = ARCHITECTURES[name]
    network = random_network(arch, NARROW, seed=seed, magnitude=magnitude)
    size = {"num_frames": frames, "height": height, "width": width}
    latents = sparse_latents(arch, seed, **size)
    program = load_network(network, NARROW)
    present, substreams = encode_latents(program, latents, **size, partition=partition)
    twin = encode_latents_reference(network, latents, num_frames=frames, partition=partition)
    assert (present, substreams) == twin
    decoded = decode_latents(program, present, substreams, **size, partition=partition)
    for one, other in zip(decoded, latents, strict=True):
        assert one.dtype == np.int16
        assert np.array_equal(one, other)


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
@pytest.mark.parametrize("width", [1, 31, 32, 33, 35, 64, 97])
def test_rows_of_any_length_come_back(name: str, width: int) -> None:
    arch, partition = ARCHITECTURES[name], Partition(bands=3)
    size = {"num_frames": 2, "height": 11, "width": width}
    program = load_network(random_network(arch, NARROW, seed=width, magnitude=8), NARROW)
    latents = sparse_latents(arch, width, **size)
    present, substreams = encode_latents(program, latents, **size, partition=partition)
    decoded = decode_latents(program, present, substreams, **size, partition=partition)
    assert all(np.array_equal(a, b) for a, b in zip(decoded, latents, strict=True))


@pytest.mark.parametrize("partition", PARTITIONS, ids=str)
def test_the_plain_twin_decodes_the_kernels_code(partition: Partition) -> None:
    size = {"num_frames": 3, "height": 18, "width": 11}
    network = random_network(CLIP, NARROW, seed=3)
    latents = sparse_latents(CLIP, 4, **size)
    program = load_network(network, NARROW)
    present, substreams = encode_latents(program, latents, **size, partition=partition)
    decoded = decode_latents_reference(network, present, substreams, **size, partition=partition)
    assert all(np.array_equal(a, b) for a, b in zip(decoded, latents, strict=True))


@pytest.mark.parametrize("partition", PARTITIONS, ids=str)
def test_threads_change_nothing(partition: Partition) -> None:
    size = {"num_frames": 5, "height": 64, "width": 300}
    program = load_network(random_network(CLIP, NARROW, seed=1), NARROW)
    latents = sparse_latents(CLIP, 2, **size)
    one, two = (
        encode_latents(program, latents, **size, partition=partition, threads=threads)
        for threads in (1, 2)
    )
    assert one == two
    decoded = [
        decode_latents(program, *one, **size, partition=partition, threads=threads)
        for threads in (1, 2)
    ]
    rates = [
        latent_rate(program, latents, **size, partition=partition, threads=threads)
        for threads in (1, 2)
    ]
    assert np.array_equal(*rates)
    for first, second, original in zip(*decoded, latents, strict=True):
        assert np.array_equal(first, original)
        assert np.array_equal(second, original)


@pytest.mark.parametrize("name", ["still", "clip"])
@pytest.mark.parametrize("partition", PARTITIONS, ids=str)
def test_the_rate_is_that_of_the_coder(name: str, partition: Partition) -> None:
    arch = ARCHITECTURES[name]
    size = {"num_frames": 4, "height": 90, "width": 101}
    program = load_network(random_network(arch, NARROW, seed=9, magnitude=8), NARROW)
    latents = sparse_latents(arch, 6, **size)
    rates = latent_rate(program, latents, **size, partition=partition)
    _, substreams = encode_latents(program, latents, **size, partition=partition)
    coded_bits = 8 * sum(map(len, substreams))
    # Each substream ends with less than two bytes of its own.
    assert abs(int(rates.sum()) / 65536 - coded_bits) < 0.001 * coded_bits + 16 * len(substreams)


def test_flags_become_cheap() -> None:
    model = EmptyFlags()
    freqs = [model.freq(is_empty=True) for _ in range(300)]
    assert freqs[:3] == [32768, 65536 - 65536 // 3, 49152]
    assert freqs[-1] == 64512
    assert model.freq(is_empty=False) == 1024
    assert flags_cost_q16(freqs) < 14 << 16


def test_rates_of_some_grids_are_those_of_all() -> None:
    size = {"num_frames": 3, "height": 40, "width": 33}
    program = load_network(random_network(CLIP, NARROW, seed=9), NARROW)
    latents = random_latents(CLIP, **size, seed=7)
    latents[2][:] = 0
    full = latent_rate(program, latents, **size, partition=Partition())
    some = latent_rate(program, latents, **size, partition=Partition(), grids=[1, 2, 5])
    assert full[2] == 0
    assert all(full[k] > 0 for k in range(len(full)) if k != 2)
    assert some.tolist() == [full[k] if k in (1, 5) else 0 for k in range(len(full))]


@pytest.mark.parametrize("name", ["still", "clip"])
def test_costs_of_latents_add_up_to_the_rate(name: str) -> None:
    arch = ARCHITECTURES[name]
    size = {"num_frames": 3, "height": 40, "width": 37}
    program = load_network(random_network(arch, NARROW, seed=9), NARROW)
    latents = sparse_latents(arch, 6, **size)
    latents[1][:] = 0
    one, two = (latent_costs(program, latents, **size, threads=threads) for threads in (1, 2))
    rates = latent_rate(program, latents, **size, partition=Partition())
    for costs, again, values, rate in zip(one, two, latents, rates, strict=True):
        assert costs.shape == (3, *values.shape)
        assert np.array_equal(costs, again)
        model, is_empty = EmptyFlags(), (~values.any((1, 2))).tolist()
        flags = flags_cost_q16(model.freq(empty) for empty in is_empty)
        is_flagged = len(values) > 1 and not all(is_empty)
        assert costs[1].sum() + (flags if is_flagged else 0) == rate


def test_costs_of_other_values_are_what_the_rate_would_be() -> None:
    size = {"num_frames": 1, "height": 33, "width": 40}
    program = load_network(random_network(STILL, NARROW, seed=9), NARROW)
    latents = random_latents(STILL, **size, seed=7)
    costs = latent_costs(program, latents, **size)[-1][:, 0, -1, -1]
    before = latent_rate(program, latents, **size, partition=Partition())[-1]
    for by in (-1, 1):
        # No context has the last latent.
        changed = [*latents[:-1], latents[-1].copy()]
        changed[-1][0, -1, -1] += by
        after = latent_rate(program, changed, **size, partition=Partition())[-1]
        assert after - before == costs[1 + by] - costs[1]


def test_zero_latents_cost_no_byte() -> None:
    size = {"num_frames": 2, "height": 30, "width": 30}
    program = load_network(random_network(CLIP, NARROW, seed=9), NARROW)
    latents = [np.zeros_like(v) for v in random_latents(CLIP, **size, seed=0)]
    present, substreams = encode_latents(program, latents, **size, partition=Partition(True, 2))
    assert not any(present)
    assert substreams == (b"",) * 6


def coded_still() -> tuple[Network, dict[str, int], tuple[bool, ...], bytes]:
    size = {"num_frames": 1, "height": 40, "width": 40}
    network = random_network(STILL, NARROW, seed=2)
    latents = random_latents(STILL, **size, seed=2)
    program = load_network(network, NARROW)
    present, (data,) = encode_latents(program, latents, **size, partition=Partition())
    return network, size, present, data


def test_bytes_left_over_are_refused() -> None:
    network, size, present, data = coded_still()
    program = load_network(network, NARROW)
    with pytest.raises(BitstreamError, match="left over"):
        decode_latents(program, present, [data + bytes(9)], **size, partition=Partition())


@pytest.mark.parametrize("seed", range(8))
def test_random_bytes_end_in_an_error_or_in_latents(seed: int) -> None:
    network, size, present, data = coded_still()
    program = load_network(network, NARROW)
    noise = np.random.default_rng(seed).bytes(len(data))
    decoded = []
    with suppress(BitstreamError):
        decoded = decode_latents(program, present, [noise], **size, partition=Partition())
    assert all(np.abs(values).max() <= 255 for values in decoded)


def test_a_latent_out_of_range_is_refused() -> None:
    # Zero weights and the widest scale: all-ones bytes are large escapes.
    network, size, present, _ = coded_still()
    values = {name: np.zeros_like(q) for name, q in network.values.items()}
    values["arm.out.bias"][1] = 100_000
    program = load_network(Network(network.arch, network.exponents, values), NARROW)
    with pytest.raises(BitstreamError, match="grid 0 are damaged"):
        decode_latents(program, present, [b"\xff" * 99], **size, partition=Partition())
