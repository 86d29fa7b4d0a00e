"""Pooling: operations that gather all rows since a stream began, or those of a window, into one."""

import numpy as np

from numlstm.kernels.activations import exp
from numlstm.kernels.elementwise import finite
from numlstm.kernels.plan import (
    ALPHA_AT,
    C_AT,
    CHECK_AT,
    COUNT_AT,
    H_AT,
    KEPT_STRIDE,
    KIND,
    LANES,
    MEAN,
    TAPS,
    W_AT,
    WINDOW_MEAN,
    X_AT,
    X_SIZE,
    X_STRIDE,
    Y_AT,
    Y_SIZE,
    Y_STRIDE,
)
from numlstm.kernels.simd import (
    at_least,
    first_lanes,
    fma,
    jit,
    load,
    reinterpret,
    splat,
    store,
    sum_lanes,
)

_F = np.float32
_ZERO, _ONE = _F(0.0), _F(1.0)


@jit
def sum_pool(op, state, first, stop):
    """ys[row] <- the sum, or the mean, of all rows since its stream began.

    state   at H_AT the sum, at C_AT what rounding has added to it too much (Kahan 1965), so that
            a long stream keeps its accuracy; at COUNT_AT the number of rows, int64
    """
    counts = reinterpret(state, np.int64)
    is_mean = op[KIND] == MEAN
    zero = splat(_ZERO)
    for row in range(first, stop):
        x_at = op[X_AT] + row * op[X_STRIDE]
        y_at = op[Y_AT] + row * op[Y_STRIDE]
        kept = row * op[KEPT_STRIDE]
        count_at = (op[COUNT_AT] + kept) // 2
        counts[count_at] += 1
        count = splat(_F(counts[count_at]) if is_mean else _ONE)
        total_at, excess_at = op[H_AT] + kept, op[C_AT] + kept
        check_at = op[CHECK_AT] + row * LANES
        check = load(state, check_at)
        for j in range(0, op[X_SIZE], LANES):
            total, excess = load(state, total_at + j), load(state, excess_at + j)
            x = first_lanes(load(state, x_at + j), op[X_SIZE] - j, zero) - excess
            larger = total + x
            check = finite(check, larger)
            store(state, excess_at + j, (larger - total) - x)
            store(state, total_at + j, larger)
            store(state, y_at + j, larger / count)
        store(state, check_at, check)


@jit
def max_pool(op, state, first, stop):
    """ys[row] <- the largest of each feature since its stream began, kept at H_AT."""
    zero = splat(_ZERO)
    for row in range(first, stop):
        x_at = op[X_AT] + row * op[X_STRIDE]
        y_at = op[Y_AT] + row * op[Y_STRIDE]
        largest_at = op[H_AT] + row * op[KEPT_STRIDE]
        check_at = op[CHECK_AT] + row * LANES
        check = load(state, check_at)
        for j in range(0, op[X_SIZE], LANES):
            x = first_lanes(load(state, x_at + j), op[X_SIZE] - j, zero)
            check = finite(check, x)
            largest = at_least(x, load(state, largest_at + j))
            store(state, largest_at + j, largest)
            store(state, y_at + j, largest)
        store(state, check_at, check)


@jit
def window_max(op, state, first, stop):
    """ys[row] <- the largest of each feature of the TAPS rows that xs[row] holds end to end."""
    size, zero = op[Y_SIZE], splat(_ZERO)
    for row in range(first, stop):
        x_at, y_at = op[X_AT] + row * op[X_STRIDE], op[Y_AT] + row * op[Y_STRIDE]
        for j in range(0, size, LANES):
            y = load(state, x_at + j)
            for tap in range(1, op[TAPS]):
                y = at_least(load(state, x_at + tap * size + j), y)
            store(state, y_at + j, first_lanes(y, size - j, zero))


@jit
def window_sum(op, state, first, stop):
    """ys[row] <- the sum, or the mean, of the TAPS rows that xs[row] holds end to end.

    state   of a mean at COUNT_AT the number of rows, int64: of those before the first, which are
            zeros, it is none
    """
    counts = reinterpret(state, np.int64)
    size, zero = op[Y_SIZE], splat(_ZERO)
    is_mean = op[KIND] == WINDOW_MEAN
    for row in range(first, stop):
        x_at, y_at = op[X_AT] + row * op[X_STRIDE], op[Y_AT] + row * op[Y_STRIDE]
        count = splat(_ONE)
        if is_mean:
            count_at = (op[COUNT_AT] + row * op[KEPT_STRIDE]) // 2
            counts[count_at] += 1
            count = splat(_F(min(counts[count_at], op[TAPS])))
        for j in range(0, size, LANES):
            y = load(state, x_at + j)
            for tap in range(1, op[TAPS]):
                y = y + load(state, x_at + tap * size + j)
            store(state, y_at + j, first_lanes(y / count, size - j, zero))


@jit
def dot_lanes(a, a_at, b, b_at, size):
    """Return the dot product of two runs of floats, summed by lanes."""
    zero = splat(_ZERO)
    total = zero
    for j in range(0, size, LANES):
        x = first_lanes(load(a, a_at + j), size - j, zero)
        y = first_lanes(load(b, b_at + j), size - j, zero)
        total = fma(x, y, total)
    return sum_lanes(total)


@jit
def attention_pool(op, params, state, first, stop):
    """ys[row] <- the mean of all rows since its stream began, weighted by exp(w . x).

        m' = max(m, w . x),  e = exp(w . x - m'),  r = exp(m - m')
        s' = r s + e,  v' = r v + e x,  y = v' / (s' + eps)

    params   w (X_SIZE,) at W_AT, eps at ALPHA_AT
    state    v (X_SIZE,) at H_AT; at C_AT m in 16 lanes, s in the next 16, then what rounding has
             added too much to s, and to v (X_SIZE,), as in `sum_pool`: after 2^24 steps of equal
             weight another one would no longer count
    The softmax of a stream: Milakov, Gimelshein 2018.
    """
    eps = splat(params[op[ALPHA_AT]])
    zero = splat(_ZERO)
    for row in range(first, stop):
        x_at = op[X_AT] + row * op[X_STRIDE]
        y_at = op[Y_AT] + row * op[Y_STRIDE]
        kept = row * op[KEPT_STRIDE]
        v_at, m_at = op[H_AT] + kept, op[C_AT] + kept
        s_at, excess_at = m_at + LANES, m_at + 2 * LANES
        score = splat(dot_lanes(params, op[W_AT], state, x_at, op[X_SIZE]))
        before = load(state, m_at)
        top = at_least(score, before)
        e, r = exp(score - top), exp(before - top)
        s = _add_weighted(state, s_at, excess_at, r, e)
        store(state, m_at, top)
        check_at = op[CHECK_AT] + row * LANES
        check = finite(finite(load(state, check_at), score), s)
        for j in range(0, op[X_SIZE], LANES):
            x = first_lanes(load(state, x_at + j), op[X_SIZE] - j, zero)
            v = _add_weighted(state, v_at + j, excess_at + LANES + j, r, e * x)
            check = finite(check, v)
            store(state, y_at + j, v / (s + eps))
        store(state, check_at, check)


@jit
def _add_weighted(state, at, excess_at, r, x):
    """Return ``r * sum + x``, kept at ``at``, without what rounding added too much: Kahan 1965."""
    before = r * load(state, at)
    x = x - r * load(state, excess_at)
    larger = before + x
    store(state, excess_at, (larger - before) - x)
    store(state, at, larger)
    return larger
