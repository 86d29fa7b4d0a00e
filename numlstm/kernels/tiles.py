"""Dot products of packed weights with one or more rows of input, held in registers.

How a matrix lies in `params`, and what a word of it holds, is said in `packing.py`: it is read
strictly in sequence, and no sum crosses lanes. The type of the pointer to the weights, to float32,
uint32 or int32 (`integers.py`), tells what its words are, and everything here is compiled for each.

Every output of the first two is ``init + w[0] x[0] + w[1] x[1] + ...`` in float32, one fused
multiply-add each, in this order, whatever the panel and the number of rows.

`bench/tests/test_kernels.py` measures them.
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.core.typing.templates import signature

from numlstm.kernels.cpu import LEVEL, PREFETCH
from numlstm.kernels.packing import PANEL
from numlstm.kernels.plan import LANES
from numlstm.kernels.simd import (
    emit_fma,
    emit_load,
    emit_prefetch,
    emit_splat,
    emit_store,
    f32x16,
    fma,
    jit,
    load,
    lowered,
    splat,
    store,
)

TILE_VECTORS, TILE_ROWS = LEVEL.floats

_INDEX = ir.IntType(64)


def tile_type(vector, num_vectors, num_rows):
    return types.UniTuple(types.UniTuple(vector, num_vectors), num_rows)


def make_load_tile(num_vectors, num_rows):
    """Return a function that starts a tile from rows; the shape must be known when compiled."""

    def load_tile(a, at, row_stride):
        """Return rows of vectors: ``a[at + row * row_stride + 16 * vector:][:16]``."""
        return tuple(
            tuple(load(a, at + row * row_stride + LANES * v) for v in range(num_vectors))
            for row in range(num_rows)
        )

    tile = tile_type(f32x16, num_vectors, num_rows)

    @lowered(load_tile, lambda a, at, row_stride: signature(tile, a, types.intp, types.intp))
    def _(context, builder, sig, a, at, row_stride):
        result = context.get_value_type(tile)(ir.Undefined)
        for row in range(num_rows):
            row_at = builder.add(at, builder.mul(row_stride, _INDEX(row)))
            for v in range(num_vectors):
                vector_at = builder.add(row_at, _INDEX(LANES * v))
                vector = emit_load(builder, a, vector_at)
                result = builder.insert_value(result, vector, (row, v))
        return result

    return load_tile


def inputs_per_word(weights):
    """Return how many inputs a word of these weights is for, when they are no integers."""
    return 2 if weights.dtype == np.uint32 else 1


@lowered(inputs_per_word, lambda weights: signature(types.intp, weights))
def _(context, builder, sig, weights):
    return _INDEX(2 if sig.args[0].dtype == types.uint32 else 1)


def lower_accumulate(function, num_inputs, num_rows_alone, emit_products):
    """Give LLVM IR to ``function(tile, weights, w_at, xs, x_at, x_stride)``, which returns

        tile[row][v] + the words at w_at + 16 * v times the inputs at x_at + row * x_stride

    num_inputs       how many inputs of a row it takes
    num_rows_alone   up to so many rows do too little to hide the way of the weights: `cpu.PREFETCH`
    emit_products    ``emit(builder, sums, words, inputs)`` of one vector; inputs are splat
    """

    @lowered(
        function,
        lambda tile, weights, w_at, xs, x_at, x_stride: signature(
            tile, tile, weights, types.intp, xs, types.intp, types.intp
        ),
    )
    def _(context, builder, sig, tile, weights, w_at, xs, x_at, x_stride):
        num_rows, num_vectors = len(sig.return_type), len(sig.return_type.dtype)
        places = [builder.add(w_at, _INDEX(LANES * v)) for v in range(num_vectors)]
        if num_rows <= num_rows_alone and num_vectors == PANEL:
            for place in places:
                emit_prefetch(builder, weights, builder.add(place, _INDEX(PREFETCH)))
        words = [emit_load(builder, weights, place) for place in places]
        for row in range(num_rows):
            row_at = builder.add(x_at, builder.mul(x_stride, _INDEX(row)))
            inputs = [
                emit_splat(builder, builder.load(builder.gep(xs, [builder.add(row_at, _INDEX(n))])))
                for n in range(num_inputs)
            ]
            for v in range(num_vectors):
                sums = builder.extract_value(tile, (row, v))
                sums = emit_products(builder, sums, words[v], inputs)
                tile = builder.insert_value(tile, sums, (row, v))
        return tile


def _parts(words):
    """Return the weights in words: one vector, or two of bfloat16, widened."""
    if words.dtype == np.float32:
        return (words,)
    return (words << 16).view(np.float32), (words & 0xFFFF0000).view(np.float32)


def _emit_products(builder, sums, words, inputs):
    parts = [words]
    if words.type != f32x16.value:
        shift, mask = (ir.Constant(words.type, [n] * LANES) for n in (16, 0xFFFF0000))
        halves = (builder.shl(words, shift), builder.and_(words, mask))
        parts = [builder.bitcast(half, f32x16.value) for half in halves]
    for part, x in zip(parts, inputs, strict=False):
        sums = emit_fma(builder, part, x, sums)
    return sums


def _make_accumulate(num_inputs):
    """Return a function that adds the products of the first inputs of a word of weights."""

    def accumulate(tile, weights, w_at, xs, x_at, x_stride):
        """Return ``tile[row][v] + the word at w_at + 16 * v times xs[x_at + row * x_stride:]``."""
        result = []
        for row, vectors in enumerate(tile):
            sums = list(vectors)
            for v in range(len(sums)):
                parts = _parts(load(weights, w_at + LANES * v))
                for n, part in enumerate(parts[:num_inputs]):
                    sums[v] = fma(part, splat(xs[x_at + row * x_stride + n]), sums[v])
            result.append(tuple(sums))
        return tuple(result)

    lower_accumulate(accumulate, num_inputs, 1, _emit_products)
    return accumulate


_accumulate_one, _accumulate_two = _make_accumulate(1), _make_accumulate(2)


def store_tile(tile, a, at, row_stride):
    """Write ``tile[row][v]`` to ``a[at + row * row_stride + 16 * v:][:16]``."""
    for row, vectors in enumerate(tile):
        for v, vector in enumerate(vectors):
            store(a, at + row * row_stride + LANES * v, vector)


@lowered(
    store_tile,
    lambda tile, a, at, row_stride: signature(types.void, tile, a, types.intp, types.intp),
)
def _(context, builder, sig, tile, a, at, row_stride):
    for row in range(len(sig.args[0])):
        row_at = builder.add(at, builder.mul(row_stride, _INDEX(row)))
        for v in range(len(sig.args[0].dtype)):
            vector_at = builder.add(row_at, _INDEX(LANES * v))
            vector = builder.extract_value(tile, (row, v))
            emit_store(builder, a, vector_at, vector)
    return context.get_dummy_value()


@jit
def dot(tile, weights, w_at, w_stride, xs, x_at, x_stride, k_size):
    """Return ``tile + sum over k of the weights for k * xs[x_at + k]``, k ascending.

    tile      rows of vectors, the sums so far
    weights   those of one panel, w_stride words from one word to the next
    xs        one input per row, x_stride apart
    """
    step = inputs_per_word(weights)
    whole = k_size - k_size % step
    for k in range(0, whole, step):
        if step == 2:
            tile = _accumulate_two(tile, weights, w_at, xs, x_at + k, x_stride)
        else:
            tile = _accumulate_one(tile, weights, w_at, xs, x_at + k, x_stride)
        w_at += w_stride
    if whole < k_size:
        tile = _accumulate_one(tile, weights, w_at, xs, x_at + whole, x_stride)
    return tile


def _make_panel(num_vectors):
    """Return a function that applies one panel of ``num_vectors`` to any number of rows."""
    panel_size = LANES * num_vectors
    part = min(num_vectors, TILE_VECTORS)
    load_one = make_load_tile(num_vectors, 1)
    load_two = make_load_tile(part, 2)
    load_four = make_load_tile(part, 4)

    @jit
    def panel(
        weights, w_at, k_size, init, init_at, init_stride, xs, x_at, x_stride, ys, y_at, y_stride,
        num_rows,
    ):  # fmt: skip
        row = 0
        if TILE_ROWS == 4:
            while row + 4 <= num_rows:
                for v in range(0, panel_size, LANES * part):
                    tile = load_four(init, init_at + row * init_stride + v, init_stride)
                    x = x_at + row * x_stride
                    tile = dot(tile, weights, w_at + v, panel_size, xs, x, x_stride, k_size)
                    store_tile(tile, ys, y_at + row * y_stride + v, y_stride)
                row += 4
        while row + 2 <= num_rows:
            for v in range(0, panel_size, LANES * part):
                tile = load_two(init, init_at + row * init_stride + v, init_stride)
                x = x_at + row * x_stride
                tile = dot(tile, weights, w_at + v, panel_size, xs, x, x_stride, k_size)
                store_tile(tile, ys, y_at + row * y_stride + v, y_stride)
            row += 2
        if row < num_rows:
            tile = load_one(init, init_at + row * init_stride, 0)
            x = x_at + row * x_stride
            tile = dot(tile, weights, w_at, panel_size, xs, x, 0, k_size)
            store_tile(tile, ys, y_at + row * y_stride, 0)

    return panel


_panel_of_four, _panel_of_two, _panel_of_one = (_make_panel(width) for width in (PANEL, 2, 1))


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
    """
    step = inputs_per_word(weights)
    num_words = (k_size + step - 1) // step
    num_fours = y_size // (4 * LANES)
    for n in range(num_fours):
        j = 4 * LANES * (num_fours - 1 - n if backwards else n)
        _panel_of_four(
            weights, w_at + j * num_words, k_size, init, init_at + j, init_stride,
            xs, x_at, x_stride, ys, y_at + j, y_stride, num_rows,
        )  # fmt: skip
    j = 4 * LANES * num_fours
    if j + 2 * LANES <= y_size:
        _panel_of_two(
            weights, w_at + j * num_words, k_size, init, init_at + j, init_stride,
            xs, x_at, x_stride, ys, y_at + j, y_stride, num_rows,
        )  # fmt: skip
        j += 2 * LANES
    if j < y_size:
        _panel_of_one(
            weights, w_at + j * num_words, k_size, init, init_at + j, init_stride,
            xs, x_at, x_stride, ys, y_at + j, y_stride, num_rows,
        )  # fmt: skip
