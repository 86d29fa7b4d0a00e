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


def array_size(a, array_type_at, float32_at, flags):
    """Return the length of a flat float32 array with these flags, or -1 if it is none.

    a                           any Python object
    array_type_at, float32_at   `addresses.ARRAY_TYPE_AT` and `FLOAT32_AT`
    """
    known = type(a) is np.ndarray and a.dtype == np.float32 and a.ndim == 1
    return a.size if known and a.flags.num & flags == flags else -1


@lowered(
    array_size,
    lambda a, array_type_at, float32_at, flags: signature(
        types.int64, object_pointer, types.int64, types.int64, types.int32
    ),
)
def _(context, builder, sig, a, array_type_at, float32_at, flags):
    word, integer = ir.IntType(64), ir.IntType(32)

    def read(kind, at):
        field = builder.gep(a, [word(at)])
        return builder.load(builder.bitcast(field, kind.as_pointer()))

    # Nothing may be read of an object before its type is known, so each test is behind the last.
    start = builder.block
    is_array = builder.append_basic_block("is_array")
    is_flat = builder.append_basic_block("is_flat")
    done = builder.append_basic_block("done")
    builder.cbranch(builder.icmp_unsigned("==", read(word, TYPE), array_type_at), is_array, done)

    builder.position_at_end(is_array)
    same_dtype = builder.icmp_unsigned("==", read(word, DTYPE), float32_at)
    one_axis = builder.icmp_unsigned("==", read(integer, NDIM), integer(1))
    has_flags = builder.icmp_unsigned("==", builder.and_(read(integer, FLAGS), flags), flags)
    fits = builder.and_(same_dtype, builder.and_(one_axis, has_flags))
    builder.cbranch(fits, is_flat, done)

    builder.position_at_end(is_flat)
    shape = builder.inttoptr(read(word, SHAPE), word.as_pointer())
    size = builder.load(shape)
    builder.branch(done)

    builder.position_at_end(done)
    result = builder.phi(word)
    result.add_incoming(word(-1), start)
    result.add_incoming(word(-1), is_array)
    result.add_incoming(size, is_flat)
    return result


def array_data(a):
    """Return a pointer to the floats of an array that `array_size` knows."""
    return a


@lowered(array_data, lambda a: signature(types.CPointer(types.float32), object_pointer))
def _(context, builder, sig, a):
    pointer = context.get_value_type(sig.return_type)
    field = builder.gep(a, [ir.IntType(64)(DATA)])
    return builder.load(builder.bitcast(field, pointer.as_pointer()))
