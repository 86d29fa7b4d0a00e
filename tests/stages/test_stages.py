"""Networks that read later steps, or all of them, against `reference.py`."""

import numpy as np
import pytest

import numlstm
from numlstm import reference, spec
from numlstm.spec import Network, Weights
from tests.cases import NOT_CAUSAL, TOLERANCES, assert_same_bits, random_input, random_weights

SEQ_LEN = 50


@pytest.mark.parametrize("name", NOT_CAUSAL)
@pytest.mark.parametrize("seq_len", [1, 2, 5, SEQ_LEN])
def test_networks_that_read_later_steps_are_the_reference(name, seq_len):
    network = NOT_CAUSAL[name]
    weights = random_weights(network)
    xs = random_input(network, seq_len)
    expected, _ = reference.run(network, weights.tensors, xs)
    TOLERANCES["output"].check(numlstm.Model(weights).run(xs), expected, name)


def test_masks_of_a_network_that_is_not_causal_leave_rows_out():
    network = Network(
        (spec.Embedding(9, 5, mask_zero=True), spec.LSTM(5, 7, direction="bidirectional"))
    )
    weights = random_weights(network)
    xs = np.array([0, 4, 0, 2, 8, 0], np.int32)
    expected, _ = reference.run(network, weights.tensors, xs)
    model = numlstm.Model(weights)
    TOLERANCES["output"].check(model.run(xs), expected)
    assert_same_bits(model.run(xs)[[1, 3, 4]], model.run(xs[xs > 0]))
    with pytest.raises(ValueError, match="every step of xs is masked"):
        model.run(np.zeros(4, np.int32))


def test_rows_that_a_convolution_leaves_out_are_not_looked_at():
    network = Network((spec.Conv1d(1, 1, 3, bias=False, activation="log", padding=(0, 0)),))
    ones = {"layers.0.weight": np.array([[[1, 1, -1]]], np.float32)}
    ys = numlstm.Model(Weights(network, ones)).run(np.ones((5, 1)))
    np.testing.assert_array_equal(ys, np.zeros((3, 1)))  # the rows before would be log(-1)


def test_a_layer_that_nobody_reads_is_left_out():
    network = Network((spec.Linear(2, 8), spec.GRU(2, 3, direction="reverse", inputs=("input",))))
    weights = random_weights(network)
    xs = random_input(network, 9)
    expected, _ = reference.run(network, weights.tensors, xs)
    TOLERANCES["output"].check(numlstm.Model(weights).run(xs), expected)


@pytest.mark.parametrize("name", NOT_CAUSAL)
def test_bad_input_is_refused_with_its_place(name):
    network = NOT_CAUSAL[name]
    model = numlstm.Model(random_weights(network))
    xs = random_input(network, 9)
    if network.reads_tokens:
        xs[4] = 9
        match = r"token id 9 at xs\[4\] is outside"
    else:
        xs[4, 2] = np.inf
        match = r"xs\[4, 2\] is inf, expected finite"
    with pytest.raises(ValueError, match=match):
        model.run(xs)
    assert model.run(xs[:0]).shape == (0, network.output_size)
