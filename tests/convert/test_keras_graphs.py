"""What stands around recurrent layers in Keras: slices, operations, other inputs, states, masks."""

import json
import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import numlstm
from numlstm import reference, spec
from numlstm.spec import Columns, Weights
from tests.convert.in_keras import ANSWERS, QUIET, check, probe_briefly, randomized
from tests.lazy import Lazy, from_keras, keras, layers

files, graph = Lazy("numlstm.convert.keras.files"), Lazy("numlstm.convert.keras.graph")
ops = Lazy("keras.ops")

pytestmark = [pytest.mark.long, QUIET]


@pytest.fixture(autouse=True)
def _few_short_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    probe_briefly(monkeypatch, 5)


def of(end: Callable[[Any], Any], steps: int | None = None) -> Any:
    given = keras.Input((steps, 5), name="x")
    return keras.Model(given, end(given))


def seq(size: int = 4, **options: Any) -> Any:
    return layers.LSTM(size, return_sequences=True, **options)


def both(size: int = 3, **options: Any) -> Any:
    return layers.Bidirectional(layers.GRU(size, return_sequences=True, **options))


# One input ----------------------------------------------------------------------------------------

End = Callable[[Any], Any]
NUMBERS = np.arange(1, 6).astype(np.float32)
ANY_LENGTH: dict[str, End] = {
    "last": lambda x: layers.Dense(2)(seq()(x)[:, -1]),
    "last, all axes": lambda x: layers.Dense(2)(both()(x)[:, -1, :]),
    "first": lambda x: layers.Dense(2)(seq()(x)[:, 0]),
    "second": lambda x: seq()(x)[:, 1],
    "the third from the end": lambda x: layers.Dense(2)(seq()(x)[:, -3]),
    "features": lambda x: layers.GRU(2)(x[..., 1:4]),
    "steps": lambda x: seq()(x[:, 1:-2]),
    "every second step": lambda x: seq()(x[:, ::2]),
    "turned": lambda x: seq()(ops.flip(x, axis=1)),
    "take": lambda x: layers.Dense(2)(ops.take(seq()(x), -1, axis=1)),
    "split": lambda x: layers.Add()(ops.split(layers.Dense(4)(x), 2, axis=-1)),
    "the last step kept": lambda x: layers.Flatten()(layers.Dense(2)(seq()(x)[:, -1:])),
    "attention of the last": lambda x: layers.Flatten()(
        layers.Attention()([(y := seq()(x))[:, -1:], y])
    ),
    "arithmetic": lambda x: (1 - ops.tanh(layers.Dense(3)(x)) * 2 + 0.5) / 3 - x[..., :3],
    "arrays": lambda x: layers.GRU(2)((x - NUMBERS) / NUMBERS),
    "functions": lambda x: ops.log(ops.exp(-layers.Dense(3)(x)) + 1.0) ** 2,
    "a quotient": lambda x: x / (ops.exp(layers.Dense(5)(x)) + 1.0),
    "bounds": lambda x: ops.minimum(ops.maximum(x, -0.2), 0.3),
    "Maximum and Minimum": lambda x: layers.Minimum()(
        [layers.Maximum()([x, -x]), layers.Dense(5)(x)]
    ),
    "a gate": lambda x: layers.Multiply()([x, layers.Dense(1)(x)]),
    "a mean": lambda x: layers.Dense(2)(ops.mean(seq()(x), axis=1)),
    "a sum": lambda x: layers.Dense(2)(ops.sum(seq()(x), axis=1)),
    "UnitNormalization": lambda x: layers.UnitNormalization()(layers.GRU(3)(x)),
    "GroupNormalization": lambda x: layers.GroupNormalization(2)(layers.GRU(6)(x)),
    "PReLU": lambda x: layers.PReLU(shared_axes=[1])(layers.Dense(3)(x)),
    "Dot": lambda x: layers.Dot(1)([layers.GRU(3)(x), layers.LSTM(3)(x)]),
    "a cosine": lambda x: layers.Dot(1, normalize=True)([layers.GRU(3)(x), layers.LSTM(3)(x)]),
    "Cropping1D": lambda x: layers.GRU(3, return_sequences=True)(layers.Cropping1D((2, 1))(x)),
    "ZeroPadding1D": lambda x: layers.GRU(3, return_sequences=True)(
        layers.ZeroPadding1D((2, 1))(x)
    ),
    "MaxPooling1D": lambda x: layers.LSTM(3)(layers.MaxPooling1D(2)(x)),
    "MaxPooling1D, same": lambda x: layers.LSTM(3)(layers.MaxPooling1D(2, padding="same")(x)),
    "AveragePooling1D": lambda x: seq()(layers.AveragePooling1D(3, 1, padding="same")(x)),
    "h of an LSTM": lambda x: layers.Dense(2)(layers.LSTM(6, return_state=True)(x)[1]),
    "h beside a sequence": lambda x: layers.Dense(2)(seq(6, return_state=True)(x)[1]),
    "c of an LSTM": lambda x: layers.Dense(2)(layers.LSTM(6, return_state=True)(x)[2]),
    "all of an LSTM": lambda x: layers.Concatenate()(
        layers.LSTM(4, return_state=True, use_bias=False, recurrent_activation="hard_sigmoid")(x)
    ),
    "h of a GRU": lambda x: layers.Concatenate()(layers.GRU(6, return_state=True)(x)),
    "h of both directions": lambda x: layers.Concatenate()(both(return_state=True)(x)[1:]),
    "h of both, no sequence": lambda x: layers.Concatenate()(
        [layers.Bidirectional(layers.LSTM(3, return_state=True))(x)[n] for n in (0, 1, 3)]
    ),
    "no merge": lambda x: layers.Subtract()(
        layers.Bidirectional(layers.LSTM(3, return_sequences=True), merge_mode=None)(x)
    ),
    "noise": lambda x: seq()(
        layers.GaussianNoise(0.1)(
            layers.GaussianDropout(0.1)(layers.SpatialDropout1D(0.2)(layers.AlphaDropout(0.1)(x)))
        )
    ),
    "Normalization with numbers": lambda x: layers.GRU(3)(
        layers.Normalization(mean=[1.0, 2, 3, 4, 5], variance=[1.0, 4, 9, 1, 0])(x)
    ),
    "Normalization with one number": lambda x: layers.GRU(3)(
        layers.Normalization(axis=None, mean=2.0, variance=4.0)(x)
    ),
    "Normalization, inverted": lambda x: layers.Normalization(
        mean=[1.0, 2], variance=[1.0, 4], invert=True
    )(layers.Dense(2)(layers.GRU(3)(x))),
}
SIX_STEPS: dict[str, End] = {
    "Flatten": lambda x: layers.Dense(2)(layers.Flatten()(seq()(x))),
    "Flatten of both directions": lambda x: layers.Dense(2)(layers.Flatten()(both()(x))),
    "Reshape to one": lambda x: layers.Dense(2)(layers.Reshape((-1,))(seq()(x))),
    "a pyramid": lambda x: layers.GRU(3, return_sequences=True)(layers.Reshape((3, 10))(x)),
    "steps from the start": lambda x: seq()(x[:, 1:4]),
    "a convolution": lambda x: layers.GRU(3)(layers.Conv1D(4, 3, 2, padding="same")(x)),
    "MaxPooling1D of known length": lambda x: layers.GRU(3)(
        layers.MaxPooling1D(4, 3, padding="same")(x)
    ),
    "Permute of nothing": lambda x: layers.GRU(2)(layers.Permute((1, 2))(x)),
}


def adapted() -> Any:
    normalization = layers.Normalization()
    normalization.adapt(np.random.default_rng(1).normal(2, 3, (10, 6, 5)).astype(np.float32))
    return of(lambda x: layers.GRU(3)(normalization(x)))


def numbers_that_are_steps() -> Any:
    parts = [layers.Reshape((6, 1)), layers.Dropout(0.1), layers.LSTM(3), layers.Dense(2)]
    return keras.Sequential([keras.Input((6,)), *parts])


def numbers_of_any_length() -> Any:
    given = keras.Input((None,))
    return keras.Model(given, layers.LSTM(3)(ops.expand_dims(given, -1)))


MODELS: dict[str, Callable[[], Any]] = {
    **{name: lambda e=end: of(e) for name, end in ANY_LENGTH.items()},
    **{name: lambda e=end: of(e, 6) for name, end in SIX_STEPS.items()},
    "Normalization": adapted,
    "numbers that are steps": numbers_that_are_steps,
    "numbers of any length": numbers_of_any_length,
}


def converted(model: Any, path: Any) -> Weights:
    """Return what a .keras file of a model becomes; its .h5 file and itself become the same."""
    model.save(path / "model.keras")
    weights = from_keras.convert(path / "model.keras")
    assert f"probes from keras {keras.__version__}" in weights.origin
    model.save(path / "model.h5")
    for other in (path / "model.h5", model):
        found = graph.translate(files.read(other))
        assert found.network == weights.network
        for name, tensor in found.tensors.items():
            np.testing.assert_array_equal(tensor, weights.tensors[name])
    for probe in weights.probes:
        check(weights, probe.xs, probe.ys)
    return weights


@pytest.mark.parametrize("name", MODELS)
def test_keras_is_the_reference_and_the_engine(name, tmp_path):
    model = MODELS[name]()
    converted(model if name == "Normalization" else randomized(model), tmp_path)


# Several inputs and outputs -----------------------------------------------------------------------


def static(end: str) -> Any:
    x, s = keras.Input((None, 5), name="x"), keras.Input((3,), name="site")
    rows = layers.Bidirectional(layers.LSTM(4))(x) if end == "both" else layers.LSTM(4)(x)
    return keras.Model([x, s], layers.Dense(2)(layers.Concatenate()([rows, layers.Dense(2)(s)])))


def static_in_every_step() -> Any:
    x, s = keras.Input((6, 5), name="x"), keras.Input((3,), name="site")
    rows = layers.Concatenate()([x, layers.RepeatVector(6)(layers.Dense(2)(s))])
    return keras.Model([x, s], layers.Dense(2)(layers.LSTM(4)(rows)))


def a_store_by_its_number() -> Any:
    x, s = keras.Input((None, 5), name="x"), keras.Input((1,), name="store")
    place = layers.Flatten()(layers.Embedding(7, 4)(s))
    return keras.Model([x, s], layers.Dense(2)(layers.Concatenate()([layers.LSTM(4)(x), place])))


def several_numbers() -> Any:
    x, s = keras.Input((None, 5), name="x"), keras.Input((3,), name="tags")
    tags = layers.GlobalAveragePooling1D()(layers.Embedding(7, 4)(s))
    return keras.Model([x, s], layers.Dense(2)(layers.Concatenate()([layers.LSTM(4)(x), tags])))


def words_and_tags() -> Any:
    a, b = keras.Input((None,), name="words"), keras.Input((None,), name="tags")
    rows = layers.Concatenate()([layers.Embedding(9, 4)(a), layers.Embedding(5, 2)(b)])
    return keras.Model([a, b], layers.Dense(2)(both()(rows)))


def letters_of_words() -> Any:
    a, b = keras.Input((None, 4), name="letters"), keras.Input((None, 3), name="tag")
    letters = layers.TimeDistributed(layers.Embedding(9, 4))(a)
    letters = layers.TimeDistributed(layers.Flatten())(letters)
    return keras.Model(
        [a, b], layers.Dense(2)(both()(layers.Concatenate()([layers.Dense(3)(letters), b])))
    )


SEVERAL: dict[str, tuple[Callable[[], Any], list[tuple[str, int]]]] = {
    "static": (lambda: static("last"), [("x", 5), ("site", 3)]),
    "static, both directions": (lambda: static("both"), [("x", 5), ("site", 3)]),
    "static in every step": (static_in_every_step, [("x", 5), ("site", 3)]),
    "an id": (a_store_by_its_number, [("x", 5), ("store", 7)]),
    "several ids": (several_numbers, [("x", 5), ("tags", 21)]),
    "two ids in a step": (words_and_tags, [("words", 9), ("tags", 5)]),
    "ids of letters": (letters_of_words, [("letters", 36), ("tag", 3)]),
}


@pytest.mark.parametrize("name", SEVERAL)
def test_several_inputs_stand_in_a_row(name, tmp_path):
    build, columns = SEVERAL[name]
    weights = converted(randomized(build()), tmp_path)
    assert weights.inputs == tuple(Columns(*pair) for pair in columns)


def test_rows_are_made_by_name():
    model = randomized(a_store_by_its_number())
    found = numlstm.from_keras(model)
    xs = np.random.default_rng(0).normal(size=(8, 5)).astype(np.float32)
    expected = model.predict([xs[None], np.array([[3.0]])], verbose=0)
    store = np.eye(7)[3]
    ANSWERS.check(found.run(found.joined(x=xs, store=store))[-1:], expected)


def test_several_outputs_have_names(tmp_path):
    given = keras.Input((None, 5), name="x")
    rows = seq()(given)
    outputs = [layers.Dense(2, name="tags")(rows), layers.Dense(3, name="whole")(rows[:, -1])]
    model = randomized(keras.Model(given, outputs))
    weights = converted(model, tmp_path)
    assert weights.outputs == (Columns("tags", 2), Columns("whole", 3))
    xs = np.random.default_rng(0).normal(size=(8, 5)).astype(np.float32)
    tags, whole = model.predict(xs[None], verbose=0)
    found = numlstm.Model(weights)
    answers = found.by_name(found.run(xs))
    ANSWERS.check(answers["tags"], tags[0])
    ANSWERS.check(answers["whole"][-1:], whole)


def test_padding_that_is_left_out_may_be_no_mask():
    a, b = keras.Input((None,), name="words"), keras.Input((None, 3), name="x")
    rows = layers.Concatenate()([layers.Embedding(9, 3, mask_zero=True)(a), b])
    model = randomized(keras.Model([a, b], layers.LSTM(2)(rows)))
    weights = from_keras.convert(model, custom={"Embedding": "Embedding(mask_zero=false)"})
    check(weights, weights.probes[0].xs, weights.probes[0].ys)


# Masked steps -------------------------------------------------------------------------------------

TWO_CELLS = {"backward": lambda: layers.GRU(3, return_sequences=True, go_backwards=True)}
MASKED: dict[str, Callable[[], list[Any]]] = {
    "forward": lambda: [seq(), layers.Dense(2)],
    "both": lambda: [both(), layers.Dense(2)],
    "both twice": lambda: [both(), both(), layers.Dense(2, activation="softmax")],
    "both, forward": lambda: [both(), seq(), layers.Dense(2)],
    "forward, both": lambda: [seq(), both(), layers.Dense(2)],
    "two cells": lambda: [
        layers.Bidirectional(seq(3), backward_layer=TWO_CELLS["backward"]()), layers.Dense(2)
    ],
    "the last": lambda: [layers.LSTM(3), layers.Dense(2)],
    "the last of both": lambda: [layers.Bidirectional(layers.GRU(3)), layers.Dense(2)],
    "repeated": lambda: [layers.Bidirectional(layers.GRU(3)), layers.RepeatVector(3), seq()],
}  # fmt: skip


@pytest.mark.parametrize("begin", ["tokens", 0.0, -1.0])
@pytest.mark.parametrize("name", MASKED)
def test_masked_steps_have_the_answers_of_keras(name, begin):
    first = (
        [keras.Input((None,)), layers.Embedding(9, 4, mask_zero=True)]
        if begin == "tokens"
        else [keras.Input((None, 3)), layers.Masking(begin)]
    )
    model = randomized(keras.Sequential([*first, *MASKED[name]()]))
    weights = from_keras.convert(model)
    generator = np.random.default_rng(0)
    for steps in ("0110100", "1110", "0000", "0011"):
        kept = np.array([step == "1" for step in steps])
        if begin == "tokens":
            xs = kept * generator.integers(1, 9, len(kept))
        else:
            rows = generator.normal(size=(len(kept), 3)).astype(np.float32)
            xs = np.where(kept[:, None], rows, np.float32(begin))
        expected = model.predict(xs[None], verbose=0)
        expected = expected[0] if expected.ndim == 3 else expected
        found = numlstm.Model(weights).run(xs)
        ANSWERS.check(found[-len(expected) :], expected, steps)
        ys, _ = reference.run(weights.network, weights.tensors, xs)
        ANSWERS.check(ys[-len(expected) :], expected, steps)


def test_masked_steps_whose_answers_differ_are_said(caplog):
    given = keras.Input((None, 3))
    rows = layers.Masking()(given)
    model = keras.Model(given, layers.Concatenate()([seq()(rows), both()(rows)]))
    with caplog.at_level(logging.WARNING, "numlstm"):
        from_keras.convert(model)
    assert "the answers to masked steps differ from its own" in caplog.text


# Custom classes, and Keras 2 ----------------------------------------------------------------------


def reversed_lstm() -> Any:
    class ReversedLSTM(layers.LSTM):
        def __init__(self, units: int, **options: Any) -> None:
            super().__init__(units, **options | {"go_backwards": True})

        def call(
            self, sequences: Any, initial_state: Any = None, mask: Any = None,
            training: bool = False,
        ) -> Any:  # fmt: skip
            return ops.flip(super().call(sequences, initial_state, mask, training), axis=1)

    return keras.saving.register_keras_serializable("mine")(ReversedLSTM)


def test_a_class_of_a_user_is_what_custom_says(tmp_path):
    given = keras.Input((None, 3))
    rows = [seq()(given), reversed_lstm()(4, return_sequences=True)(given)]
    rows = layers.Dense(2)(layers.Concatenate()(rows))
    model = keras.Model(given, layers.Lambda(lambda x: x[:, -1], name="cut")(rows))
    model.save(tmp_path / "model.keras")
    model.save(tmp_path / "model.h5")
    xs = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)
    expected = model.predict(xs[None], verbose=0)
    for source in (model, tmp_path / "model.keras", tmp_path / "model.h5"):
        custom = {"ReversedLSTM": "LSTM Reverse", "cut": "last"}
        check(from_keras.convert(source, custom=custom), xs, expected)


def keras_2(*described: tuple[str, dict[str, Any], list[Any]], output: str) -> dict[str, Any]:
    """Return the config of a functional model as Keras 2 writes it."""
    first = {"batch_input_shape": [None, 4, 3], "name": "x"}
    every = [{"class_name": "InputLayer", "config": first, "name": "x", "inbound_nodes": []}]
    for kind, config, calls in described:
        every.append(
            {
                "class_name": kind, "config": config, "name": config["name"],
                "inbound_nodes": [calls],
            }
        )  # fmt: skip
    config = {"layers": every, "input_layers": [["x", 0, 0]], "output_layers": [[output, 0, 0]]}
    return {"class_name": "Functional", "config": config, "keras_version": "2.12.0"}


def op(function: str, name: str) -> dict[str, Any]:
    return {"name": name, "trainable": True, "dtype": "float32", "function": function}


CUT = {"slice_spec": [{"start": None, "stop": None, "step": None}, -1]}
LAST = {"axis": -1}
KERAS_2: dict[str, tuple[list[Any], Callable[[np.ndarray], np.ndarray]]] = {
    "a slice": (
        [("SlicingOpLambda", op("__operators__.getitem", "op"), ["x", 0, 0, CUT])],
        lambda x: x[-1],
    ),
    "a number": (
        [("TFOpLambda", op("math.multiply", "op"), ["x", 0, 0, {"y": 2.0, "name": None}])],
        lambda x: 2 * x[-1],
    ),
    "a number first": (
        [
            (
                "TFOpLambda",
                op("math.subtract", "op"),
                ["_CONSTANT_VALUE", -1, 1.0, {"y": ["x", 0, 0], "name": None}],
            )
        ],
        lambda x: 1 - x[-1],
    ),
    "two tensors": (
        [
            ("TFOpLambda", op("math.tanh", "tanh"), ["x", 0, 0, {}]),
            ("TFOpLambda", op("__operators__.add", "op"), ["x", 0, 0, {"y": ["tanh", 0, 0]}]),
        ],
        lambda x: x[-1] + np.tanh(x[-1]),
    ),
    "a mean over time": (
        [("TFOpLambda", op("math.reduce_mean", "op"), ["x", 0, 0, {"axis": 1}])],
        lambda x: x.mean(0),
    ),
    "a concat": (
        [("TFOpLambda", op("concat", "op"), [["x", 0, 0, LAST], ["x", 0, 0, LAST]])],
        lambda x: np.concatenate([x[-1], x[-1]]),
    ),
    "Permute and Flatten": (
        [
            ("Permute", {"name": "turn", "dims": [1, 2]}, [["x", 0, 0, {}]]),
            ("Flatten", {"name": "op", "data_format": "channels_last"}, [["turn", 0, 0, {}]]),
        ],
        np.ravel,
    ),
    "MaxPooling1D": (
        [
            (
                "MaxPooling1D",
                {"name": "op", "pool_size": [2], "strides": [2], "padding": "valid"},
                [["x", 0, 0, {}]],
            )
        ],
        lambda x: x[2:].max(0),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", KERAS_2)
def test_operations_of_keras_2_are_data(name):
    described, expected = KERAS_2[name]
    config = json.loads(json.dumps(keras_2(*described, output="op")))
    weights = from_keras.convert({"none/kernel": np.ones(1)}, config=config)
    xs = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    check_last(weights, xs, expected(xs))


def check_last(weights: Weights, xs: np.ndarray, expected: np.ndarray) -> None:
    ys, _ = reference.run(weights.network, weights.tensors, xs)
    ANSWERS.check(ys[-1], expected, "reference")
    ANSWERS.check(numlstm.Model(weights).run(xs)[-1], expected, "engine")


def test_a_normalization_of_keras_2_has_a_count(tmp_path):
    config = {"name": "norm", "axis": [2], "mean": None, "variance": None}
    described = keras_2(("Normalization", config, [["x", 0, 0, {}]]), output="norm")
    mean, variance = np.array([1.0, 2, 3]), np.array([4.0, 1, 0])
    arrays = {"norm/mean": mean, "norm/variance": variance, "norm/count": np.array(9)}
    weights = from_keras.convert(arrays, config=described)
    xs = np.array([[1.0, 4, 3], [5, 2, 3]], np.float32)
    check_last(weights, xs, np.array([2.0, 0, 0]))
    assert isinstance(weights.network.layers[0], spec.BatchNorm)
