"""Random input that a network has an answer to, or why it has none; of every framework."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import numlstm
from numlstm import Network, reference, spec
from numlstm.convert.probes import NoAnswer, make_probes
from numlstm.network.weights import explained
from numlstm.spec import Columns, WeightsError
from tests.cases import random_weights
from tests.lazy import keras, layers, nn, torch

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


def test_rounding_is_that_of_the_largest_answer_of_a_row_and_a_part():
    ys = np.float32([[0, -9, 1, 3], [np.inf, 0, 0, 0]])
    np.testing.assert_allclose(explained(ys, 1e-5), 1e-5 * np.array([[10] * 4, [1] * 4]))
    parts = (Columns("value", 2), Columns("logits", 2))
    expected = 1e-5 * np.array([[10, 10, 4, 4], [1, 1, 1, 1]])
    np.testing.assert_allclose(explained(ys, 1e-5, parts), expected)


@pytest.mark.parametrize("seed", range(3))
def test_answers_that_are_large_and_some_of_them_near_zero_are_held_to_their_framework(seed):
    # Each is a sum of numbers up to 70, by PyTorch in another order: 3e-5 from ours near zero.
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(64, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU())
    net.append(nn.Linear(512, 200))
    for layer in net[::2]:
        layer.weight.data *= 6
    model = numlstm.from_torch(net)
    assert model.verify().ok
    tensors = {**model.weights.tensors}
    name = next(name for name in tensors if name.endswith("weight"))
    tensors[name] = tensors[name].copy()
    tensors[name][0, 0] += 0.1
    assert not numlstm.Model(replace(model.weights, tensors=tensors)).verify().ok
