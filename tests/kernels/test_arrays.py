"""The entry point knows its arrays among all objects, and touches no others."""

import pickle

import numba
import numpy as np
import pytest

from numlstm.kernels.addresses import (
    ARRAY_TYPE_AT,
    COMPILED,
    FLOAT32_AT,
    INT32_AT,
    READABLE,
    WRITEABLE,
)
from numlstm.kernels.arrays import array_data, array_size, object_pointer
from numlstm.kernels.simd import pointer

pytestmark = pytest.mark.skipif(not COMPILED, reason="the entry is that of compiled code")

_WORD, _INT = numba.types.int64, numba.types.int32


@numba.njit(_WORD(object_pointer, _WORD, _WORD, _INT, _INT))
def _size(a, array_type_at, dtype_at, max_axes, flags):
    return array_size(a, array_type_at, dtype_at, max_axes, flags)


@numba.njit(numba.types.float32(object_pointer, numba.types.int64))
def _item(a, at):
    return array_data(a)[at]


def size(a, flags=READABLE, max_axes=1, dtype_at=FLOAT32_AT):
    """Return what the compiled function says, and its twin in Python."""
    entry = next(iter(_size.overloads.values())).entry_point
    found = entry(a, ARRAY_TYPE_AT, dtype_at, max_axes, flags)
    assert found == array_size(a, ARRAY_TYPE_AT, dtype_at, max_axes, flags)
    return found


def _read_only():
    array = np.zeros(3, np.float32)
    array.flags.writeable = False
    return array


def _unaligned():
    return np.frombuffer(bytes(13), np.uint8)[1:].view(np.float32)


class _Sub(np.ndarray):
    pass


ARRAYS = {
    "empty": np.zeros(0, np.float32),
    "one": np.zeros(1, np.float32),
    "many": np.zeros(1000, np.float32),
    "part": np.zeros(100, np.float32)[7:23],
    "row": np.zeros((3, 5), np.float32)[1],
    "strided one": np.zeros(9, np.float32)[4:5:3],
}
OTHERS = {
    "none": None,
    "true": True,
    "small int": 3,
    "large int": 10**40,
    "float": 1.5,
    "text": "float32",
    "bytes": b"",
    "list": [1.0],
    "tuple": (),
    "type": np.ndarray,
    "object": object(),
    "scalar": np.float32(1),
    "no axis": np.zeros((), np.float32),
    "two axes": np.zeros((2, 3), np.float32),
    "float64": np.zeros(3),
    "int32": np.zeros(3, np.int32),
    "big-endian": np.zeros(3, ">f4"),
    "structured": np.zeros(3, [("x", "f4")]),
    "strided": np.zeros(9, np.float32)[::3],
    "backwards": np.zeros(9, np.float32)[::-1],
    "unaligned": _unaligned(),
    "subclass": np.zeros(3, np.float32).view(_Sub),
    "memory": memoryview(np.zeros(3, np.float32)),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_flat_float32_arrays_are_known(name):
    array = ARRAYS[name]
    for max_axes in (1, 3):
        assert size(array, READABLE, max_axes) == array.size
        assert size(array, WRITEABLE, max_axes) == array.size


@pytest.mark.parametrize("name", OTHERS)
def test_any_other_object_is_not(name):
    other = OTHERS[name]
    for flags in (READABLE, WRITEABLE):
        assert size(other, flags) == -1


@pytest.mark.parametrize(
    "shape", [(6,), (2, 3), (2, 3, 4), (1, 1, 1), (0, 3), (2, 0, 3), (2, 3, 0)]
)
def test_an_array_of_up_to_three_axes_is_all_its_numbers(shape):
    array = np.zeros(shape, np.float32)
    for max_axes in (1, 2, 3):
        assert size(array, READABLE, max_axes) == (array.size if len(shape) <= max_axes else -1)
    assert size(np.zeros((*shape, 2, 1, 1), np.float32), READABLE, 3) == -1
    assert size(np.zeros((), np.float32), READABLE, 3) == -1
    if array.size > 1 and len(shape) > 1:
        assert size(array.T, READABLE, 3) == (array.size if array.T.flags.c_contiguous else -1)


def test_an_array_of_ids_is_known_by_its_dtype():
    ids = np.zeros((2, 3), np.int32)
    assert size(ids, READABLE, 2, INT32_AT) == 6
    assert size(ids, READABLE, 2) == -1
    assert size(np.zeros(3, np.int64), READABLE, 1, INT32_AT) == -1


def test_a_read_only_array_can_be_read_but_not_written():
    array = _read_only()
    assert size(array, READABLE) == 3
    assert size(array, WRITEABLE) == -1


def test_the_floats_are_those_of_the_array():
    array = np.arange(20, dtype=np.float32)[5:]
    entry = next(iter(_item.overloads.values())).entry_point
    assert [entry(array, at) for at in (0, 1, 14)] == [5.0, 6.0, 19.0]
    assert pointer(array_data(array), np.float32)[14] == 19.0


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # NumPy wishes to end such changes
def test_an_array_changed_in_place_is_seen_as_it_is_now():
    array = np.zeros(6, np.float32)
    array.shape = (2, 3)
    assert size(array) == -1
    array.shape = (6,)
    array.dtype = np.int32
    assert size(array) == -1


def test_an_array_from_another_process_steps(float_model):
    """Its dtype may be an equal object, not the same."""
    x = pickle.loads(pickle.dumps(np.ones(3, np.float32)))
    out = pickle.loads(pickle.dumps(np.zeros(2, np.float32)))
    expected = float_model.stream().step(np.ones(3, np.float32))
    assert float_model.stream().step(x, out=out) is out
    np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("name", OTHERS)
def test_no_object_crashes_a_step(float_model, name):
    stream = float_model.stream()
    before = stream.save_state()
    other = OTHERS[name]
    with pytest.raises((TypeError, ValueError), match=r"^out "):
        stream.step(np.ones(3, np.float32), out=() if other is None else other)
    assert stream.save_state() == before
    try:
        y = stream.step(other)
    except (TypeError, ValueError) as error:
        assert str(error).startswith("x ")  # noqa: PT017  some of them are converted
        assert stream.save_state() == before
    else:
        expected = float_model.stream().step(np.asarray(other, np.float32))
        np.testing.assert_array_equal(y, expected)


def test_two_steps_at_once_are_not_one(float_model):
    stream = float_model.stream()
    before = stream.save_state()
    with pytest.raises(ValueError, match="x has shape"):
        stream.step(np.ones(6, np.float32), out=np.zeros(4, np.float32))
    assert stream.save_state() == before
