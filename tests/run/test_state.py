"""The state of a stream by name: read, set, refused."""

import re

import numpy as np
import pytest

import numlstm
from numlstm import reference, spec
from numlstm.spec import Network
from tests.cases import TOLERANCES, assert_same_bits, random_input, random_weights


def test_a_state_that_is_set_is_where_the_stream_goes_on():
    network = Network((spec.LSTM(5, 17), spec.GRU(17, 3)))
    weights = random_weights(network)
    model = numlstm.Model(weights)
    xs = random_input(network, 20)
    first = model.stream()
    first.run(xs[:8])
    second = model.stream()
    second.state = first.state
    assert_same_bits(second.run(xs[8:]), model.run(xs)[8:])
    given = {"layers.0.h": np.linspace(-1, 1, 17), "layers.1.h": [0.5, -0.5, 0.25]}
    expected, _ = reference.run(network, weights.tensors, xs, states=given)
    third = model.stream()
    third.state = given
    TOLERANCES["output"].check(third.run(xs), expected)


def test_a_state_that_does_not_fit_is_refused_and_nothing_is_set():
    stream = numlstm.Model(random_weights(Network((spec.LSTM(5, 4),)))).stream()
    before = stream.save_state()
    with pytest.raises(ValueError) as caught:  # noqa: PT011  all of it is looked at
        stream.state = {
            "layers.0.h": np.zeros(4),
            "layers.0.c": np.zeros(3),
            "layers.1.h": np.zeros(4),
        }
    assert re.search(r"layers.0.c has shape \(3,\)", str(caught.value))
    assert re.search(r"layers.1.h is not among layers.0.h, layers.0.c", str(caught.value))
    with pytest.raises(ValueError, match=r"layers\.0\.h holds a NaN"):
        stream.state = {"layers.0.h": [0, 0, np.nan, 0], "layers.0.c": np.ones(4)}
    assert stream.save_state() == before
