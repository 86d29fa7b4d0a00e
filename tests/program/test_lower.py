"""Every layer and option of causal networks in the engine, against `reference.py`."""

import pytest

import numlstm
from numlstm import reference, spec
from numlstm.spec import Network, Weights
from tests.cases import NETWORKS, TOLERANCES, assert_same_bits, random_input, random_weights

SEQ_LEN = 50


@pytest.mark.parametrize("name", NETWORKS)
def test_causal_networks_are_the_reference(name):
    network = NETWORKS[name]
    weights = random_weights(network)
    xs = random_input(network, SEQ_LEN)
    expected, states = reference.run(network, weights.tensors, xs)
    stream = numlstm.Model(weights).stream()
    TOLERANCES["output"].check(stream.run(xs), expected, name)
    assert set(stream.state) == set(states)
    for key, value in states.items():
        TOLERANCES["c" if key.endswith("c") else "h"].check(stream.state[key], value, key)


def test_a_cell_with_options_that_change_nothing_has_the_bits_of_the_fused_one():
    xs = random_input(Network((spec.Concat(5),)), SEQ_LEN)
    for fused, options in (
        (spec.LSTM(5, 17), {"clip": 1e30}),
        (spec.LSTM(5, 33, initial_state=True), {"cell_clip": 1e30}),
        (spec.GRU(5, 17), {"clip": 1e30}),
        (spec.RNN(5, 17), {"clip": 1e30}),
    ):
        weights = random_weights(Network((fused,)))
        layer = spec.LAYERS[type(fused).__name__](**fused.options(), **options)
        expected = numlstm.Model(weights).run(xs)
        found = numlstm.Model(Weights(Network((layer,)), weights.tensors)).run(xs)
        assert_same_bits(found, expected, str(layer))


def test_named_inputs_of_a_chain_are_the_chain():
    chain = Network((spec.GRU(5, 7), spec.Linear(7, 3)))
    named = Network(
        (
            spec.GRU(5, 7, name="a", inputs=("input",)),
            spec.Linear(7, 3, name="b", inputs=("a",)),
            spec.Concat(3),
        )
    )
    tensors = random_weights(chain).tensors
    xs = random_input(chain, SEQ_LEN)
    found = numlstm.Model(Weights(named, tensors)).run(xs)
    assert_same_bits(found, numlstm.Model(Weights(chain, tensors)).run(xs))
