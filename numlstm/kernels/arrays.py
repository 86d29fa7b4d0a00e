"""NumPy arrays as arguments of the entry point, read where they lie.

Numba turns an array argument into seven words, an allocation and a reference count, and does not
look at its dtype or shape unless its dispatcher is asked to: 100 ns for each array of a step. Here
an argument stays a pointer to its Python object, and the kernel looks at the fields it needs
(`addresses.py`) before it touches anything else: 2 ns.

The caller holds a reference to the object for as long as the call takes.
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.core.typing.templates import signature
from numba.extending import NativeValue, models, register_model, unbox

from numlstm.kernels.addresses import DATA, DTYPE, FLAGS, NDIM, SHAPE, TYPE
from numlstm.kernels.simd import lowered


class _ObjectType(types.Type):
    def __init__(self):
        super().__init__(name="object_pointer")


object_pointer = _ObjectType()


@register_model(_ObjectType)
class _ObjectModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, ir.IntType(8).as_pointer())


@unbox(_ObjectType)
def _unbox(typ, obj, c):
    return NativeValue(obj)


def array_size(a, array_type_at, dtype_at, max_axes, flags):
    """Return how many numbers an array with these flags has, or -1 if it is none.

    a               any Python object
    array_type_at   `addresses.ARRAY_TYPE_AT`
    dtype_at        `addresses.FLOAT32_AT` or `INT32_AT`
    max_axes        it has 1 axis to so many, 3 at most
    """
    known = type(a) is np.ndarray and id(a.dtype) == dtype_at and 1 <= a.ndim <= max_axes
    return a.size if known and a.flags.num & flags == flags else -1


@lowered(
    array_size,
    lambda a, array_type_at, dtype_at, max_axes, flags: signature(
        types.int64, object_pointer, types.int64, types.int64, types.int32, types.int32
    ),
)
def _(context, builder, sig, a, array_type_at, dtype_at, max_axes, flags):
    word, integer = ir.IntType(64), ir.IntType(32)

    def read(kind, at):
        field = builder.gep(a, [word(at)])
        return builder.load(builder.bitcast(field, kind.as_pointer()))

    # Nothing may be read of an object before its type is known, so each test is behind the last.
    start = builder.block
    is_array = builder.append_basic_block("is_array")
    is_known = builder.append_basic_block("is_known")
    has_more = builder.append_basic_block("has_more")
    done = builder.append_basic_block("done")
    builder.cbranch(builder.icmp_unsigned("==", read(word, TYPE), array_type_at), is_array, done)

    builder.position_at_end(is_array)
    same_dtype = builder.icmp_unsigned("==", read(word, DTYPE), dtype_at)
    num_axes = read(integer, NDIM)
    few_axes = builder.icmp_unsigned("<", builder.sub(num_axes, integer(1)), max_axes)
    has_flags = builder.icmp_unsigned("==", builder.and_(read(integer, FLAGS), flags), flags)
    fits = builder.and_(same_dtype, builder.and_(few_axes, has_flags))
    builder.cbranch(fits, is_known, done)

    builder.position_at_end(is_known)
    shape = builder.inttoptr(read(word, SHAPE), word.as_pointer())
    size = builder.load(shape)
    builder.cbranch(builder.icmp_unsigned("==", num_axes, integer(1)), done, has_more)

    builder.position_at_end(has_more)
    last = builder.zext(builder.sub(num_axes, integer(1)), word)
    second = builder.load(builder.gep(shape, [word(1)]))
    third = builder.load(builder.gep(shape, [last]))
    has_third = builder.icmp_unsigned("==", last, word(2))
    product = builder.mul(size, builder.mul(second, builder.select(has_third, third, word(1))))
    builder.branch(done)

    builder.position_at_end(done)
    result = builder.phi(word)
    result.add_incoming(word(-1), start)
    result.add_incoming(word(-1), is_array)
    result.add_incoming(size, is_known)
    result.add_incoming(product, has_more)
    return result


def array_data(a):
    """Return a pointer to the numbers, as floats, of an array that `array_size` knows."""
    return a.reshape(-1).view(np.float32)


@lowered(array_data, lambda a: signature(types.CPointer(types.float32), object_pointer))
def _(context, builder, sig, a):
    pointer = context.get_value_type(sig.return_type)
    field = builder.gep(a, [ir.IntType(64)(DATA)])
    return builder.load(builder.bitcast(field, pointer.as_pointer()))
