"""Vectors of integers as values in kernels, so that sums stay in registers across loops.

The compiler vectorizes only innermost loops, and keeps what a loop adds up in memory where another
loop is around it. A `Lanes` value is lowered to what the processor has, and the order of the loops
is free. Arrays are given as pointers, whose elements are read and written like theirs: an array
would be counted each time that it is handed on. Nothing checks indices.
"""

from __future__ import annotations

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic, models, register_model

LANES = 8

_I32 = ir.IntType(32)


class Lanes(types.Type):
    """The numba type of LANES integers of one type."""

    def __init__(self, dtype: types.Integer) -> None:
        self.dtype = dtype
        super().__init__(name=f"Lanes({dtype})")


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager, numba_type) -> None:
        super().__init__(manager, numba_type, _vector_of(numba_type.dtype))


def _vector_of(dtype: types.Integer) -> ir.VectorType:
    return ir.VectorType(ir.IntType(dtype.bitwidth), LANES)


def _element(context, builder, signature, arguments) -> ir.Value:
    """Pointer to the element that the first two arguments, pointer and index, name."""
    index = context.cast(builder, arguments[1], signature.args[1], types.int64)
    return builder.gep(arguments[0], [index])


def _splat(builder: ir.IRBuilder, value: ir.Value) -> ir.Value:
    empty = ir.Constant(ir.VectorType(value.type, LANES), ir.Undefined)
    one = builder.insert_element(empty, value, ir.Constant(_I32, 0))
    zeros = ir.Constant(ir.VectorType(_I32, LANES), [0] * LANES)
    return builder.shuffle_vector(one, empty, zeros)


def _resized(builder: ir.IRBuilder, values: ir.Value, kind: ir.VectorType) -> ir.Value:
    """The same integers in lanes of another width."""
    if kind.element.width > values.type.element.width:
        return builder.sext(values, kind)
    if kind.element.width < values.type.element.width:
        return builder.trunc(values, kind)
    return values


@intrinsic
def pointer(typing_context, array, index):
    """Pointer to element `index` of a contiguous array, as if that were flat.

    It does not keep the array: take it only of arguments, which the caller keeps.
    """

    def generate(context, builder, signature, arguments):
        view = context.make_array(array)(context, builder, arguments[0])
        return builder.gep(view.data, [context.cast(builder, arguments[1], index, types.int64)])

    if not isinstance(array, types.Array) or array.layout != "C":
        return None
    return types.CPointer(array.dtype)(array, index), generate


@intrinsic
def load(typing_context, source, index):
    """LANES elements from `index` on."""

    def generate(context, builder, signature, arguments):
        place = _element(context, builder, signature, arguments)
        vector = _vector_of(source.dtype)
        pointer = builder.bitcast(place, vector.as_pointer())
        return builder.load(pointer, align=source.dtype.bitwidth // 8)

    return Lanes(source.dtype)(source, index), generate


@intrinsic
def load_splat(typing_context, source, index):
    """LANES copies of one element."""

    def generate(context, builder, signature, arguments):
        place = _element(context, builder, signature, arguments)
        return _splat(builder, builder.load(place))

    return Lanes(source.dtype)(source, index), generate


@intrinsic
def splat(typing_context, value):
    """LANES copies of an integer."""

    def generate(context, builder, signature, arguments):
        return _splat(builder, arguments[0])

    return Lanes(value)(value), generate


@intrinsic
def store(typing_context, target, index, values):
    """Write lanes from `index` on, in the type of the target."""

    def generate(context, builder, signature, arguments):
        place = _element(context, builder, signature, arguments)
        vector = _vector_of(target.dtype)
        resized = _resized(builder, arguments[2], vector)
        pointer = builder.bitcast(place, vector.as_pointer())
        builder.store(resized, pointer, align=target.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(target, index, values), generate


@intrinsic
def mul_add(typing_context, total, a, b):
    """total + a b, lane by lane, in the type of `total`."""

    def generate(context, builder, signature, arguments):
        vector = arguments[0].type
        a_wide, b_wide = (_resized(builder, values, vector) for values in arguments[1:])
        return builder.add(arguments[0], builder.mul(a_wide, b_wide))

    return total(total, a, b), generate


@intrinsic
def shift_clamp(typing_context, values, shift, low, high):
    """min(max(values >> shift, low), high), lane by lane; the scalars fit into a lane."""

    def generate(context, builder, signature, arguments):
        shifts, lows, highs = (
            _splat(builder, context.cast(builder, argument, kind, values.dtype))
            for argument, kind in zip(arguments[1:], signature.args[1:], strict=True)
        )
        made = builder.ashr(arguments[0], shifts)
        made = builder.select(builder.icmp_signed("<", made, lows), lows, made)
        return builder.select(builder.icmp_signed(">", made, highs), highs, made)

    return values(values, shift, low, high), generate


@intrinsic
def total_of(typing_context, values):
    """The sum of all lanes."""

    def generate(context, builder, signature, arguments):
        vector = arguments[0].type
        kind = ir.FunctionType(vector.element, [vector])
        name = f"llvm.vector.reduce.add.v{LANES}i{vector.element.width}"
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), arguments)

    return values.dtype(values), generate


@intrinsic
def lane_of(typing_context, values, number):
    """One lane, whose number is a literal."""

    def generate(context, builder, signature, arguments):
        return builder.extract_element(arguments[0], ir.Constant(_I32, number.literal_value))

    if not isinstance(number, types.IntegerLiteral):
        return None
    return values.dtype(values, number), generate
