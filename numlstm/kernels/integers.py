"""Dot products of int8 weights with 16-bit or 8-bit activations, in whole numbers.

The weights of an output share a scale; so do the inputs of a row. An input q in [-32767, 32767] is
split into two planes of bytes, ``q + 32768 = 256 high + low``, because the instruction that does
four products at once (VNNI) takes unsigned by signed bytes:

    w . q = 256 (w . high - 128 sum(w)) + w . low

Both sums are exact in int32, and whichever instructions add them up, the numbers are the same. A
plane is a row of words of 4 inputs; the two planes of a row lie one behind the other, so that a
tile takes them as two rows. An input of 8 bits, q in [-127, 127], is one plane, ``q + 128``, and
its sum that of the high plane above.

The weights, their scales and the -128 sum(w) are laid out in `packing.py`.

Jacob et al. 2018 (quantised inference); symmetric weights per row as in ONNX Runtime and PyTorch.
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import signature

from numlstm.kernels.cpu import LEVEL
from numlstm.kernels.packing import PANEL
from numlstm.kernels.plan import (
    IS_UNIT,
    LANES,
    PLANES,
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
    at_least,
    at_most,
    emit_fma,
    emit_load,
    emit_splat,
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
from numlstm.kernels.tiles import (
    lower_accumulate,
    make_load_tile,
    store_tile,
    tile_type,
)

_PLANE_VECTORS, _TILE_PLANES = LEVEL.planes

_F = np.float32
_ZERO = _F(0.0)
_LARGEST = (_F(127.0), _F(32767.0))  # q of 1 plane, of 2
_SMALLEST = _F(2.0**-100)  # a row of smaller numbers is a row of zeros
_ROUNDER = _F(12582912.0)  # 1.5 * 2**23: adding it rounds to a whole number, in the low bits
_INDEX, _INT = ir.IntType(64), ir.IntType(32)
_INTS, _BYTES = i32x16.value, ir.VectorType(ir.IntType(8), LANES)


# Activations --------------------------------------------------------------------------------------


def _store_plane(p, at, t, offset, shift):
    """Write a byte of ``q + offset`` for ``t = q + 1.5 * 2 ** 23``, lane by lane."""
    p[at : at + LANES] = ((t.view(np.int32) + offset) >> shift) & 255


@lowered(
    _store_plane,
    lambda p, at, t, offset, shift: signature(
        types.void, p, types.intp, f32x16, types.int32, types.int32
    ),
)
def _(context, builder, sig, p, at, t, offset, shift):
    shifted = builder.add(builder.bitcast(t, _INTS), emit_splat(builder, offset))
    plane = builder.lshr(shifted, emit_splat(builder, shift))
    address = builder.bitcast(builder.gep(p, [at]), _BYTES.as_pointer())
    builder.store(builder.trunc(plane, _BYTES), address, align=1)
    return context.get_dummy_value()


@jit
def quantize(op, state, first, stop):
    """ys[row] <- the planes of round(xs[row] / scale), zs[row] <- scale

    The largest of the row is 32767, or 127 where there is one plane; where IS_UNIT is 1 it counts
    as 1 if it is less, so that numbers in [-1, 1] have the scale 1 / 32767. A NaN or an infinity
    makes the scale a NaN, and with it all that is computed of it.

    ys   PLANES planes of Y_SIZE words
    """
    size = op[X_SIZE]
    largest = _LARGEST[0] if op[PLANES] == 1 else _LARGEST[1]
    zero, high = splat(_ZERO), splat(largest)
    bytes_of = reinterpret(state, np.uint8)
    for row in range(first, stop):
        x_at = op[X_AT] + row * op[X_STRIDE]
        y_at = 4 * (op[Y_AT] + row * op[Y_STRIDE])
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
        for j in range(0, size, LANES):
            x = first_lanes(load(state, x_at + j), size - j, zero) * splat(factor)
            t = at_most(at_least(x, zero - high), high) + splat(_ROUNDER)
            if op[PLANES] == 1:
                _store_plane(bytes_of, y_at + j, t, 128, 0)
            else:
                _store_plane(bytes_of, y_at + j, t, 32768, 8)
                _store_plane(bytes_of, y_at + 4 * op[Y_SIZE] + j, t, 32768, 0)
        state[op[Z_AT] + row * op[Z_STRIDE]] = bound / largest + sum_lanes(products)


# Products -----------------------------------------------------------------------------------------


def _byte_at(words, n):
    return (words >> (8 * n)) & 255


def _signed_byte_at(words, n):
    return (words << (24 - 8 * n)) >> 24


def dot4(sums, inputs, weights):
    """Return ``sums + the products of 4 unsigned bytes and 4 signed ones``, in every lane."""
    for n in range(4):
        sums = sums + _byte_at(inputs, n) * _signed_byte_at(weights, n)
    return sums


def _emit_dot4(builder, sums, inputs, weights):
    if LEVEL.products == "vpdpbusd 512":
        return _emit_vnni(builder, sums, inputs, weights, LANES)
    if LEVEL.products == "vpdpbusd 256":
        return _in_halves(builder, _emit_vnni, sums, inputs, weights)
    if LEVEL.products == "vpmaddwd 256":
        return _in_halves(builder, _emit_multiply_add, sums, inputs, weights)
    for n in range(4):
        down, up, last = (ir.Constant(_INTS, [k] * LANES) for k in (8 * n, 24 - 8 * n, 24))
        byte = builder.and_(builder.lshr(inputs, down), ir.Constant(_INTS, [255] * LANES))
        signed = builder.ashr(builder.shl(weights, up), last)
        sums = builder.add(sums, builder.mul(byte, signed))
    return sums


def _emit_vnni(builder, sums, inputs, weights, lanes):
    """One instruction: VPDPBUSD."""
    in_bytes = ir.VectorType(ir.IntType(8), 4 * lanes)
    function_type = ir.FunctionType(sums.type, [sums.type, in_bytes, in_bytes])
    name = f"llvm.x86.avx512.vpdpbusd.{32 * lanes}"
    function = cgutils.get_or_insert_function(builder.module, function_type, name)
    inputs, weights = builder.bitcast(inputs, in_bytes), builder.bitcast(weights, in_bytes)
    return builder.call(function, [sums, inputs, weights])


def _emit_multiply_add(builder, sums, inputs, weights, lanes):
    """Bytes 0 and 2, then 1 and 3, as 16-bit numbers: two VPMADDWD."""
    shorts = ir.VectorType(ir.IntType(16), 2 * lanes)
    function_type = ir.FunctionType(sums.type, [shorts, shorts])
    function = cgutils.get_or_insert_function(
        builder.module, function_type, "llvm.x86.avx2.pmadd.wd"
    )
    inputs, weights = builder.bitcast(inputs, shorts), builder.bitcast(weights, shorts)
    eight = ir.Constant(shorts, [8] * 2 * lanes)
    pairs = (
        (
            builder.and_(inputs, ir.Constant(shorts, [255] * 2 * lanes)),
            builder.ashr(builder.shl(weights, eight), eight),
        ),
        (builder.lshr(inputs, eight), builder.ashr(weights, eight)),
    )
    for unsigned, signed in pairs:
        sums = builder.add(sums, builder.call(function, [unsigned, signed]))
    return sums


def _in_halves(builder, emit, *vectors):
    """Return what ``emit`` makes of both halves of vectors of 16 lanes."""
    halves = []
    for start in (0, LANES // 2):
        lanes = ir.Constant(ir.VectorType(_INT, LANES // 2), list(range(start, start + LANES // 2)))
        parts = [builder.shuffle_vector(vector, vector, lanes) for vector in vectors]
        halves.append(emit(builder, *parts, LANES // 2))
    return builder.shuffle_vector(*halves, ir.Constant(_INTS, list(range(LANES))))


# Tiles: the planes of a row are two rows of it ----------------------------------------------------


def _make_start(num_vectors, num_rows, num_planes):
    """Return a function that starts the sums of ``num_rows`` rows of inputs."""

    def start(offsets, at):
        """Return sums of the first planes that begin with -128 sum(w), of the others with 0."""
        high = tuple(load(offsets, at + LANES * v) for v in range(num_vectors))
        low = tuple(np.zeros(LANES, np.int32) for _ in range(num_vectors))
        return (high, low)[:num_planes] * num_rows

    tile = tile_type(i32x16, num_vectors, num_planes * num_rows)

    @lowered(start, lambda offsets, at: signature(tile, offsets, types.intp))
    def _(context, builder, sig, offsets, at):
        result = ir.Constant(context.get_value_type(tile), None)
        for v in range(num_vectors):
            vector = emit_load(builder, offsets, builder.add(at, _INDEX(LANES * v)))
            for row in range(num_rows):
                result = builder.insert_value(result, vector, (num_planes * row, v))
        return result

    return start


def _accumulate(tile, weights, w_at, xs, x_at, x_stride):
    """Return ``tile[row][v] + the word at w_at + 16 * v times that at x_at + row * x_stride``."""
    return tuple(
        tuple(
            dot4(sums, np.full(LANES, xs[x_at + row * x_stride]), load(weights, w_at + LANES * v))
            for v, sums in enumerate(vectors)
        )
        for row, vectors in enumerate(tile)
    )


# The planes of one row, or of two of one plane, are too few.
lower_accumulate(
    _accumulate,
    1,
    2,
    lambda builder, sums, words, inputs: _emit_dot4(builder, sums, *inputs, words),
)


def _scaled(tile, init, scales, s_at, xs, z_at, z_stride):
    """Return ``init[row][v] + scales[s_at + 16 * v] * xs[z_at + row * z_stride] * (w . q)``."""
    result = []
    num_planes = len(tile) // len(init)
    for row, vectors in enumerate(init):
        of_row = splat(xs[z_at + row * z_stride])
        sums = []
        for v, vector in enumerate(vectors):
            planes = [tile[num_planes * row + n][v].astype(np.float32) for n in range(num_planes)]
            total = planes[0]
            if num_planes == 2:
                total = fma(total, splat(_F(256.0)), planes[1])
            sums.append(fma(total, load(scales, s_at + LANES * v) * of_row, vector))
        result.append(tuple(sums))
    return tuple(result)


@lowered(
    _scaled,
    lambda tile, init, scales, s_at, xs, z_at, z_stride: signature(
        init, tile, init, scales, types.intp, xs, types.intp, types.intp
    ),
)
def _(context, builder, sig, tile, init, scales, s_at, xs, z_at, z_stride):
    large = ir.Constant(f32x16.value, [256.0] * LANES)
    num_planes = len(sig.args[0]) // len(sig.return_type)
    for row in range(len(sig.return_type)):
        at = builder.add(z_at, builder.mul(z_stride, _INDEX(row)))
        of_row = emit_splat(builder, builder.load(builder.gep(xs, [at])))
        for v in range(len(sig.return_type.dtype)):
            planes = [
                builder.sitofp(builder.extract_value(tile, (num_planes * row + n, v)), large.type)
                for n in range(num_planes)
            ]
            total = planes[0] if num_planes == 1 else emit_fma(builder, planes[0], large, planes[1])
            scale = emit_load(builder, scales, builder.add(s_at, _INDEX(LANES * v)))
            scaled = builder.fmul(scale, of_row)
            y = emit_fma(builder, total, scaled, builder.extract_value(init, (row, v)))
            init = builder.insert_value(init, y, (row, v))
    return init


@jit
def _dot(tile, weights, w_at, w_stride, xs, x_at, x_stride, num_words):
    for k in range(num_words):
        tile = _accumulate(tile, weights, w_at, xs, x_at + k, x_stride)
        w_at += w_stride
    return tile


def _make_panel(num_vectors, num_planes):
    """Return a function that applies one panel of ``num_vectors`` to any number of rows."""
    panel_size = LANES * num_vectors
    part = min(num_vectors, _PLANE_VECTORS)
    most = _TILE_PLANES // num_planes
    start_one, start_most = (_make_start(part, rows, num_planes) for rows in (1, most))
    load_one, load_most = make_load_tile(part, 1), make_load_tile(part, most)

    @jit
    def panel(
        params, w_at, s_at, y_size, k_size, init, init_at, init_stride,
        state, x_at, plane, z_at, z_stride, y_at, y_stride, num_rows,
    ):  # fmt: skip
        weights, words = reinterpret(params, np.int32), reinterpret(state, np.int32)
        num_words = (k_size + 3) // 4
        for v in range(0, panel_size, LANES * part):
            row = 0
            while most > 1 and row + most <= num_rows:
                x = x_at + num_planes * row * plane
                sums = start_most(weights, s_at + y_size + v)
                sums = _dot(sums, weights, w_at + v, panel_size, words, x, plane, num_words)
                tile = load_most(init, init_at + row * init_stride + v, init_stride)
                z = z_at + row * z_stride
                tile = _scaled(sums, tile, params, s_at + v, state, z, z_stride)
                store_tile(tile, state, y_at + row * y_stride + v, y_stride)
                row += most
            while row < num_rows:
                x = x_at + num_planes * row * plane
                sums = start_one(weights, s_at + y_size + v)
                sums = _dot(sums, weights, w_at + v, panel_size, words, x, plane, num_words)
                tile = load_one(init, init_at + row * init_stride + v, 0)
                tile = _scaled(sums, tile, params, s_at + v, state, z_at + row * z_stride, 0)
                store_tile(tile, state, y_at + row * y_stride + v, 0)
                row += 1

    return panel


def _make_rows(num_planes):
    """Return `integer_rows` for activations of one plane, 8 bits, or two."""
    panel_of_four, panel_of_two, panel_of_one = (
        _make_panel(width, num_planes) for width in (PANEL, 2, 1)
    )

    @jit
    def integer_rows(
        params, w_at, s_at, k_size, y_size, init, init_at, init_stride,
        state, x_at, plane, z_at, z_stride, y_at, y_stride, num_rows,
    ):  # fmt: skip
        """Apply a packed int8 matrix to several rows.

            ys[row] <- init[row] + (W @ qs[row]) * scales * zs[row]

        params   W (y_size, k_size) at w_at, packed; at s_at the scale of every output, behind them
                 -128 times the sum of its weights, int32
        init     rows of y_size floats, init_stride apart (0: one bias for all of them)
        state    at x_at the quantised rows, planes of ``plane`` words; their scales at z_at,
                 z_stride apart; the results at y_at, rows of y_size floats, y_stride apart
        """
        num_words = (k_size + 3) // 4
        j = 0
        while j + 4 * LANES <= y_size:
            panel_of_four(
                params, w_at, s_at + j, y_size, k_size, init, init_at + j, init_stride,
                state, x_at, plane, z_at, z_stride, y_at + j, y_stride, num_rows,
            )  # fmt: skip
            w_at += 4 * LANES * num_words
            j += 4 * LANES
        if j + 2 * LANES <= y_size:
            panel_of_two(
                params, w_at, s_at + j, y_size, k_size, init, init_at + j, init_stride,
                state, x_at, plane, z_at, z_stride, y_at + j, y_stride, num_rows,
            )  # fmt: skip
            w_at += 2 * LANES * num_words
            j += 2 * LANES
        if j < y_size:
            panel_of_one(
                params, w_at, s_at + j, y_size, k_size, init, init_at + j, init_stride,
                state, x_at, plane, z_at, z_stride, y_at + j, y_stride, num_rows,
            )  # fmt: skip

    return integer_rows


rows_of_8_bits, rows_of_16_bits = _make_rows(1), _make_rows(2)
