"""Vectors of 16 float32 lanes for Numba, each function beside its plain Python twin.

A vector is an LLVM value: the compiler splits it into what the CPU has (one AVX-512 register, two
AVX2 ones, four NEON ones). Every lane does the same IEEE 754 operation whatever the split, so the
bits of a result do not depend on the CPU.

Each function below is written in Python, on a NumPy array of 16 lanes, and Numba is given LLVM IR
of the same meaning. Under ``NUMBA_DISABLE_JIT=1`` the Python text runs, which is how the kernels
are debugged and tested. The twin of `fma` rounds twice (float64, then float32): equal to the
hardware's but for rare ties.
"""

import operator

import numba
import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import lower_builtin, models, register_model, type_callable

from numlstm.kernels.cpu import LEVEL
from numlstm.kernels.plan import LANES

# Where Numba runs a kernel by itself, in a test or a bench, its code is that of the level.
numba.config.CPU_NAME, numba.config.CPU_FEATURES = LEVEL.cpu, LEVEL.features

# No allocation, no exceptions, no reassociation. What the walker calls is linked
# into it (`codegen.py`).
jit = njit(
    nogil=True,
    error_model="numpy",
    boundscheck=False,
    no_cpython_wrapper=True,
    no_cfunc_wrapper=True,
)

# For what has one caller: it is typed there, and not compiled on its own as well.
inlined = njit(nogil=True, error_model="numpy", boundscheck=False, inline="always")

_FLOAT = ir.FloatType()
_INT = ir.IntType(32)
_WORD = ir.IntType(64)
_VECTOR = ir.VectorType(_FLOAT, LANES)
_INT_VECTOR = ir.VectorType(_INT, LANES)


class VectorType(types.Type):
    """A vector for Numba; value is LLVM's."""

    def __init__(self, name, value):
        super().__init__(name)
        self.value = value


f32x16, i32x16 = VectorType("f32x16", _VECTOR), VectorType("i32x16", _INT_VECTOR)


@register_model(VectorType)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, fe_type.value)


def lowered(function, typer):
    """Give Numba a type rule and LLVM IR for a Python function.

    typer   argument types -> signature, or None where the function does not apply
    The decorated emitter is called as ``emit(context, builder, sig, *values)``.
    """
    type_callable(function)(lambda context: typer)

    def decorate(emit):
        @lower_builtin(function, types.VarArg(types.Any))
        def lower(context, builder, sig, args):
            return emit(context, builder, sig, *args)

        return emit

    return decorate


def emit_splat(builder, scalar, lanes=LANES):
    undefined = ir.Constant(ir.VectorType(scalar.type, lanes), ir.Undefined)
    first = builder.insert_element(undefined, scalar, ir.Constant(_INT, 0))
    zeros = ir.Constant(ir.VectorType(_INT, lanes), [0] * lanes)
    return builder.shuffle_vector(first, undefined, zeros)


def emit_fma(builder, a, b, c):
    function_type = ir.FunctionType(a.type, [a.type] * 3)
    name = f"llvm.fma.v{a.type.count}f32"
    fma_function = cgutils.get_or_insert_function(builder.module, function_type, name)
    return builder.call(fma_function, [a, b, c])


def emit_load(builder, pointer, at, lanes=LANES):
    vector = ir.VectorType(pointer.type.pointee, lanes)
    address = builder.bitcast(builder.gep(pointer, [at]), vector.as_pointer())
    return builder.load(address, align=4)


def emit_store(builder, pointer, at, value):
    address = builder.bitcast(builder.gep(pointer, [at]), value.type.as_pointer())
    builder.store(value, address, align=4)


# Pointers -----------------------------------------------------------------------------------------
# Kernels work on bare pointers: an array is seven words and a reference count, which costs 50 ns
# per call of a small kernel. In Python a pointer is a flat array.


def pointer(a, dtype):
    """Return a pointer to the first element of a contiguous array, or of an address.

    a   an array; in compiled code also an integer, the address of an array of this dtype
    """
    return a.reshape(-1)


@lowered(pointer, lambda a, dtype: signature(types.CPointer(dtype.dtype), a, dtype))
def _(context, builder, sig, a, dtype):
    if isinstance(sig.args[0], types.Array):
        return context.make_array(sig.args[0])(context, builder, a).data
    return builder.inttoptr(a, context.get_value_type(sig.return_type))


def offset(p, n):
    """Return a pointer to element ``n`` of ``p``."""
    return p[n:]


@lowered(offset, lambda p, n: signature(p, p, types.intp))
def _(context, builder, sig, p, n):
    return builder.gep(p, [n])


def floats_between(p, q):
    """Return how many floats ``q`` lies behind ``p``."""
    return (q.ctypes.data - p.ctypes.data) // 4


@lowered(floats_between, lambda p, q: signature(types.intp, p, q))
def _(context, builder, sig, p, q):
    difference = builder.sub(builder.ptrtoint(q, _WORD), builder.ptrtoint(p, _WORD))
    return builder.ashr(difference, _WORD(2))


def reinterpret(p, dtype):
    """Return a pointer to the same bytes, read as another type."""
    return p.view(dtype)


@lowered(reinterpret, lambda p, dtype: signature(types.CPointer(dtype.dtype), p, dtype))
def _(context, builder, sig, p, dtype):
    return builder.bitcast(p, context.get_value_type(sig.return_type))


@infer_global(operator.getitem)
class _GetItem(AbstractTemplate):
    def generic(self, args, kws):
        if isinstance(args[0], types.CPointer) and isinstance(args[1], types.Integer):
            return signature(args[0].dtype, args[0], types.intp)
        return None


@lower_builtin(operator.getitem, types.CPointer, types.intp)
def _get_item(context, builder, sig, args):
    return builder.load(builder.gep(args[0], [args[1]]))


@infer_global(operator.setitem)
class _SetItem(AbstractTemplate):
    def generic(self, args, kws):
        if isinstance(args[0], types.CPointer) and isinstance(args[1], types.Integer):
            return signature(types.void, args[0], types.intp, args[0].dtype)
        return None


@lower_builtin(operator.setitem, types.CPointer, types.intp, types.Any)
def _set_item(context, builder, sig, args):
    builder.store(args[2], builder.gep(args[0], [args[1]]))


def load(p, at):
    """Return ``p[at:at + 16]`` of float32. Nothing checks the bounds."""
    return p[at : at + LANES].copy()


@lowered(load, lambda p, at: signature(f32x16, p, types.intp))
def _(context, builder, sig, p, at):
    return emit_load(builder, p, at)


def store(p, at, v):
    """Write ``v`` to ``p[at:at + 16]``. Nothing checks the bounds."""
    p[at : at + LANES] = v


@lowered(store, lambda p, at, v: signature(types.void, p, types.intp, f32x16))
def _(context, builder, sig, p, at, v):
    emit_store(builder, p, at, v)
    return context.get_dummy_value()


def emit_prefetch(builder, pointer, at):
    """Ask for the cache line at ``pointer[at]``, of any address: a prefetch never faults."""
    void, byte = ir.VoidType(), ir.IntType(8).as_pointer()
    function_type = ir.FunctionType(void, [byte, _INT, _INT, _INT])
    prefetch = cgutils.get_or_insert_function(builder.module, function_type, "llvm.prefetch.p0")
    address = builder.bitcast(builder.gep(pointer, [at]), byte)
    for_read, keep, of_data = (ir.Constant(_INT, n) for n in (0, 3, 1))
    builder.call(prefetch, [address, for_read, keep, of_data])


def splat(x):
    """Return a vector with ``x`` (float32) in every lane."""
    return np.full(LANES, x, np.float32)


@lowered(splat, lambda x: signature(f32x16, types.float32))
def _(context, builder, sig, x):
    return emit_splat(builder, x)


# Arithmetic ---------------------------------------------------------------------------------------


def _lower_operator(op, instruction):
    @infer_global(op)
    class _Operator(AbstractTemplate):
        def generic(self, args, kws):
            if len(args) == 2 and all(arg == f32x16 for arg in args):
                return signature(f32x16, f32x16, f32x16)
            return None

    @lower_builtin(op, f32x16, f32x16)
    def _emit(context, builder, sig, args):
        return getattr(builder, instruction)(*args)


_lower_operator(operator.add, "fadd")
_lower_operator(operator.sub, "fsub")
_lower_operator(operator.mul, "fmul")
_lower_operator(operator.truediv, "fdiv")


def fma(a, b, c):
    """Return ``a * b + c``, rounded once."""
    return (a.astype(np.float64) * b + c).astype(np.float32)


@lowered(fma, lambda a, b, c: signature(f32x16, f32x16, f32x16, f32x16))
def _(context, builder, sig, a, b, c):
    return emit_fma(builder, a, b, c)


def at_least(x, low):
    """Return ``low`` where ``x < low``, else ``x``: a maximum that keeps the NaN of ``x``."""
    return np.where(x < low, low, x)


@lowered(at_least, lambda x, low: signature(f32x16, f32x16, f32x16))
def _(context, builder, sig, x, low):
    return builder.select(builder.fcmp_ordered("<", x, low), low, x)


def at_most(x, high):
    """Return ``high`` where ``x > high``, else ``x``: a minimum that keeps the NaN of ``x``."""
    return np.where(x > high, high, x)


@lowered(at_most, lambda x, high: signature(f32x16, f32x16, f32x16))
def _(context, builder, sig, x, high):
    return builder.select(builder.fcmp_ordered(">", x, high), high, x)


def magnitude(x):
    """Return the absolute value: the sign bit is cleared, in a NaN too."""
    return np.abs(x)


@lowered(magnitude, lambda x: signature(f32x16, f32x16))
def _(context, builder, sig, x):
    function_type = ir.FunctionType(_VECTOR, [_VECTOR])
    fabs = cgutils.get_or_insert_function(builder.module, function_type, "llvm.fabs.v16f32")
    return builder.call(fabs, [x])


def where_greater(x, low, yes, no):
    """Return ``yes`` where ``x > low``, else (also where x is a NaN) ``no``."""
    return np.where(x > low, yes, no)


@lowered(where_greater, lambda x, low, yes, no: signature(f32x16, f32x16, f32x16, f32x16, f32x16))
def _(context, builder, sig, x, low, yes, no):
    return builder.select(builder.fcmp_ordered(">", x, low), yes, no)


def square_root(x):
    """Return the square root, NaN of negative numbers."""
    with np.errstate(invalid="ignore"):
        return np.sqrt(x)


@lowered(square_root, lambda x: signature(f32x16, f32x16))
def _(context, builder, sig, x):
    function_type = ir.FunctionType(_VECTOR, [_VECTOR])
    root = cgutils.get_or_insert_function(builder.module, function_type, "llvm.sqrt.v16f32")
    return builder.call(root, [x])


_ROOT_HALF_BITS = 0x3F3504F3  # of sqrt(1/2)


def exponent(x):
    """Return the whole n with ``x / 2 ** n`` in [sqrt(1/2), sqrt(2)), for normal ``x > 0``."""
    return ((x.view(np.int32) - _ROOT_HALF_BITS) >> 23).astype(np.float32)


@lowered(exponent, lambda x: signature(f32x16, f32x16))
def _(context, builder, sig, x):
    bits = builder.bitcast(x, _INT_VECTOR)
    above = builder.sub(bits, ir.Constant(_INT_VECTOR, [_ROOT_HALF_BITS] * LANES))
    whole = builder.ashr(above, ir.Constant(_INT_VECTOR, [23] * LANES))
    return builder.sitofp(whole, _VECTOR)


def power_of_two(n):
    """Return ``2 ** n`` for whole ``n`` in [-126, 127]; a NaN gives some number."""
    with np.errstate(invalid="ignore"):
        return ((n.astype(np.int32) + 127) << 23).view(np.float32)


@lowered(power_of_two, lambda n: signature(f32x16, f32x16))
def _(context, builder, sig, n):
    # A NaN must not reach fptosi, whose result would be undefined.
    whole = builder.select(builder.fcmp_ordered("ord", n, n), n, ir.Constant(_VECTOR, None))
    exponent = builder.add(
        builder.fptosi(whole, _INT_VECTOR), ir.Constant(_INT_VECTOR, [127] * LANES)
    )
    return builder.bitcast(builder.shl(exponent, ir.Constant(_INT_VECTOR, [23] * LANES)), _VECTOR)


def times_power_of_two(v, t):
    """Return ``v * 2 ** n`` for ``t = n + 1.5 * 2 ** 23``, n whole, all numbers normal.

    The low bits of t are n; they are added to the exponent of v.
    """
    return (v.view(np.int32) + (t.view(np.int32) << 23)).view(np.float32)


@lowered(times_power_of_two, lambda v, t: signature(f32x16, f32x16, f32x16))
def _(context, builder, sig, v, t):
    bits = builder.bitcast(t, _INT_VECTOR)
    exponent = builder.shl(bits, ir.Constant(_INT_VECTOR, [23] * LANES))
    return builder.bitcast(builder.add(builder.bitcast(v, _INT_VECTOR), exponent), _VECTOR)


# Lanes --------------------------------------------------------------------------------------------


def first_lanes(v, count, fill):
    """Return ``v`` with every lane from ``count`` on replaced by that of ``fill``."""
    return np.where(np.arange(LANES) < count, v, fill)


@lowered(first_lanes, lambda v, count, fill: signature(f32x16, f32x16, types.int32, f32x16))
def _(context, builder, sig, v, count, fill):
    lane = ir.Constant(_INT_VECTOR, list(range(LANES)))
    return builder.select(builder.icmp_signed("<", lane, emit_splat(builder, count)), v, fill)


def load_half(p, at):
    """Return ``p[at:at + 8]`` of float32 with zeros behind them. Nothing checks the bounds."""
    return np.append(p[at : at + LANES // 2], np.zeros(LANES // 2, np.float32))


@lowered(load_half, lambda p, at: signature(f32x16, p, types.intp))
def _(context, builder, sig, p, at):
    half = ir.VectorType(_FLOAT, LANES // 2)
    address = builder.bitcast(builder.gep(p, [at]), half.as_pointer())
    lanes = [*range(LANES // 2), *[LANES // 2] * (LANES // 2)]
    v = builder.load(address, align=4)
    return builder.shuffle_vector(v, ir.Constant(half, None), ir.Constant(_INT_VECTOR, lanes))


def low_half(v):
    """Return ``v`` with the upper half of its lanes replaced by 0.

    Where a vector is several registers, what only the others would hold is not computed at all.
    """
    return np.where(np.arange(LANES) < LANES // 2, v, np.float32(0.0))


@lowered(low_half, lambda v: signature(f32x16, f32x16))
def _(context, builder, sig, v):
    lanes = [*range(LANES // 2), *[LANES] * (LANES // 2)]
    zero = ir.Constant(_VECTOR, None)
    return builder.shuffle_vector(v, zero, ir.Constant(_INT_VECTOR, lanes))


def _emit_fold(builder, v, combine):
    """Combine the lanes in halves (8, 4, 2, 1), an order no CPU changes; return lane 0."""
    for half in (8, 4, 2, 1):
        upper = [half + lane if lane < half else lane for lane in range(LANES)]
        v = combine(v, builder.shuffle_vector(v, v, ir.Constant(_INT_VECTOR, upper)))
    return builder.extract_element(v, ir.Constant(_INT, 0))


def sum_lanes(v):
    """Return the sum of the lanes, added in halves."""
    for half in (8, 4, 2, 1):
        v = v[:half] + v[half : 2 * half]
    return v[0]


@lowered(sum_lanes, lambda v: signature(types.float32, f32x16))
def _(context, builder, sig, v):
    return _emit_fold(builder, v, builder.fadd)


def max_lanes(v):
    """Return the largest lane (of numbers: a NaN gives some lane)."""
    for half in (8, 4, 2, 1):
        v = np.where(v[:half] < v[half : 2 * half], v[half : 2 * half], v[:half])
    return v[0]


@lowered(max_lanes, lambda v: signature(types.float32, f32x16))
def _(context, builder, sig, v):
    def larger(a, b):
        return builder.select(builder.fcmp_ordered("<", a, b), b, a)

    return _emit_fold(builder, v, larger)
