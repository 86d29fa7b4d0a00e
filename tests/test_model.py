"""A model keeps one copy of its weights, as the kernels read them, and gives them back."""

import gc
import tracemalloc

import pytest

import numlstm
from numlstm import LSTM, Embedding, Linear, Network, spec
from numlstm.quantize import num_bytes, rounded
from tests.cases import (
    CELL_OPTIONS,
    DECODERS,
    NETWORKS,
    NOT_CAUSAL,
    assert_same_bits,
    random_weights,
)

CELLS = {name: Network((layer,)) for name, layer in CELL_OPTIONS.items()}
ALL = NETWORKS | NOT_CAUSAL | DECODERS | CELLS


@pytest.mark.parametrize("fold", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("name", ALL)
def test_the_weights_come_back_bit_for_bit(name, dtype, fold):
    weights = random_weights(ALL[name].with_dtype(dtype), seed=1)
    expected = rounded(weights)
    model = numlstm.Model(weights, fold=fold)
    found = model.weights
    assert list(found.tensors) == list(weights.network.tensor_shapes())
    for tensor, values in expected.tensors.items():
        assert found.tensors[tensor].shape == values.shape, tensor
        assert_same_bits(found.tensors[tensor], values)
    assert found.fingerprint == model.fingerprint == expected.fingerprint
    assert numlstm.Model(found, fold=fold).fingerprint == model.fingerprint


def test_nobody_changes_the_weights_of_a_model():
    network = NETWORKS["tokens"]
    weights = random_weights(network)
    model, expected = numlstm.Model(weights), random_weights(network)
    for tensor in weights.tensors.values():
        tensor[...] = 7
    for tensor in model.weights.tensors.values():
        tensor[...] = 7
    assert model.weights.fingerprint == expected.fingerprint
    assert_same_bits(model.run([1, 2, 3]), numlstm.Model(expected).run([1, 2, 3]))


MATRICES = {
    "LSTM": Network((LSTM(512, 512), Linear(512, 64))),
    "tokens": Network((Embedding(4000, 256), LSTM(256, 512))),
    "both directions": Network((LSTM(512, 512, direction="bidirectional"),)),
}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("name", MATRICES)
def test_a_model_keeps_one_copy_of_its_matrices(name, dtype):
    network = MATRICES[name].with_dtype(dtype)
    numlstm.Model(random_weights(NETWORKS["tokens"])).stream()  # what is imported with the first
    tracemalloc.start()
    try:
        model = numlstm.Model(random_weights(network), fold=False)
        gc.collect()
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # The table of an embedding is read in float32.
    table = 4 * 4000 * 256 if name == "tokens" and dtype != "float32" else 0
    assert taken < 1.1 * (num_bytes(network) + table)
    assert model.output_size == network.output_size


def test_a_layer_of_very_many_inputs_is_said_in_a_line():
    wide = spec.Concat(1000, name="wide", inputs=("one",) * 1000)
    network = Network((Linear(3, 1, name="one"), wide))
    lines = numlstm.Model(random_weights(network)).info().splitlines()
    (said,) = (line for line in lines if "Concat" in line)
    assert len(said) < 400
    assert said.endswith("'one'))  0 weights")
