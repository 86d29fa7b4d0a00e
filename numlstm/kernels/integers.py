"""Dot products of int8 weights with 16-bit or 8-bit activations, in whole numbers.

The weights of an output share a scale; so do the inputs of a row. The sum of the products of an
output, S, is exact, whichever instructions add it up; the answer is made of it in one way:

    float32(S) = fma(S >> 8, 256, S & 255)

which is S rounded once, below 2**32, and may be had from other parts there.

What is multiplied depends on the level (`cpu.Integers`). 16 bits at a time, two products in an
instruction (PMADDWD), an input q in [-32767, 32767] is taken as it is. Their int32 sums are exact
for `packing.BLOCK` words; S is made of them. A word of weights has two bytes that are 128 too
large (`packing.py`), which the sums begin with, once for every row: `quantize` writes it.

8 bits at a time, four products in an instruction, q is two bytes, and S is 256 high + low of two
sums, which are exact int32:

    uint8   q + 32768 = 256 high + low: sum(w q) = 256 (sum(w high) - 128 sum(w)) + sum(w low)
    int8    q = 256 high + low + 128:   sum(w q) = 256 sum(w high) + (sum(w low) + 128 sum(w))

An input of 8 bits, q in [-127, 127], is one byte, ``q + 128`` or ``q``, and S one sum.

A row of quantised inputs has two words for 4 of them, the high bytes first, or the 16 bits of two;
one word where an input is one byte.

The weights, their scales and what the sums begin with are laid out in `packing.py`.

Jacob et al. 2018 (quantised inference); symmetric weights per row as in ONNX Runtime and PyTorch.
"""

from functools import cache

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import signature

from numlstm.kernels.cpu import LEVEL, PREFETCH
from numlstm.kernels.packing import ARE_SHORTS, BLOCK, INTEGER_PANEL, panel_widths
from numlstm.kernels.plan import (
    IS_UNIT,
    LANES,
    PLANES,
    S_AT,
    SX_AT,
    SX_STRIDE,
    W_AT,
    X_AT,
    X_SIZE,
    X_STRIDE,
    Y_AT,
    Y_SIZE,
    Y_STRIDE,
    Z_AT,
    Z_STRIDE,
)
from numlstm.kernels.simd import (
    VectorType,
    at_least,
    at_most,
    emit_fma,
    emit_load,
    emit_prefetch,
    emit_splat,
    emit_store,
    f32x16,
    first_lanes,
    fma,
    i32x16,
    jit,
    load,
    lowered,
    max_lanes,
    reinterpret,
    splat,
    sum_lanes,
)

_HOW = LEVEL.integers
_WIDTH = _HOW.lanes  # of a register of sums

_F = np.float32
_ZERO = _F(0.0)
_LARGEST = (_F(127.0), _F(32767.0))  # q of 1 byte, of 2
_SMALLEST = _F(2.0**-100)  # a row of smaller numbers is a row of zeros
_ROUNDER = _F(12582912.0)  # 1.5 * 2**23: adding it rounds to a whole number, in the low bits
_ROUNDER_BITS = 0x4B400000
# Words whose low sums float32 has exactly: 516 * 127 * 255 < 2**24.
_EXACT = 129
_INDEX, _INT, _SHORT, _BYTE = (ir.IntType(bits) for bits in (64, 32, 16, 8))


# Activations --------------------------------------------------------------------------------------

# What is flipped of q, of 1 byte and of 2: see above.
_FLIPS = {"uint8": (128, 32768), "int8": (0, 128), "int16": (0, 0)}[_HOW.inputs]


def _store_bytes(p, at, t):
    """Write 16 inputs of 1 byte for ``t = q + 1.5 * 2 ** 23``."""
    p.view(np.uint8)[4 * at :][:LANES] = (t.view(np.int32) ^ _FLIPS[0]) & 255


@lowered(_store_bytes, lambda p, at, t: signature(types.void, p, types.intp, f32x16))
def _(context, builder, sig, p, at, t):
    in_bytes = ir.VectorType(_BYTE, LANES)
    q = builder.trunc(builder.bitcast(t, i32x16.value), in_bytes)
    q = builder.xor(q, ir.Constant(in_bytes, [_FLIPS[0]] * LANES))
    emit_store(builder, p, at, q)
    return context.get_dummy_value()


def _store_shorts(p, at, t):
    """Write 16 inputs of 2 bytes for ``t = q + 1.5 * 2 ** 23``."""
    shorts = (t.view(np.int32) ^ _FLIPS[1]).astype(np.uint16)
    if not ARE_SHORTS:
        shorts = shorts.view(np.uint8).reshape(4, 4, 2)[:, :, ::-1].swapaxes(1, 2).ravel()
    p.view(shorts.dtype)[4 // shorts.itemsize * at :][: shorts.size] = shorts


@lowered(_store_shorts, lambda p, at, t: signature(types.void, p, types.intp, f32x16))
def _(context, builder, sig, p, at, t):
    in_shorts, in_bytes = ir.VectorType(_SHORT, LANES), ir.VectorType(_BYTE, 2 * LANES)
    q = builder.trunc(builder.bitcast(t, i32x16.value), in_shorts)
    if not ARE_SHORTS:
        q = builder.xor(q, ir.Constant(in_shorts, [_FLIPS[1]] * LANES))
        order = [8 * word + 2 * n + high for word in range(4) for high in (1, 0) for n in range(4)]
        q = builder.bitcast(q, in_bytes)
        q = builder.shuffle_vector(q, q, ir.Constant(ir.VectorType(_INT, 2 * LANES), order))
    emit_store(builder, p, at, q)
    return context.get_dummy_value()


def _no_ints():
    return np.zeros(LANES, np.int32)


@lowered(_no_ints, lambda: signature(i32x16))
def _(context, builder, sig):
    return ir.Constant(i32x16.value, None)


_IS_FIRST = [-1, -1, 0, 0] * (LANES // 4)  # inputs 0 and 1 of a word


def _add_firsts(sums, t):
    """Return sums + q of the inputs 0 and 1 of a word for ``t = q + 1.5 * 2 ** 23``."""
    return sums + ((t.view(np.int32) - _ROUNDER_BITS) & np.array(_IS_FIRST, np.int32))


@lowered(_add_firsts, lambda sums, t: signature(i32x16, i32x16, f32x16))
def _(context, builder, sig, sums, t):
    rounder, mask = (
        ir.Constant(sums.type, [_ROUNDER_BITS] * LANES),
        ir.Constant(sums.type, _IS_FIRST),
    )
    q = builder.sub(builder.bitcast(t, sums.type), rounder)
    return builder.add(sums, builder.and_(q, mask))


def _store_start(p, at, sums):
    """Write -128 times the sum of the lanes, as int32."""
    p.view(np.int32)[at] = -128 * sums.sum(dtype=np.int32)


@lowered(_store_start, lambda p, at, sums: signature(types.void, p, types.intp, i32x16))
def _(context, builder, sig, p, at, sums):
    function_type = ir.FunctionType(_INT, [sums.type])
    name = "llvm.vector.reduce.add.v16i32"
    reduce = cgutils.get_or_insert_function(builder.module, function_type, name)
    start = builder.mul(builder.call(reduce, [sums]), _INT(-128))
    builder.store(start, builder.bitcast(builder.gep(p, [at]), _INT.as_pointer()))
    return context.get_dummy_value()


@jit
def quantize(op, state, first, stop):
    """ys[row] <- round(xs[row] / scale), zs[row] <- scale

    The largest of the row is 32767, or 127 where an input is one byte; where IS_UNIT is 1 it counts
    as 1 if it is less, so that numbers in [-1, 1] have the scale 1 / 32767. A NaN or an infinity
    makes the scale a NaN, and with it all that is computed of it.

    zs   behind the scale what the sums of every block begin with, if they are of 16 bits
    """
    size = op[X_SIZE]
    largest = _LARGEST[0] if op[PLANES] == 1 else _LARGEST[1]
    zero, high = splat(_ZERO), splat(largest)
    for row in range(first, stop):
        x_at = op[X_AT] + row * op[X_STRIDE]
        y_at = op[Y_AT] + row * op[Y_STRIDE]
        z_at = op[Z_AT] + row * op[Z_STRIDE]
        top, products = zero, zero
        for j in range(0, size, LANES):
            x = first_lanes(load(state, x_at + j), size - j, zero)
            top = at_least(top, at_least(x, zero - x))
            products = fma(x, zero, products)
        if op[IS_UNIT] == 1:
            top = at_least(top, splat(_F(1.0)))
        bound = max_lanes(top)
        factor = _ZERO
        if bound > _SMALLEST:
            factor = largest / bound
        state[z_at] = bound / largest + sum_lanes(products)
        firsts = _no_ints()
        for j in range(0, size, LANES):
            x = first_lanes(load(state, x_at + j), size - j, zero) * splat(factor)
            t = at_most(at_least(x, zero - high), high) + splat(_ROUNDER)
            if ARE_SHORTS:
                if j > 0 and j % (4 * BLOCK) == 0:
                    _store_start(state, z_at + j // (4 * BLOCK), firsts)
                    firsts = _no_ints()
                firsts = _add_firsts(firsts, t)
                _store_shorts(state, y_at + j // 2, t)
            elif op[PLANES] == 2:
                _store_shorts(state, y_at + j // 2, t)
            else:
                _store_bytes(state, y_at + j // 4, t)
        if ARE_SHORTS:
            _store_start(state, z_at + 1 + (size - 1) // (4 * BLOCK), firsts)


# Products of a register of weights, 4 inputs for each lane ----------------------------------------


def _bytes_of(words, kind):
    """Return the bytes of every word, (4, lanes), int32."""
    return np.ascontiguousarray(words).view(kind).reshape(-1, 4).T.astype(np.int32)


def _products(words, inputs):
    """Return what the sums of an output grow by: one for every word of inputs, or for both."""
    if ARE_SHORTS:
        weights = _bytes_of(words, np.int8)[[0, 2, 1, 3]]
        weights[:2] &= 255
        xs = np.array(inputs, np.int32).view(np.int16).astype(np.int32)
        return [(weights * xs[:, None]).sum(axis=0, dtype=np.int32)]
    weights = _bytes_of(words, np.int8)
    xs = [_bytes_of(np.array([word], np.int32), _HOW.inputs) for word in inputs]
    return [(weights * x).sum(axis=0, dtype=np.int32) for x in xs]


def _emit_products(builder, sums, words, inputs):
    """Return sums, one or two registers, with the products of words and inputs added."""
    if not ARE_SHORTS:
        return [_emit_dot(builder, total, x, words) for total, x in zip(sums, inputs, strict=True)]
    shorts = ir.VectorType(_SHORT, 2 * _WIDTH)
    words = builder.bitcast(words, shorts)
    firsts = builder.and_(words, ir.Constant(shorts, [255] * 2 * _WIDTH))
    lasts = builder.ashr(words, ir.Constant(shorts, [8] * 2 * _WIDTH))
    (total,) = sums
    name = {4: "sse2.pmadd.wd", 8: "avx2.pmadd.wd", 16: "avx512.pmaddw.d.512"}[_WIDTH]
    for x, part in zip(inputs, (firsts, lasts), strict=True):
        x = builder.bitcast(x, shorts)
        total = builder.add(total, _call(builder, f"x86.{name}", total.type, part, x))
    return [total]


def _emit_dot(builder, total, x, words):
    """Add 4 products for every lane."""
    in_bytes = ir.VectorType(_BYTE, 4 * _WIDTH)
    x, words = builder.bitcast(x, in_bytes), builder.bitcast(words, in_bytes)
    if _HOW.instruction == "vpdpbusd":
        name = f"x86.avx512.vpdpbusd.{32 * _WIDTH}"  # of AVX-VNNI as well
        return _call(builder, name, total.type, total, x, words)
    if _HOW.instruction == "sdot":
        return _call(builder, "aarch64.neon.sdot.v4i32.v16i8", total.type, total, x, words)
    # Two products fit into 16 bits: 127 * 128 * 2 < 2**15.
    in_shorts = ir.VectorType(_SHORT, 8)
    pairs = []
    for half in (range(8), range(8, 16)):
        lanes = ir.Constant(ir.VectorType(_INT, 8), list(half))
        parts = (builder.shuffle_vector(v, v, lanes) for v in (x, words))
        pairs.append(_call(builder, "aarch64.neon.smull.v8i16", in_shorts, *parts))
    pairs = _call(builder, "aarch64.neon.addp.v8i16", in_shorts, *pairs)
    return builder.add(total, _call(builder, "aarch64.neon.saddlp.v4i32.v8i16", total.type, pairs))


def _call(builder, name, result, *args):
    function_type = ir.FunctionType(result, [arg.type for arg in args])
    function = cgutils.get_or_insert_function(builder.module, function_type, f"llvm.{name}")
    return builder.call(function, args)


def _check_target(context):
    """Raise a RuntimeError where Numba compiles for less than the level has: LLVM would abort.

    `codegen.py` compiles for the level; Numba by itself (tests) for what it was told when the first
    function of the process was made, which may have been another's.
    """
    features = getattr(context.codegen(), "_tm_features", LEVEL.features)
    missing = sorted(name for name in LEVEL.needs if f"+{name}" not in features.split(","))
    if features != LEVEL.features and missing:
        raise RuntimeError(
            f"kernels of the level {LEVEL.name} need {', '.join(missing)}, for which Numba was set "
            "up not to compile: import numlstm before anything is compiled"
        )


# Tiles: rows of registers of sums -----------------------------------------------------------------
# A row of inputs has one row of sums, or two, of high and low bytes.

_sums = VectorType(f"i32x{_WIDTH}", ir.VectorType(_INT, _WIDTH))


def _tile_type(num_registers, num_rows):
    return types.UniTuple(types.UniTuple(_sums, num_registers), num_rows)


def _make_start(num_registers, num_rows, num_sums):
    """Return a function that starts a tile."""
    # Where the sums begin with -128 or 128 times the sum of the weights.
    corrected = {"uint8": 0, "int8": 1, "int16": None}[_HOW.inputs]

    def start(params, s_at, state, z_at, z_stride):
        """Return sums that begin with ints at s_at + 16 * v, at z_at + row * z_stride, or with 0.

        params, state   int32
        """
        rows = []
        for row in range(num_rows):
            for n in range(num_sums):
                registers = [np.zeros(_WIDTH, np.int32) for _ in range(num_registers)]
                for v, register in enumerate(registers):
                    if ARE_SHORTS:
                        register += state[z_at + row * z_stride]
                    elif n == corrected:
                        register += params[s_at + _WIDTH * v :][:_WIDTH]
                rows.append(tuple(registers))
        return tuple(rows)

    tile = _tile_type(num_registers, num_sums * num_rows)

    @lowered(
        start,
        lambda params, s_at, state, z_at, z_stride: signature(
            tile, params, types.intp, state, types.intp, types.intp
        ),
    )
    def _(context, builder, sig, params, s_at, state, z_at, z_stride):
        result = ir.Constant(context.get_value_type(tile), None)
        for row in range(num_rows):
            if ARE_SHORTS:
                at = builder.add(z_at, builder.mul(z_stride, _INDEX(row)))
                of_row = emit_splat(builder, builder.load(builder.gep(state, [at])), _WIDTH)
            for v in range(num_registers):
                if ARE_SHORTS:
                    result = builder.insert_value(result, of_row, (row, v))
                elif corrected < num_sums:
                    at = builder.add(s_at, _INDEX(_WIDTH * v))
                    sums = emit_load(builder, params, at, _WIDTH)
                    result = builder.insert_value(result, sums, (num_sums * row + corrected, v))
        return result

    return start


@cache
def _make_dot(num_sums, num_words):
    """Return a function that adds the products of a panel; a row has so many sums and words."""

    def accumulate(tile, weights, w_at, xs, x_at, x_stride):
        """Return the tile with the words at w_at times those at x_at + row * x_stride added."""
        result = list(tile)
        for row in range(len(tile) // num_sums):
            inputs = xs[x_at + row * x_stride :][:num_words]
            for v in range(len(tile[0])):
                products = _products(weights[w_at + _WIDTH * v :][:_WIDTH], inputs)
                for n in range(num_sums):
                    sums = result[num_sums * row + n]
                    sums = (*sums[:v], sums[v] + products[n], *sums[v + 1 :])
                    result[num_sums * row + n] = sums
        return tuple(result)

    @lowered(
        accumulate,
        lambda tile, weights, w_at, xs, x_at, x_stride: signature(
            tile, tile, weights, types.intp, xs, types.intp, types.intp
        ),
    )
    def _(context, builder, sig, tile, weights, w_at, xs, x_at, x_stride):
        _check_target(context)
        num_rows, num_registers = len(sig.return_type) // num_sums, len(sig.return_type.dtype)
        # One row does too little with a weight to hide its way.
        if num_rows == 1 and num_registers * _WIDTH == LANES * INTEGER_PANEL:
            for v in range(INTEGER_PANEL):
                emit_prefetch(builder, weights, builder.add(w_at, _INDEX(PREFETCH + LANES * v)))
        words = {}
        for row in range(num_rows):
            row_at = builder.add(x_at, builder.mul(x_stride, _INDEX(row)))
            ats = [builder.add(row_at, _INDEX(n)) for n in range(num_words)]
            inputs = [
                emit_splat(builder, builder.load(builder.gep(xs, [at])), _WIDTH) for at in ats
            ]
            for v in range(num_registers):
                if row == 0:  # right before its products: NEON runs out of registers otherwise
                    words[v] = emit_load(
                        builder, weights, builder.add(w_at, _INDEX(_WIDTH * v)), _WIDTH
                    )
                places = [(num_sums * row + n, v) for n in range(num_sums)]
                sums = [builder.extract_value(tile, place) for place in places]
                for place, register in zip(
                    places, _emit_products(builder, sums, words[v], inputs), strict=True
                ):
                    tile = builder.insert_value(tile, register, place)
        return tile

    @jit
    def dot(tile, weights, w_at, w_stride, xs, x_at, x_stride, count):
        """Return the tile with the products of ``count`` words of weights added.

        weights   of one panel, w_stride words from one word to the next
        xs        a row of inputs for every row of the tile, x_stride apart
        """
        for _ in range(count):
            tile = accumulate(tile, weights, w_at, xs, x_at, x_stride)
            w_at += w_stride
            x_at += num_words
        return tile

    return dot


def _make_zeros(num_registers, num_rows):
    def zeros():
        return ((np.zeros(_WIDTH, np.int32),) * num_registers,) * num_rows

    tile = _tile_type(num_registers, num_rows)

    @lowered(zeros, lambda: signature(tile))
    def _(context, builder, sig):
        return ir.Constant(context.get_value_type(tile), None)

    return zeros


def _add_split(halves, tile):
    """Return halves, two rows of sums for every row of a tile, with its high and low bits added."""
    result = []
    for row, sums in enumerate(tile):
        high, low = halves[2 * row], halves[2 * row + 1]
        result.append(tuple(a + (b >> 8) for a, b in zip(high, sums, strict=True)))
        result.append(tuple(a + (b & 255) for a, b in zip(low, sums, strict=True)))
    return tuple(result)


@lowered(_add_split, lambda halves, tile: signature(halves, halves, tile))
def _(context, builder, sig, halves, tile):
    for row in range(len(sig.args[1])):
        for v in range(len(sig.args[1].dtype)):
            parts = _emit_split(builder, builder.extract_value(tile, (row, v)))
            for n, part in enumerate(parts):
                place = (2 * row + n, v)
                part = builder.add(builder.extract_value(halves, place), part)
                halves = builder.insert_value(halves, part, place)
    return halves


def _emit_split(builder, sums):
    eight, mask = (ir.Constant(sums.type, [n] * sums.type.count) for n in (8, 255))
    return builder.ashr(sums, eight), builder.and_(sums, mask)


def _carried(tile):
    """Return high and low sums with what the low ones have beyond 8 bits added to the high ones."""
    result = []
    for high, low in zip(tile[::2], tile[1::2], strict=True):
        result.append(tuple(a + (b >> 8) for a, b in zip(high, low, strict=True)))
        result.append(tuple(b & 255 for b in low))
    return tuple(result)


@lowered(_carried, lambda tile: signature(tile, tile))
def _(context, builder, sig, tile):
    for row in range(0, len(sig.return_type), 2):
        for v in range(len(sig.return_type.dtype)):
            more, low = _emit_split(builder, builder.extract_value(tile, (row + 1, v)))
            high = builder.add(builder.extract_value(tile, (row, v)), more)
            tile = builder.insert_value(tile, high, (row, v))
            tile = builder.insert_value(tile, low, (row + 1, v))
    return tile


def _make_finish(num_rows):
    """Return a function that turns the sums of rows into answers."""

    def finish(
        tile, params, s_at, state, z_at, z_stride, init, init_at, init_stride, y_at, y_stride
    ):
        """ys[row][v] <- init[row][v] + params[s_at + v] * zs[row] * S[row][v]

        Rows of zs, init and ys, which are in state, in init and in state, are so far apart.
        """
        num_sums = len(tile) // num_rows
        for row in range(num_rows):
            sums = [np.concatenate(tile[num_sums * row + n]) for n in range(num_sums)]
            total = sums[0].astype(np.float32)
            if num_sums == 2:
                total = fma(total, _F(256.0), sums[1].astype(np.float32))
            scale = params[s_at:][: total.size] * state[z_at + row * z_stride]
            start = init[init_at + row * init_stride :][: total.size]
            state[y_at + row * y_stride :][: total.size] = fma(total, scale, start)

    def typer(
        tile, params, s_at, state, z_at, z_stride, init, init_at, init_stride, y_at, y_stride
    ):
        at = types.intp
        return signature(types.void, tile, params, at, state, at, at, init, at, at, at, at)

    @lowered(finish, typer)
    def _(
        context, builder, sig, tile, params, s_at, state, z_at, z_stride,
        init, init_at, init_stride, y_at, y_stride,
    ):  # fmt: skip
        num_sums = len(sig.args[0]) // num_rows
        floats = ir.VectorType(ir.FloatType(), _WIDTH)
        large = ir.Constant(floats, [256.0] * _WIDTH)
        for row in range(num_rows):

            def at(start, stride, row=row):
                return builder.add(start, builder.mul(stride, _INDEX(row)))

            of_row = builder.load(builder.gep(state, [at(z_at, z_stride)]))
            of_row = emit_splat(builder, of_row, _WIDTH)
            for v in range(len(sig.args[0].dtype)):
                rows = range(num_sums * row, num_sums * (row + 1))
                sums = [builder.sitofp(builder.extract_value(tile, (n, v)), floats) for n in rows]
                total = sums[0] if num_sums == 1 else emit_fma(builder, sums[0], large, sums[1])
                place = _INDEX(_WIDTH * v)
                scale = emit_load(builder, params, builder.add(s_at, place), _WIDTH)
                start = builder.add(at(init_at, init_stride), place)
                start = emit_load(builder, init, start, _WIDTH)
                y = emit_fma(builder, total, builder.fmul(scale, of_row), start)
                emit_store(builder, state, builder.add(at(y_at, y_stride), place), y)
        return context.get_dummy_value()

    return finish


@cache
def _make_tile(num_vectors, num_rows, num_bytes):
    """Return a function that computes ``num_vectors`` of outputs of ``num_rows``."""
    num_registers = num_vectors * LANES // _WIDTH
    num_sums = 1 if ARE_SHORTS else num_bytes
    num_words = 2 if ARE_SHORTS else num_bytes
    start = _make_start(num_registers, num_rows, num_sums)
    dot = _make_dot(num_sums, num_words)
    finish = _make_finish(num_rows)
    no_halves = _make_zeros(num_registers, 2 * num_rows)

    @jit
    def tile(op, params, w_at, w_stride, init, init_at, state, j, row):
        """ys[row][j:] <- init[row] + (W[j:] @ qs[row]) * scales * zs[row]

        w_at   where the panel's weights for these outputs begin, w_stride from word to word
        """
        ints, words = reinterpret(params, np.int32), reinterpret(state, np.int32)
        count = (op[X_SIZE] + 3) // 4
        x_at, x_stride = op[X_AT] + row * op[X_STRIDE], op[X_STRIDE]
        z_at, z_stride = op[SX_AT] + row * op[SX_STRIDE], op[SX_STRIDE]
        s_at = op[S_AT] + j
        init_at, init_stride = init_at + row * op[Z_STRIDE] + j, op[Z_STRIDE]
        y_at, y_stride = op[Y_AT] + row * op[Y_STRIDE] + j, op[Y_STRIDE]
        if ARE_SHORTS and count > BLOCK:
            halves = no_halves()
            for k in range(0, count, BLOCK):
                sums = start(ints, s_at, words, z_at + 1 + k // BLOCK, z_stride)
                sums = dot(
                    sums, ints, w_at + k * w_stride, w_stride, words, x_at + 2 * k, x_stride,
                    min(BLOCK, count - k),
                )  # fmt: skip
                halves = _add_split(halves, sums)
            finish(
                _carried(halves), params, s_at, state, z_at, z_stride,
                init, init_at, init_stride, y_at, y_stride,
            )  # fmt: skip
            return
        sums = start(ints, s_at + op[Y_SIZE], words, z_at + 1, z_stride)
        sums = dot(sums, ints, w_at, w_stride, words, x_at, x_stride, count)
        if num_sums == 2 and count > _EXACT:
            sums = _carried(sums)
        finish(
            sums, params, s_at, state, z_at, z_stride,
            init, init_at, init_stride, y_at, y_stride,
        )  # fmt: skip

    return tile


# Matrices -----------------------------------------------------------------------------------------


def _make_panels(widths, num_bytes):
    """Return a function that applies panels of these widths, in vectors, the widest first."""
    size = LANES * widths[0]
    most_vectors, most_sums = _HOW.tile
    part = min(widths[0], most_vectors)
    most = most_sums if ARE_SHORTS else most_sums // num_bytes
    if ARE_SHORTS and part < most_vectors:
        most = min(most, 3)  # of narrower panels: with 4 a pointer would come from the stack
    one = _make_tile(widths[0], 1, num_bytes)
    many = _make_tile(part, most, num_bytes) if most > 1 else None
    others = _make_panels(widths[1:], num_bytes) if len(widths) > 1 else None

    @jit
    def panels(op, params, init, init_at, state, j, first, stop):
        """Apply the panels of outputs j and on to rows `first` to `stop`."""
        rest = first
        if many is not None:
            rest = stop - (stop - first) % most
        while j + size <= op[Y_SIZE]:
            w_at = op[W_AT] + j * ((op[X_SIZE] + 3) // 4)
            if many is not None:
                for v in range(0, size, LANES * part):
                    for row in range(first, rest, most):
                        many(op, params, w_at + v, size, init, init_at, state, j + v, row)
            for row in range(rest, stop):
                one(op, params, w_at, size, init, init_at, state, j, row)
            j += size
        if others is not None:
            others(op, params, init, init_at, state, j, first, stop)

    return panels


def _make_rows(num_bytes):
    """Return `integer_rows` for inputs of 1 or 2 bytes."""
    panels = _make_panels(panel_widths(2 * INTEGER_PANEL - 1, INTEGER_PANEL), num_bytes)

    @jit
    def integer_rows(op, params, init, init_at, state, first, stop):
        """Apply a packed int8 matrix to rows `first` to `stop`.

            ys[row] <- init[row] + (W @ qs[row]) * scales * zs[row]

        params   W (Y_SIZE, X_SIZE) at W_AT, packed; at S_AT the scale of every output, behind them
                 what its sums begin with
        init     at init_at rows of Y_SIZE floats, Z_STRIDE apart (0: one bias for all of them)
        state    at X_AT the quantised rows, X_STRIDE words apart; their scales at SX_AT, SX_STRIDE
                 apart; the results at Y_AT, rows of Y_SIZE floats, Y_STRIDE apart
        """
        panels(op, params, init, init_at, state, 0, first, stop)

    return integer_rows


rows_of_2_bytes = _make_rows(2)
rows_of_1_byte = rows_of_2_bytes if ARE_SHORTS else _make_rows(1)
