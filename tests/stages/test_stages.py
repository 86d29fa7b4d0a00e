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
    np.testing.assert_array_equal(model.run(xs)[xs == 0], 0)  # as Keras answers


def test_a_sequence_that_is_all_masked_has_an_answer_and_takes_none_from_the_others():
    layers = (spec.Embedding(9, 5, mask_zero=True), spec.LSTM(5, 7, direction="bidirectional"))
    for ends in ((), (spec.Pooling(14),), (spec.Pooling(14, "max"), spec.Repeat(14, 3))):
        network = Network((*layers, *ends, spec.Linear(14, 2)))
        weights = random_weights(network)
        model = numlstm.Model(weights)
        xss = [np.array([3, 0, 4]), np.zeros(4, int), np.array([1, 2])]
        yss = model.run_batch(xss)
        for xs, ys in zip(xss, yss, strict=True):
            TOLERANCES["output"].check(ys, reference.run(network, weights.tensors, xs)[0])
            assert_same_bits(ys, model.run(xs))
        bias = weights.tensors[f"layers.{len(network.layers) - 2}.bias"]
        np.testing.assert_array_equal(yss[1], np.tile(bias, (len(yss[1]), 1)))


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


@pytest.mark.parametrize("merge", ["sum", "ave", "mul"])
def test_directions_that_overflow_together_are_refused(merge):
    """Neither does alone, and a function behind them would hide it."""
    both = spec.RNN(2, 3, nonlinearity="linear", direction="bidirectional", merge=merge)
    network = Network((both, spec.Activation(3, "tanh")))
    tensors = {n: np.zeros(s, np.float32) for n, s in network.tensor_shapes().items()}
    for name in tensors:
        if "weight_ih" in name:
            tensors[name] += 1
    model = numlstm.Model(Weights(network, tensors))
    xs = np.ones((4, 2), np.float32)
    xs[2] = 1e38
    for refused in (model.run, lambda xs: model.run_batch([xs, xs[:1]])):
        with pytest.raises(ValueError, match="xs made the network overflow"):
            refused(xs)
    stream = model.stream(lookahead=1)
    stream.run(xs[:2])
    with pytest.raises(ValueError, match="xs made the network overflow"):
        stream.run(xs[2:])
    last = np.concatenate([stream.run(xs[:1]), stream.finish()])
    assert_same_bits(last, model.run(xs[[0, 1, 0]])[1:])


def test_a_transition_may_be_forbidden_as_much_as_float32_can():
    lowest = np.finfo(np.float32).min
    tensors = {
        "start_transitions": np.array([0, lowest]),
        "transitions": np.array([[lowest, 0], [lowest, lowest]]),
        "end_transitions": np.array([lowest, lowest]),
    }
    network = Network((spec.CRF(2),))
    tensors = {f"layers.0.{name}": tensor.astype(np.float32) for name, tensor in tensors.items()}
    xs = np.zeros((5, 2), np.float32)
    expected, _ = reference.run(network, tensors, xs)
    np.testing.assert_array_equal(numlstm.Model(Weights(network, tensors)).run(xs), expected)


def test_a_sequence_that_leaves_no_rows_to_attend_to_is_named():
    network = Network(
        (
            spec.Conv1d(3, 4, 3, padding=(0, 0), name="a"),
            spec.GRU(3, 4, inputs=("input",)),
            spec.Attention(4, 4, memory="a"),
        )
    )
    model = numlstm.Model(random_weights(network))
    model.run(random_input(network, 3))
    with pytest.raises(ValueError, match="no rows are left to attend to"):
        model.run(random_input(network, 2))


AFTER_NO_ROWS = {
    "attention": spec.Attention(4, 4, memory="a"),
    "flatten": spec.Flatten(4, 2),
    "pool": spec.Pool1d(4, 2),
    "reverse": spec.Reverse(4),
    "both directions": spec.LSTM(4, 5, direction="bidirectional"),
}


@pytest.mark.parametrize("name", AFTER_NO_ROWS)
def test_where_a_convolution_leaves_no_rows_there_is_no_answer(name):
    layers = spec.Conv1d(3, 4, 3, padding=(0, 0), name="a"), AFTER_NO_ROWS[name]
    network = Network(layers)
    weights, xs = random_weights(network), random_input(network, 2)
    expected, _ = reference.run(network, weights.tensors, xs)
    model = numlstm.Model(weights)
    stream = model.stream(lookahead=4)
    assert len(stream.run(xs)) == 0
    shapes = [ys.shape for ys in (model.run(xs), stream.finish(), *model.run_batch([xs, xs]))]
    assert shapes == 4 * [expected.shape] == 4 * [(0, network.output_size)]
