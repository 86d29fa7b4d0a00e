"""Dot products of packed weights with one or more rows of input, held in registers.

How a matrix lies in `params`, and what a word of it holds, is said in `packing.py`: no sum crosses
lanes. The type of the pointer to the weights, to float32, uint32 or int32 (`integers.py`), tells
what its words are, and everything here is compiled for each.

Every output of the first two is ``init + w[0] x[0] + w[1] x[1] + ...`` in float32, one fused
multiply-add each, in this order, whatever the tile and the number of rows.

`bench/tests/test_kernels.py` measures them.
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import signature

from numlstm.kernels.cpu import LEVEL
from numlstm.kernels.packing import FLOAT_PANEL, PANEL
from numlstm.kernels.plan import LANES
from numlstm.kernels.simd import (
    emit_fma,
    emit_load,
    emit_prefetch,
    emit_splat,
    emit_store,
    fma,
    jit,
    load,
    lowered,
    offset,
    splat,
    store,
)

_HOW = LEVEL.floats
_PREFETCH_FROM, _ONE_ROW = _HOW.prefetch_from, _HOW.one_row
_ONE_ROW_POWER, _PANEL_POWER = _ONE_ROW.bit_length() - 1, PANEL.bit_length() - 1
_MOST_SUMS, _MOST_ROWS = _HOW.tile[0] * _HOW.tile[1], _HOW.tile[1]

_INDEX, _INT = ir.IntType(64), ir.IntType(32)


def inputs_per_word(weights):
    """Return how many inputs a word of these weights is for, when they are no integers."""
    return 2 if weights.dtype == np.uint32 else 1


@lowered(inputs_per_word, lambda weights: signature(types.intp, weights))
def _(context, builder, sig, weights):
    return _INDEX(2 if sig.args[0].dtype == types.uint32 else 1)


# Tiles: some vectors of some rows -----------------------------------------------------------------
# A vector is one register of sums, or several.

_REGISTER = ir.VectorType(ir.FloatType(), _HOW.lanes)


def _parts(words):
    """Return the weights in words: one vector, or two of bfloat16, widened."""
    if words.dtype == np.float32:
        return (words,)
    return (words << 16).view(np.float32), (words & 0xFFFF0000).view(np.float32)


def _emit_part(builder, words, n):
    """Return the weights for input n of words."""
    if words.type == _REGISTER:
        return words
    number = (16, 0xFFFF0000)[n]
    change = (builder.shl, builder.and_)[n]
    bits = change(words, ir.Constant(words.type, [number] * words.type.count))
    return builder.bitcast(bits, _REGISTER)


def _emit_here(builder, sums):
    """Return sums, computed before anything behind is loaded.

    Without it LLVM loads all words of bfloat16 first, and has no registers left where there are 16
    of them, or 4 to a vector.
    """
    if _HOW.lanes == LANES:
        return sums
    function_type = ir.FunctionType(sums.type, [sums.type])
    register = "w" if LEVEL.machine == "aarch64" else "x"
    constraint = f"={register},0,~{{memory}}"
    return builder.asm(function_type, "", constraint, [sums], side_effect=True)


def _emit_products(builder, sums, num_inputs, load_words, load_x):
    """Return ``sums[row][m]`` with the products of the first inputs of a word of weights added."""

    def part(m, n):
        return _emit_part(builder, load_words(m), n)

    rows, registers = range(len(sums)), range(len(sums[0]))
    # What there is less of stays in registers: the weights for an input, or the inputs.
    if len(registers) <= len(rows):
        for n in range(num_inputs):
            parts = [part(m, n) for m in registers]
            for row in rows:
                x = load_x(row, n)
                for m in registers:
                    sums[row][m] = emit_fma(builder, parts[m], x, sums[row][m])
            if n + 1 < num_inputs:
                sums = [[_emit_here(builder, each) for each in of_row] for of_row in sums]
    else:
        inputs = [[load_x(row, n) for n in range(num_inputs)] for row in rows]
        for m in registers:
            for n in range(num_inputs):
                weight = part(m, n)
                for row in rows:
                    sums[row][m] = emit_fma(builder, weight, inputs[row][n], sums[row][m])
            if num_inputs > 1:
                for row in rows:
                    sums[row][m] = _emit_here(builder, sums[row][m])
    return sums


def _tile(
    num_vectors, num_rows, panel, is_ahead, weights, w_apart, k_size,
    init, init_stride, xs, x_stride, ys, y_stride, y_apart,
):  # fmt: skip
    """ys[row] <- init[row] + W @ xs[row], of some vectors of outputs

    The first four arguments are one of `_SHAPES`.

    panel      how many vectors lie together in memory
    is_ahead   whether it asks for the weights `_HOW.prefetch` words ahead
    weights    w_apart words from one panel to the next
    init, ys   rows so far apart, the vectors of both y_apart
    xs         rows of k_size floats, x_stride apart
    """
    step = inputs_per_word(weights)
    for row in range(num_rows):
        for v in range(num_vectors):
            sums = load(init, row * init_stride + v * y_apart)
            place = v // panel * w_apart + v % panel * LANES
            for k in range(k_size):
                words = load(weights, place + k // step * panel * LANES)
                sums = fma(_parts(words)[k % step], splat(xs[row * x_stride + k]), sums)
            store(ys, row * y_stride + v * y_apart, sums)


def _type_tile(
    num_vectors, num_rows, panel, is_ahead, weights, w_apart, k_size,
    init, init_stride, xs, x_stride, ys, y_stride, y_apart,
):  # fmt: skip
    at = types.intp
    return signature(
        types.void, at, at, at, types.boolean, weights, at, at, init, at, xs, at, ys, at, at,
    )  # fmt: skip


@lowered(_tile, _type_tile)
def _(context, builder, sig, num_vectors, num_rows, panel, is_ahead, *args):
    step = 2 if sig.args[4].dtype == types.uint32 else 1
    number = builder.zext(is_ahead, _INDEX)
    for n in (num_vectors, num_rows, panel):
        number = builder.or_(builder.shl(number, _INDEX(4)), n)
    end = builder.append_basic_block("end")
    switch = builder.switch(number, end)
    for shape in _SHAPES:
        vectors, rows, of_panel, ahead = shape
        with builder.goto_block(builder.append_basic_block()):
            number = ahead << 12 | vectors << 8 | rows << 4 | of_panel
            switch.add_case(_INDEX(number), builder.block)
            builder.call(_tile_function(builder.module, step, shape, args), args)
            builder.branch(end)
    builder.position_at_end(end)
    return context.get_dummy_value()


def _tile_function(module, step, shape, args):
    """Return a function for one shape: within a larger one its loops read the stack."""
    function_type = ir.FunctionType(ir.VoidType(), [arg.type for arg in args])
    name = "tile_" + "_".join(str(int(n)) for n in (step, *shape))
    function = ir.Function(module, function_type, name)
    function.linkage = "internal"
    function.attributes.add("noinline")
    builder = ir.IRBuilder(function.append_basic_block())
    _emit_tile(builder, step, *shape, *function.args)
    builder.ret_void()
    return function


def _emit_tile(
    builder, step, num_vectors, num_rows, panel, is_ahead, weights, w_apart, k_size,
    init, init_stride, xs, x_stride, ys, y_stride, y_apart,
):  # fmt: skip
    rows, lanes = range(num_rows), range(0, LANES, _HOW.lanes)
    w_stride = _INDEX(panel * LANES)
    panels = [builder.mul(w_apart, _INDEX(v // panel)) for v in range(num_vectors)]
    w_places = [builder.add(at, _INDEX(v % panel * LANES)) for v, at in enumerate(panels)]
    y_places = [builder.mul(y_apart, _INDEX(v)) for v in range(num_vectors)]

    def at_row(p, stride, row):
        return builder.gep(p, [builder.mul(stride, _INDEX(row))])

    def registers(places):
        return [builder.add(place, _INDEX(lane)) for place in places for lane in lanes]

    tile = []
    for row in rows:
        p = at_row(init, init_stride, row)
        starts = [emit_load(builder, p, place, _HOW.lanes) for place in registers(y_places)]
        tile.append([cgutils.alloca_once_value(builder, start) for start in starts])

    def add(num_inputs, weights, xs):
        if is_ahead:
            for place in w_places:
                emit_prefetch(builder, weights, builder.add(place, _INDEX(_HOW.prefetch)))
        places = registers(w_places)

        def load_words(m):
            return emit_load(builder, weights, places[m], _HOW.lanes)

        def load_x(row, n):
            x = builder.load(builder.gep(at_row(xs, x_stride, row), [_INDEX(n)]))
            return emit_splat(builder, x, _HOW.lanes)

        sums = [[builder.load(each) for each in of_row] for of_row in tile]
        sums = _emit_products(builder, sums, num_inputs, load_words, load_x)
        for of_row, values in zip(tile, sums, strict=True):
            for each, value in zip(of_row, values, strict=True):
                builder.store(value, each)

    num_words = builder.udiv(k_size, _INDEX(step))
    with cgutils.for_range(builder, num_words, intp=_INDEX) as loop:
        words = builder.gep(weights, [builder.mul(loop.index, w_stride)])
        add(step, words, builder.gep(xs, [builder.mul(loop.index, _INDEX(step))]))
    if step == 2:
        with builder.if_then(builder.trunc(k_size, ir.IntType(1))):
            words = builder.gep(weights, [builder.mul(num_words, w_stride)])
            add(1, words, builder.gep(xs, [builder.sub(k_size, _INDEX(1))]))
    for row in rows:
        p = at_row(ys, y_stride, row)
        for each, place in zip(tile[row], registers(y_places), strict=True):
            emit_store(builder, p, place, builder.load(each))


# Matrices -----------------------------------------------------------------------------------------


def _height(num_rows):
    """Return how many of the rows a tile takes."""
    if num_rows == 1:
        return 1
    return min(num_rows - num_rows % 2, _MOST_ROWS)


def _part(width, height):
    """Return how many vectors of a panel so many rows take: 1, 2, 4 or 8."""
    while width * height > _MOST_SUMS:
        width //= 2
    return width


def _shapes():
    """Return what tiles there are: vectors, rows, vectors of a panel, whether it asks ahead."""
    shapes = {(_ONE_ROW, 1, FLOAT_PANEL, True)}
    for num_rows in range(1, _MOST_ROWS + 1):
        height = _height(num_rows)
        for power in range((_ONE_ROW_POWER if num_rows == 1 else _PANEL_POWER) + 1):
            width = 1 << power
            shapes.add((_part(width, height), height, min(width, FLOAT_PANEL), False))
    return sorted(shapes)


_SHAPES = _shapes()  # made by the same functions that choose among them
_height, _part = jit(_height), jit(_part)


@jit
def linear_rows(
    weights, w_at, k_size, y_size, init, init_at, init_stride, xs, x_at, x_stride,
    ys, y_at, y_stride, num_rows, backwards,
):  # fmt: skip
    """Apply a packed matrix to several rows.

        ys[row] <- init[row] + W @ xs[row]

    weights     W (y_size, k_size) at w_at, packed; y_size a multiple of 16
    init        rows of y_size floats, init_stride apart (0: one bias for all of them)
    xs          rows of k_size floats, x_stride apart
    ys          rows of y_size floats, y_stride apart
    backwards   whether the last panel comes first. A matrix that is read again and again finds more
                of itself in a cache that is a little too small if every other read goes back.

    Where a panel in memory is one vector, several are taken together, as far apart as they can be:
    one row reads as many streams, each from its start to its end.
    """
    step = inputs_per_word(weights)
    w_size = (k_size + step - 1) // step * LANES  # of a vector
    is_large = w_size * (y_size // LANES) >= _PREFETCH_FROM
    rest = y_size // LANES
    power = _ONE_ROW_POWER if num_rows == 1 else _PANEL_POWER
    while rest > 0:
        while rest >> power == 0:
            power -= 1
        width, count = 1 << power, rest >> power  # of panels
        rest -= count << power
        panel, w_apart, w_part = min(width, FLOAT_PANEL), FLOAT_PANEL * w_size, LANES
        w_next, y_apart, y_next = width * w_size, LANES, width * LANES
        if FLOAT_PANEL == 1:
            w_apart = w_part = count * w_size
            w_next, y_apart, y_next = w_size, count * LANES, LANES
        is_ahead = num_rows == 1 and width == _ONE_ROW and is_large
        for m in range(count):
            n = count - 1 - m if backwards else m
            w, start, row = n * w_next, 0, 0
            while row < num_rows:
                height = _height(num_rows - start)
                part = _part(width, height)
                v = 0
                while v < width:
                    row, y = start, n * y_next + v * y_apart
                    while row + height <= num_rows:
                        _tile(
                            part, height, panel, is_ahead,
                            offset(weights, w_at + w + v * w_part), w_apart, k_size,
                            offset(init, init_at + row * init_stride + y), init_stride,
                            offset(xs, x_at + row * x_stride), x_stride,
                            offset(ys, y_at + row * y_stride + y), y_stride, y_apart,
                        )  # fmt: skip
                        row += height
                    v += part
                start = row
        w_at += count * width * w_size
        init_at += count * width * LANES
        y_at += count * width * LANES
