"""Random input that a network has an answer to, or why it has none; of every framework."""

from typing import Any

import numpy as np
import pytest

import numlstm
from numlstm import Network, reference, spec
from numlstm.convert.probes import NoAnswer, make_probes
from numlstm.spec import WeightsError
from tests.cases import random_weights
from tests.lazy import keras, layers, torch

pytestmark = pytest.mark.filterwarnings("ignore:::keras", "ignore:::torch", "ignore:::numpy")


def keras_log(relu: str) -> Any:
    given = keras.Input((None, 5))
    rows = layers.Dense(3, activation="relu", name=relu)(given)
    return lambda: numlstm.from_keras(keras.Model(given, layers.GRU(2)(keras.ops.log(rows))))


def torch_log() -> Any:
    return lambda: numlstm.from_torch(torch.nn.Linear(5, 3), torch.nn.ReLU(), "log")


def test_a_logarithm_of_the_input_is_checked_by_positive_numbers():
    network = Network((spec.Activation(3, "log"), spec.LSTM(3, 4)))
    weights = random_weights(network)
    probes = make_probes(
        network, weights.tensors, lambda xs: reference.run(network, weights.tensors, xs)[0]
    )
    assert all((probe.xs > 0).all() and np.isfinite(probe.ys).all() for probe in probes)


@pytest.mark.long
@pytest.mark.parametrize(
    ("convert", "layer"),
    [(lambda: keras_log("mel"), 'layer "log.*"'), (torch_log, r"layer 1, Activation\(.*'log'\)")],
)
def test_a_logarithm_of_0_is_named_and_what_to_do(convert, layer):
    with pytest.raises(WeightsError, match=layer) as caught:
        convert()()
    assert "gives -inf of 0 on random input, expected numbers above 0" in str(caught.value)
    assert "add a small number before the logarithm" in str(caught.value)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("reciprocal", "gives inf of 0 on random input, expected numbers other than 0"),
        ("sqrt", "gives nan of -1 on random input, expected numbers from 0"),
        ("exp", "gives .* of 1e.03 on random input, expected numbers below 88"),
    ],
)
def test_what_has_no_answer_is_said_by_function(function, message):
    offset = {"reciprocal": 0.0, "sqrt": -1.0, "exp": 1e3}[function]
    network = Network((spec.Activation(2, f"affine(0.0, {offset})"), spec.Activation(2, function)))
    with pytest.raises(NoAnswer, match=message):
        make_probes(network, {}, lambda xs: xs)
