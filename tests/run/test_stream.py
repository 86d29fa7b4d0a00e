"""Streams: the same bits however the steps are cut, and unchanged by whatever is refused."""

import copy
import gc
import signal
import sys
import threading
import tracemalloc
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba.core.runtime import rtsys

import numlstm
from numlstm import spec
from numlstm.program.lower import BLOCK_ROWS
from numlstm.spec import Network, Weights
from tests.cases import (
    CASES,
    NETWORKS,
    TOLERANCES,
    assert_same_bits,
    random_input,
    random_weights,
)
from tests.conftest import Python, model_of, output_of

SEQ_LEN = 3 * BLOCK_ROWS + 5
# Around the ends of a block of rows, and of the register tiles of 2 and 4 rows within it.
LENGTHS = (*range(1, 10), *(n * BLOCK_ROWS + more for n in (1, 2) for more in (-1, 0, 1)))


def steps(stream: numlstm.Stream, xs: np.ndarray) -> np.ndarray:
    return np.stack([stream.step(x) for x in xs])


# The same bits -----------------------------------------------------------------------------------


def test_steps_are_a_run(model):
    xs = random_input(model.network, SEQ_LEN)
    whole, one_by_one = model.stream(), model.stream()
    assert_same_bits(steps(one_by_one, xs), whole.run(xs))
    assert one_by_one.save_state() == whole.save_state()
    assert_same_bits(model.run(xs), model.stream().run(xs))


@pytest.mark.parametrize("case", CASES[::5], ids=lambda case: case.id)
def test_steps_are_a_run_for_cells_of_the_table(case):
    model = numlstm.Model(random_weights(case.network))
    xs = random_input(case.network, SEQ_LEN)
    whole, one_by_one = model.stream(), model.stream()
    assert_same_bits(steps(one_by_one, xs), whole.run(xs))
    assert one_by_one.save_state() == whole.save_state()


@pytest.mark.parametrize("length", LENGTHS)
def test_lengths_around_a_block_are_steps(model, length):
    xs = random_input(model.network, length)
    whole, one_by_one = model.stream(), model.stream()
    assert_same_bits(whole.run(xs), steps(one_by_one, xs))
    assert whole.save_state() == one_by_one.save_state()


@pytest.mark.parametrize("name", NETWORKS)
@given(sizes=st.lists(st.integers(0, 2 * BLOCK_ROWS + 2), max_size=8), seed=st.integers(0, 99))
def test_any_chunks_are_a_run(name, sizes, seed):
    model = model_of(name)
    xs = random_input(model.network, SEQ_LEN, seed)
    stream, chunks, at = model.stream(), [], 0
    for size in [*sizes, SEQ_LEN]:
        chunks.append(stream.run(xs[at : at + size]))
        at += size
    assert_same_bits(np.concatenate(chunks), model.run(xs))


def test_a_prefix_of_the_input_gives_a_prefix_of_the_output(model):
    xs = random_input(model.network, SEQ_LEN)
    ys = model.run(xs)
    for length in (1, 7, BLOCK_ROWS, SEQ_LEN - 1):
        assert_same_bits(model.run(xs[:length]), ys[:length])


def test_a_copy_continues_on_its_own(model):
    xs, others = random_input(model.network, 40), random_input(model.network, 9, 1)
    stream = model.stream()
    stream.run(xs[:20])
    twin = stream.copy()
    twin.run(others)
    assert_same_bits(stream.copy().run(xs[20:]), model.run(xs)[20:])
    assert_same_bits(stream.run(xs[20:]), model.run(xs)[20:])
    assert twin.model is stream.model


def test_a_saved_state_continues(model):
    xs = random_input(model.network, 40)
    stream, other = model.stream(), model.stream()
    stream.run(xs[:20])
    blob = stream.save_state()
    assert type(blob) is bytes
    other.run(xs[:7])
    for view in (blob, bytearray(blob), memoryview(blob)):
        other.load_state(view)
        assert other.save_state() == blob
        assert_same_bits(other.run(xs[20:]), model.run(xs)[20:])


def test_reset_is_a_new_stream(model):
    xs = random_input(model.network, 20)
    stream = model.stream()
    new = stream.save_state()
    stream.run(xs)
    assert stream.save_state() != new or not stream.state
    stream.reset()
    assert stream.save_state() == new
    assert_same_bits(stream.run(xs), model.run(xs))


@pytest.mark.parametrize("make", [copy.copy, copy.deepcopy])
def test_copies_of_the_copy_module_are_copies(float_model, make):
    xs = random_input(float_model.network, 40)
    stream = float_model.stream()
    stream.run(xs[:20])
    twin, other = make(stream), make(stream)
    other.step(xs[0])
    assert twin.model is stream.model
    assert_same_bits(twin.run(xs[20:]), float_model.run(xs)[20:])
    assert_same_bits(stream.run(xs[20:]), float_model.run(xs)[20:])


RESTORE = """
import sys
import numpy as np
import numlstm
stream = numlstm.load(sys.argv[1]).stream()
with open(sys.argv[2], "rb") as file:
    stream.load_state(file.read())
np.save(sys.argv[4], stream.run(np.load(sys.argv[3])))
"""


@pytest.mark.parametrize("name", ["vectors", "tokens"])
def test_a_saved_state_continues_in_another_process(name, tmp_path, python: Python):
    model = model_of(name)
    xs = random_input(model.network, 40)
    stream = model.stream()
    stream.run(xs[:20])
    files = [str(tmp_path / end) for end in ("model.safetensors", "state", "xs.npy", "ys.npy")]
    model.save(files[0])
    (tmp_path / "state").write_bytes(stream.save_state())
    np.save(files[2], xs[20:])
    output_of(python("-c", RESTORE, *files))
    assert_same_bits(np.load(files[3]), model.run(xs)[20:])


def test_threads_give_the_bits_of_one_alone(model):
    inputs = [random_input(model.network, 300, seed) for seed in range(8)]
    alone = [model.run(xs) for xs in inputs]

    def work(n: int) -> list[np.ndarray]:
        stream = model.stream()
        results = []
        for _ in range(5):
            stream.reset()
            first = stream.run(inputs[n][:150])
            results.append(np.concatenate([first, steps(stream, inputs[n][150:])]))
        return results

    with ThreadPoolExecutor(4) as pool:
        for n, results in enumerate(pool.map(work, range(8))):
            for result in results:
                assert_same_bits(result, alone[n], f"thread {n}")


# Outputs ------------------------------------------------------------------------------------------


def test_a_new_array_is_returned_each_time(model):
    xs = random_input(model.network, 3)
    stream = model.stream()
    results = [stream.step(x) for x in xs]
    assert_same_bits(np.stack(results), model.run(xs))
    assert all(y.shape == (model.output_size,) and y.dtype == np.float32 for y in results)


def test_out_is_written_and_returned(model):
    xs = random_input(model.network, 40)
    expected = model.run(xs)
    ys = np.full_like(expected, np.nan)
    assert model.stream().run(xs, out=ys) is ys
    assert_same_bits(ys, expected)
    assert model.run(xs, out=ys) is ys
    stream, y = model.stream(), np.empty(model.output_size, np.float32)
    for n, x in enumerate(xs):
        assert stream.step(x, out=y) is y
        assert_same_bits(y, expected[n])


def test_out_may_be_the_input():
    model = model_of("lstm_17")
    xs = random_input(model.network, 60)
    expected = model.run(xs)
    same = xs.copy()
    assert model.run(same, out=same) is same
    assert_same_bits(same, expected)
    stream, y = model.stream(), xs[0].copy()
    for n in range(len(xs)):
        y[:] = xs[n]
        assert_same_bits(stream.step(y, out=y), expected[n])
    for shift in (-1, 1):
        memory = np.zeros((62, 17), np.float32)
        memory[1:61] = xs
        found = model.run(memory[1:61], out=memory[1 + shift : 61 + shift])
        assert_same_bits(found.copy(), expected, f"shifted by {shift}")


def test_an_empty_sequence_gives_no_rows_and_changes_nothing(model):
    stream = model.stream()
    stream.run(random_input(model.network, 5))
    before = stream.save_state()
    xs = random_input(model.network, 0)
    for empty in (xs, xs.tolist() if xs.ndim == 1 else xs):
        ys = stream.run(empty)
        assert ys.shape == (0, model.output_size)
        assert ys.dtype == np.float32
    assert stream.save_state() == before


# Accepted inputs ----------------------------------------------------------------------------------


def unaligned(a: np.ndarray) -> np.ndarray:
    memory = np.zeros(a.nbytes + 1, np.uint8)
    view = memory[1:].view(a.dtype).reshape(a.shape)
    view[...] = a
    assert not view.flags.aligned
    return view


def read_only(a: np.ndarray) -> np.ndarray:
    a = a.copy()
    a.flags.writeable = False
    return a


FORMS: dict[str, Callable[[np.ndarray], Any]] = {
    "float64": lambda a: a.astype(np.float64),
    "float16": lambda a: a.astype(np.float16),
    "longdouble": lambda a: a.astype(np.longdouble),
    "int64": lambda a: a.astype(np.int64),
    "uint8": lambda a: np.abs(a).astype(np.uint8),
    "list": lambda a: a.tolist(),
    "tuple": lambda a: tuple(a.tolist()),
    "ints": lambda a: a.astype(int).tolist(),
    "byte-swapped": lambda a: a.astype(">f4"),
    "fortran": np.asfortranarray,
    "strided": lambda a: np.repeat(a, 2, -1)[..., ::2],
    "negative strides": lambda a: np.ascontiguousarray(a[..., ::-1])[..., ::-1],
    "negative strides of time": lambda a: np.ascontiguousarray(a[::-1])[::-1],
    "broadcast": lambda a: np.broadcast_to(a.reshape(-1)[:1], a.shape),
    "read-only": read_only,
    "unaligned": unaligned,
    "subclass": lambda a: a.view(type("Sub", (np.ndarray,), {})),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("with_out", [False, True], ids=["", "out"])
def test_other_forms_of_numbers_are_converted(float_model, form, with_out):
    xs = np.float32(2) * random_input(float_model.network, 40)
    given_xs = FORMS[form](xs)
    expected = float_model.run(np.ascontiguousarray(np.asarray(given_xs), np.float32))
    out = np.empty_like(expected) if with_out else None
    assert_same_bits(float_model.run(given_xs, out), expected)
    stream = float_model.stream()
    for n, x in enumerate(xs[:1] if form == "negative strides of time" else xs):
        plain = np.asarray(FORMS[form](x)).astype(np.float32)
        twin = stream.copy()
        y = np.empty(2, np.float32) if with_out else None
        assert_same_bits(stream.step(FORMS[form](x), y), twin.step(plain), f"step {n}")
    assert stream.save_state() == twin.save_state()


def test_a_single_number_per_step_may_have_any_strides():
    network = Network((spec.LSTM(1, 4),))
    model = numlstm.Model(random_weights(network))
    xs = random_input(network, 40)
    strided = np.zeros((40, 8), np.float32)
    strided[:, :1] = xs
    expected = model.run(xs)
    assert_same_bits(model.run(strided[:, :1]), expected)
    stream = model.stream()
    assert_same_bits(np.stack([stream.step(x[:1]) for x in strided]), expected)


@pytest.mark.parametrize(
    "dtype", [np.int8, np.uint8, np.int16, np.int32, np.uint32, np.int64, np.uint64, ">i4", ">i8"]
)
def test_token_ids_of_any_integer_type(token_model, dtype):
    ids = random_input(token_model.network, 40)
    expected = token_model.run(ids)
    assert_same_bits(token_model.run(ids.astype(dtype)), expected)
    assert_same_bits(token_model.run(read_only(ids.astype(dtype))[::1]), expected)
    assert_same_bits(token_model.run(np.repeat(ids.astype(dtype), 3)[::3]), expected)
    assert_same_bits(token_model.run(ids.tolist()), expected)
    assert_same_bits(steps(token_model.stream(), ids.astype(dtype)), expected)
    assert_same_bits(steps(token_model.stream(), ids.tolist()), expected)
    assert_same_bits(steps(token_model.stream(), [np.array(n, dtype) for n in ids]), expected)


# Refused inputs -----------------------------------------------------------------------------------

NAN, INF = float("nan"), float("inf")


def bad_at(t: int, feature: int, value: float) -> np.ndarray:
    xs = np.zeros((40, 3), np.float32)
    xs[t, feature] = value
    return xs


STEP_ERRORS: dict[str, tuple[Any, type[Exception], str]] = {
    "short": ([1.0, 2.0], ValueError, r"x has shape \(2,\), model expects \(3,\)"),
    "long": (np.zeros(4), ValueError, r"x has shape \(4,\), model expects \(3,\)"),
    "two axes": (np.zeros((1, 3)), ValueError, r"x has shape \(1, 3\), model expects \(3,\)"),
    "column": (np.zeros((3, 1)), ValueError, r"x has shape \(3, 1\)"),
    "scalar": (1.0, ValueError, r"x has shape \(\)"),
    "token id": (1, ValueError, r"x has shape \(\)"),
    "empty": ([], ValueError, r"x has shape \(0,\)"),
    "none": (None, (ValueError, TypeError), "x "),
    "ragged": ([1.0, [2.0], 3.0], (ValueError, TypeError), "."),
    "complex": (np.zeros(3, complex), TypeError, "x is of complex128, expected float32"),
    "strings": (["1", "2", "3"], TypeError, "x is of <U1, expected float32"),
    "objects": (np.array([1, 2, None]), TypeError, "x is of object, expected float32"),
    "bools": ([True, False, True], TypeError, "x is of bool, expected float32"),
    "dates": (np.zeros(3, "M8[s]"), TypeError, r"x is of datetime64\[s\]"),
    "nan": (np.array([0, NAN, 0], np.float32), ValueError, r"x\[1\] is nan, expected finite"),
    "inf": (np.array([0, 0, INF], np.float32), ValueError, r"x\[2\] is inf, expected finite"),
    "minus inf": ([-INF, 0, 0], ValueError, r"x\[0\] is -inf, expected finite"),
    "nan in float64": ([0.0, NAN, 0.0], ValueError, r"x\[1\] is nan"),
    "too large for float32": ([0, 1e39, 0], ValueError, r"x\[1\] is inf"),
}

RUN_ERRORS: dict[str, tuple[Any, type[Exception], str]] = {
    "one step": (np.zeros(3), ValueError, r"xs has shape \(3,\), model expects \(T, 3\)"),
    "narrow": (np.zeros((5, 2)), ValueError, r"xs has shape \(5, 2\), model expects \(T, 3\)"),
    "turned": (np.zeros((3, 5)), ValueError, r"xs has shape \(3, 5\), model expects \(T, 3\)"),
    "batch": (np.zeros((2, 5, 3)), ValueError, r"xs has shape \(2, 5, 3\)"),
    "empty list": ([], ValueError, r"xs has shape \(0,\)"),
    "none": (None, (ValueError, TypeError), "xs "),
    "complex": (np.zeros((5, 3), complex), TypeError, "xs is of complex128, expected float32"),
    "strings": (np.full((5, 3), "a"), TypeError, "xs is of <U1"),
    "objects": (np.full((5, 3), None), TypeError, "xs is of object"),
    "bools": (np.ones((5, 3), bool), TypeError, "xs is of bool"),
    "nan first": (bad_at(0, 0, NAN), ValueError, r"xs\[0, 0\] is nan, expected finite"),
    "nan in the middle": (bad_at(20, 1, NAN), ValueError, r"xs\[20, 1\] is nan"),
    "nan last": (bad_at(39, 2, NAN), ValueError, r"xs\[39, 2\] is nan"),
    "inf in the middle": (bad_at(17, 0, INF), ValueError, r"xs\[17, 0\] is inf"),
    "minus inf": (bad_at(16, 2, -INF), ValueError, r"xs\[16, 2\] is -inf"),
    "too large for float32": (
        bad_at(3, 0, 0).astype(float) + np.float64(1e39), ValueError, r"xs\[0, 0\] is inf",
    ),
}  # fmt: skip

TOKEN_ERRORS: dict[str, tuple[Any, type[Exception], str]] = {
    "-1": (-1, ValueError, "token id -1 is outside 0 <= id < 11"),
    "vocab_size": (11, ValueError, "token id 11 is outside 0 <= id < 11"),
    "2**31": (2**31, ValueError, "token id 2147483648 is outside"),
    "2**32": (2**32, ValueError, "token id 4294967296 is outside"),
    "2**63": (2**63, ValueError, "token id 9223372036854775808 is outside"),
    "2**64": (2**64, ValueError, "token id 18446744073709551616 is outside"),
    "numpy -1": (np.int64(-1), ValueError, "token id -1 is outside"),
    "numpy 2**63": (np.uint64(2**63), ValueError, "token id 9223372036854775808 is outside"),
    "True": (True, TypeError, "x is True, expected an integer token id"),
    "numpy True": (np.True_, TypeError, "expected an integer token id"),
    "1.0": (1.0, TypeError, "x is float, expected an integer token id"),
    "numpy 1.0": (np.float32(1), TypeError, "x is float32, expected an integer token id"),
    "a": ("a", TypeError, "x is str, expected an integer token id"),
    "None": (None, TypeError, "x is NoneType, expected an integer token id"),
    "list": ([1], TypeError, "x is list, expected an integer token id"),
    "array": (np.array([1]), TypeError, "x is ndarray, expected an integer token id"),
    "nan": (NAN, TypeError, "x is float, expected an integer token id"),
}

TOKENS_ERRORS: dict[str, tuple[Any, type[Exception], str]] = {
    "-1": ([1, -1], ValueError, r"token id -1 at xs\[1\] is outside 0 <= id < 11"),
    "vocab_size": ([1, 2, 11], ValueError, r"token id 11 at xs\[2\] is outside 0 <= id < 11"),
    "2**31": ([2**31], ValueError, r"token id 2147483648 at xs\[0\]"),
    "2**32": ([0, 2**32], ValueError, r"token id 4294967296 at xs\[1\]"),
    "2**63": ([2**63], ValueError, r"token id 9223372036854775808 at xs\[0\]"),
    "2**64": ([2**64], (TypeError, ValueError), "xs is of|outside"),
    "bools": ([True, False], TypeError, "xs is of bool, expected integer token ids"),
    "floats": ([1.0, 2.0], TypeError, "xs is of float64, expected integer token ids"),
    "strings": (["a"], TypeError, "xs is of <U1, expected integer token ids"),
    "text": ("hello", TypeError, "xs is of <U5, expected integer token ids"),
    "none": (None, TypeError, "xs is of object, expected integer token ids"),
    "scalar": (3, ValueError, r"xs has shape \(\), model expects \(T,\) token ids"),
    "batch": ([[1, 2], [3, 4]], ValueError, r"xs has shape \(2, 2\), model expects \(T,\)"),
    "late": (np.r_[np.zeros(99, int), 50], ValueError, r"token id 50 at xs\[99\]"),
}

ERRORS = {
    ("vectors", "step"): STEP_ERRORS,
    ("vectors", "run"): RUN_ERRORS,
    ("tokens", "step"): TOKEN_ERRORS,
    ("tokens", "run"): TOKENS_ERRORS,
}


@pytest.mark.parametrize(
    ("name", "method", "what"),
    [(*key, what) for key, errors in ERRORS.items() for what in errors],
)
def test_a_bad_input_is_a_clear_error_and_changes_nothing(name, method, what):
    x, error, message = ERRORS[name, method][what]
    model = model_of(name)
    stream = model.stream()
    xs = random_input(model.network, 30)
    stream.run(xs[:20])
    before = stream.save_state()
    with pytest.raises(error, match=message):
        getattr(stream, method)(x)
    assert stream.save_state() == before
    assert_same_bits(stream.run(xs[20:]), model.run(xs)[20:])


def test_a_nan_far_into_a_long_run_is_named_where_it_is():
    network = Network((spec.RNN(1, 1),))
    stream = numlstm.Model(random_weights(network)).stream()
    before = stream.save_state()
    xs = np.zeros((200_000, 1), np.float32)
    xs[150_000] = np.nan
    with pytest.raises(ValueError, match=r"xs\[150000, 0\] is nan"):
        stream.run(xs)
    assert stream.save_state() == before


def _out_errors(shape: tuple[int, ...]) -> dict[str, tuple[Any, type[Exception], str]]:
    longer, twice = (*shape[:-1], shape[-1] + 1), (*shape[:-1], 2 * shape[-1])
    apart = np.zeros(twice, np.float32)[..., ::2]
    return {
        "list": ([0.0] * shape[-1], TypeError, "out is list, expected a float32 array"),
        "long": (np.zeros(longer, np.float32), ValueError, "out has shape .*, expected"),
        "axes": (np.zeros((1, *shape), np.float32), ValueError, "out has shape .*, expected"),
        "float64": (np.zeros(shape), TypeError, "out is of float64, expected float32"),
        "int32": (np.zeros(shape, np.int32), TypeError, "out is of int32, expected float32"),
        "swapped": (np.zeros(shape, ">f4"), TypeError, "out is of >f4, expected float32"),
        "read-only": (read_only(np.zeros(shape, np.float32)), ValueError, "out must be .*writ"),
        "strided": (apart, ValueError, "out must be contiguous"),
        "reversed": (np.zeros(shape, np.float32)[..., ::-1], ValueError, "out must be contiguous"),
        "unaligned": (unaligned(np.zeros(shape, np.float32)), ValueError, "out must be .*aligned"),
    }  # fmt: skip


@pytest.mark.parametrize("what", _out_errors((2,)))
@pytest.mark.parametrize("method", ["step", "run"])
def test_a_bad_out_is_a_clear_error_and_changes_nothing(float_model, method, what):
    xs = random_input(float_model.network, 30)
    stream = float_model.stream()
    stream.run(xs[:20])
    before = stream.save_state()
    x, shape = (xs[20], (2,)) if method == "step" else (xs[20:], (10, 2))
    out, error, message = _out_errors(shape)[what]
    kept = copy.deepcopy(out)
    with pytest.raises(error, match=message):
        getattr(stream, method)(x, out=out)
    np.testing.assert_array_equal(out, kept)
    assert stream.save_state() == before


def _make_read_only(y: np.ndarray) -> None:
    y.flags.writeable = False


def _make_longer(y: np.ndarray) -> None:
    y.resize(3, refcheck=False)


@pytest.mark.parametrize("change", [_make_read_only, _make_longer])
def test_an_out_that_was_changed_since_the_last_step_is_refused(float_model, change):
    stream = float_model.stream()
    x, y = np.ones(3, np.float32), np.empty(2, np.float32)
    stream.step(x, out=y)
    change(y)
    kept = y.copy()
    with pytest.raises(ValueError, match="out "):
        stream.step(2 * x, out=y)
    np.testing.assert_array_equal(y, kept)


# Overflow -----------------------------------------------------------------------------------------


def _exploding() -> numlstm.Model:
    """A relu RNN whose h overflows to inf in the first step, and inf - inf in the second."""
    return numlstm.Model(
        Weights(
            Network((spec.RNN(1, 2, False, "relu"),)),
            {
                "layers.0.weight_ih": np.full((2, 1), 2, np.float32),
                "layers.0.weight_hh": np.array([[1, -1], [1, 1]], np.float32),
            },
        )
    )


def test_an_overflow_is_refused():
    stream = _exploding().stream()
    stream.step([1.0])
    before = stream.save_state()
    y = np.zeros(2, np.float32)
    for call in (lambda: stream.step([3e38]), lambda: stream.step([3e38], out=y)):
        with pytest.raises(ValueError, match="x made the network overflow"):
            call()
        assert stream.save_state() == before
    with pytest.raises(ValueError, match="xs made the network overflow"):
        stream.run([[3e38]])
    assert stream.save_state() == before


def test_an_overflowing_mean_is_refused_where_it_happens():
    stream = numlstm.Model(Weights(Network((spec.Pooling(1, "mean"),)), {})).stream()
    stream.step([3e38])
    before = stream.save_state()
    with pytest.raises(ValueError, match="x made the network overflow"):
        stream.step([3e38])
    assert stream.save_state() == before
    np.testing.assert_array_equal(stream.step([-3e38]), [0.0])


def test_an_out_of_a_subclass_is_written(float_model, tmp_path):
    xs = random_input(float_model.network, 20)
    ys = np.memmap(tmp_path / "ys", np.float32, "w+", shape=(20, 2))
    assert float_model.run(xs, out=ys) is ys
    assert_same_bits(np.array(ys), float_model.run(xs))
    row = ys[1]
    assert float_model.stream().step(xs[0], out=row) is row
    assert_same_bits(np.array(ys[1]), np.array(ys[0]))


def test_no_step_is_not_a_step(float_model):
    nothing = np.empty(0, np.float32)
    with pytest.raises(ValueError, match=r"has shape \(0,\)"):
        float_model.stream().step(nothing, out=nothing)


def test_an_overflow_in_the_middle_of_a_run_undoes_all_of_it():
    stream = _exploding().stream()
    stream.run([[1.0], [2.0]])
    before = stream.save_state()
    for position in (0, 14, 15, 16, 40):
        xs = np.zeros((60, 1), np.float32)
        xs[position] = 3e38
        with pytest.raises(ValueError, match="xs made the network overflow"):
            stream.run(xs)
        assert stream.save_state() == before


@pytest.fixture
def ctrl_c() -> Iterator[Callable[[], None]]:
    """Send what Ctrl-C sends, also where the tests run in the background, which ignores it."""
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield lambda: signal.raise_signal(signal.SIGINT)
    signal.signal(signal.SIGINT, handler)


def test_ctrl_c_ends_a_long_run_and_changes_nothing(ctrl_c):
    network = Network((spec.RNN(1, 64), spec.Linear(64, 1)))
    stream = numlstm.Model(random_weights(network)).stream()
    stream.run(np.ones((3, 1), np.float32))
    before = stream.save_state()
    xs = np.zeros((20_000_000, 1), np.float32)  # many seconds
    ys = np.full_like(xs, np.nan)
    timer = threading.Timer(0.2, ctrl_c)
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        stream.run(xs, out=ys)
    timer.join()
    assert np.isnan(ys[-1])  # it was not run to its end
    assert stream.save_state() == before


# States -------------------------------------------------------------------------------------------


def test_a_damaged_state_is_refused_and_changes_nothing(float_model):
    stream = float_model.stream()
    stream.run(random_input(float_model.network, 20))
    blob = stream.save_state()
    stream.run(random_input(float_model.network, 20, 1))
    before = stream.save_state()
    damaged = [blob[:size] for size in range(len(blob))]
    damaged += [blob + b"\0", blob + blob]
    for at in range(len(blob)):
        damaged.append(bytes([*blob[:at], blob[at] ^ 0x40, *blob[at + 1 :]]))
    for bad in damaged:
        with pytest.raises(ValueError, match="the state "):
            stream.load_state(bad)
        assert stream.save_state() == before


@pytest.mark.parametrize("blob", ["text", None, 3, [1, 2], np.zeros(4, np.float32)], ids=str)
def test_a_state_that_is_not_bytes_is_refused(float_model, blob):
    with pytest.raises(TypeError, match="expected bytes of save_state"):
        float_model.stream().load_state(blob)


def test_the_state_of_another_model_is_refused(float_model):
    network = float_model.network
    others = {
        "other layers": model_of("tokens"),
        "other tensors": numlstm.Model(random_weights(network, seed=1)),
        "other activation": numlstm.Model(
            random_weights(Network((*network.layers[:-1], spec.Linear(33, 2, True, "tanh"))))
        ),
    }
    stream = float_model.stream()
    before = stream.save_state()
    for what, other in others.items():
        with pytest.raises(ValueError, match="the state is another model's"):
            stream.load_state(other.stream().save_state())
        assert stream.save_state() == before, what


def test_the_same_weights_in_another_model_are_the_same_model(float_model):
    xs = random_input(float_model.network, 20)
    twin = numlstm.Model(random_weights(float_model.network))
    assert twin is not float_model
    stream, other = float_model.stream(), twin.stream()
    stream.run(xs)
    other.load_state(stream.save_state())
    assert_same_bits(other.run(xs), stream.run(xs))


def test_a_state_holds_nothing_but_the_steps_that_made_it(model):
    """No bytes of whatever was in memory before: equal steps give equal states."""
    xs = random_input(model.network, 20)
    blobs = set()
    for filling in (0.0, 1.0, 1e30, np.nan):
        # What numpy allocates next is likely this memory.
        for size in (64, 256, 1024, 4096, 16384, 65536):
            np.full(size, filling, np.float32)
        stream = model.stream()
        stream.run(xs)
        blobs.add(stream.save_state())
    assert len(blobs) == 1


# Allocations --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["vectors", "tokens", "lstm_17"])
def test_a_step_with_out_allocates_nothing(name):
    model = model_of(name)
    stream = model.stream()
    xs = random_input(model.network, 8)
    inputs = [int(x) for x in xs] if model.vocab_size else list(xs)
    y = np.empty(model.output_size, np.float32)

    def work(rounds: int) -> None:
        for _ in range(rounds):
            for x in inputs:
                stream.step(x, out=y)

    work(100)
    gc.collect()
    blocks = sys.getallocatedblocks()
    work(2000)
    assert abs(sys.getallocatedblocks() - blocks) <= 8  # of the interpreter, not per step

    tracemalloc.start()
    work(10)
    before, _ = tracemalloc.get_traced_memory()
    tracemalloc.reset_peak()
    work(1000)
    after, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert after - before <= 512
    assert peak - before <= 1024  # a shape, a loop counter: never an array


def test_compiled_code_keeps_no_memory(float_model):
    from numba.core.runtime import _nrt_python

    enabled = _nrt_python.memsys_stats_enabled()
    if not enabled:
        _nrt_python.memsys_enable_stats()
    try:
        stream = float_model.stream()
        xs = random_input(float_model.network, 50)
        stream.run(xs)
        before = rtsys.get_allocation_stats()
        for _ in range(100):
            stream.run(xs)
            stream.step(xs[0])
        after = rtsys.get_allocation_stats()
    finally:
        if not enabled:
            _nrt_python.memsys_disable_stats()
    assert after.alloc - before.alloc == after.free - before.free
    assert after.mi_alloc - before.mi_alloc == after.mi_free - before.mi_free


# Pooling ------------------------------------------------------------------------------------------


def test_the_mean_of_a_long_stream_keeps_its_accuracy():
    model = numlstm.Model(Weights(Network((spec.Pooling(3, "mean"),)), {}))
    xs = np.random.default_rng(0).standard_normal((100_000, 3)).astype(np.float32)
    xs += np.array([0.1, 100, -3000], np.float32)
    expected = np.cumsum(xs.astype(np.float64), 0) / np.arange(1, len(xs) + 1)[:, None]
    # Two roundings, of the sum and of the quotient, in units of the mean size of a term.
    size = np.cumsum(np.abs(xs).astype(np.float64), 0) / np.arange(1, len(xs) + 1)[:, None]
    stream = model.stream()
    found = np.concatenate([stream.run(part) for part in np.array_split(xs, 7)])
    assert (np.abs(found - expected) <= 2.0**-22 * size).all()


def test_the_maximum_is_exact():
    model = numlstm.Model(Weights(Network((spec.Pooling(19, "max"),)), {}))
    xs = random_input(model.network, 3000) - np.float32(5)
    assert_same_bits(model.run(xs), np.maximum.accumulate(xs, 0))
    assert_same_bits(model.run(xs[::-1]), np.maximum.accumulate(xs[::-1], 0))


def test_the_last_is_the_layer_before():
    model = numlstm.Model(Weights(Network((spec.Pooling(19, "last"),)), {}))
    xs = random_input(model.network, 40)
    assert_same_bits(model.run(xs), xs)


# Answers ------------------------------------------------------------------------------------------


def test_networks_with_every_kind_of_layer_give_the_reference(model):
    from numlstm import reference

    weights = random_weights(model.network)
    xs = random_input(model.network, 200)
    expected, states = reference.run(model.network, weights.tensors, xs)
    stream = model.stream()
    TOLERANCES["output"].check(stream.run(xs), expected)
    assert set(stream.state) == set(states)
    for name, value in states.items():
        TOLERANCES[name[-1]].check(stream.state[name], value, name)


def test_attributes_describe_the_network(float_model, token_model):
    assert (float_model.input_size, float_model.output_size) == (3, 2)
    assert float_model.vocab_size is None
    assert (token_model.input_size, token_model.output_size) == (1, 3)
    assert token_model.vocab_size == 11
    assert "RNN(input_size=70" in repr(float_model)
    assert repr(float_model) in repr(float_model.stream())
    assert "token ids below 11" in token_model.info()
    assert "vectors of 3" in float_model.info()


def test_nothing_warns(model):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.run(random_input(model.network, 40))
    assert caught == []


# Denormals ----------------------------------------------------------------------------------------

_DECAYING = {
    "rnn": spec.RNN(4, 20),
    "relu": spec.RNN(4, 20, nonlinearity="relu"),
    "gru": spec.GRU(4, 20),
    "lstm": spec.LSTM(4, 20),
    "projected": spec.LSTM(4, 20, proj_size=8),
    "peepholes": spec.LSTM(4, 20, peepholes=True),
}


@pytest.mark.parametrize("layer", _DECAYING.values(), ids=_DECAYING)
def test_a_state_that_decays_becomes_zero_and_never_denormal(layer):
    network = Network((layer,))
    tensors = {
        name: np.zeros_like(tensor) if "bias" in name else 0.3 * tensor
        for name, tensor in random_weights(network).tensors.items()
    }
    stream = numlstm.Model(Weights(network, tensors)).stream()
    stream.step(np.ones(4, np.float32))
    assert np.abs(stream.kept).max() > 1e-3
    for _ in range(60):
        stream.run(np.zeros((100, 4), np.float32))
        kept = np.abs(stream.kept[16:])  # behind the count of the steps
        assert not ((kept > 0) & (kept < np.finfo(np.float32).tiny)).any()
    np.testing.assert_array_equal(stream.kept[16:], 0)


def test_small_weights_add_up_in_an_attention_pooling():
    """Each is less than half a unit in the last place of the sum that the first one made."""
    weights = Weights(Network((spec.AttentionPooling(1),)), {"layers.0.weight": np.ones(1, "f4")})
    xs = np.zeros((2**18, 1), np.float32)
    xs[0] = 17
    expected = 17 / (1 + np.arange(2**18) * np.exp(-17.0))
    stream = numlstm.Model(weights).stream()
    found = np.concatenate([stream.run(xs[:1000]), stream.run(xs[1000:])])
    np.testing.assert_allclose(found[:, 0], expected, 1e-6)
    assert expected[-1] < 16.9
