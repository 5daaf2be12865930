"""Vectors of floats as values in kernels, so that sums stay in registers across a loop.

The compiler vectorizes only innermost loops, and keeps what a loop adds up in memory where another
loop is around it. With vectors as values the order of loops is free: a tile of outputs is summed
over all inputs before it is stored. A vector has as many lanes as a register of AVX-512 or AVX; on
processors with narrower registers the compiler takes several for each.

Addresses are bytes, as `address` gives them; nothing checks them.
"""

from __future__ import annotations

from llvmlite import binding, ir
from numba.core import cgutils, types
from numba.extending import intrinsic, models, register_model

LANES = 16 if binding.get_host_cpu_features().get("avx512f") else 8
FLOAT_BYTES = 4
VECTOR_BYTES = LANES * FLOAT_BYTES

_FLOATS = ir.VectorType(ir.FloatType(), LANES)
_PAIRS = ir.VectorType(ir.FloatType(), 2 * LANES)


class Vector(types.Type):
    """The numba type of LANES floats."""

    def __init__(self) -> None:
        super().__init__(name=f"Vector{LANES}")


vector = Vector()


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager, numba_type) -> None:
        super().__init__(manager, numba_type, _FLOATS)


def _pointer(builder: ir.IRBuilder, address: ir.Value, kind: ir.Type) -> ir.Value:
    return builder.inttoptr(address, kind.as_pointer())


@intrinsic
def address(typing_context, array, index):
    """Address of element `index` of a contiguous array, counted as if it were flat."""

    def generate(context, builder, signature, arguments):
        array_type = signature.args[0]
        view = context.make_array(array_type)(context, builder, arguments[0])
        element = builder.gep(view.data, [arguments[1]])
        return builder.ptrtoint(element, ir.IntType(64))

    if not isinstance(array, types.Array) or not array.is_contig:
        return None
    return types.int64(array, types.int64), generate


@intrinsic
def load(typing_context, place):
    """The floats at an address, which need not be aligned."""

    def generate(context, builder, signature, arguments):
        pointer = _pointer(builder, arguments[0], _FLOATS)
        return builder.load(pointer, align=FLOAT_BYTES)

    return vector(types.int64), generate


@intrinsic
def store(typing_context, place, values):
    """Write a vector to an address, which need not be aligned."""

    def generate(context, builder, signature, arguments):
        pointer = _pointer(builder, arguments[0], _FLOATS)
        builder.store(arguments[1], pointer, align=FLOAT_BYTES)
        return context.get_dummy_value()

    return types.void(types.int64, vector), generate


@intrinsic
def load_splat(typing_context, place):
    """The float at an address in every lane."""

    def generate(context, builder, signature, arguments):
        value = builder.load(_pointer(builder, arguments[0], ir.FloatType()))
        return _splat(builder, value)

    return vector(types.int64), generate


@intrinsic
def splat(typing_context, value):
    """A float in every lane."""

    def generate(context, builder, signature, arguments):
        return _splat(builder, arguments[0])

    return vector(types.float32), generate


def _splat(builder: ir.IRBuilder, value: ir.Value) -> ir.Value:
    empty = ir.Constant(_FLOATS, ir.Undefined)
    one = builder.insert_element(empty, value, ir.Constant(ir.IntType(32), 0))
    lanes = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
    return builder.shuffle_vector(one, empty, lanes)


@intrinsic
def multiply_add(typing_context, a, b, c):
    """a b + c, in one rounding where the processor can."""

    def generate(context, builder, signature, arguments):
        kind = ir.FunctionType(_FLOATS, [_FLOATS] * 3)
        name = f"llvm.fmuladd.v{LANES}f32"
        function = cgutils.get_or_insert_function(builder.module, kind, name)
        return builder.call(function, arguments)

    return vector(vector, vector, vector), generate


@intrinsic
def add(typing_context, a, b):
    """a + b."""

    def generate(context, builder, signature, arguments):
        return builder.fadd(*arguments)

    return vector(vector, vector), generate


@intrinsic
def clamp(typing_context, values, low, high):
    """Each lane of `values`, held between those of `low` and `high`."""

    def generate(context, builder, signature, arguments):
        value, least, most = arguments
        value = builder.select(builder.fcmp_ordered("<", value, least), least, value)
        return builder.select(builder.fcmp_ordered(">", value, most), most, value)

    return vector(vector, vector, vector), generate


@intrinsic
def where_inside(typing_context, probe, low, high, values):
    """The lanes of `values` where low < probe < high, 0 elsewhere."""

    def generate(context, builder, signature, arguments):
        value, least, most, kept = arguments
        above = builder.fcmp_ordered(">", value, least)
        inside = builder.and_(above, builder.fcmp_ordered("<", value, most))
        one, zero = (ir.Constant(_FLOATS, [number] * LANES) for number in (1.0, 0.0))
        # A selection would be joined with a store to a masked store, which some processors take
        # ten times as long for.
        return builder.fmul(builder.select(inside, one, zero), kept)

    return vector(vector, vector, vector, vector), generate


def _load_every_second(first: int):
    """Lanes of 2 LANES floats at an address: every second, from number `first` on."""

    def generate(context, builder, signature, arguments):
        pointer = _pointer(builder, arguments[0], _PAIRS)
        pairs = builder.load(pointer, align=FLOAT_BYTES)
        lanes = ir.Constant(ir.VectorType(ir.IntType(32), LANES), list(range(first, 2 * LANES, 2)))
        return builder.shuffle_vector(pairs, ir.Constant(_PAIRS, ir.Undefined), lanes)

    return vector(types.int64), generate


@intrinsic
def load_evens(typing_context, place):
    """Floats 0, 2, 4, ... from an address on."""
    return _load_every_second(0)


@intrinsic
def load_odds(typing_context, place):
    """Floats 1, 3, 5, ... from an address on."""
    return _load_every_second(1)


@intrinsic
def store_pairs(typing_context, place, evens, odds):
    """Write two vectors to an address, their lanes in turn."""

    def generate(context, builder, signature, arguments):
        order = [lane // 2 + lane % 2 * LANES for lane in range(2 * LANES)]
        lanes = ir.Constant(ir.VectorType(ir.IntType(32), 2 * LANES), order)
        pairs = builder.shuffle_vector(arguments[1], arguments[2], lanes)
        builder.store(pairs, _pointer(builder, arguments[0], _PAIRS), align=FLOAT_BYTES)
        return context.get_dummy_value()

    return types.void(types.int64, vector, vector), generate


@intrinsic
def lane_sum(typing_context, values):
    """The sum of all lanes, a float32."""

    def generate(context, builder, signature, arguments):
        total = ir.Constant(ir.FloatType(), 0.0)
        for lane in range(LANES):
            part = builder.extract_element(arguments[0], ir.Constant(ir.IntType(32), lane))
            total = builder.fadd(total, part)
        return total

    return types.float32(vector), generate
