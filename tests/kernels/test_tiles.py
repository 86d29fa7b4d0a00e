"""Products of packed matrices: every number of rows gives the bits of one row."""

import numba
import numpy as np
import pytest

from numlstm.kernels import tiles
from numlstm.kernels.packing import pack_weights, packed_size
from numlstm.kernels.simd import pointer, reinterpret
from numlstm.quantize import bfloat16_bits
from tests.cases import SIZES, assert_same_bits

Y_SIZES = (16, 32, 48, 64, 80, 96, 112, 128, 144)
NUM_ROWS = (*range(1, 10), 11, 13)


def _make_linear_rows(word):
    @numba.njit(error_model="numpy")
    def linear_rows(weights, k_size, y_size, init, init_stride, xs, ys, num_rows, backwards):
        tiles.linear_rows(
            reinterpret(pointer(weights, np.float32), word), 0, k_size, y_size,
            pointer(init, np.float32), 0, init_stride, pointer(xs, np.float32), 0, xs.shape[1],
            pointer(ys, np.float32), 0, ys.shape[1], num_rows, backwards,
        )  # fmt: skip

    return linear_rows


_of_float32, _of_bfloat16 = _make_linear_rows(np.float32), _make_linear_rows(np.uint32)


def linear_rows(weight, init, xs, backwards=False):
    """Return init + xs @ weight.T; strides wider than the rows, their ends must stay untouched.

    weight   float32, or the bits of bfloat16
    """
    y_size, k_size = weight.shape
    num_rows = len(xs)
    ys = np.full((num_rows + 1, y_size + 5), -7, np.float32)
    wide_xs = np.full((num_rows, k_size + 3), np.nan, np.float32)
    wide_xs[:, :k_size] = xs
    apply = _of_float32 if weight.dtype == np.float32 else _of_bfloat16
    stride = 0 if init.ndim == 1 else y_size
    packed = np.empty(packed_size(weight), np.float32)
    pack_weights(weight, packed)
    apply(packed, k_size, y_size, init, stride, wide_xs, ys, num_rows, backwards)
    assert (ys[num_rows] == -7).all(), "written behind the rows"
    assert (ys[:num_rows, y_size:] == -7).all(), "written beside the rows"
    return ys[:num_rows, :y_size].copy()


def material(y_size, k_size, num_rows, seed=0):
    generator = np.random.default_rng(seed)
    return (
        generator.standard_normal((y_size, k_size), np.float32),
        generator.standard_normal((num_rows, y_size), np.float32),
        generator.standard_normal((num_rows, k_size), np.float32),
    )


@pytest.mark.parametrize("k_size", SIZES)
@pytest.mark.parametrize("y_size", Y_SIZES)
def test_linear_rows_is_the_product_and_every_row_has_the_bits_of_one_alone(y_size, k_size):
    weight, init, xs = material(y_size, k_size, max(NUM_ROWS))
    alone = np.concatenate([linear_rows(weight, init[n], xs[n : n + 1]) for n in range(len(xs))])
    exact = init + xs.astype(np.float64) @ weight.astype(np.float64).T
    # Each of k_size + 1 roundings is at most 2^-24 of the largest partial sum.
    largest = np.abs(init) + np.abs(xs).astype(np.float64) @ np.abs(weight).T.astype(np.float64)
    assert (np.abs(alone - exact) <= (k_size + 1) * 2.0**-24 * largest).all()
    for num_rows in NUM_ROWS:
        found = linear_rows(weight, np.ascontiguousarray(init[:num_rows]), xs[:num_rows])
        assert_same_bits(found, alone[:num_rows], f"{num_rows} rows")


@pytest.mark.parametrize("k_size", SIZES)
@pytest.mark.parametrize("y_size", Y_SIZES)
def test_bfloat16_has_the_bits_of_the_same_numbers_in_float32(y_size, k_size):
    weight, init, xs = material(y_size, k_size, max(NUM_ROWS))
    bits = bfloat16_bits(weight)
    same = (bits.astype(np.uint32) << 16).view(np.float32)
    for num_rows in NUM_ROWS:
        start = np.ascontiguousarray(init[:num_rows])
        expected = linear_rows(same, start, xs[:num_rows])
        assert_same_bits(linear_rows(bits, start, xs[:num_rows]), expected, f"{num_rows} rows")


@pytest.mark.parametrize("num_rows", NUM_ROWS)
def test_a_stride_of_zero_is_one_bias_for_all_rows(num_rows):
    weight, init, xs = material(80, 17, num_rows)
    found = linear_rows(weight, init[0], xs)
    expected = linear_rows(weight, np.tile(init[0], (num_rows, 1)), xs)
    assert_same_bits(found, expected)


def test_sums_are_taken_in_ascending_order_one_fused_step_each():
    weight, init, xs = material(16, 129, 1)
    expected = init[0].copy()
    for k in range(129):
        # float64 holds a product of float32 exactly; the sum of it rounds twice, rarely in error.
        product = weight[:, k].astype(np.float64) * xs[0, k]
        expected = (product + expected).astype(np.float32)
    found = linear_rows(weight, init, xs)[0]
    assert (found == expected).mean() >= 0.9
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("y_size", [16, 64, 128, 240, 320])
def test_the_order_of_panels_changes_nothing(y_size):
    weight, init, xs = material(y_size, 19, 3)
    for num_rows in (1, 3):
        rows = linear_rows(weight, init[:num_rows], xs[:num_rows])
        assert_same_bits(linear_rows(weight, init[:num_rows], xs[:num_rows], True), rows)
