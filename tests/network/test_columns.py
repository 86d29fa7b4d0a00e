"""Names of the columns of a row: checked, joined, and kept by whatever becomes of a model."""

import copy
import pickle
from dataclasses import replace

import numpy as np
import pytest

import numlstm
from numlstm import LSTM, Embedding, Linear, Model, Network, WeightsError
from numlstm.spec import Columns
from tests.cases import random_weights

INPUTS = (("x", 5), ("static", 3))
OUTPUTS = (("logits", 2), ("value", 1))
NETWORK = Network((LSTM(8, 4), Linear(4, 3)))


def named(network=NETWORK, inputs=INPUTS, outputs=OUTPUTS):
    return replace(random_weights(network), inputs=inputs, outputs=outputs)


@pytest.fixture(scope="module")
def model():
    return Model(named())


def test_pairs_become_columns(model):
    assert model.inputs == INPUTS
    assert model.outputs[1] == Columns("value", 1)
    assert model.outputs[1].name == "value"


def test_a_network_of_one_input_has_none():
    model = Model(random_weights(NETWORK))
    assert (model.inputs, model.outputs) == ((), ())


def test_they_are_kept(model, tmp_path):
    path, parts = tmp_path / "one.safetensors", tmp_path / "parts.safetensors"
    model.save(path, "int8")
    numlstm.save_parts({"a": model, "b": Model(random_weights(NETWORK))}, parts)
    kept = [
        model.astype("bfloat16"),
        numlstm.load(path),
        numlstm.load(path, dtype="float32"),
        numlstm.load_parts(parts)["a"],
        Model(model.weights),
        copy.copy(model),
        pickle.loads(pickle.dumps(model)),
    ]
    for other in kept:
        assert (other.inputs, other.outputs) == (INPUTS, OUTPUTS)
    assert numlstm.load_parts(parts)["b"].inputs == ()


def test_info_names_them(model):
    line = model.info().splitlines()[0]
    assert line == (
        "reads vectors of 8 (x 5, static 3), answers 3 numbers (logits 2, value 1) per step"
    )


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ((("x", 5),), "inputs has 5 numbers together, expected 8"),
        ((("x", 5), ("x", 3)), "inputs has 'x' 2 times"),
        ((("x", 8.0),), r"inputs Columns\(name='x', size=8.0\), expected a name and a size"),
        ((("x", True), ("y", 7)), "expected a name and a size"),
        ((("x", -1), ("y", 9)), "expected a name and a size"),
        ((("", 8),), "expected a name and a size"),
        (("xy",), "inputs 'xy', expected a name and a size"),
        ((("x", 5, 3),), "expected a name and a size"),
        (8, "inputs 8, expected a name and a size"),
    ],
)
def test_what_is_no_row_of_the_network_is_refused(inputs, message):
    with pytest.raises(WeightsError, match=message):
        named(inputs=inputs)


def test_tokens_are_one_column():
    network = Network((Embedding(7, 3), LSTM(3, 3)))
    assert named(network, (("ids", 1),), ()).inputs == (("ids", 1),)
    with pytest.raises(WeightsError, match="inputs has 2 numbers together, expected 1"):
        named(network, (("ids", 1), ("mask", 1)), ())


def test_joined_repeats_what_belongs_to_the_whole_sequence(model):
    xs, static = np.arange(10.0).reshape(2, 5), [7, 8, 9]
    rows = model.joined(static=static, x=xs)
    assert rows.dtype == np.float32
    np.testing.assert_array_equal(rows, [[0, 1, 2, 3, 4, 7, 8, 9], [5, 6, 7, 8, 9, 7, 8, 9]])
    assert model.run(rows).shape == (2, 3)
    assert model.stream().step(model.joined(x=xs[0], static=static)).shape == (3,)


def test_answers_come_apart_by_name(model):
    ys = model.run(np.ones((4, 8)))
    parts = model.by_name(ys)
    np.testing.assert_array_equal(parts["logits"], ys[:, :2])
    np.testing.assert_array_equal(parts["value"], ys[:, 2:])
    np.testing.assert_array_equal(model.by_name(ys[0])["value"], ys[0, 2:])


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.ones((2, 5))}, "x, expected x, static"),
        ({"x": np.ones((2, 4)), "static": np.ones(3)}, r"x has shape \(2, 4\), expected \(T, 5\)"),
        ({"x": np.ones((2, 5)), "static": np.ones((1, 1, 3))}, r"static has shape \(1, 1, 3\)"),
        ({"x": np.ones((2, 5)), "static": np.ones((3, 3))}, "numbers of steps: x 2, static 3"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(model, arrays, message):
    with pytest.raises(ValueError, match=message):
        model.joined(**arrays)
