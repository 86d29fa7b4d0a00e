"""What a network may be, and how the reasons why something is none are told."""

import json
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numlstm import spec
from numlstm.spec import (
    GRU,
    LAYERS,
    LSTM,
    MAX_NUMBERS,
    MAX_SIZE,
    RNN,
    Activation,
    Embedding,
    LayerNorm,
    Linear,
    Network,
    Pooling,
    Probe,
    Softmax,
    Weights,
    WeightsError,
)
from tests.cases import NETWORKS, random_weights


def assert_lists(message: str, *patterns: str) -> None:
    missing = [pattern for pattern in patterns if not re.search(pattern, message)]
    assert missing == [], message


# Layers -------------------------------------------------------------------------------------------

TENSORS = {
    "embedding": (Embedding(9, 5), 1, 5, {"weight": (9, 5)}),
    "rnn": (
        RNN(3, 5), 3, 5,
        {"weight_ih": (5, 3), "weight_hh": (5, 5), "bias_ih": (5,), "bias_hh": (5,)},
    ),
    "gru": (
        GRU(3, 5), 3, 5,
        {"weight_ih": (15, 3), "weight_hh": (15, 5), "bias_ih": (15,), "bias_hh": (15,)},
    ),
    "lstm": (
        LSTM(3, 5), 3, 5,
        {"weight_ih": (20, 3), "weight_hh": (20, 5), "bias_ih": (20,), "bias_hh": (20,)},
    ),
    "lstm_no_bias": (
        LSTM(3, 5, False), 3, 5, {"weight_ih": (20, 3), "weight_hh": (20, 5)},
    ),
    "linear": (Linear(3, 5), 3, 5, {"weight": (5, 3), "bias": (5,)}),
    "linear_no_bias": (Linear(3, 5, False), 3, 5, {"weight": (5, 3)}),
    "layer_norm": (LayerNorm(3), 3, 3, {"weight": (3,), "bias": (3,)}),
    "layer_norm_bare": (LayerNorm(3, 1e-5, False, False), 3, 3, {}),
    "pooling": (Pooling(3), 3, 3, {}),
    "activation": (Activation(3), 3, 3, {}),
    "softmax": (Softmax(3), 3, 3, {}),
}  # fmt: skip


@pytest.mark.parametrize("name", TENSORS)
def test_layers_have_torch_shapes(name):
    layer, input_size, output_size, tensors = TENSORS[name]
    assert layer.input_size == input_size
    assert layer.output_size == output_size
    assert layer.tensors() == tensors


BAD_LAYERS = {
    "zero": (lambda: LSTM(0, 5), "LSTM: input_size is 0, expected 1 to"),
    "negative": (lambda: Linear(3, -1), "Linear: output_size is -1"),
    "large": (lambda: Softmax(MAX_SIZE + 1), f"input_size is {MAX_SIZE + 1}"),
    "float": (lambda: GRU(3.0, 5), "input_size is 3.0"),
    "bool as a size": (lambda: RNN(True, 5), "input_size is True"),
    "text": (lambda: RNN("3", 5), "input_size is '3'"),
    "none": (lambda: Embedding(None, 5), "vocab_size is None"),
    "bias": (lambda: LSTM(3, 5, 1), "bias is 1, expected true or false"),
    "nonlinearity": (
        lambda: RNN(3, 5, True, "sin"),
        "nonlinearity is 'sin', expected one of: tanh, relu",
    ),
    "activation": (lambda: Linear(3, 5, True, "gelu"), "activation is 'gelu'"),
    "activation list": (lambda: Linear(3, 5, True, ["tanh"]), r"activation is \['tanh'\]"),
    "function": (lambda: Activation(3, None), "function is None"),
    "mode": (lambda: Pooling(3, "median"), "mode is 'median', expected one of: last, mean, max"),
    "eps zero": (lambda: LayerNorm(3, 0.0), "eps is 0.0, expected a positive float32"),
    "eps nan": (lambda: LayerNorm(3, float("nan")), "eps is nan"),
    "eps inf": (lambda: LayerNorm(3, float("inf")), "eps is inf"),
    "eps bool": (lambda: LayerNorm(3, True), "eps is True"),
    "eps no float32": (lambda: LayerNorm(3, 1e300), "eps is 1e"),
    "eps no float": (lambda: LayerNorm(3, 10**400), "eps is 10"),
}


@pytest.mark.parametrize("name", BAD_LAYERS)
def test_a_layer_with_a_bad_option_is_refused(name):
    make, message = BAD_LAYERS[name]
    with pytest.raises(WeightsError, match=message):
        make()


def test_all_bad_options_of_a_layer_are_told_at_once():
    with pytest.raises(WeightsError) as caught:
        RNN(0, -1, None, "sin")
    assert_lists(str(caught.value), "input_size", "hidden_size", "bias", "nonlinearity")


# Networks -----------------------------------------------------------------------------------------


def test_neighbours_must_fit_and_every_problem_is_listed():
    with pytest.raises(WeightsError) as caught:
        Network((Linear(3, 5), LSTM(4, 6), Embedding(9, 6), GRU(7, 2), Softmax(2), Softmax(3)))
    assert_lists(
        str(caught.value),
        "1: LSTM: input_size is 4, the layer before gives 5",
        "2: Embedding: an Embedding must be the first layer",
        "3: GRU: input_size is 7, the layer before gives 6",
        "5: Softmax: input_size is 3, the layer before gives 2",
    )
    assert "4: Softmax" not in str(caught.value)


def test_a_network_has_layers():
    with pytest.raises(WeightsError, match="no layers"):
        Network(())


def test_more_numbers_than_any_cpu_holds_are_refused():
    with pytest.raises(WeightsError, match=f"at most {MAX_NUMBERS} fit"):
        Network((Linear(MAX_SIZE, MAX_SIZE),))
    with pytest.raises(WeightsError, match=f"at most {MAX_NUMBERS} fit"):
        Network((LSTM(MAX_SIZE, MAX_SIZE), LSTM(MAX_SIZE, MAX_SIZE)))


@pytest.mark.parametrize(
    "layer", [Softmax(MAX_SIZE), Pooling(MAX_SIZE), Activation(MAX_SIZE)], ids=repr
)
def test_buffers_no_memory_holds_are_refused(layer):
    """Without tensors, a file of a few bytes could ask for a state of gigabytes."""
    with pytest.raises(WeightsError, match=f"at most {MAX_NUMBERS} fit|{MAX_SIZE}"):
        Network((layer,) * 1000)


def test_names_count_the_layers_after_the_embedding():
    layers = (LSTM(5, 5), Softmax(5), Linear(5, 2))
    names = [name for name, _ in Network(layers).named_layers()]
    assert names == ["layers.0", "layers.1", "layers.2"]
    names = [name for name, _ in Network((Embedding(9, 5), *layers)).named_layers()]
    assert names == ["embedding", "layers.0", "layers.1", "layers.2"]
    assert set(Network((Embedding(9, 5), *layers)).tensor_shapes()) == {
        "embedding.weight", "layers.0.weight_ih", "layers.0.weight_hh", "layers.0.bias_ih",
        "layers.0.bias_hh", "layers.2.weight", "layers.2.bias",
    }  # fmt: skip


# JSON ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETWORKS)
def test_json_round_trip(name):
    network = NETWORKS[name]
    text = json.dumps(network.to_json())
    assert Network.from_json(json.loads(text)) == network


def test_every_layer_and_option_is_in_the_json():
    layers = [layer for name, (layer, *_) in TENSORS.items()]
    assert {type(layer).__name__ for layer in layers} == set(LAYERS)
    assert Network((RNN(3, 5, False, "relu"),)).to_json() == [
        {"layer": "RNN", "input_size": 3, "hidden_size": 5, "bias": False, "nonlinearity": "relu"}
    ]


BAD_JSON = {
    "null": (None, "not a list of layers"),
    "object": ({"layer": "LSTM"}, "not a list of layers"),
    "text": ("LSTM", "not a list of layers"),
    "list of text": (["LSTM"], "not a list of layers"),
    "empty": ([], "no layers"),
    "unknown layer": ([{"layer": "Conv1d"}], "0: layer 'Conv1d' is not known; known: Embedding"),
    "no layer": ([{"input_size": 3}], "0: layer None is not known"),
    "layer list": ([{"layer": ["LSTM"]}], "0: layer .* is not known"),
    "private": ([{"layer": "_Recurrent", "input_size": 3}], "is not known"),
    "unknown option": (
        [{"layer": "LSTM", "input_size": 3, "hidden_size": 5, "proj_size": 2}], "0: .*proj_size",
    ),
    "missing option": ([{"layer": "LSTM", "input_size": 3}], "0: .*hidden_size"),
    "bad option": ([{"layer": "Softmax", "input_size": 2.5}], "0: Softmax: input_size is 2.5"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_JSON)
def test_bad_json_is_refused(name):
    data, message = BAD_JSON[name]
    with pytest.raises(WeightsError, match=message):
        Network.from_json(data)


def test_all_problems_of_a_json_are_told_at_once():
    with pytest.raises(WeightsError) as caught:
        Network.from_json(
            [{"layer": "Conv"}, {"layer": "Softmax", "input_size": 0}, {"layer": "GRU", "size": 1}]
        )
    assert_lists(str(caught.value), "0: layer 'Conv'", "1: Softmax: input_size is 0", "2: .*size")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=8,
)
OPTIONS = st.sampled_from(
    ["layer", "input_size", "hidden_size", "output_size", "bias", "eps", "mode", "vocab_size"]
)


@given(
    st.lists(
        st.dictionaries(OPTIONS, JSON | st.sampled_from(sorted(LAYERS)) | st.integers(1, 5)),
        max_size=3,
    )
    | JSON
)
def test_any_json_is_a_network_or_a_weights_error(data):
    try:
        network = Network.from_json(data)
    except WeightsError:
        return
    assert Network.from_json(network.to_json()) == network


# Tensors ------------------------------------------------------------------------------------------


def test_all_problems_of_tensors_are_told_at_once():
    network = Network((LSTM(3, 5), Linear(5, 2)))
    tensors = dict(random_weights(network).tensors)
    del tensors["layers.0.bias_ih"]
    tensors["layers.0.weight_ih"] = tensors["layers.0.weight_ih"].T
    tensors["layers.0.weight_hh"] = tensors["layers.0.weight_hh"][:-1]
    tensors["layers.0.bias_hh"] = tensors["layers.0.bias_hh"].astype(np.float64)
    tensors["layers.1.weight"] = np.full((2, 5), np.nan, np.float32)
    tensors["layers.1.weight"][0, 0] = 1
    tensors["layers.2.weight"] = np.zeros(3, np.float32)
    with pytest.raises(WeightsError) as caught:
        network.check_tensors(tensors, "lstm.safetensors")
    assert str(caught.value).split("\n  ") == [
        "lstm.safetensors: 6 tensors do not match the spec:",
        "layers.0.weight_ih  expected (20, 3), found (3, 20)   (transposed?)",
        "layers.0.weight_hh  expected (20, 5), found (19, 5)",
        "layers.0.bias_ih  missing, expected (20,)",
        "layers.0.bias_hh  expected float32, found float64",
        "layers.1.weight  9 of 10 numbers are not finite",
        "layers.2.weight  not in the spec",
    ]


def test_one_problem_is_told_in_the_singular():
    with pytest.raises(WeightsError, match="1 tensor does not match"):
        Network((Softmax(3),)).check_tensors({"x": np.zeros(3, np.float32)})


@pytest.mark.parametrize("name", NETWORKS)
def test_tensors_that_fit_are_accepted(name):
    network = NETWORKS[name]
    network.check_tensors(random_weights(network).tensors)


# Weights ------------------------------------------------------------------------------------------

FLOATS, TOKENS = Network((Linear(3, 2),)), Network((Embedding(9, 2),))
YS = np.zeros((4, 2), np.float32)


@pytest.mark.parametrize(
    ("network", "probe", "message"),
    [
        (FLOATS, Probe(np.zeros((4, 3)), YS), "xs float64"),
        (FLOATS, Probe(np.zeros((4, 2), np.float32), YS), r"xs float32\(4, 2\) is not an input"),
        (FLOATS, Probe(np.zeros(4, np.int32), YS), "xs int32"),
        (FLOATS, Probe(np.zeros((0, 3), np.float32), YS[:0]), "is not an input"),
        (FLOATS, Probe(np.full((4, 3), np.inf, np.float32), YS), "is not an input"),
        (FLOATS, Probe(np.zeros((4, 3), np.float32), YS[:3]), r"ys float32\(3, 2\), expected"),
        (FLOATS, Probe(np.zeros((4, 3), np.float32), YS.astype(float)), "ys float64"),
        (TOKENS, Probe(np.zeros(4, np.int64), YS), "xs int64"),
        (TOKENS, Probe(np.full(4, 9, np.int32), YS), "is not an input"),
        (TOKENS, Probe(np.full(4, -1, np.int32), YS), "is not an input"),
        (TOKENS, Probe(np.zeros((4, 1), np.int32), YS), "is not an input"),
    ],
)
def test_probes_must_be_runs_of_the_network(network, probe, message):
    with pytest.raises(WeightsError, match=f"probe 0: .*{message}"):
        Weights(network, random_weights(network).tensors, probes=(probe,))


def test_fingerprints_tell_networks_and_tensors_apart():
    network = Network((RNN(2, 2),))
    same = random_weights(network)
    others = [
        random_weights(network, seed=1),
        random_weights(Network((RNN(2, 2, True, "relu"),))),
        random_weights(Network((RNN(2, 2), Softmax(2)))),
    ]
    assert random_weights(network).fingerprint == same.fingerprint
    assert len({same.fingerprint, *(other.fingerprint for other in others)}) == 4
    assert len(same.fingerprint) == 16


def test_every_layer_is_public():
    import numlstm

    for name, kind in LAYERS.items():
        assert getattr(numlstm, name) is kind is getattr(spec, name)
        assert name in numlstm.__all__
