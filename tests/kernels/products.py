"""Products of int8 weights, apart from any network, for tests that compare levels.

``python -m tests.kernels.products FILE.npz N K ...`` writes those of extreme and random numbers.
"""

import sys
from collections.abc import Iterator

import numba
import numpy as np
from numpy.typing import NDArray

from numlstm.kernels import integers, plan
from numlstm.kernels.addresses import COMPILED, aligned
from numlstm.kernels.packing import (
    num_scales,
    pack_weights,
    packed_size,
    padded,
    quantized_size,
    scales_and_sums,
)
from numlstm.kernels.simd import pointer

F = np.float32
Floats = NDArray[np.float32]


def _apply(quantize, product, params, state, num_rows):
    ops = pointer(quantize, np.int64), pointer(product, np.int64)
    params, state = pointer(params, np.float32), pointer(state, np.float32)
    integers.quantize(ops[0], state, 0, num_rows)
    if product[plan.PLANES] == 2:
        integers.rows_of_2_bytes(ops[1], params, params, product[plan.B_AT], state, 0, num_rows)
    else:
        integers.rows_of_1_byte(ops[1], params, params, product[plan.B_AT], state, 0, num_rows)


apply = numba.njit(error_model="numpy", nogil=True)(_apply) if COMPILED else _apply


def arrays(q, scale, bias, xs, num_bytes, is_unit=False):
    """Return what `apply` takes for ``bias + (q * scale) @ xs[row]``, and where the answers are."""
    num_rows, k_size = xs.shape
    w_size, table = padded(packed_size(q)), scales_and_sums(q, scale)
    starts = np.cumsum([0, w_size, padded(table.size), padded(bias.size)])
    params = aligned(int(starts[-1]))
    pack_weights(q, params[: packed_size(q)])
    params[starts[1] :][: table.size], params[starts[2] :][: bias.size] = table, bias
    sizes = [padded(k_size), quantized_size(k_size, num_bytes), padded(num_scales(k_size)), len(q)]
    x_at, q_at, z_at, y_at, end = np.cumsum([0] + [num_rows * (size + 16) for size in sizes])
    state = aligned(int(end))
    state[:] = -7
    xs_of = state[x_at:q_at].reshape(num_rows, -1)
    xs_of[:, :k_size] = xs
    quantize, product = np.zeros((2, plan.NUM_COLUMNS), np.int64)
    strides = [size + 16 for size in sizes]
    quantize[[plan.X_AT, plan.Y_AT, plan.Z_AT]] = x_at, q_at, z_at
    quantize[[plan.X_STRIDE, plan.Y_STRIDE, plan.Z_STRIDE]] = strides[:3]
    product[[plan.X_AT, plan.SX_AT, plan.Y_AT]] = q_at, z_at, y_at
    product[[plan.X_STRIDE, plan.SX_STRIDE, plan.Y_STRIDE]] = strides[1:]
    product[[plan.W_AT, plan.S_AT, plan.B_AT]] = starts[:3]
    product[plan.Y_SIZE] = len(q)
    quantize[plan.IS_UNIT] = is_unit
    for op in (quantize, product):
        op[plan.X_SIZE], op[plan.PLANES] = k_size, num_bytes
    ys = state[y_at:end].reshape(num_rows, -1)
    return (quantize, product, params, state, num_rows), ys


def products(
    q: NDArray[np.int8], scale: Floats, bias: Floats, xs: Floats, num_bytes: int
) -> Floats:
    """Return ``bias + (q * scale) @ xs[row]``, xs quantised to 1 or 2 bytes."""
    args, ys = arrays(q, scale, bias, xs, num_bytes)
    apply(*args)
    assert (ys[:, len(q) :] == -7).all(), "written beside the rows"
    return ys[:, : len(q)].copy()


def quantized(xs: Floats, num_bytes: int, is_unit: bool) -> tuple[NDArray[np.int64], Floats]:
    """Return what rows become, and their scales: read by products with single weights of 1."""
    size = xs.shape[1]
    eye = np.eye(padded(size), size, dtype=np.int8)
    args, ys = arrays(eye, np.ones(len(eye), F), np.zeros(len(eye), F), xs, num_bytes, is_unit)
    apply(*args)
    quantize, _, _, state, num_rows = args
    scale = state[quantize[plan.Z_AT] :: quantize[plan.Z_STRIDE]][:num_rows].copy()
    return np.rint(ys[:, :size].astype(np.float64) / scale[:, None]).astype(np.int64), scale


def cases(k_size: int, y_size: int) -> Iterator[tuple[str, NDArray[np.int8], Floats]]:
    """Yield weights and rows of whole inputs, their largest 32767: all signs alike, and random."""
    generator = np.random.default_rng(k_size)
    signs = generator.choice([-1, 1], k_size)
    for name, sign in (("alike", np.ones(k_size)), ("signs", signs)):
        q = np.broadcast_to(127 * sign, (y_size, k_size)).astype(np.int8)
        q[1::2] *= -1
        q[2::3, : k_size // 2] = 0
        low = np.where(sign > 0, -32513, -32512)  # its low byte is 255 and 0
        xs = np.stack([32767 * sign, -32767 * sign, 32640 * sign, low, sign])
        xs[:, 0] = 32767
        yield name, q, xs.astype(F)
    q = generator.integers(-127, 128, (y_size, k_size)).astype(np.int8)
    xs = generator.integers(-32767, 32768, (9, k_size)).astype(F)
    xs[:, -1] = -32767
    yield "random", q, xs


def answers(y_size: int, *sizes: int) -> dict[str, Floats]:
    """Return the products of all cases, of numbers of rows and outputs that fill no tile too."""
    found = {}
    for k_size in sizes:
        for name, q, xs in cases(k_size, y_size):
            for num_bytes in (1, 2):
                scale = np.full(len(q), 2.0**-15, F)
                bias = np.linspace(-1, 1, len(q), dtype=F)
                for num_rows in (1, len(xs)):
                    key = f"{k_size} {name} {num_bytes} {num_rows}"
                    found[key] = products(q, scale, bias, xs[:num_rows], num_bytes)
    return found


if __name__ == "__main__":
    np.savez(sys.argv[1], **answers(*map(int, sys.argv[2:])))
