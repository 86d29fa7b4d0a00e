"""What a network may be, and how the reasons why something is none are told."""

import json
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numlstm import spec
from numlstm.spec import (
    CRF,
    GRU,
    LAYERS,
    LSTM,
    MAX_NUMBERS,
    MAX_SIZE,
    RNN,
    Activation,
    Add,
    Attention,
    Conv1d,
    Copy,
    Embedding,
    Feedback,
    Flatten,
    Linear,
    Masking,
    Network,
    OneHot,
    Pool1d,
    Pooling,
    Probe,
    Repeat,
    Reverse,
    Slice,
    Softmax,
    Weights,
    WeightsError,
)
from tests.cases import DECODERS, NETWORKS, NOT_CAUSAL, random_weights
from tests.network.test_layers import TENSORS, assert_lists
from tests.strategies import networks

EVERY = NETWORKS | {f"not causal {name}": network for name, network in NOT_CAUSAL.items()}
EVERY |= {f"decoder {name}": network for name, network in DECODERS.items()}

# Networks -----------------------------------------------------------------------------------------


def test_neighbours_must_fit_and_every_problem_is_listed():
    with pytest.raises(WeightsError) as caught:
        Network((Linear(3, 5), LSTM(4, 6), Embedding(9, 6), GRU(7, 2), Softmax(2), Softmax(3)))
    assert_lists(
        str(caught.value),
        "1: LSTM: input_size is 4, the layer before gives 5",
        "2: Embedding: it must be the first layer: Embedding",
        "3: GRU: input_size is 7, the layer before gives 6",
        "5: Softmax: input_size is 3, the layer before gives 2",
    )
    assert "4: Softmax" not in str(caught.value)


LINEAR = Linear(3, 5, name="a")
BAD_GRAPHS = {
    "unknown input": ((LINEAR, Linear(5, 2, inputs=("b",))), "1: Linear: no layer before .* 'b'"),
    "later input": (
        (LINEAR, Linear(5, 2, inputs=("c",)), Linear(5, 2, inputs=("a",), name="c")),
        "1: Linear: no layer before it is named 'c'",
    ),
    "own input": ((LINEAR, Linear(5, 2, inputs=("b",), name="b")), "no layer before it .* 'b'"),
    "name taken": ((LINEAR, Linear(5, 2, name="a")), "1: Linear: the name 'a' is taken"),
    "name input": ((LINEAR, Linear(5, 2, name="input")), "the name 'input' is taken"),
    "joined size": (
        (LINEAR, Linear(5, 2, name="b"), Linear(5, 2, inputs=("a", "b", "input"))),
        "2: Linear: input_size is 5, the inputs give 10",
    ),
    "added sizes": (
        (LINEAR, Linear(5, 2, name="b"), Add(5, inputs=("a", "b"))),
        r"2: Add: input_size is 5, the inputs give \[5, 2\]",
    ),
    "tokens joined": (
        (Embedding(9, 3), Linear(4, 2, inputs=("input",))), "token id, which only the first layer",
    ),
    "masking inside": ((LINEAR, Masking(5)), "1: Masking: it must be the first layer"),
    "one-hot inside": ((LINEAR, OneHot(9, 5)), "1: OneHot: it must be the first layer"),
    "feedback first": ((Feedback(3, "a"), LINEAR), "the first layer reads the input"),
    "feedback of nothing": ((LINEAR, Feedback(3, "b")), "1: Feedback: no layer is named 'b'"),
    "feedback of a size": (
        (LINEAR, Feedback(3, "a"), Linear(3, 1)), "output_size is 3, a gives 5",
    ),
    "feedback not causal": (
        (LINEAR, Feedback(5, "a"), Reverse(5)), "a network with feedback must be causal",
    ),
    "unknown memory": ((LINEAR, Attention(5, 5, memory="b")), "no layer before it is named 'b'"),
    "size of the memory": (
        (LINEAR, Linear(5, 4), Attention(4, 4, memory="a")), "memory_size is 4, a gives 5",
    ),
    "two memories": (
        (Attention(3, 4, "general"), Attention(4, 3, "general")), "memory differ: .4, 3.",
    ),
    "memory not causal": (
        (LSTM(3, 4, direction="bidirectional"), Attention(8, 8)),
        "reads the memory of a stream must be causal",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_GRAPHS)
def test_layers_that_form_no_graph_are_refused(name):
    layers, message = BAD_GRAPHS[name]
    with pytest.raises(WeightsError, match=message):
        Network(layers)


def test_sequences_of_different_lengths_are_not_joined():
    half = Conv1d(5, 5, 3, padding=(1, 1), stride=2, name="half")
    with pytest.raises(WeightsError, match="1: Add: joins sequences of different lengths"):
        Network((half, Add(5, inputs=("input", "half"))))


def test_a_convolution_that_reaches_too_far_is_refused():
    with pytest.raises(WeightsError, match="it reads 2147483646 steps back"):
        Conv1d(1, 1, 2, dilation=2**31 - 2)


def test_tokens_are_no_memory():
    with pytest.raises(WeightsError, match="which is no memory"):
        Network((Embedding(9, 1), Attention(1, 1, memory="input")))


def test_what_is_no_layer_is_refused():
    with pytest.raises(WeightsError, match="not layers: 'tanh'"):
        Network((LINEAR, "tanh"))


CAUSAL = {
    "lstm": (LSTM(3, 4), True),
    "lstm_last": (LSTM(3, 4, outputs="last"), True),
    "reverse_lstm": (LSTM(3, 4, direction="reverse"), False),
    "bidirectional": (LSTM(3, 4, direction="bidirectional"), False),
    "conv": (Conv1d(3, 4, 5, dilation=2), True),
    "conv_written_out": (Conv1d(3, 4, 5, dilation=2, padding=(8, 0)), True),
    "conv_of_1": (Conv1d(3, 4, 1, padding=(0, 0)), True),
    "conv_valid": (Conv1d(3, 4, 5, padding=(0, 0)), False),
    "conv_same": (Conv1d(3, 4, 5, padding=(2, 2)), False),
    "conv_stride": (Conv1d(3, 4, 5, stride=2), False),
    "pool": (Pool1d(3, 2, "mean"), True),
    "pool_stride": (Pool1d(3, 2, stride=2), False),
    "pool_valid": (Pool1d(3, 2, padding=(0, 0)), False),
    "flatten": (Flatten(3, 2), True),
    "pooling": (Pooling(3), True),
    "repeat": (Repeat(3, 2), False),
    "reverse": (Reverse(3), False),
    "crf": (CRF(3), False),
    "attention": (Attention(3, 4, "general"), True),
}


@pytest.mark.parametrize("name", CAUSAL)
def test_which_layers_are_causal(name):
    layer, causal = CAUSAL[name]
    assert layer.is_causal is causal
    assert Network((layer,)).is_causal is causal


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


@pytest.mark.parametrize("name", EVERY)
def test_json_round_trip(name):
    network = EVERY[name]
    text = json.dumps(network.to_json())
    assert Network.from_json(json.loads(text)) == network


@given(networks())
def test_json_round_trip_of_any_network(network):
    assert Network.from_json(json.loads(json.dumps(network.to_json()))) == network


@pytest.mark.parametrize("name", TENSORS)
def test_json_round_trip_of_a_layer(name):
    layer = TENSORS[name][0]
    options = json.loads(json.dumps(layer.options()))
    assert type(layer)(**options) == layer
    assert set(options) <= {field.name for field in fields(layer)}


def test_every_layer_and_option_is_in_the_json():
    layers = [layer for name, (layer, *_) in TENSORS.items()]
    assert {type(layer).__name__ for layer in layers} == set(LAYERS)
    assert Network((RNN(3, 5, False, "relu"),)).to_json() == [
        {"layer": "RNN", "input_size": 3, "hidden_size": 5, "bias": False, "nonlinearity": "relu"}
    ]
    options = Network((GRU(3, 5, clip=1.0, name="a"), Slice(5, 1, 2, inputs=("a",)))).to_json()
    assert options == [
        {
            "layer": "GRU", "input_size": 3, "hidden_size": 5, "bias": True, "clip": 1.0,
            "name": "a",
        },
        {"layer": "Slice", "input_size": 5, "start": 1, "stop": 2, "inputs": ("a",)},
    ]  # fmt: skip


BAD_JSON = {
    "null": (None, "not a list of layers"),
    "object": ({"layer": "LSTM"}, "not a list of layers"),
    "text": ("LSTM", "not a list of layers"),
    "list of text": (["LSTM"], "not a list of layers"),
    "empty": ([], "no layers"),
    "unknown layer": ([{"layer": "Conv2d"}], "0: layer 'Conv2d' is not known; known: .*Embedding"),
    "no layer": ([{"input_size": 3}], "0: layer None is not known"),
    "layer list": ([{"layer": ["LSTM"]}], "0: layer .* is not known"),
    "abstract": ([{"layer": "Recurrent", "input_size": 3}], "is not known"),
    "unknown option": (
        [{"layer": "LSTM", "input_size": 3, "hidden_size": 5, "dropout": 2}], "0: .*dropout",
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
    [
        *("layer", "input_size", "hidden_size", "output_size", "bias", "eps", "mode", "vocab_size"),
        *("name", "inputs", "source", "padding", "kernel_size", "direction", "memory", "function"),
    ]
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


@pytest.mark.parametrize("name", EVERY)
def test_tensors_that_fit_are_accepted(name):
    network = EVERY[name]
    tensors = random_weights(network).tensors
    network.check_tensors(tensors)
    for name in tensors:
        with pytest.raises(WeightsError, match="missing"):
            network.check_tensors({n: a for n, a in tensors.items() if n != name})


# Weights ------------------------------------------------------------------------------------------

FLOATS, TOKENS = Network((Linear(3, 2),)), Network((Embedding(9, 2),))
YS = np.zeros((4, 2), np.float32)
COPIES, SIX = Network((Copy(2, 3),)), np.zeros((4, 6), np.float32)
MEMORY, IDS = np.ones((5, 3), np.float32), np.array([0, 1, 0, 1, 1], np.int32)


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
        (FLOATS, Probe(np.zeros((4, 3), np.float32), YS, MEMORY), "its memory is not one"),
        (COPIES, Probe(SIX, YS), "its memory is not one"),
        (COPIES, Probe(SIX, YS, MEMORY), "its memory is not one"),
        (COPIES, Probe(SIX, YS, None, IDS), "its memory is not one"),
        (COPIES, Probe(SIX, YS, MEMORY[:, :2], IDS), "its memory is not one"),
        (COPIES, Probe(SIX, YS, MEMORY.astype(float), IDS), "its memory is not one"),
        (COPIES, Probe(SIX, YS, MEMORY[:0], IDS[:0]), "its memory is not one"),
        (COPIES, Probe(SIX, YS, MEMORY * np.float32(np.nan), IDS), "its memory is not one"),
        (COPIES, Probe(SIX, YS, MEMORY, IDS[:4]), "its memory is not one"),
        (COPIES, Probe(SIX, YS, MEMORY, IDS[0]), "its memory is not one"),
        (COPIES, Probe(SIX, YS, MEMORY, IDS + 1), "its memory is not one"),
        (COPIES, Probe(SIX, YS, MEMORY, IDS.astype(np.int64)), "its memory is not one"),
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
