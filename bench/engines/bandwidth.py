"""The roofs: how fast this core reads memory of a given size, and how fast it multiplies.

Compiled loops that load every float of an array once per pass, 8 independent sums at a time, and
do nothing else. Which is fastest depends on the CPU and the size, so all are timed and the
fastest counts.
"""
# mypy: ignore-errors

from typing import Any

import numpy as np
from numba import njit

from numlstm.kernels.simd import fma, jit, load, pointer, splat, store

_F = np.float32
_SUMS = 8
_STEP = _SUMS * 16  # floats

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


READS: dict[str, Any] = {"add": read_add, "fma": read_fma, "quarters": read_quarters}


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
