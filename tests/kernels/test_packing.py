"""Packed matrices: nothing is lost, and every weight is where the kernels read it."""

import numpy as np
import pytest

from numlstm.kernels.packing import as_words, pack, panel_widths, plane_size, scales_and_sums
from numlstm.kernels.plan import LANES
from tests.cases import SIZES


@pytest.mark.parametrize("num_vectors", range(1, 20))
def test_panels_cover_the_vectors_widest_first(num_vectors):
    widths = panel_widths(num_vectors)
    assert sum(widths) == num_vectors
    assert set(widths) <= {4, 2, 1}
    assert widths == sorted(widths, reverse=True)
    assert widths.count(2) <= 1
    assert widths.count(1) <= 1


@pytest.mark.parametrize("k_size", SIZES)
@pytest.mark.parametrize("widths", [[1], [2], [4], [3, 3, 3], [4, 4, 2, 1], [4, 4, 4], [2, 1]])
def test_pack_moves_every_weight_to_its_place(widths, k_size):
    y_size = LANES * sum(widths)
    weight = np.arange(y_size * k_size, dtype=np.float32).reshape(y_size, k_size)
    packed = pack(weight, list(widths))
    assert packed.shape == (weight.size,)
    read_back, at, row = np.full_like(weight, -1), 0, 0
    for width in widths:
        for k in range(k_size):
            for vector in range(width):
                rows = slice(row + LANES * vector, row + LANES * (vector + 1))
                read_back[rows, k] = packed[at : at + LANES]
                at += LANES
        row += LANES * width
    np.testing.assert_array_equal(read_back, weight)


def test_pack_leaves_its_arguments_alone():
    weight, widths = np.ones((48, 3), np.float32), [2, 1]
    pack(weight, widths)
    assert widths == [2, 1]
    np.testing.assert_array_equal(weight, np.ones((48, 3)))


@pytest.mark.parametrize("dtype", [np.int8, np.uint16, np.float32])
@pytest.mark.parametrize("k_size", SIZES)
def test_words_hold_the_numbers_in_order_and_zeros_behind_them(k_size, dtype):
    numbers = np.arange(1, 3 * k_size + 1).astype(dtype).reshape(3, k_size)
    words = as_words(numbers)
    per_word = 4 // numbers.itemsize
    assert words.shape == (3, -(-k_size // per_word))
    read_back = words.view(dtype)
    np.testing.assert_array_equal(read_back[:, :k_size], numbers)
    assert not read_back[:, k_size:].any()


@pytest.mark.parametrize("k_size", SIZES)
def test_a_plane_has_a_byte_of_every_input_and_whole_vectors(k_size):
    words = plane_size(k_size)
    assert words % LANES == 0
    assert 0 <= 4 * words - k_size < 4 * LANES


def test_the_sums_take_off_what_makes_the_inputs_unsigned():
    q = np.array([[127, -3, 5], [-127, 0, 0]], np.int8)
    scale = np.array([0.5, 2.0], np.float32)
    table = scales_and_sums(q, scale)
    np.testing.assert_array_equal(table[:2], scale)
    xs = np.array([7, -128, 100])
    dots = q.astype(int) @ (xs + 128) + table[2:].view(np.int32)
    np.testing.assert_array_equal(dots, q.astype(int) @ xs)
