"""Packed matrices: nothing is lost, and every weight is where the kernels read it."""

import numpy as np
import pytest

from numlstm.kernels import packing
from numlstm.kernels.cpu import LEVELS
from numlstm.kernels.packing import (
    as_words,
    pack,
    pack_weights,
    packed_size,
    panel_widths,
    unpacked,
)
from numlstm.kernels.plan import LANES
from tests.cases import SIZES


@pytest.mark.parametrize("kind", [np.int8, np.uint16, np.float32])
@pytest.mark.parametrize("k_size", SIZES)
@pytest.mark.parametrize("num_vectors", [1, 2, 3, 4, 7, 9])
def test_what_is_packed_can_be_unpacked(num_vectors, k_size, kind):
    numbers = np.arange(LANES * num_vectors * k_size).astype(kind).reshape(-1, k_size)
    params = np.empty(3 + packed_size(numbers), np.float32)
    pack_weights(numbers, params[3:])
    np.testing.assert_array_equal(unpacked(params, 3, numbers.shape, kind), numbers)


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


@pytest.mark.parametrize("k_size", [1, 7, 16, 17])
@pytest.mark.parametrize("num_vectors", [1, 3, 4, 7])
@pytest.mark.parametrize("dtype", [np.int8, np.uint16, np.float32])
@pytest.mark.parametrize("level", LEVELS, ids=lambda level: level.name)
def test_what_is_packed_is_unpacked_bit_for_bit(monkeypatch, level, dtype, num_vectors, k_size):
    monkeypatch.setattr(packing, "INTEGER_PANEL", level.integers.panel)
    monkeypatch.setattr(packing, "ARE_SHORTS", level.integers.inputs == "int16")
    generator = np.random.default_rng(k_size)
    shape = num_vectors * LANES, k_size
    bits = generator.integers(0, 256, (*shape, np.dtype(dtype).itemsize), np.uint8)
    numbers = bits.view(dtype)[..., 0]
    params = np.zeros(16 + packed_size(numbers), np.float32)
    pack_weights(numbers, params[16:])
    found = unpacked(params, 16, shape, dtype)
    assert found.dtype == dtype
    assert found.tobytes() == numbers.tobytes()
