"""Decoders and the memory that they attend to."""

import pickle
from typing import Any

import numpy as np
import pytest

import numlstm
from numlstm import reference
from numlstm.spec import Network
from tests.cases import (
    DECODERS,
    NETWORKS,
    TOLERANCES,
    assert_same_bits,
    random_input,
    random_weights,
)


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
