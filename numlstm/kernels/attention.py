"""Attention: what a row reads of the memory of its stream."""

import numpy as np

from numlstm.kernels.activations import exp, tanh
from numlstm.kernels.elementwise import check_row, finite
from numlstm.kernels.plan import (
    ALPHA_AT,
    CHECK_AT,
    COPY_TOKENS,
    COUNT_AT,
    IS_ADDITIVE,
    KEY_AT,
    KIND,
    LANES,
    MEMORY_STRIDE,
    SCORE_AT,
    W_AT,
    X_AT,
    X_SIZE,
    X_STRIDE,
    Y_AT,
    Y_SIZE,
    Y_STRIDE,
    Z_AT,
)
from numlstm.kernels.pooling import dot_lanes
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
_MINUS_INF = _F(-np.inf)


@jit
def attention(op, params, state, first, stop):
    """ys[row] <- the mean of the memory, or the tokens of it, weighted by a = softmax(scores).

        ATTENTION     sum over m of a_m memory_m, of a query xs[row]
        COPY_TOKENS   g v + (1 - g) sum over m of a_m onehot(id_m), of v (Y_SIZE,), g, query

        score = scale * (query . key_m)          or, where IS_ADDITIVE is 1,
        score = scale * (w . tanh(query + key_m))

    params   w at W_AT, scale at ALPHA_AT
    state    the memory at Z_AT, rows of MEMORY_STRIDE floats: what is averaged (Y_SIZE,) first,
             key_m at KEY_AT, a place for the score at SCORE_AT, id_m before it; at COUNT_AT the
             number of rows, int64
    Luong et al. 2015 (dot, general); Bahdanau et al. 2015 (additive); See, Liu, Manning 2017.

    One function for both: with two, every step of any small network takes 20 ns longer.
    """
    num_rows = reinterpret(state, np.int64)[op[COUNT_AT] // 2]
    stride, memory = op[MEMORY_STRIDE], op[Z_AT]
    scale = params[op[ALPHA_AT]]
    zero = splat(_ZERO)
    query_at = op[Y_SIZE] + 1 if op[KIND] == COPY_TOKENS else 0
    size = op[X_SIZE] - query_at
    for row in range(first, stop):
        x_at = op[X_AT] + row * op[X_STRIDE]
        y_at = op[Y_AT] + row * op[Y_STRIDE]
        # Of a score or a query that is not finite nothing is seen behind a softmax or a tanh.
        check_row(op, state, row)
        check_at = op[CHECK_AT] + row * LANES
        check = load(state, check_at)
        top = splat(_MINUS_INF)
        for m in range(num_rows):
            key_at = memory + m * stride + op[KEY_AT]
            if op[IS_ADDITIVE]:
                total = zero
                for j in range(0, size, LANES):
                    together = tanh(load(state, x_at + j) + load(state, key_at + j))
                    weighted = load(params, op[W_AT] + j) * together
                    total = total + first_lanes(weighted, size - j, zero)
                score = sum_lanes(total)
            else:
                score = dot_lanes(state, x_at + query_at, state, key_at, size)
            check = finite(check, splat(scale * score))
            top = at_least(splat(scale * score), top)
            store(state, memory + m * stride + op[SCORE_AT], splat(scale * score))
        store(state, check_at, check)
        total = zero
        for m in range(num_rows):
            at = memory + m * stride + op[SCORE_AT]
            e = exp(load(state, at) - top)
            store(state, at, e)
            total = total + e
        if op[KIND] == COPY_TOKENS:
            gate = splat(state[x_at + op[Y_SIZE]])
            for j in range(0, op[Y_SIZE], LANES):
                store(state, y_at + j, gate * load(state, x_at + j))
            share = (splat(_ONE) - gate) / total
            for m in range(num_rows):
                at = memory + m * stride + op[SCORE_AT]
                store(state, at, share * load(state, at))
                token = state[at - LANES]
                if token >= _ZERO and token < _F(op[Y_SIZE]):  # no other number is a place
                    state[y_at + int(token)] += state[at]
        else:
            for j in range(0, op[Y_SIZE], LANES):
                y = zero
                for m in range(num_rows):
                    row_at = memory + m * stride
                    y = fma(load(state, row_at + op[SCORE_AT]), load(state, row_at + j), y)
                store(state, y_at + j, y / total)
