"""The operations of a plan. Each reads its row `op`, its `params`, and rows of the work buffers.

An operation takes rows `first` to `stop` of a block: steps of one stream, or a step of many. A
recurrent layer is a LINEAR that turns the rows of `x` into pre-activations, a LINEAR_ADD, which
adds ``w_hh @ h``, and the cell; of one stream these two are taken row by row (ROWS). The cells of
PyTorch are here, any other is made of elementwise operations (`elementwise.py`).
"""

import numpy as np

from numlstm.kernels.cells import gru_cell, lstm_cell
from numlstm.kernels.elementwise import copy, finite, without_denormals
from numlstm.kernels.integers import rows_of_1_byte, rows_of_2_bytes
from numlstm.kernels.plan import (
    ALPHA_AT,
    B_AT,
    C_AT,
    CHECK_AT,
    DTYPE,
    EMBEDDING,
    H_AT,
    HALF,
    KEPT_STRIDE,
    KIND,
    LANES,
    LINEAR_ADD,
    PLANES,
    VOCAB_SIZE,
    W_AT,
    X_AT,
    X_SIZE,
    X_STRIDE,
    Y_AT,
    Y_SIZE,
    Y_STRIDE,
    Z_AT,
    Z_STRIDE,
    Dtype,
)
from numlstm.kernels.simd import (
    first_lanes,
    fma,
    jit,
    load,
    load_half,
    low_half,
    reinterpret,
    splat,
    square_root,
    store,
    sum_lanes,
)
from numlstm.kernels.tiles import linear_rows

_F = np.float32
_ZERO = _F(0.0)
_ONE = _F(1.0)


@jit
def read_input(op, xs, t, state, num_rows, x_size):
    """Copy rows t, t + 1, ... of xs into the buffer; return whether every number is finite.

    xs   (x_size,), rows of X_SIZE; a vector of them may reach into the next row, not beyond xs
    """
    size = op[X_SIZE]
    zero = splat(_ZERO)
    products = zero  # x * 0 is 0 for finite x, else NaN
    for row in range(num_rows):
        x_at = (t + row) * size
        y_at = op[Y_AT] + row * op[Y_STRIDE]
        for j in range(0, size, LANES):
            if x_at + j + LANES <= x_size:
                x = load(xs, x_at + j)
            else:
                for lane in range(j, size):
                    state[y_at + lane] = xs[x_at + lane]
                x = load(state, y_at + j)
            x = first_lanes(x, size - j, zero)
            store(state, y_at + j, x)
            products = finite(products, x)
    return sum_lanes(products) == _ZERO


@jit
def read_tokens(op, params, xs, t, state, num_rows):
    """Put what tokens t, t + 1, ... stand for into the buffer; return whether all are ids.

        EMBEDDING   ys[row] <- the row of the table, VOCAB_SIZE rows of Y_SIZE floats at W_AT
        ONE_HOT     ys[row] <- 1 at the id, 0 at the others of Y_SIZE; all 0 for larger ids

    xs   (T,), int32 ids below VOCAB_SIZE. Each is read once: who changes it then changes nothing
    """
    ids = reinterpret(xs, np.int32)
    size = op[Y_SIZE]
    for row in range(num_rows):
        token = np.int64(ids[t + row])
        if token < 0 or token >= op[VOCAB_SIZE]:
            return False
        y_at = op[Y_AT] + row * op[Y_STRIDE]
        if op[KIND] == EMBEDDING:
            copy(params, op[W_AT] + token * size, state, y_at, size)
        else:
            for j in range(0, size, LANES):
                store(state, y_at + j, splat(_ZERO))
            if token < size:
                state[y_at + token] = _ONE
    return True


@jit
def write_output(op, state, ys, t, num_rows, y_size):
    """Copy rows of the last buffer to rows t, t + 1, ... of ys; return whether all are finite.

    So must be what the streams keep of these rows: `plan.CHECK_AT`.

    ys   (y_size,), rows of Y_SIZE; a vector may reach into the next row, which is written later
    """
    size = op[Y_SIZE]
    zero = splat(_ZERO)
    products = zero
    for row in range(num_rows):
        x_at = op[X_AT] + row * op[X_STRIDE]
        y_at = (t + row) * size
        products = products + load(state, op[CHECK_AT] + row * LANES)
        for j in range(0, size, LANES):
            x = load(state, x_at + j)
            products = finite(products, first_lanes(x, size - j, zero))
            if y_at + j + LANES <= y_size:
                store(ys, y_at + j, x)
            else:
                for lane in range(j, size):
                    ys[y_at + lane] = state[x_at + lane]
    return sum_lanes(products) == _ZERO


@jit
def linear(op, params, state, first, stop):
    """ys[row] <- bias + W @ xs[row]; of LINEAR_ADD zs[row] in place of the bias.

    Of INT8 weights the rows of xs are quantised, their scales at SX_AT.
    """
    init, init_at = params, op[B_AT]
    if op[KIND] == LINEAR_ADD:
        init, init_at = state, op[Z_AT]
    x_at, x_stride = op[X_AT] + first * op[X_STRIDE], op[X_STRIDE]
    y_at, y_stride = op[Y_AT] + first * op[Y_STRIDE], op[Y_STRIDE]
    if op[DTYPE] == Dtype.FLOAT32:
        linear_rows(
            params, op[W_AT], op[X_SIZE], op[Y_SIZE],
            init, init_at + first * op[Z_STRIDE], op[Z_STRIDE],
            state, x_at, x_stride, state, y_at, y_stride, stop - first, first % 2 == 1,
        )  # fmt: skip
    elif op[DTYPE] == Dtype.BFLOAT16:
        linear_rows(
            reinterpret(params, np.uint32), op[W_AT], op[X_SIZE], op[Y_SIZE],
            init, init_at + first * op[Z_STRIDE], op[Z_STRIDE],
            state, x_at, x_stride, state, y_at, y_stride, stop - first, first % 2 == 1,
        )  # fmt: skip
    elif op[PLANES] == 2:
        rows_of_2_bytes(op, params, init, init_at, state, first, stop)
    else:
        rows_of_1_byte(op, params, init, init_at, state, first, stop)


@jit
def _first(v, count):
    return first_lanes(v, count, splat(_ZERO))


@jit
def _first_of_half(v, count):
    return first_lanes(low_half(v), count, splat(_ZERO))


@jit
def _whole(v):
    return v


@jit
def _not_finite(a, b, c, d):
    """Return 0 in every lane where all four are finite, else a NaN.

    The functions of a cell would hide an infinity: what they make of finite gates is finite.
    """
    zero = splat(_ZERO)
    return fma(a, zero, fma(b, zero, fma(c, zero, d * zero)))


def _make_gru_cells(load_units, first_units, widened):
    @jit
    def cells(op, state, first, stop):
        size = op[Y_SIZE]
        stride = (size + LANES - 1) // LANES * LANES
        for row in range(first, stop):
            a, b = op[X_AT] + row * op[X_STRIDE], op[Z_AT] + row * op[Z_STRIDE]
            y_at = op[Y_AT] + row * op[Y_STRIDE]
            h_at = op[H_AT] + row * op[KEPT_STRIDE]
            check_at = op[CHECK_AT] + row * LANES
            check = load(state, check_at)
            for j in range(0, size, LANES):
                r, z = load_units(state, a + j), load_units(state, a + stride + j)
                n_x, n_h = load_units(state, a + 2 * stride + j), load_units(state, b + j)
                h = gru_cell(r, z, n_x, n_h, load_units(state, h_at + j))
                h = first_units(without_denormals(h), size - j)
                check = check + widened(_not_finite(r, z, n_x, n_h))
                store(state, y_at + j, h)
                store(state, h_at + j, h)
            store(state, check_at, check)

    return cells


def _make_lstm_cells(load_units, first_units, widened, lanes):
    @jit
    def cells(op, state, first, stop):
        size = op[Y_SIZE]
        stride = (size + lanes - 1) // lanes * lanes
        for row in range(first, stop):
            a, y_at = op[X_AT] + row * op[X_STRIDE], op[Y_AT] + row * op[Y_STRIDE]
            kept = row * op[KEPT_STRIDE]
            h_at, c_at = op[H_AT] + kept, op[C_AT] + kept
            check_at = op[CHECK_AT] + row * LANES
            check = load(state, check_at)
            for j in range(0, size, LANES):
                i, f = load_units(state, a + j), load_units(state, a + stride + j)
                g = load_units(state, a + 2 * stride + j)
                o = load_units(state, a + 3 * stride + j)
                c, h = lstm_cell(i, f, g, o, load_units(state, c_at + j))
                c = first_units(without_denormals(c), size - j)
                h = first_units(without_denormals(h), size - j)
                check = check + widened(_not_finite(i, f, g, o))
                store(state, c_at + j, c)
                store(state, y_at + j, h)
                store(state, h_at + j, h)
            store(state, check_at, check)

    return cells


# Cells of up to 8 units take half as many instructions where a vector is two registers, and the
# gates of an LSTM lie 8 apart, half as many products: on AVX2 its step takes 1.2 times less.
_gru_cells = _make_gru_cells(load, _first, _whole)
_small_gru_cells = _make_gru_cells(load_half, _first_of_half, low_half)
_lstm_cells = _make_lstm_cells(load, _first, _whole, LANES)
_small_lstm_cells = _make_lstm_cells(load_half, _first_of_half, low_half, HALF)


@jit
def gru_cells(op, state, first, stop):
    """One `gru_cell` per 16 units and row.

    xs   pre-activations r, z, n_x, (H,) each, one behind the other
    zs   n_h, (H,)
    ys   h', (H,); also kept at H_AT
    """
    if op[Y_SIZE] <= HALF:
        _small_gru_cells(op, state, first, stop)
    else:
        _gru_cells(op, state, first, stop)


@jit
def lstm_cells(op, state, first, stop):
    """One `lstm_cell` per 16 units and row.

    xs   pre-activations i, f, g, o, (H,) each, one behind the other; those of up to 8 units 8 apart
    ys   h', (H,); also kept at H_AT, as c' is at C_AT
    """
    if op[Y_SIZE] <= HALF:
        _small_lstm_cells(op, state, first, stop)
    else:
        _lstm_cells(op, state, first, stop)


@jit
def layer_norm(op, params, state, first, stop):
    """ys[row] <- (x - mean) / sqrt(variance + eps) * weight + bias, x = xs[row]

    params   weight (X_SIZE,) at W_AT; bias (X_SIZE,) at B_AT; eps at ALPHA_AT
    torch.nn.LayerNorm over the last axis, the variance divided by X_SIZE; Ba et al. 2016.
    """
    size = op[X_SIZE]
    zero = splat(_ZERO)
    eps = params[op[ALPHA_AT]]
    for row in range(first, stop):
        x_at = op[X_AT] + row * op[X_STRIDE]
        y_at = op[Y_AT] + row * op[Y_STRIDE]
        total = zero
        for j in range(0, size, LANES):
            total = total + first_lanes(load(state, x_at + j), size - j, zero)
        mean = splat(sum_lanes(total) / _F(size))
        total = zero
        for j in range(0, size, LANES):
            d = first_lanes(load(state, x_at + j) - mean, size - j, zero)
            total = fma(d, d, total)
        deviation = square_root(splat(sum_lanes(total) / _F(size) + eps))
        # An infinity, of squares that overflow, becomes a NaN: it would make every d a 0.
        deviation = deviation + (deviation - deviation)
        for j in range(0, size, LANES):
            d = (load(state, x_at + j) - mean) / deviation
            weight, bias = load(params, op[W_AT] + j), load(params, op[B_AT] + j)
            store(state, y_at + j, fma(d, weight, bias))
