"""What a layer may be, and how the reasons why something is none are told."""

import re

import pytest

from numlstm.spec import (
    CRF,
    FUNCTIONS,
    GRU,
    LSTM,
    MAX_SIZE,
    RNN,
    SRU,
    Activation,
    Add,
    Attention,
    AttentionPooling,
    BatchNorm,
    Concat,
    Conv1d,
    Copy,
    Embedding,
    Feedback,
    Flatten,
    FrameConv1d,
    IndRNN,
    LayerNorm,
    Linear,
    LogSoftmax,
    Masking,
    MinGRU,
    MinLSTM,
    Multiply,
    OneHot,
    Pool1d,
    Pooling,
    Repeat,
    Reverse,
    Slice,
    Softmax,
    WeightsError,
    function_text,
    parse_function,
)


def assert_lists(message: str, *patterns: str) -> None:
    missing = [pattern for pattern in patterns if not re.search(pattern, message)]
    assert missing == [], message


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
    "batch_norm": (
        BatchNorm(3), 3, 3,
        {"weight": (3,), "bias": (3,), "running_mean": (3,), "running_var": (3,)},
    ),
    "batch_norm_bare": (
        BatchNorm(3, 1e-5, False, False), 3, 3, {"running_mean": (3,), "running_var": (3,)},
    ),
    "one_hot": (OneHot(9, 5), 1, 5, {}),
    "masking": (Masking(3, value=-1.0), 3, 3, {}),
    "conv": (Conv1d(4, 6, 3), 4, 6, {"weight": (6, 4, 3), "bias": (6,)}),
    "conv_groups": (
        Conv1d(4, 6, 3, False, "relu", groups=2, stride=2, dilation=3, padding=(1, 0)),
        4, 6, {"weight": (6, 2, 3)},
    ),
    "frames": (FrameConv1d(12, 4, 5, 3), 12, 5, {"weight": (5, 4, 3), "bias": (5,)}),
    "frames_options": (
        FrameConv1d(12, 4, 5, 2, False, "relu", stride=2, padding=(1, 1)), 12, 10,
        {"weight": (5, 4, 2)},
    ),
    "pool": (Pool1d(4, 3, "mean", stride=2, padding=(1, 0)), 4, 4, {}),
    "flatten": (Flatten(4, 3), 4, 12, {}),
    "rnn_options": (
        RNN(3, 5, True, "leaky_relu(0.3)", direction="reverse", clip=2.0, outputs="last"), 3, 5,
        {"weight_ih": (5, 3), "weight_hh": (5, 5), "bias_ih": (5,), "bias_hh": (5,)},
    ),
    "gru_two_directions": (
        GRU(3, 5, False, direction="bidirectional", initial_state=True), 3, 10,
        {
            "weight_ih": (15, 3), "weight_hh": (15, 5), "initial_h": (5,),
            "weight_ih_reverse": (15, 3), "weight_hh_reverse": (15, 5), "initial_h_reverse": (5,),
        },
    ),
    "gru_merged": (
        GRU(3, 5, False, direction="bidirectional", merge="mul", shared=True), 3, 5,
        {"weight_ih": (15, 3), "weight_hh": (15, 5)},
    ),
    "gru_options": (
        GRU(
            3, 5, False,
            reset_after=False, activation="relu", recurrent_activation="hard_sigmoid",
        ), 3, 5,
        {"weight_ih": (15, 3), "weight_hh": (15, 5)},
    ),
    "lstm_options": (
        LSTM(
            3, 5, False,
            peepholes=True, proj_size=2, proj_clip=3.0, cell_clip=4.0, coupled=True, clip=1.0,
            forget_bias=-1.0, initial_state=True, activation="softsign",
            recurrent_activation="hard_sigmoid(0.25, 0.5)", output_activation="linear",
        ), 3, 2,
        {
            "weight_ih": (20, 3), "weight_hh": (20, 2), "weight_hr": (2, 5), "initial_h": (2,),
            "initial_c": (5,), "peephole_i": (5,), "peephole_f": (5,), "peephole_o": (5,),
        },
    ),
    "min_gru": (MinGRU(3, 5), 3, 5, {"weight_ih": (10, 3), "bias_ih": (10,)}),
    "min_gru_options": (
        MinGRU(3, 5, False, activation="tanh", initial_state=True), 3, 5,
        {"weight_ih": (10, 3), "initial_h": (5,)},
    ),
    "min_lstm": (MinLSTM(3, 5), 3, 5, {"weight_ih": (15, 3), "bias_ih": (15,)}),
    "ind_rnn": (
        IndRNN(3, 5, True, "tanh"), 3, 5, {"weight_ih": (5, 3), "weight_hh": (5,), "bias_ih": (5,)},
    ),
    "sru": (
        SRU(3, 5), 3, 5,
        {"weight_ih": (20, 3), "bias_ih": (10,), "peephole_f": (5,), "peephole_r": (5,)},
    ),
    "sru_highway": (
        SRU(5, 5, False, peepholes=False, highway_scale=2.0, initial_state=True), 5, 5,
        {"weight_ih": (15, 5), "initial_c": (5,)},
    ),
    "pooling": (Pooling(3, "sum"), 3, 3, {}),
    "attention_pooling": (AttentionPooling(3, eps=1e-7), 3, 3, {"weight": (3,)}),
    "activation": (Activation(3, "clip(0.0, 6.0)"), 3, 3, {}),
    "softmax": (Softmax(3), 3, 3, {}),
    "log_softmax": (LogSoftmax(3), 3, 3, {}),
    "concat": (Concat(3, inputs=("a", "input"), name="b"), 3, 3, {}),
    "add": (Add(3, inputs=("a", "b")), 3, 3, {}),
    "multiply": (Multiply(3, inputs=("a", "b")), 3, 3, {}),
    "slice": (Slice(9, 2, 5), 9, 3, {}),
    "feedback": (Feedback(5, "head"), 0, 5, {}),
    "attention": (Attention(3, 3, memory="encoder", scale=0.5), 3, 3, {}),
    "attention_general": (Attention(3, 5, "general"), 3, 5, {"weight_query": (5, 3)}),
    "attention_additive": (
        Attention(3, 5, "additive", size=4), 3, 5,
        {"weight_query": (4, 3), "weight_memory": (4, 5), "bias": (4,), "weight_score": (4,)},
    ),
    "copy": (Copy(9, 4), 14, 9, {}),
    "repeat": (Repeat(3, 9), 3, 3, {}),
    "reverse": (Reverse(3), 3, 3, {}),
    "crf": (
        CRF(3), 3, 3,
        {"start_transitions": (3,), "end_transitions": (3,), "transitions": (3, 3)},
    ),
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
    "highway_scale": (
        lambda: SRU(3, 5, highway_scale=2.0),
        "highway_scale is for an input_size that is the hidden_size",
    ),
    "nonlinearity": (
        lambda: RNN(3, 5, True, "sin"),
        "nonlinearity: function 'sin' is not known; known: linear, tanh",
    ),
    "activation": (lambda: Linear(3, 5, True, "gilu"), "activation: function 'gilu' is not known"),
    "activation list": (
        lambda: Linear(3, 5, True, ["tanh"]),
        r"activation: function \['tanh'\] is not known",
    ),
    "parameters": (lambda: Activation(3, "clip(1.0)"), "expected 2 finite numbers in brackets"),
    "no parameters": (lambda: Activation(3, "tanh(1.0)"), "expected no brackets"),
    "text in brackets": (lambda: Activation(3, "elu(x)"), "expected 1 finite numbers"),
    "nan in brackets": (lambda: Activation(3, "elu(nan)"), "expected 1 finite numbers"),
    "huge in brackets": (lambda: Activation(3, "elu(1e39)"), "expected 1 finite numbers"),
    "direction": (
        lambda: GRU(3, 5, direction="back"),
        "direction is 'back', expected one of: forw",
    ),
    "merge": (lambda: GRU(3, 5, merge="sum"), "merge is for two directions"),
    "shared": (lambda: GRU(3, 5, shared=True), "shared is for two directions"),
    "clip": (lambda: LSTM(3, 5, clip=0.0), "clip is 0.0, expected a positive float32"),
    "proj_size": (lambda: LSTM(3, 5, proj_size=5), "proj_size 5 is not below 5"),
    "negative proj_size": (lambda: LSTM(3, 5, proj_size=-1), "proj_size is -1, expected 0 to"),
    "proj_clip": (lambda: LSTM(3, 5, proj_clip=1.0), "proj_clip is for a proj_size"),
    "forget_bias": (lambda: LSTM(3, 5, forget_bias=None), "forget_bias is None"),
    "groups": (lambda: Conv1d(4, 6, 3, groups=4), "groups 4 does not divide the sizes"),
    "padding": (lambda: Conv1d(4, 6, 3, padding=(3, 0)), r"padding \(3, 0\) is more than the ke"),
    "paddings": (lambda: Conv1d(4, 6, 3, padding=(1, 1, 1)), "expected two whole numbers"),
    "one padding": (lambda: Conv1d(4, 6, 3, padding=1), "expected two whole numbers"),
    "negative padding": (lambda: Conv1d(4, 6, 3, padding=(-1, 0)), "expected two whole numbers"),
    "stride": (lambda: Conv1d(4, 6, 3, stride=0), "stride is 0"),
    "frames": (lambda: FrameConv1d(10, 4, 5, 3), "10 numbers are no frames of 4"),
    "too few frames": (
        lambda: FrameConv1d(8, 4, 5, 4, padding=(1, 0)),
        "the kernel reads 4 frames of 3, padding included",
    ),
    "padding of frames": (
        lambda: FrameConv1d(12, 4, 5, 3, padding=(3, 0)),
        r"padding is \(3, 0\), expected two numbers from 0 to kernel_size - 1",
    ),
    "one padding of frames": (lambda: FrameConv1d(12, 4, 5, 3, padding=1), "padding is 1"),
    "many frames": (lambda: FrameConv1d(2**20, 1, 1, 1), "gives 1048576 frames, expected at most"),
    "pool": (lambda: Pool1d(4, 3, "last"), "mode is 'last', expected one of: max, mean, sum"),
    "pool padding": (lambda: Pool1d(4, 3, padding=(0, 3)), r"padding \(0, 3\) is more than the"),
    "pool paddings": (lambda: Pool1d(4, 3, padding=2), "padding is 2, expected two whole numbers"),
    "pool kernel": (lambda: Pool1d(4, 0), "kernel_size is 0"),
    "long pool": (lambda: Pool1d(2**20, 100), "it reads 99 steps back, 1048576 numbers each"),
    "flatten": (lambda: Flatten(4, 0), "num_steps is 0"),
    "long flatten": (lambda: Flatten(2**20, 100), "it reads 99 steps back, 1048576 numbers each"),
    "slice": (lambda: Slice(4, 2, 5), "2 to 5 is not within 4"),
    "empty slice": (lambda: Slice(4, 2, 2), "2 to 2 is not within 4"),
    "one to add": (lambda: Add(4, inputs=("a",)), "expected two inputs or more"),
    "feedback": (lambda: Feedback(4, "a", inputs=("b",)), "it has a source, not inputs"),
    "score": (lambda: Attention(4, 4, "cosine"), "score is 'cosine', expected one of: dot"),
    "dot": (lambda: Attention(4, 5), "a dot of 4 and 5 numbers"),
    "additive": (lambda: Attention(4, 5, "additive"), "size is 0 for a score 'additive'"),
    "copies": (lambda: Copy(2**24 + 1, 4), "vocab_size is 16777217, expected at most"),
    "size of a dot": (lambda: Attention(4, 4, size=3), "size is 3 for a score 'dot'"),
    "name": (lambda: Linear(4, 5, name=None), "name is None, expected a string"),
    "inputs": (lambda: Linear(4, 5, inputs="ab"), "inputs is 'ab', expected names of layers"),
    "inputs of numbers": (lambda: Linear(4, 5, inputs=(1,)), "expected names of layers"),
    "function": (lambda: Activation(3, None), "function"),
    "mode": (
        lambda: Pooling(3, "median"),
        "mode is 'median', expected one of: last, mean, max, sum",
    ),
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


# Functions ----------------------------------------------------------------------------------------


def test_functions_are_spelled_with_the_parameters_that_differ():
    assert function_text("elu", 1.0) == "elu"
    assert function_text("hard_sigmoid", 1 / 6, 0.5) == f"hard_sigmoid({1 / 6!r}, 0.5)"
    for name, defaults in FUNCTIONS.items():
        assert parse_function(name) == (name, defaults)
        if defaults:
            other = tuple(number + 0.125 for number in defaults)
            assert parse_function(function_text(name, *other)) == (name, other)
