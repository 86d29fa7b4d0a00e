"""Operations that make a row of the rows they read: sums, products, functions, windows.

Cells with options (peepholes, projection, clipping, a reset gate before the product) are made of
them, one after another, with the row of a step; so are the joints of a network that is no chain.
"""

import numpy as np

from numlstm.kernels.activations import activate, log_softmax, softmax
from numlstm.kernels.plan import (
    ALPHA_AT,
    B_AT,
    CHECK_AT,
    DECAYS,
    DILATION,
    FUNCTION,
    H_AT,
    KEPT_STRIDE,
    LANES,
    TAPS,
    W_AT,
    X_AT,
    X_SIZE,
    X_STRIDE,
    Y_AT,
    Y_STRIDE,
    Z_AT,
    Z_STRIDE,
)
from numlstm.kernels.simd import (
    first_lanes,
    fma,
    jit,
    load,
    magnitude,
    splat,
    store,
    where_greater,
)

_ZERO = np.float32(0.0)

# Of a state that decays, what is below becomes 0: its products with weights down to 1e-8 are normal
# numbers. Denormal ones take some CPUs a hundred times as long, and rounding would keep them for
# ever from becoming 0.
_NOTHING = np.float32(1e-30)


@jit
def without_denormals(x):
    """Return x, 0 where it is too small to matter; a NaN stays one."""
    return where_greater(splat(_NOTHING), magnitude(x), splat(_ZERO), x)


@jit
def finite(check, x):
    """Return ``check`` if all of x is finite, else with a NaN in it."""
    return fma(x, splat(_ZERO), check)


@jit
def check_row(op, state, row):
    """Note at CHECK_AT whether all of xs[row] is finite, before what could hide that it is not."""
    x_at, check_at = op[X_AT] + row * op[X_STRIDE], op[CHECK_AT] + row * LANES
    zero = splat(_ZERO)
    check = load(state, check_at)
    for j in range(0, op[X_SIZE], LANES):
        check = finite(check, first_lanes(load(state, x_at + j), op[X_SIZE] - j, zero))
    store(state, check_at, check)


@jit
def copy(source, source_at, target, target_at, size):
    """Copy ``size`` floats, rounded up to a multiple of 16, in ascending order."""
    for j in range(0, size, LANES):
        store(target, target_at + j, load(source, source_at + j))


@jit
def _copy_row(op, state, row):
    """Copy a row of xs to ys unless it is there; return where it is."""
    y_at = op[Y_AT] + row * op[Y_STRIDE]
    x_at = op[X_AT] + row * op[X_STRIDE]
    if x_at != y_at:
        copy(state, x_at, state, y_at, op[X_SIZE])
    return y_at


@jit
def copy_rows(op, state, first, stop):
    """ys[row] <- xs[row], rounded up to 16 lanes"""
    for row in range(first, stop):
        _copy_row(op, state, row)


@jit
def keep_rows(op, state, first, stop):
    """ys[row] <- xs[row], the lanes behind them 0; `without_denormals` where it DECAYS"""
    zero = splat(_ZERO)
    for row in range(first, stop):
        x_at, y_at = op[X_AT] + row * op[X_STRIDE], op[Y_AT] + row * op[Y_STRIDE]
        check_at = op[CHECK_AT] + row * LANES
        check = load(state, check_at)
        for j in range(0, op[X_SIZE], LANES):
            x = first_lanes(load(state, x_at + j), op[X_SIZE] - j, zero)
            if op[DECAYS]:
                x = without_denormals(x)
            check = finite(check, x)
            store(state, y_at + j, x)
        store(state, check_at, check)


@jit
def activate_rows(op, params, state, first, stop):
    """ys[row] <- f(xs[row]), one of `plan.Function`."""
    alpha, beta = params[op[ALPHA_AT]], params[op[ALPHA_AT] + 1]
    for row in range(first, stop):
        check_row(op, state, row)
        y_at = _copy_row(op, state, row)
        activate(op[FUNCTION], alpha, beta, state, y_at, op[X_SIZE])


@jit
def softmax_rows(op, state, first, stop):
    """ys[row] <- softmax(xs[row])"""
    for row in range(first, stop):
        check_row(op, state, row)
        softmax(state, _copy_row(op, state, row), op[X_SIZE])


@jit
def log_softmax_rows(op, state, first, stop):
    """ys[row] <- log(softmax(xs[row]))"""
    for row in range(first, stop):
        check_row(op, state, row)
        log_softmax(state, _copy_row(op, state, row), op[X_SIZE])


@jit
def add(op, state, first, stop):
    """ys[row] <- xs[row] + zs[row], the lanes behind them 0"""
    zero = splat(_ZERO)
    for row in range(first, stop):
        x_at, z_at = op[X_AT] + row * op[X_STRIDE], op[Z_AT] + row * op[Z_STRIDE]
        y_at = op[Y_AT] + row * op[Y_STRIDE]
        for j in range(0, op[X_SIZE], LANES):
            y = load(state, x_at + j) + load(state, z_at + j)
            store(state, y_at + j, first_lanes(y, op[X_SIZE] - j, zero))


@jit
def multiply(op, state, first, stop):
    """ys[row] <- xs[row] * zs[row], the lanes behind them 0"""
    zero = splat(_ZERO)
    for row in range(first, stop):
        x_at, z_at = op[X_AT] + row * op[X_STRIDE], op[Z_AT] + row * op[Z_STRIDE]
        y_at = op[Y_AT] + row * op[Y_STRIDE]
        for j in range(0, op[X_SIZE], LANES):
            y = load(state, x_at + j) * load(state, z_at + j)
            store(state, y_at + j, first_lanes(y, op[X_SIZE] - j, zero))


@jit
def scale(op, params, state, first, stop):
    """ys[row] <- b + w * xs[row], lane by lane"""
    for row in range(first, stop):
        x_at, y_at = op[X_AT] + row * op[X_STRIDE], op[Y_AT] + row * op[Y_STRIDE]
        for j in range(0, op[X_SIZE], LANES):
            w, b = load(params, op[W_AT] + j), load(params, op[B_AT] + j)
            store(state, y_at + j, fma(w, load(state, x_at + j), b))


@jit
def scale_add(op, params, state, first, stop):
    """ys[row] <- zs[row] + w * xs[row], lane by lane: a peephole"""
    for row in range(first, stop):
        x_at, z_at = op[X_AT] + row * op[X_STRIDE], op[Z_AT] + row * op[Z_STRIDE]
        y_at = op[Y_AT] + row * op[Y_STRIDE]
        for j in range(0, op[X_SIZE], LANES):
            w = load(params, op[W_AT] + j)
            store(state, y_at + j, fma(w, load(state, x_at + j), load(state, z_at + j)))


@jit
def window(op, state, first, stop):
    """ys[row] <- the TAPS rows of xs, DILATION apart, of which xs[row] is the last, end to end.

    state   at H_AT the rows before the first one, (TAPS - 1) * DILATION, the oldest first
    """
    if op[KEPT_STRIDE] == 0:
        _window(op, state, first, stop, op[H_AT])
    else:
        for row in range(first, stop):
            _window(op, state, row, row + 1, op[H_AT] + row * op[KEPT_STRIDE])


@jit
def _window(op, state, first, stop, kept):
    """The window of steps of one stream, whose rows before them are at ``kept``."""
    size, reach = op[X_SIZE], (op[TAPS] - 1) * op[DILATION]
    stride = (size + LANES - 1) // LANES * LANES
    zero = splat(_ZERO)
    for row in range(first, stop):
        for tap in range(op[TAPS]):
            source = row - reach + tap * op[DILATION]
            if source < first:
                x_at = kept + (source - first + reach) * stride
            else:
                x_at = op[X_AT] + source * op[X_STRIDE]
            # Rows of any size: what is copied too much is overwritten by the next tap.
            copy(state, x_at, state, op[Y_AT] + row * op[Y_STRIDE] + tap * size, size)
        check_at, x_at = op[CHECK_AT] + row * LANES, op[X_AT] + row * op[X_STRIDE]
        check = load(state, check_at)
        for j in range(0, size, LANES):
            check = finite(check, first_lanes(load(state, x_at + j), size - j, zero))
        store(state, check_at, check)
    num_rows = stop - first
    for old in range(reach):
        source = old + num_rows
        if source < reach:
            x_at = kept + source * stride
        else:
            x_at = op[X_AT] + (first + source - reach) * op[X_STRIDE]
        for j in range(0, size, LANES):
            x = first_lanes(load(state, x_at + j), size - j, zero)
            store(state, kept + old * stride + j, x)
