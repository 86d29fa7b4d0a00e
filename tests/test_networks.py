"""Every layer and option in the engine, against `reference.py`; decoders; what is refused."""

import pickle
import re
from typing import Any

import numpy as np
import pytest

import numlstm
from numlstm import reference, spec
from numlstm.spec import Network, Weights, WeightsError
from tests.cases import (
    DECODERS,
    NETWORKS,
    NOT_CAUSAL,
    TOLERANCES,
    assert_same_bits,
    random_input,
    random_weights,
)

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


@pytest.mark.parametrize("name", NOT_CAUSAL)
@pytest.mark.parametrize("seq_len", [1, 2, 5, SEQ_LEN])
def test_networks_that_read_later_steps_are_the_reference(name, seq_len):
    network = NOT_CAUSAL[name]
    weights = random_weights(network)
    xs = random_input(network, seq_len)
    expected, _ = reference.run(network, weights.tensors, xs)
    TOLERANCES["output"].check(numlstm.Model(weights).run(xs), expected, name)


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


# Masks --------------------------------------------------------------------------------------------


def test_masked_steps_change_no_state_and_repeat_the_answer():
    network = NETWORKS["masked"]
    model = numlstm.Model(random_weights(network))
    xs = np.array([0, 0, 3, 0, 1, 2, 0, 0], np.int32)
    ys = model.run(xs)
    assert_same_bits(ys[[2, 4, 5]], model.run(xs[xs > 0]))
    assert_same_bits(ys[[3, 6, 7]], ys[[2, 5, 5]])
    assert_same_bits(ys[0], ys[1])
    expected, _ = reference.run(network, random_weights(network).tensors, xs)
    TOLERANCES["output"].check(ys, expected)
    stream, out = model.stream(), np.empty(3, np.float32)
    for x, y in zip(xs, ys, strict=True):
        assert stream.step(x, out=out) is out
        assert_same_bits(out, y)
    restored = model.stream()
    restored.load_state(stream.save_state())
    assert_same_bits(restored.step(0), ys[-1])


def test_masked_rows_of_numbers_are_skipped():
    network = Network((spec.Masking(3, value=-1.0), spec.GRU(3, 7)))
    weights = random_weights(network)
    xs = random_input(network, 12)
    xs[[0, 5, 11]] = -1.0
    xs[7, 1] = -1.0  # not all of it
    expected, _ = reference.run(network, weights.tensors, xs)
    model = numlstm.Model(weights)
    TOLERANCES["output"].check(model.run(xs), expected)
    stream = model.stream()
    assert_same_bits(np.stack([stream.step(x) for x in xs]), model.run(xs))
    with pytest.raises(ValueError, match=r"x has shape \(2,\)"):
        stream.step([-1.0, -1.0])


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


# Decoders -----------------------------------------------------------------------------------------


def memory_of(network: Network, num_rows: int = 6, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return generator.standard_normal((num_rows, network.memory_size), np.float32)


def ids_of(network: Network, num_rows: int = 6, seed: int = 0) -> np.ndarray | None:
    """Return the tokens of a memory, some of them more than once, if the network copies them."""
    vocab_size = network.memory_vocab_size
    generator = np.random.default_rng(seed)
    return None if vocab_size is None else generator.integers(0, vocab_size, num_rows)


def given_to(network: Network, num_rows: int = 6, seed: int = 0) -> dict[str, Any]:
    return {
        "memory": memory_of(network, num_rows, seed),
        "memory_ids": ids_of(network, num_rows, seed),
    }


@pytest.mark.parametrize("name", DECODERS)
@pytest.mark.parametrize("num_rows", [1, 2, 17, 40])
def test_decoders_are_the_reference(name, num_rows):
    network = DECODERS[name]
    weights = random_weights(network)
    given, xs = given_to(network, num_rows), random_input(network, 40)
    expected, _ = reference.run(network, weights.tensors, xs, **given)
    model = numlstm.Model(weights)
    ys = model.run(xs, **given)
    TOLERANCES["output"].check(ys, expected)
    stream = model.stream(**given)
    assert_same_bits(np.stack([stream.step(x) for x in xs]), ys)


@pytest.mark.parametrize("name", DECODERS)
def test_the_memory_goes_with_copies_and_saved_states(name):
    network = DECODERS[name]
    model = numlstm.Model(random_weights(network))
    xs = random_input(network, 30)
    stream = model.stream(**given_to(network))
    other = model.stream(**given_to(network, 3, seed=1))
    stream.run(xs[:10])
    twin = stream.copy()
    other.load_state(stream.save_state())
    expected = stream.run(xs[10:])
    assert_same_bits(twin.run(xs[10:]), expected)
    assert_same_bits(other.run(xs[10:]), expected)
    assert_same_bits(pickle.loads(pickle.dumps(twin)).run(xs), twin.run(xs))
    stream.reset()
    assert_same_bits(stream.run(xs), model.run(xs, **given_to(network)))


def test_a_memory_that_does_not_fit_is_refused():
    model = numlstm.Model(random_weights(DECODERS["dot"]))
    with pytest.raises(ValueError, match=r"attends to a memory: pass memory=, \(M, 7\)"):
        model.stream()
    with pytest.raises(ValueError, match=r"memory has shape \(3, 6\)"):
        model.stream(memory=np.zeros((3, 6)))
    for bad in (np.zeros((0, 7)), np.full((2, 7), np.nan)):
        with pytest.raises(ValueError, match="memory is empty"):
            model.stream(memory=bad)
    causal = numlstm.Model(random_weights(NETWORKS["one_hot"]))
    with pytest.raises(ValueError, match="takes no memory"):
        causal.stream(memory=np.zeros((2, 7)))
    with pytest.raises(ValueError, match="takes no memory"):
        causal.run(np.zeros(3, np.int32), memory_ids=[1, 2])


def test_tokens_of_a_memory_that_do_not_fit_are_refused():
    memory = np.zeros((3, 7), np.float32)
    with pytest.raises(ValueError, match="the network copies no tokens"):
        numlstm.Model(random_weights(DECODERS["dot"])).stream(memory=memory, memory_ids=[1, 2, 3])
    model = numlstm.Model(random_weights(DECODERS["copies"]))
    for ids, error, message in (
        (None, ValueError, r"pass memory_ids=, \(M,\)"),
        ([1, 2], ValueError, "memory has 3 rows, memory_ids 2"),
        ([1, 2, 19], ValueError, r"token id 19 at memory_ids\[2\] is outside"),
        ([1, -1, 2], ValueError, "token id -1"),
        ([1.0, 2.0, 3.0], TypeError, "memory_ids is of float64"),
        ([[1], [2], [3]], ValueError, r"memory_ids has shape \(3, 1\)"),
    ):
        with pytest.raises(error, match=message):
            model.stream(memory=memory, memory_ids=ids)


def test_copied_probabilities_sum_to_one_and_can_be_drawn():
    network = DECODERS["copies"]
    model = numlstm.Model(random_weights(network, scale=2.0))
    ids = np.full(4, 11)
    stream = model.stream(memory=memory_of(network, 4), memory_ids=ids)
    ys = stream.run(random_input(network, 50))
    np.testing.assert_allclose(ys.sum(axis=1), 1, rtol=1e-5)
    written = Network(network.layers[:-2])
    tensors = {name: model.weights.tensors[name] for name in written.tensor_shapes()}
    alone = numlstm.Model(numlstm.Weights(written, tensors))
    p = alone.run(random_input(network, 50), memory=memory_of(network, 4))
    others = np.arange(19) != 11
    gates = ys[:, others] / p[:, others]  # what is not in the memory is written, never copied
    np.testing.assert_allclose(gates, gates[:, :1] * np.ones(18), rtol=1e-4)
    assert (ys[:, 11] > p[:, 11] * gates[:, 0]).all()


# States -------------------------------------------------------------------------------------------


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


# What is refused ----------------------------------------------------------------------------------


def test_sequences_of_different_lengths_are_not_joined():
    half = spec.Conv1d(5, 5, 3, padding=(1, 1), stride=2, name="half")
    with pytest.raises(WeightsError, match="1: Add: joins sequences of different lengths"):
        Network((half, spec.Add(5, inputs=("input", "half"))))


def test_rows_that_a_convolution_leaves_out_are_not_looked_at():
    network = Network((spec.Conv1d(1, 1, 3, bias=False, activation="log", padding=(0, 0)),))
    ones = {"layers.0.weight": np.array([[[1, 1, -1]]], np.float32)}
    ys = numlstm.Model(Weights(network, ones)).run(np.ones((5, 1)))
    np.testing.assert_array_equal(ys, np.zeros((3, 1)))  # the rows before would be log(-1)


def test_a_convolution_that_reaches_too_far_is_refused():
    with pytest.raises(WeightsError, match="it reads 2147483646 steps back"):
        spec.Conv1d(1, 1, 2, dilation=2**31 - 2)


def test_tokens_are_no_memory():
    with pytest.raises(WeightsError, match="which is no memory"):
        Network((spec.Embedding(9, 1), spec.Attention(1, 1, memory="input")))


def test_a_layer_that_nobody_reads_is_left_out():
    network = Network(
        (
            spec.Linear(2, 8),
            spec.GRU(2, 3, direction="reverse", inputs=("input",)),
        )
    )
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
