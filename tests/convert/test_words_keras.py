"""What of Keras is refused, in which words: the layer, why, and what to do instead."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from numlstm.spec import WeightsError
from tests.convert.in_keras import QUIET
from tests.lazy import Lazy, from_keras, keras, layers

files, graph = Lazy("numlstm.convert.keras.files"), Lazy("numlstm.convert.keras.graph")

pytestmark = [pytest.mark.long, QUIET]

Build = Callable[[], Any]


def chain(*parts: Any, size: int = 3, steps: int | None = None) -> Any:
    return keras.Sequential([keras.Input((steps, size)), *parts])


def of(end: Callable[[Any], Any], steps: int | None = None) -> Any:
    given = keras.Input((steps, 3), name="x")
    return keras.Model(given, end(given))


def states(x: Any) -> Any:
    return layers.Bidirectional(layers.LSTM(4, return_state=True), name="both")(x)


def from_a_state(x: Any) -> Any:
    _, h = layers.GRU(4, return_state=True)(x)
    return layers.GRU(4, name="next")(x, initial_state=h)


def the_c_behind_both_directions(x: Any) -> Any:
    rows = layers.Bidirectional(layers.GRU(4, return_sequences=True))(x)
    return layers.Dense(2)(layers.LSTM(4, return_state=True)(rows)[2])


def a_mask_from_elsewhere(x: Any) -> Any:
    mask = keras.ops.any(keras.ops.not_equal(x, 5.0), -1)
    return layers.LSTM(4, name="lstm")(x, mask=mask)


def two_lengths() -> Any:
    a, b = keras.Input((20, 3), name="past"), keras.Input((5, 2), name="future")
    x = layers.Concatenate()([layers.LSTM(3)(a), layers.LSTM(3)(b)])
    return keras.Model([a, b], x)


def tokens_with_padding_and_numbers() -> Any:
    a, b = keras.Input((None,), name="words"), keras.Input((None, 3), name="x")
    x = layers.Concatenate()([layers.Embedding(9, 3, mask_zero=True, name="embed")(a), b])
    return keras.Model([a, b], layers.LSTM(2)(x))


def a_shared_stateful_layer() -> Any:
    given = keras.Input((None, 3), batch_size=1)
    shared = layers.GRU(3, stateful=True, return_sequences=True, name="gru")
    return keras.Model(given, shared(shared(given)))


def a_sequence_and_a_vector_out() -> Any:
    given = keras.Input((None, 3))
    both = layers.Bidirectional(layers.LSTM(2, return_sequences=True))(given)
    return keras.Model(given, [both, layers.GlobalMaxPooling1D()(both)])


def masked(*parts: Any) -> Any:
    return chain(layers.Masking(), *parts)


ROW = "a network reads one row per step; transpose the input, and start the model behind"
REFUSED: dict[str, tuple[Build, str]] = {
    "Lambda": (
        lambda: chain(layers.Lambda(lambda x: x[:, -1], name="cut")),
        'layer 1 "cut": Lambda: code in a file is not run; write it as layers, or say which it is: '
        'custom={"cut": "last"}',
    ),
    "UpSampling1D": (
        lambda: chain(layers.UpSampling1D(name="up")),
        'layer 1 "up": UpSampling1D: gives more steps than it reads; a step has one row of answers',
    ),
    "MultiHeadAttention": (
        lambda: of(lambda x: layers.MultiHeadAttention(2, 2, name="mha")(x, x)),
        'layer 1 "mha": MultiHeadAttention: attends with several heads; '
        "Attention and AdditiveAttention have one",
    ),
    "an operation": (
        lambda: of(lambda x: layers.GRU(2)(keras.ops.sin(x))),
        'layer 1 "sin": Sin: is not an operation numlstm knows',
    ),
    "a power": (
        lambda: of(lambda x: x**3.5),
        'layer 1 "power": Power: a power of 3.5, expected one of 2, 0.5, 1, -1',
    ),
    "the c of an LSTM": (
        lambda: of(lambda x: layers.Dense(2, name="head")(states(x)[2])),
        'layer 2 "head": Dense: reads a state that is no output, as the c of an LSTM; '
        "the h of a layer can be read; stream.state has all",
    ),
    "initial_state": (
        lambda: of(from_a_state),
        'layer 2 "next": GRU: called with initial_state=a tensor; convert the two as models of '
        "their own: the stream of the second is given stream.state = the state of the first",
    ),
    "a mask": (
        lambda: of(a_mask_from_elsewhere),
        'layer 3 "lstm": LSTM: called with mask=a tensor',
    ),
    "Flatten": (
        lambda: chain(layers.Flatten(name="flat")),
        'layer 1 "flat": Flatten: a sequence (steps, 3) of unknown length; '
        "name the length in the shape of the input",
    ),
    "Reshape": (
        lambda: chain(layers.Reshape((8, 3), name="shape"), size=6, steps=4),
        'layer 1 "shape": Reshape: a sequence (4, 6) -> [8, 3]: features would become steps',
    ),
    "Permute": (
        lambda: chain(layers.Permute((2, 1), name="turn"), steps=5),
        f'layer 1 "turn": Permute: dims=[2, 1]: steps would become features, and features steps; '
        f"{ROW}",
    ),
    "a slice": (
        lambda: of(lambda x: layers.GRU(2)(x[:, :4])),
        'layer 1 "get_item": GetItem: x[:, :4] of a sequence of unknown length; '
        "name the length in the shape of the input",
    ),
    "a slice of a mask": (
        lambda: of(lambda x: layers.Masking()(x)[:, -1]),
        'layer 2 "get_item": GetItem: x[:, -1] of a sequence with a mask: the step may be masked',
    ),
    "a sequence and a vector": (
        lambda: of(lambda x: layers.Add(name="add")([x, layers.LSTM(3)(x)])),
        'layer 2 "add": Add: joins a sequence and one vector; '
        "repeat the vector in every step (RepeatVector), or pool the sequence",
    ),
    "two lengths": (
        two_lengths,
        'several inputs: sequences of different lengths ("past" 20, "future" 5), of which a row '
        "has no steps in common; convert the part that reads each as a model of its own",
    ),
    "mask_zero beside numbers": (
        tokens_with_padding_and_numbers,
        'layer 1 "embed": Embedding: mask_zero=True beside other inputs, whose steps are not '
        "skipped with it; give sequences without padding, and "
        'custom={"Embedding": "Embedding(mask_zero=false)"}',
    ),
    "a shared stateful layer": (
        a_shared_stateful_layer,
        'layer 1 "gru": GRU: stateful=True and called more than once',
    ),
    "an axis": (
        lambda: chain(layers.BatchNormalization(axis=1, name="norm"), steps=4),
        'layer 1 "norm": BatchNormalization: axis=1, expected that of the features',
    ),
    "a softmax over time": (
        lambda: chain(layers.Softmax(axis=1, name="soft")),
        'layer 1 "soft": Softmax: axis=1',
    ),
    "GroupNormalization": (
        lambda: chain(layers.GroupNormalization(1, name="norm")),
        'layer 1 "norm": GroupNormalization: groups of features are normalised over all steps '
        "together; LayerNormalization is over the features of each step",
    ),
    "PReLU": (
        lambda: slopes_of_each_step(),
        'layer 1 "prelu": PReLU: alpha (4, 3) of each step apart; make it with shared_axes=[1]',
    ),
    "a convolution of unknown length": (
        lambda: chain(layers.Conv1D(4, 3, strides=2, padding="same", name="conv")),
        "layer 1 \"conv\": Conv1D: padding='same' with strides, which depends on the length of the "
        "sequence; name the length in the shape of the input",
    ),
    "a convolution of a mask": (
        lambda: masked(layers.Conv1D(2, 2, name="conv")),
        'layer 2 "conv": Conv1D: reads a sequence with a mask, which it would not heed',
    ),
    "a maximum of a mask": (
        lambda: masked(layers.GlobalMaxPooling1D(name="max")),
        'layer 2 "max": GlobalMaxPooling1D: reads a sequence with a mask, which it would not heed',
    ),
    "a late mask": (
        lambda: chain(layers.Dense(2), layers.Masking(name="mask"), layers.GRU(2)),
        'layer 2 "mask": Masking: is not the first and only layer that reads the input',
    ),
    "a mask backwards": (
        lambda: masked(layers.GRU(2, go_backwards=True, return_sequences=True, name="gru")),
        'layer 2 "gru": GRU: go_backwards gives a sequence in reverse, the mask stays as it was',
    ),
    "a Dot of sequences": (
        lambda: of(lambda x: layers.Dot(2, name="dot")([x, x])),
        'layer 1 "dot": Dot: a product of a sequence and a sequence, expected two vectors; '
        "Attention is known",
    ),
    "images": (
        lambda: keras.Sequential([keras.Input((4, 3, 2), name="image"), layers.Dense(2)]),
        'input "image": has shape (None, 4, 3, 2), expected (batch, steps) token ids, '
        "(batch, steps, features) or (batch, features)",
    ),
}


def slopes_of_each_step() -> Any:
    model = chain(layers.PReLU(name="prelu"), steps=4)
    model.layers[0].set_weights([np.arange(12.0).reshape(4, 3)])
    return model


def lines_of(build: Build) -> list[str]:
    keras.backend.clear_session()
    with pytest.raises(WeightsError) as caught:
        graph.translate(files.read(build()))
    return str(caught.value).split("\n  ")


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_and_in_which_words(name):
    build, words = REFUSED[name]
    assert lines_of(build) == ["the Keras model cannot be converted:", words]


def test_the_c_of_an_lstm_needs_the_steps_so_far_alone():
    assert lines_of(lambda: of(the_c_behind_both_directions)) == [
        "the c of an LSTM is read beside a layer that reads later steps; read its h, or convert "
        "the part up to the c as a model of its own"
    ]


def test_outputs_of_two_kinds_are_refused_where_a_step_reads_later_ones():
    assert lines_of(a_sequence_and_a_vector_out) == [
        "the outputs are a sequence and one vector, which a row for each step has only where no "
        "step reads later ones; convert a model of one of them"
    ]


def test_everything_is_refused_together():
    model = chain(
        layers.Lambda(lambda x: 2 * x, name="twice"),
        layers.Conv1D(4, 3, strides=2, padding="same", name="conv"),
        layers.LSTM(3, activation="log_sigmoid", return_sequences=True, name="lstm"),
        layers.SeparableConv1D(4, 3, name="apart"),
        layers.Dense(2, activation="sparsemax", name="dense"),
    )
    head, *lines = lines_of(lambda: model)
    assert head == "the Keras model cannot be converted:"
    assert sorted(lines) == [
        'layer 1 "twice": Lambda: code in a file is not run; write it as layers, or say which it '
        'is: custom={"twice": "last"}',
        "layer 2 \"conv\": Conv1D: padding='same' with strides, which depends on the length of the "
        "sequence; name the length in the shape of the input",
        "layer 3 \"lstm\": LSTM: activation 'log_sigmoid' in a recurrent layer",
        'layer 4 "apart": SeparableConv1D: is not a layer numlstm knows; if it is one by another '
        'name: custom={"SeparableConv1D": "LSTM"}',
        "layer 5 \"dense\": Dense: activation 'sparsemax'",
    ]


@pytest.mark.parametrize(
    ("custom", "words"),
    [
        (
            {"Mine": "LSTM"},
            "custom names Mine, which the model does not have",
        ),
        (
            {"gru": "LSTN"},
            "custom['gru']: 'LSTN' is no layer of Keras that is known; beside those there are "
            "Reverse, last, mean, max, sum",
        ),
        ({"gru": 3}, "custom['gru'] is 3, expected layers, as in \"LSTM Reverse\""),
        ({"gru": "GRU(units)"}, "custom['gru']: 'units', expected option=value"),
        (["gru"], "custom is list, expected a dict of str"),
    ],
)
def test_what_is_wrong_of_custom_is_said(custom, words):
    with pytest.raises(WeightsError) as caught:
        from_keras.convert(chain(layers.GRU(2, name="gru")), custom=custom)
    assert str(caught.value) == words
