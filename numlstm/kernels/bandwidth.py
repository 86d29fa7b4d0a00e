"""The roofs: how fast this core reads memory of a given size, and how fast it multiplies.

Compiled loops that load every float of an array once per pass and do nothing else. Which is fastest
depends on the CPU and the size, so all are timed and the fastest counts.

The sums are independent: eight of 16 lanes where one fills a register, enough to hide the latency
of an addition; four elsewhere, or they do not fit. On AVX2 eight take all 16 registers, and what is
then kept on the stack halves the rate of Zen 3. With AVX-512 and with AVX2 the fastest is within
3 % of the same loops in C++ with intrinsics, from L1 to L3 (a Xeon, Emerald Rapids).
"""
# mypy: ignore-errors

from typing import Any

import numpy as np
from numba import njit

from numlstm.kernels.cpu import LEVEL
from numlstm.kernels.simd import fma, jit, load, pointer, splat, store

_F = np.float32
_STEP = 8 * 16  # floats of a pass of the loops

_entry = njit(nogil=True, error_model="numpy", boundscheck=False)


@jit
def _total(a, b, c, d, e, f, g, h):
    return ((a + b) + (c + d)) + ((e + f) + (g + h))


@_entry
def read_add(params, sums, num_reads):
    """sums <- the sums of 16 lanes of params, each pass added to them."""
    p = pointer(params, np.float32)
    a = b = c = d = e = f = g = h = splat(_F(0))
    for _ in range(num_reads):
        for j in range(0, params.size - _STEP + 1, _STEP):
            a = a + load(p, j)
            b = b + load(p, j + 16)
            c = c + load(p, j + 32)
            d = d + load(p, j + 48)
            e = e + load(p, j + 64)
            f = f + load(p, j + 80)
            g = g + load(p, j + 96)
            h = h + load(p, j + 112)
        for j in range(params.size // _STEP * _STEP, params.size, 16):
            a = a + load(p, j)
    store(pointer(sums, np.float32), 0, _total(a, b, c, d, e, f, g, h))


@_entry
def read_fma(params, sums, num_reads):
    """The same with the multiply-add of a dot product."""
    p = pointer(params, np.float32)
    x = splat(_F(0.5))
    a = b = c = d = e = f = g = h = splat(_F(0))
    for _ in range(num_reads):
        for j in range(0, params.size - _STEP + 1, _STEP):
            a = fma(load(p, j), x, a)
            b = fma(load(p, j + 16), x, b)
            c = fma(load(p, j + 32), x, c)
            d = fma(load(p, j + 48), x, d)
            e = fma(load(p, j + 64), x, e)
            f = fma(load(p, j + 80), x, f)
            g = fma(load(p, j + 96), x, g)
            h = fma(load(p, j + 112), x, h)
        for j in range(params.size // _STEP * _STEP, params.size, 16):
            a = fma(load(p, j), x, a)
    store(pointer(sums, np.float32), 0, _total(a, b, c, d, e, f, g, h))


@_entry
def read_quarters(params, sums, num_reads):
    """Four places at once, a quarter of params apart: more streams for the prefetchers."""
    p = pointer(params, np.float32)
    quarter = params.size // _STEP * 32
    second, third, fourth = quarter, 2 * quarter, 3 * quarter
    a = b = c = d = e = f = g = h = splat(_F(0))
    for _ in range(num_reads):
        for j in range(0, quarter, 32):
            a = a + load(p, j)
            b = b + load(p, j + 16)
            c = c + load(p, second + j)
            d = d + load(p, second + j + 16)
            e = e + load(p, third + j)
            f = f + load(p, third + j + 16)
            g = g + load(p, fourth + j)
            h = h + load(p, fourth + j + 16)
        for j in range(4 * quarter, params.size, 16):
            a = a + load(p, j)
    store(pointer(sums, np.float32), 0, _total(a, b, c, d, e, f, g, h))


@_entry
def read_add_four(params, sums, num_reads):
    """`read_add` with four sums."""
    p = pointer(params, np.float32)
    a = b = c = d = splat(_F(0))
    for _ in range(num_reads):
        for j in range(0, params.size - _STEP + 1, _STEP):
            for k in range(j, j + _STEP, 64):
                a = a + load(p, k)
                b = b + load(p, k + 16)
                c = c + load(p, k + 32)
                d = d + load(p, k + 48)
        for j in range(params.size // _STEP * _STEP, params.size, 16):
            a = a + load(p, j)
    store(pointer(sums, np.float32), 0, (a + b) + (c + d))


@_entry
def read_fma_four(params, sums, num_reads):
    """`read_fma` with four sums."""
    p = pointer(params, np.float32)
    x = splat(_F(0.5))
    a = b = c = d = splat(_F(0))
    for _ in range(num_reads):
        for j in range(0, params.size - _STEP + 1, _STEP):
            for k in range(j, j + _STEP, 64):
                a = fma(load(p, k), x, a)
                b = fma(load(p, k + 16), x, b)
                c = fma(load(p, k + 32), x, c)
                d = fma(load(p, k + 48), x, d)
        for j in range(params.size // _STEP * _STEP, params.size, 16):
            a = fma(load(p, j), x, a)
    store(pointer(sums, np.float32), 0, (a + b) + (c + d))


@_entry
def read_quarters_four(params, sums, num_reads):
    """`read_quarters` with a sum for each."""
    p = pointer(params, np.float32)
    quarter = params.size // _STEP * 32
    second, third, fourth = quarter, 2 * quarter, 3 * quarter
    a = b = c = d = splat(_F(0))
    for _ in range(num_reads):
        for j in range(0, quarter, 16):
            a = a + load(p, j)
            b = b + load(p, second + j)
            c = c + load(p, third + j)
            d = d + load(p, fourth + j)
        for j in range(4 * quarter, params.size, 16):
            a = a + load(p, j)
    store(pointer(sums, np.float32), 0, (a + b) + (c + d))


_NAMES = ("add", "fma", "quarters")
_EIGHT = (read_add, read_fma, read_quarters)
_FOUR = (read_add_four, read_fma_four, read_quarters_four)
ALL_READS = (*_EIGHT, *_FOUR)
READS: dict[str, Any] = dict(
    zip(_NAMES, _EIGHT if LEVEL.vectors == "AVX-512" else _FOUR, strict=True)
)


# Multiply-adds that wait for no other: enough to hide their latency, few enough for the registers
# of AVX-512 (12 of 32) or of AVX2 (6, two registers each, of 16).


@_entry
def fma_twelve(params, sums, num_rounds):
    """sums <- 12 independent chains of a <- a * x + y, 16 lanes each, num_rounds times."""
    p = pointer(params, np.float32)
    x, y = load(p, 0), load(p, 16)
    a = b = c = d = e = f = g = h = i = j = k = m = x
    for _ in range(num_rounds):
        a, b, c = fma(a, x, y), fma(b, x, y), fma(c, x, y)
        d, e, f = fma(d, x, y), fma(e, x, y), fma(f, x, y)
        g, h, i = fma(g, x, y), fma(h, x, y), fma(i, x, y)
        j, k, m = fma(j, x, y), fma(k, x, y), fma(m, x, y)
    store(pointer(sums, np.float32), 0, _total(a, b, c, d, e, f, g, h) + ((i + j) + (k + m)))


@_entry
def fma_six(params, sums, num_rounds):
    """The same with 6 chains."""
    p = pointer(params, np.float32)
    x, y = load(p, 0), load(p, 16)
    a = b = c = d = e = f = x
    for _ in range(num_rounds):
        a, b, c = fma(a, x, y), fma(b, x, y), fma(c, x, y)
        d, e, f = fma(d, x, y), fma(e, x, y), fma(f, x, y)
    store(pointer(sums, np.float32), 0, ((a + b) + (c + d)) + (e + f))


# By the floating-point operations of a round.
MULTIPLIES: dict[int, Any] = {2 * 16 * 12: fma_twelve, 2 * 16 * 6: fma_six}
