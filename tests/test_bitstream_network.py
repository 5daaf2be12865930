"""Architectures and networks to bytes and back, their size, and damaged ones."""

from __future__ import annotations

from dataclasses import replace

import bitstream_examples as examples
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from motion_prediction import motion_architecture

from codec.arch import Architecture, Grid, param_specs, parse_layers, segment_specs
from codec.arch.numerics import MAX_PARAM
from codec.arch.parameters import ParamSpec, exponent_groups
from codec.bitstream.architecture import read_architecture, write_architecture
from codec.bitstream.elements import Network
from codec.bitstream.fields import Cursor, FieldWriter
from codec.bitstream.limits import Limits
from codec.bitstream.network import (
    FREE_PARAMETERS,
    MODE_COMPLETE,
    group_bits_q16,
    network_bits_q16,
    num_parameters,
    read_codes,
    read_network,
    write_codes,
    write_network,
    write_network_difference,
)
from codec.bitstream.parameters import ParameterEncoder, default_values, scale_costs_q16
from codec.bitstream.rangecoder_reference import ReferenceDecoder
from codec.bitstream.tables import load_tables
from codec.errors import BitstreamError, CodecError, LimitError, UnsupportedVersionError

LIMITS = Limits()


def arch_bytes(arch):
    writer = FieldWriter()
    write_architecture(writer, arch)
    return writer.finish()


def parse(data, **limits):
    cursor = Cursor(data, what="test")
    arch = read_architecture(cursor, **limits)
    cursor.must_be_empty()
    return arch


def read(data, *, limits=LIMITS, networks=None):
    def find(network_id):
        if network_id not in (networks or {}):
            raise BitstreamError(f"no network {network_id}")
        return networks[network_id]

    return read_network(Cursor(data, what="test"), limits=limits, find_complete=find)


def assert_same(one, other):
    assert one.arch == other.arch
    assert one.exponents == other.exponents
    assert list(one.values) == list(other.values)
    for name, values in one.values.items():
        assert values.dtype == np.int32
        assert np.array_equal(values, other.values[name]), name


@settings(deadline=None, max_examples=150)
@given(examples.architectures())
def test_any_architecture(arch):
    assert parse(arch_bytes(arch)) == arch


@pytest.mark.parametrize("anchor_span", [1, 8, 64])
@pytest.mark.parametrize("vector_frac", [0, 3, 4])
def test_precision_and_order_of_motion_are_one_byte(vector_frac, anchor_span):
    plain = motion_architecture("3")
    arch = replace(plain, vector_frac=vector_frac, anchor_span=anchor_span)
    assert parse(arch_bytes(arch)) == arch
    assert len(arch_bytes(arch)) == len(arch_bytes(plain))
    assert sum(a != b for a, b in zip(arch_bytes(arch), arch_bytes(plain), strict=True)) == 1


def test_architectures_are_small():
    assert len(arch_bytes(examples.IMAGE)) == 18
    assert parse(arch_bytes(examples.CLIP)) == examples.CLIP
    assert len(arch_bytes(examples.CLIP)) < 40
    twice = replace(examples.IMAGE, grids=(Grid(1), Grid(1), Grid(0)))
    assert parse(arch_bytes(twice)) == twice


def test_the_bytes_of_an_architecture():
    assert arch_bytes(examples.TINY).hex(" ") == "02 01 00 00 01 00 00 10 00 02"


def test_a_code_for_each_prediction_level_is_the_number_255():
    layers = parse_layers(["1-1x1-adaptive-none,code=2,every=level"], num_out=3)
    arch = replace(examples.TINY, temporal=layers)
    data = arch_bytes(arch)
    # Adaptive with keys; 1 output; kernel in time, level; code and every, 2 and 255.
    assert data.hex(" ") == "02 01 00 00 01 00 00 11 82 00 00 00 18 02 ff 00 02"
    assert parse(data) == arch
    (codes,) = segment_specs(arch, 5)
    assert codes.shape == (3, 2)


def test_too_many_grids():
    grids = tuple(Grid(level, 0) for level in range(15, -1, -1)) * 4
    data = arch_bytes(replace(examples.IMAGE, grids=tuple(sorted(grids, key=lambda g: -g.level))))
    assert len(parse(data).grids) == 64
    with pytest.raises(LimitError, match="more than the 63 grids"):
        parse(data, max_grids=63)


@pytest.mark.parametrize("base", [examples.IMAGE, examples.CLIP, examples.TINY])
def test_wrong_bytes_of_an_architecture(base):
    """Every value of every byte: an architecture within the limits, or one of two errors."""
    data = arch_bytes(base)
    outcomes = set()
    for place in range(len(data)):
        for value in range(256):
            changed = data[:place] + bytes([value]) + data[place + 1 :]
            try:
                outcomes.add(type(parse(changed)))
            except (BitstreamError, UnsupportedVersionError) as error:
                outcomes.add(type(error))
    assert outcomes == {Architecture, BitstreamError, UnsupportedVersionError}


def test_truncated_architecture():
    data = arch_bytes(examples.CLIP)
    for length in range(len(data)):
        with pytest.raises(BitstreamError):
            parse(data[:length])


def test_default_values():
    """Once: for all, for each, and for each place of the last axis; halves round up."""
    bicubic = ParamSpec("up.0", (4,), "up", (-9, -27, 67, 225))
    assert default_values(bicubic, 4).tolist() == [-1, -2, 4, 14]
    assert default_values(bicubic, 8).tolist() == [-9, -27, 67, 225]
    rows = default_values(ParamSpec("x", (2, 3), "up", (256, 512, 0)), 4)
    assert rows.tolist() == [[16, 32, 0]] * 2
    each = default_values(ParamSpec("x", (2, 2), "up", (256, 0, 512, 768)), 0)
    assert each.tolist() == [[1, 0], [2, 3]]
    assert default_values(ParamSpec("x", (2, 2), "up"), 9).tolist() == [[0, 0]] * 2


@pytest.mark.parametrize("arch", [examples.IMAGE, examples.CLIP, examples.TINY])
@pytest.mark.parametrize("spread", [0.2, 20.0, 9000.0])
def test_complete_networks(arch, spread):
    network = examples.make_network(arch, spread=spread)
    data = write_network(network)
    assert_same(read(data), network)
    body = len(data) - 1 - len(arch_bytes(arch))
    assert abs(8 * body - network_bits_q16(network) / 2**16) < 8 + 1e-4 * 8 * body
    assert network_bits_q16(network) == sum(group_bits_q16(network).values())
    assert list(group_bits_q16(network)) == list(exponent_groups(arch))


@settings(deadline=None, max_examples=25)
@given(examples.architectures(), st.integers(0, 1000))
def test_any_network(arch, seed):
    if num_parameters(arch) > 20_000:
        arch = examples.TINY
    network = examples.make_network(arch, seed=seed)
    assert_same(read(write_network(network)), network)


def test_largest_parameters():
    network = examples.make_network(examples.TINY)
    for tensor in network.values.values():
        tensor.reshape(-1)[::2] = MAX_PARAM
        tensor.reshape(-1)[1::2] = -MAX_PARAM
    assert_same(read(write_network(network)), network)


def test_a_network_read_by_the_plain_twin():
    """Field by field, as the specification says it."""
    network = examples.make_network(examples.IMAGE)
    data = write_network(network)
    decoder = ReferenceDecoder(data[1 + len(arch_bytes(examples.IMAGE)) :])
    assert data[0] == MODE_COMPLETE
    scales = {}
    for group in exponent_groups(examples.IMAGE):
        assert decoder.decode_bits(5) == network.exponents[group]
        if group != "features":
            scales[group] = decoder.decode_bits(7)
    for spec in param_specs(examples.IMAGE):
        defaults = default_values(spec, network.exponents[spec.group]).reshape(-1)
        for value, default in zip(network.values[spec.name].reshape(-1), defaults, strict=True):
            decoded = decoder.decode_value(load_tables(), 0, scales[spec.group])
            assert decoded == value - default
    assert decoder.is_exhausted()


def test_networks_by_differences():
    base = examples.make_network(examples.CLIP)
    network = examples.shifted(base)
    data = write_network_difference(network, base=base, base_id=300)
    assert_same(read(data, networks={300: base}), network)
    assert len(data) < len(write_network(network)) / 3
    with pytest.raises(BitstreamError, match="no network 300"):
        read(data)
    far = replace(base, values={name: v + MAX_PARAM for name, v in base.values.items()})
    with pytest.raises(BitstreamError, match="beyond"):
        read(data, networks={300: far})


def test_reserved_modes_name_what_they_need():
    with pytest.raises(UnsupportedVersionError, match="default number 7 needs a newer version"):
        read(b"\x01\x07")
    with pytest.raises(UnsupportedVersionError, match="mode 3 needs a newer version"):
        read(b"\x03")


def test_limit_of_parameters():
    data = write_network(examples.make_network(examples.IMAGE))
    count = num_parameters(examples.IMAGE)
    read(data, limits=Limits(max_parameters=count))
    with pytest.raises(LimitError, match=f"has {count} parameters; {count - 1} are allowed"):
        read(data, limits=Limits(max_parameters=count - 1))


def test_a_huge_network_is_refused_before_it_is_built():
    huge = replace(
        examples.TINY,
        synthesis=(replace(examples.TINY.synthesis[0], out=256, kernel_space=15),) * 15,
    )
    with pytest.raises(LimitError):
        read(b"\0" + arch_bytes(huge))


def test_damaged_bodies():
    """Any bytes for a body: a network or an error of ours; exhausted bodies, left-over bytes."""
    head = b"\0" + arch_bytes(examples.TINY)
    rng = np.random.default_rng(3)
    kinds = set()
    for _ in range(300):
        try:
            kinds.add(type(read(head + rng.bytes(int(rng.integers(0, 30))))).__name__)
        except BitstreamError as error:
            kinds.add(str(error).split(":")[-1].strip()[:12])
    assert len(kinds) > 3
    whole = write_network(examples.make_network(examples.TINY))
    with pytest.raises(BitstreamError, match="bytes are left"):
        read(whole + b"\x01" * 8)
    for wrong_exponent in (0, 31):
        coder = ParameterEncoder(0)
        for _ in range(5):
            coder.bits(wrong_exponent, 5)
            coder.bits(0, 7)
        with pytest.raises(CodecError):
            read(head + coder.finish())


def test_scale_costs_are_those_of_the_coder():
    rng = np.random.default_rng(4)
    values = [rng.integers(-40, 40, 300), np.array([[5000, -7]])]
    costs = scale_costs_q16(values)
    for scale in (0, 17, 40, 66, 80):
        coder = ParameterEncoder(302)
        for array in values:
            coder.array(array, scale)
        bits = 8 * len(coder.finish())
        assert abs(bits - costs[scale] / 2**16) < 8 + 1e-4 * bits
    assert scale_costs_q16([]).tolist() == [0] * 81


def test_codes():
    specs = segment_specs(examples.CLIP, 33)
    rng = np.random.default_rng(5)
    codes = {spec.name: rng.integers(-99, 99, spec.shape).astype(np.int32) for spec in specs}
    data = write_codes(codes, arch=examples.CLIP, num_frames=33)

    def read_back(data, limits=LIMITS):
        return read_codes(
            Cursor(b"", what="test"),
            memoryview(data),
            arch=examples.CLIP,
            num_frames=33,
            limits=limits,
        )

    back = read_back(data)
    assert {name: v.tolist() for name, v in back.items()} == {
        name: v.tolist() for name, v in codes.items()
    }
    assert write_codes({}, arch=examples.IMAGE, num_frames=1) == b""
    with pytest.raises(BitstreamError, match="bytes are left"):
        read_back(data + b"\x01" * 8)
    with pytest.raises(BitstreamError):
        read_back(b"\xff" * 40)
    with pytest.raises(LimitError, match="codes"):
        read_back(data, Limits(max_parameters=1))


def test_a_small_payload_cannot_declare_a_large_network():
    synthesis = parse_layers([*["128-1-linear-relu"] * 4, "3-1-linear-none"], num_out=3)
    arch = replace(examples.IMAGE, synthesis=synthesis)
    zeros = {spec.name: default_values(spec, 8) for spec in param_specs(arch)}
    network = Network(arch, dict.fromkeys(exponent_groups(arch), 8), zeros)
    data = write_network(network)
    assert len(data) < 100
    assert num_parameters(arch) > FREE_PARAMETERS
    with pytest.raises(LimitError, match="bytes has"):
        read(data)
