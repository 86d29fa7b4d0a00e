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
    f32x16,
    fma,
    inlined,
    jit,
    load,
    lowered,
    splat,
    store,
)

_HOW = LEVEL.floats
_PREFETCH_FROM = _HOW.prefetch_from

_INDEX, _INT = ir.IntType(64), ir.IntType(32)


def tile_type(vector, num_vectors, num_rows):
    return types.UniTuple(types.UniTuple(vector, num_vectors), num_rows)


def make_load_tile(num_vectors, num_rows):
    """Return a function that starts a tile from rows; the shape must be known when compiled."""

    def load_tile(a, at, row_stride, apart):
        """Return rows of vectors: ``a[at + row * row_stride + apart * vector:][:16]``."""
        return tuple(
            tuple(load(a, at + row * row_stride + apart * v) for v in range(num_vectors))
            for row in range(num_rows)
        )

    tile = tile_type(f32x16, num_vectors, num_rows)

    @lowered(load_tile, lambda a, at, row_stride, apart: signature(tile, a, *[types.intp] * 3))
    def _(context, builder, sig, a, at, row_stride, apart):
        result = context.get_value_type(tile)(ir.Undefined)
        for row, v, place in _emit_places(builder, num_rows, num_vectors, at, row_stride, apart):
            result = builder.insert_value(result, emit_load(builder, a, place), (row, v))
        return result

    return load_tile


def store_tile(tile, a, at, row_stride, apart):
    """Write ``tile[row][v]`` to ``a[at + row * row_stride + apart * v:][:16]``."""
    for row, vectors in enumerate(tile):
        for v, vector in enumerate(vectors):
            store(a, at + row * row_stride + apart * v, vector)


@lowered(
    store_tile,
    lambda tile, a, at, row_stride, apart: signature(types.void, tile, a, *[types.intp] * 3),
)
def _(context, builder, sig, tile, a, at, row_stride, apart):
    num_rows, num_vectors = len(sig.args[0]), len(sig.args[0].dtype)
    for row, v, place in _emit_places(builder, num_rows, num_vectors, at, row_stride, apart):
        emit_store(builder, a, place, builder.extract_value(tile, (row, v)))
    return context.get_dummy_value()


def _emit_places(builder, num_rows, num_vectors, at, row_stride, apart):
    for row in range(num_rows):
        row_at = builder.add(at, builder.mul(row_stride, _INDEX(row)))
        for v in range(num_vectors):
            yield row, v, builder.add(row_at, builder.mul(apart, _INDEX(v)))


def inputs_per_word(weights):
    """Return how many inputs a word of these weights is for, when they are no integers."""
    return 2 if weights.dtype == np.uint32 else 1


@lowered(inputs_per_word, lambda weights: signature(types.intp, weights))
def _(context, builder, sig, weights):
    return _INDEX(2 if sig.args[0].dtype == types.uint32 else 1)


# A word with several rows, register by register ---------------------------------------------------

_REGISTER = ir.VectorType(ir.FloatType(), _HOW.lanes)
_REGISTER_INTS = ir.VectorType(_INT, _HOW.lanes)
_PER_VECTOR = LANES // _HOW.lanes


def _emit_split(builder, vector):
    lanes = range(0, LANES, _HOW.lanes)
    places = [ir.Constant(_REGISTER_INTS, list(range(n, n + _HOW.lanes))) for n in lanes]
    return [builder.shuffle_vector(vector, vector, place) for place in places]


def _emit_join(builder, parts):
    while len(parts) > 1:
        every = ir.VectorType(_INT, 2 * parts[0].type.count)
        lanes = ir.Constant(every, list(range(every.count)))
        pairs = zip(parts[::2], parts[1::2], strict=True)
        parts = [builder.shuffle_vector(*pair, lanes) for pair in pairs]
    return parts[0]


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


def _parts(words):
    """Return the weights in words: one vector, or two of bfloat16, widened."""
    if words.dtype == np.float32:
        return (words,)
    return (words << 16).view(np.float32), (words & 0xFFFF0000).view(np.float32)


def _make_accumulate(num_inputs, prefetch):
    """Return a function that adds the products of the first inputs of a word of weights.

    prefetch   whether it asks for the weights `_HOW.prefetch` words ahead
    """

    def accumulate(tile, weights, w_at, apart, xs, x_at, x_stride):
        """Return tile + the words at w_at + apart * v times the inputs at x_at + row * x_stride."""
        result = []
        for row, vectors in enumerate(tile):
            sums = list(vectors)
            for v in range(len(sums)):
                parts = _parts(load(weights, w_at + apart * v))
                for n, part in enumerate(parts[:num_inputs]):
                    sums[v] = fma(part, splat(xs[x_at + row * x_stride + n]), sums[v])
            result.append(tuple(sums))
        return tuple(result)

    @lowered(
        accumulate,
        lambda tile, weights, w_at, apart, xs, x_at, x_stride: signature(
            tile, tile, weights, types.intp, types.intp, xs, types.intp, types.intp
        ),
    )
    def _(context, builder, sig, tile, weights, w_at, apart, xs, x_at, x_stride):
        num_rows, num_vectors = len(sig.return_type), len(sig.return_type.dtype)
        rows, registers = range(num_rows), range(num_vectors * _PER_VECTOR)
        places = []
        for _, _, place in _emit_places(builder, 1, num_vectors, w_at, apart, apart):
            if prefetch:
                emit_prefetch(builder, weights, builder.add(place, _INDEX(_HOW.prefetch)))
            lanes = range(0, LANES, _HOW.lanes)
            places += [builder.add(place, _INDEX(lane)) for lane in lanes]
        sums = [
            [
                part
                for v in range(num_vectors)
                for part in _emit_split(builder, builder.extract_value(tile, (row, v)))
            ]
            for row in rows
        ]

        def part(m, n):
            words = emit_load(builder, weights, places[m], _HOW.lanes)
            return _emit_part(builder, words, n)

        def x(row, n):
            at = builder.add(x_at, builder.add(builder.mul(x_stride, _INDEX(row)), _INDEX(n)))
            return emit_splat(builder, builder.load(builder.gep(xs, [at])), _HOW.lanes)

        # What there is less of stays in registers: the weights for an input, or the inputs.
        if len(registers) <= num_rows:
            for n in range(num_inputs):
                parts = [part(m, n) for m in registers]
                for row in rows:
                    of_row = x(row, n)
                    for m in registers:
                        sums[row][m] = emit_fma(builder, parts[m], of_row, sums[row][m])
                if n + 1 < num_inputs:
                    sums = [[_emit_here(builder, each) for each in of_row] for of_row in sums]
        else:
            inputs = [[x(row, n) for n in range(num_inputs)] for row in rows]
            for m in registers:
                for n in range(num_inputs):
                    weight = part(m, n)
                    for row in rows:
                        sums[row][m] = emit_fma(builder, weight, inputs[row][n], sums[row][m])
                if num_inputs > 1:
                    for row in rows:
                        sums[row][m] = _emit_here(builder, sums[row][m])
        for row in rows:
            for v in range(num_vectors):
                parts = sums[row][_PER_VECTOR * v : _PER_VECTOR * (v + 1)]
                tile = builder.insert_value(tile, _emit_join(builder, parts), (row, v))
        return tile

    return accumulate


# Tiles --------------------------------------------------------------------------------------------


def _make_dot(prefetch):
    accumulate_one, accumulate_two = (_make_accumulate(n, prefetch) for n in (1, 2))

    @jit
    def dot(tile, weights, w_at, w_stride, apart, xs, x_at, x_stride, k_size):
        """Return ``tile + sum over k of the weights for k * xs[x_at + k]``, k ascending.

        tile      rows of vectors, the sums so far
        weights   w_stride words from one word to the next, ``apart`` from one vector to the next
        xs        one input per row, x_stride apart
        """
        step = inputs_per_word(weights)
        whole = k_size - k_size % step
        for k in range(0, whole, step):
            if step == 2:
                tile = accumulate_two(tile, weights, w_at, apart, xs, x_at + k, x_stride)
            else:
                tile = accumulate_one(tile, weights, w_at, apart, xs, x_at + k, x_stride)
            w_at += w_stride
        if whole < k_size:
            tile = accumulate_one(tile, weights, w_at, apart, xs, x_at + whole, x_stride)
        return tile

    return dot


_dot, _dot_ahead = _make_dot(False), _make_dot(True)


def _make_tiles(num_vectors, num_rows, dot):
    """Return a function that takes rows in tiles of ``num_vectors`` by ``num_rows``."""
    load_tile = make_load_tile(num_vectors, num_rows)

    @inlined
    def tiles(
        weights, w_at, w_stride, w_apart, k_size, init, init_at, init_stride,
        xs, x_at, x_stride, ys, y_at, y_stride, y_apart, row, stop,
    ):  # fmt: skip
        while row < stop:
            tile = load_tile(init, init_at + row * init_stride, init_stride, y_apart)
            x = x_at + row * x_stride
            tile = dot(tile, weights, w_at, w_stride, w_apart, xs, x, x_stride, k_size)
            store_tile(tile, ys, y_at + row * y_stride, y_stride, y_apart)
            row += num_rows

    return tiles


def _part(width, num_rows):
    """Return how many vectors of a panel so many rows take: 1, 2 or 4, within the level's tile."""
    vectors, height = _HOW.tile
    most = min(width, vectors * height // num_rows)
    return max(n for n in (1, 2, 4) if n <= most)


def _make_rows(width, heights):
    """Return a function that applies one panel to rows, as many as it can at each of heights."""
    height, lower = heights[0], heights[1:]
    part = _part(width, height)
    tiles = _make_tiles(part, height, _dot)
    rest = _make_rows(width, lower) if lower else None

    @inlined
    def rows(
        weights, w_at, w_stride, w_apart, k_size, init, init_at, init_stride,
        xs, x_at, x_stride, ys, y_at, y_stride, y_apart, row, num_rows,
    ):  # fmt: skip
        stop = num_rows - (num_rows - row) % height
        if row < stop:
            w, v = w_at, 0
            while w < w_at + width * w_apart:  # a count of turns would be unrolled
                tiles(
                    weights, w, w_stride, w_apart, k_size,
                    init, init_at + v, init_stride, xs, x_at, x_stride,
                    ys, y_at + v, y_stride, y_apart, row, stop,
                )  # fmt: skip
                w += part * w_apart
                v += part * y_apart
        if rest is not None:
            rest(
                weights, w_at, w_stride, w_apart, k_size, init, init_at, init_stride,
                xs, x_at, x_stride, ys, y_at, y_stride, y_apart, stop, num_rows,
            )  # fmt: skip

    return rows


def _make_panels(width):
    """Return a function that applies all panels of ``width`` vectors, from vector ``first`` on.

    Where a panel in memory is one vector, as many as ``width`` are taken together, as far apart as
    they can be: one row reads as many streams, each from its start to its end.
    """
    one, one_ahead = (_make_tiles(width, 1, dot) for dot in (_dot, _dot_ahead))
    height = _HOW.tile[1]
    heights = [*range(height, 1, -2), 1]
    # Few outputs lie in narrower panels.
    rows = _make_rows(width, heights if width == PANEL else [min(height, 4), 1])

    @jit
    def panels(
        weights, w_at, k_size, y_size, init, init_at, init_stride, xs, x_at, x_stride,
        ys, y_at, y_stride, num_rows, backwards, first,
    ):  # fmt: skip
        step = inputs_per_word(weights)
        w_size = (k_size + step - 1) // step * LANES
        count = (y_size // LANES - first) // width
        if FLOAT_PANEL == 1:
            w_stride, w_apart, y_apart = LANES, count * w_size, count * LANES
            w_next, y_next = w_size, LANES
        else:
            w_stride, w_apart, y_apart = width * LANES, LANES, LANES
            w_next, y_next = width * w_size, width * LANES
        is_large = _PREFETCH_FROM == 0 or w_size * (y_size // LANES) >= _PREFETCH_FROM
        for m in range(count):
            n = count - 1 - m if backwards else m
            w = w_at + first * w_size + n * w_next
            a = init_at + first * LANES + n * y_next
            y = y_at + first * LANES + n * y_next
            if num_rows == 1 and width == PANEL and is_large:
                one_ahead(
                    weights, w, w_stride, w_apart, k_size, init, a, 0, xs, x_at, 0,
                    ys, y, 0, y_apart, 0, 1,
                )  # fmt: skip
            elif num_rows == 1:
                one(
                    weights, w, w_stride, w_apart, k_size, init, a, 0, xs, x_at, 0,
                    ys, y, 0, y_apart, 0, 1,
                )  # fmt: skip
            else:
                rows(
                    weights, w, w_stride, w_apart, k_size, init, a, init_stride, xs, x_at, x_stride,
                    ys, y, y_stride, y_apart, 0, num_rows,
                )  # fmt: skip

    return panels


_panels_of_four, _panels_of_two, _panels_of_one = (_make_panels(width) for width in (PANEL, 2, 1))


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
    rest = y_size // LANES % PANEL
    first = y_size // LANES - rest
    if first > 0:
        _panels_of_four(
            weights, w_at, k_size, y_size, init, init_at, init_stride, xs, x_at, x_stride,
            ys, y_at, y_stride, num_rows, backwards, 0,
        )  # fmt: skip
    if rest >= 2:
        _panels_of_two(
            weights, w_at, k_size, y_size, init, init_at, init_stride, xs, x_at, x_stride,
            ys, y_at, y_stride, num_rows, backwards, first,
        )  # fmt: skip
    if rest % 2 == 1:
        _panels_of_one(
            weights, w_at, k_size, y_size, init, init_at, init_stride, xs, x_at, x_stride,
            ys, y_at, y_stride, num_rows, backwards, first + rest - 1,
        )  # fmt: skip
