"""Keras models -> networks: what Keras answers, the reference and the engine answer."""

import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import numlstm
from numlstm import reference, spec
from numlstm.spec import Network, WeightsError
from tests.conftest import ROOT
from tests.convert.in_keras import ANSWERS, QUIET, check, probe_briefly, randomized
from tests.lazy import Lazy, from_keras, h5py, keras, layers

files, graph = Lazy("numlstm.convert.keras.files"), Lazy("numlstm.convert.keras.graph")

DATA = ROOT / "tests" / "data"
pytestmark = QUIET


@pytest.fixture(autouse=True)
def _few_short_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    probe_briefly(monkeypatch, 7)


# Keras 3 ------------------------------------------------------------------------------------------

Build = Callable[[], Any]
CELLS: dict[str, tuple[str, dict[str, Any]]] = {
    "rnn": ("SimpleRNN", {}),
    "rnn_relu_no_bias": ("SimpleRNN", {"activation": "relu", "use_bias": False}),
    "gru": ("GRU", {}),
    "gru_before": ("GRU", {"reset_after": False, "activation": "relu"}),
    "gru_no_bias": ("GRU", {"use_bias": False, "recurrent_activation": "hard_sigmoid"}),
    "lstm": ("LSTM", {}),
    "lstm_hard": ("LSTM", {"recurrent_activation": "hard_sigmoid", "activation": "softsign"}),
    "lstm_no_bias": ("LSTM", {"use_bias": False}),
}
CASES: dict[str, Build] = {}


def case(build: Build) -> Build:
    CASES[build.__name__] = build
    return build


def chain(*parts: Any, size: int = 3) -> Any:
    return keras.Sequential([keras.Input((None, size)), *parts])


def add_cells() -> None:
    """One direction with each pair of flags; both, with each merge."""
    for name, (cell, options) in CELLS.items():
        for flags in ({}, {"return_sequences": True}, {"go_backwards": True},
                      {"go_backwards": True, "return_sequences": True}):  # fmt: skip
            every = options | flags
            CASES["-".join([name, *flags])] = lambda c=cell, o=every: chain(
                getattr(layers, c)(4, **o)
            )
        for merge, sequences in (("concat", True), ("sum", False), ("mul", True), ("ave", False)):
            every = options | {"return_sequences": sequences}
            CASES[f"{name}-{merge}"] = lambda c=cell, o=every, m=merge: chain(
                layers.Bidirectional(getattr(layers, c)(4, **o), merge_mode=m), layers.Dense(2)
            )


def add_functions() -> None:
    for name in ("tanh", "sigmoid", "relu", "elu", "selu", "softsign", "softplus", "exponential",
                 "silu", "relu6", "leaky_relu", "hard_sigmoid", "hard_tanh", "softmax",
                 "log_softmax", "linear", "gelu", "mish", "hard_silu", "log_sigmoid", "celu",
                 "tanh_shrink", "soft_shrink", "hard_shrink"):  # fmt: skip
        CASES[f"function-{name}"] = lambda f=name: chain(
            layers.Dense(4, activation=f), layers.Activation(f), layers.SimpleRNN(2)
        )


def add_layers() -> None:
    every: dict[str, Build] = {
        "leaky_relu": lambda: layers.LeakyReLU(),
        "elu": lambda: layers.ELU(0.5),
        "relu": lambda: layers.ReLU(),
        "relu_max": lambda: layers.ReLU(1.0),
        "relu_slope": lambda: layers.ReLU(None, 0.2),
        "relu_threshold": lambda: layers.ReLU(None, 0.0, 0.3),
        "softmax": lambda: layers.Softmax(),
        "dropout": lambda: layers.Dropout(0.4),
        "spatial_dropout": lambda: layers.SpatialDropout1D(0.4),
        "noise": lambda: layers.GaussianNoise(0.4),
        "rescaling": lambda: layers.Rescaling(0.5, 1.0),
        "identity": lambda: layers.Identity(),
        "batch_norm": lambda: layers.BatchNormalization(),
        "batch_norm_bare": lambda: layers.BatchNormalization(scale=False, center=False),
        "rms_norm": lambda: layers.RMSNormalization(),
        "layer_norm": lambda: layers.LayerNormalization(),
        "layer_norm_bare": lambda: layers.LayerNormalization(scale=False, epsilon=0.1),
        "max": lambda: layers.GlobalMaxPooling1D(),
        "mean": lambda: layers.GlobalAveragePooling1D(),
        "dense_layer": lambda: layers.Dense(3, use_bias=False, activation=layers.LeakyReLU(0.1)),
    }
    for name, build in every.items():
        CASES[f"layer-{name}"] = lambda b=build: chain(
            layers.SimpleRNN(3, return_sequences=True), b()
        )


def add_convolutions() -> None:
    every = [("causal", 2, 1), ("same", 1, 1), ("same", 3, 1), ("valid", 1, 2), ("causal", 1, 2)]
    for padding, dilation, stride in [*every, ("valid", 2, 1)]:
        options = {"padding": padding, "dilation_rate": dilation, "strides": stride, "groups": 2}
        CASES[f"conv-{padding}-{dilation}-{stride}"] = lambda o=options: chain(
            layers.Conv1D(6, 2, **o), layers.LSTM(3), size=4
        )


def stacked() -> Any:
    return layers.StackedRNNCells(
        [layers.LSTMCell(3), layers.GRUCell(2), layers.SimpleRNNCell(4)]
    )  # fmt: skip


@case
def stacked_cells() -> Any:
    return chain(layers.RNN(stacked(), return_sequences=True), layers.RNN(stacked()))


@case
def stacked_cells_backwards() -> Any:
    cells = layers.RNN(stacked(), go_backwards=True, return_sequences=True)
    return chain(cells, layers.RNN(layers.LSTMCell(3)))


@case
def stacked_cells_both_ways() -> Any:
    return chain(layers.Bidirectional(layers.RNN(stacked()), merge_mode="ave"))


@case
def two_kinds_both_ways() -> Any:
    backward = layers.GRU(3, return_sequences=True, go_backwards=True)
    forward = layers.LSTM(3, return_sequences=True)
    return chain(layers.Bidirectional(forward, backward_layer=backward))


@case
def fixed_length_and_stateful() -> Any:
    first = layers.LSTM(4, stateful=True, unroll=True, return_sequences=True)
    second = [layers.TimeDistributed(layers.Dense(2)), layers.GRU(3, stateful=True)]
    return keras.Sequential([keras.Input((10, 3), batch_size=2), first, *second])


@case
def masked_tokens() -> Any:
    both = layers.Bidirectional(layers.LSTM(3, return_sequences=True))
    tags = layers.TimeDistributed(layers.Dense(2, activation="softmax"))
    return keras.Sequential(
        [keras.Input((None,)), layers.Embedding(9, 3, mask_zero=True), both, tags]
    )


@case
def masked_numbers_in_a_graph() -> Any:
    given = keras.Input((None, 3))
    x = layers.Masking()(given)
    a = layers.LSTM(3, return_sequences=True)(x)
    b = layers.Bidirectional(layers.GRU(3, return_sequences=True), merge_mode="sum")(x)
    x = layers.Concatenate()([layers.TimeDistributed(layers.Dense(2))(a), layers.Add()([a, b])])
    x = layers.Attention()([x, x])
    inner = chain(layers.LSTM(3, return_sequences=True), size=5)
    return keras.Model(given, layers.GlobalAveragePooling1D()(inner(x)))


@case
def encoder_and_decoder() -> Any:
    decoder = [layers.LSTM(3, return_sequences=True), layers.TimeDistributed(layers.Dense(2))]
    return chain(layers.LSTM(4), layers.RepeatVector(5), *decoder)


@case
def two_inputs_and_a_shared_layer() -> Any:
    a, b = keras.Input((None, 3)), keras.Input((None, 2))
    shared = layers.LSTM(4, return_sequences=True)
    x, y = shared(layers.Dense(4)(a)), shared(layers.Dense(4)(b))
    joined = [join()([x, y]) for join in (layers.Add, layers.Multiply, layers.Average,
                                          layers.Subtract)]  # fmt: skip
    return keras.Model([a, b], layers.Dense(2)(layers.Concatenate()([*joined, x + y, x])))


@case
def two_outputs() -> Any:
    given = keras.Input((None, 3))
    x = layers.GRU(4, return_sequences=True)(given)
    return keras.Model(given, [layers.Dense(2)(x), x])


@case
def models_in_models() -> Any:
    inner = chain(
        layers.BatchNormalization(),
        layers.Dense(3, trainable=False),
        layers.BatchNormalization(trainable=False),
    )
    a, b = keras.Input((None, 3)), keras.Input((None, 2))
    middle = keras.Model(a, layers.SimpleRNN(3, return_sequences=True)(inner(a)))
    x = layers.Concatenate()([middle(a), b])
    each = keras.Sequential(
        [keras.Input((5,)), layers.Dense(3, activation="relu"), layers.Dense(2)]
    )
    return keras.Model([a, b], layers.GRU(2)(layers.TimeDistributed(each)(x)))


@case
def one_output_of_a_model_with_two() -> Any:
    a, b = keras.Input((None, 3)), keras.Input((None, 3))
    x = layers.Dense(2)(a)
    inner = keras.Model(a, [x, layers.Dense(2)(layers.Activation("tanh")(x))])
    return keras.Model(b, inner(b)[0])


@case
def a_model_first() -> Any:
    inner = keras.Sequential([keras.Input((None,)), layers.Embedding(9, 3)])
    return keras.Sequential([inner, layers.LSTM(2)])


@case
def a_state_that_nobody_reads() -> Any:
    given = keras.Input((None, 3))
    return keras.Model(given, layers.LSTM(4, return_state=True)(given)[0])


@case
def dropout_within() -> Any:
    options = {"dropout": 0.2, "recurrent_dropout": 0.2, "seed": 1}
    both = layers.Bidirectional(layers.GRU(3, return_sequences=True, **options))
    return chain(layers.LSTM(3, return_sequences=True, **options), layers.Dropout(0.2), both)


@case
def built_by_a_call() -> Any:
    model = keras.Sequential([layers.LSTM(3, return_sequences=True), layers.Dense(2)])
    model.build((None, None, 3))
    return model


@case
def vectors_repeated() -> Any:
    given = keras.Input((5,))
    x = layers.RepeatVector(4)(layers.Dense(2)(given))
    return keras.Model(given, layers.LSTM(3, return_sequences=True)(x))


@case
def vectors() -> Any:
    return keras.Sequential([keras.Input((5,)), layers.Dense(2, activation="tanh")])


def attention(kind: str, **options: Any) -> Build:
    def build() -> Any:
        given = keras.Input((None, 3))
        queries = layers.Dense(4)(given)
        values = layers.LSTM(4, return_sequences=True)(given)
        return keras.Model(given, getattr(layers, kind)(**options)([queries, values]))

    return build


add_cells()
add_functions()
add_layers()
add_convolutions()
CASES |= {
    "attention-dot": attention("Attention"),
    "attention-concat": attention("Attention", score_mode="concat", use_scale=True),
    "attention-concat_bare": attention("Attention", score_mode="concat"),
    "attention-additive": attention("AdditiveAttention"),
    "attention-additive_bare": attention("AdditiveAttention", use_scale=False),
}


@pytest.mark.long
@pytest.mark.parametrize("name", CASES)
def test_keras_3_is_the_reference_and_the_engine(name, tmp_path):
    model = randomized(CASES[name]())
    path = tmp_path / "model.keras"
    model.save(path)
    weights = from_keras.convert(path)
    assert f"probes from keras {keras.__version__}" in weights.origin
    (probe,) = weights.probes
    check(weights, probe.xs, probe.ys)
    model.save(tmp_path / "model.h5")
    model.save_weights(tmp_path / "model.weights.h5")
    for other in (
        files.read(tmp_path / "model.h5"),
        files.read(tmp_path / "model.weights.h5", model.to_json()),
        files.read(model),
    ):
        found = graph.translate(other)
        assert found.network == weights.network
        assert found.tensors.keys() == weights.tensors.keys()
        for tensor, array in found.tensors.items():
            np.testing.assert_array_equal(array, weights.tensors[tensor])


@pytest.mark.long
def test_masked_steps_are_skipped(tmp_path):
    model = randomized(
        keras.Sequential(
            [
                keras.Input((None, 2)),
                layers.Masking(-1.0),
                layers.LSTM(3, return_sequences=True),
                layers.Bidirectional(layers.GRU(3)),
            ]
        )
    )
    xs = np.random.default_rng(0).standard_normal((7, 2), np.float32)
    xs[[0, 3, 4, 6]] = -1.0
    check(from_keras.convert(model), xs, model.predict_on_batch(xs[None]))


def test_half_and_double_precision_become_float32(tmp_path):
    for dtype in ("float16", "float64"):
        with h5py.File(tmp_path / f"{dtype}.h5", "w") as file:
            file.attrs["layer_names"] = [b"a/b"]
            group = file.create_group("a/b")
            group.attrs["weight_names"] = [b"a/b/kernel:0", b"a/b/bias:0"]
            group["a/b/kernel:0"] = np.ones((3, 2), dtype)
            group["a/b/bias:0"] = np.ones(2, dtype)
        network = Network((spec.Linear(3, 2, name="a/b"),))
        weights = from_keras.convert(tmp_path / f"{dtype}.h5", network=network)
        assert weights.tensors["layers.0.weight"].dtype == np.float32
        assert (weights.tensors["layers.0.bias"] == 1).all()


@pytest.mark.long
def test_the_public_name(tmp_path):
    model = randomized(chain(layers.GRU(3), layers.Dense(2)))
    model.save(tmp_path / "model.keras")
    converted = numlstm.from_keras(tmp_path / "model.keras", labels=("no", "yes"))
    xs = np.random.default_rng(0).standard_normal((5, 3), np.float32)
    ANSWERS.check(converted.run(xs)[-1:], model.predict_on_batch(xs[None]))
    assert converted.labels == ("no", "yes")


# Keras 1 and 2: files of `make_keras2.py` ---------------------------------------------------------


@pytest.fixture
def answer(request: pytest.FixtureRequest) -> Callable[[str], tuple[np.ndarray, np.ndarray]]:
    def read_answer(name: str) -> tuple[np.ndarray, np.ndarray]:
        with np.load(DATA / "keras2.npz") as file:
            return file[f"{name}.xs"], file[f"{name}.ys"]

    return read_answer


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("keras2_functional.h5", "functional"),
        ("keras2_functional.keras", "functional"),
        ("keras2_masked.h5", "masked"),
        ("keras2_stateful.h5", "stateful"),
        ("keras2_cudnn.h5", "cudnn"),
        ("keras1.h5", "keras1"),
    ],
)
def test_files_of_keras_1_and_2(answer, file, name):
    xs, expected = answer(name)
    weights = from_keras.convert(DATA / file)
    found, _ = reference.run(weights.network, weights.tensors, xs)
    rows = expected if expected.ndim == 2 else expected[0]
    ANSWERS.check(found[-len(rows) :], rows, "reference")
    ANSWERS.check(numlstm.Model(weights).run(xs)[-len(rows) :], rows, "engine")
    assert weights.origin.startswith("Keras 1." if "keras1" in file else "Keras 2.")


@pytest.mark.parametrize("config", [Path, str, json.loads])
def test_weights_with_a_config_apart(answer, config):
    xs, expected = answer("time_major")
    path = DATA / "keras2_time_major.json"
    given = path if config is Path else config(path.read_text())
    check(from_keras.convert(DATA / "keras2_time_major_weights.h5", config=given), xs, expected[0])


def test_weights_with_a_network(answer):
    xs, expected = answer("cudnn")
    network = Network((spec.LSTM(3, 4, name="lstm"), spec.GRU(4, 5, name="gru")))
    weights = from_keras.convert(DATA / "keras2_cudnn.h5", network=network)
    assert weights.network == network
    ANSWERS.check(reference.run(network, weights.tensors, xs)[0][-1:], expected)


@pytest.mark.long
def test_weights_of_keras_3_with_a_network(tmp_path):
    model = randomized(chain(layers.Bidirectional(layers.GRU(4, return_sequences=True))))
    model.save_weights(tmp_path / "model.weights.h5")
    network = Network((spec.GRU(3, 4, direction="bidirectional", name="bidirectional"),))
    found = from_keras.convert(tmp_path / "model.weights.h5", network=network).tensors
    expected = graph.translate(files.read(model)).tensors
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)


def test_hard_sigmoid_is_that_of_the_version():
    config = {
        "class_name": "Sequential",
        "config": [
            {
                "class_name": "Dense",
                "config": {
                    "name": "dense",
                    "units": 1,
                    "activation": "hard_sigmoid",
                    "batch_input_shape": [None, None, 1],
                },
            }
        ],
    }
    arrays = {"dense/kernel": np.ones((1, 1)), "dense/bias": np.zeros(1)}
    for version, expected in (("1.2.2", 0.7), ("2.2.4-tf", 0.7), ("3.0.1", 4 / 6)):
        weights = from_keras.convert(arrays, config=config | {"keras_version": version})
        ys, _ = reference.run(weights.network, weights.tensors, [[1.0]])
        assert ys[0, 0] == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("backend", ["tensorflow", "theano"])
def test_kernels_of_theano_are_turned_round(backend):
    conv = {"name": "conv", "nb_filter": 2, "filter_length": 3, "border_mode": "valid"}
    conv |= {"activation": "linear", "bias": False, "batch_input_shape": [None, None, 1]}
    config = {
        "class_name": "Sequential",
        "config": [{"class_name": "Convolution1D", "config": conv}],
        "keras_version": "1.1.0",
        "backend": backend,
    }
    kernel = np.arange(6.0).reshape(3, 1, 1, 2)
    weights = from_keras.convert({"conv/kernel": kernel}, config=config)
    expected = kernel[:, 0, 0].T[:, None]
    expected = expected[..., ::-1] if backend == "theano" else expected
    np.testing.assert_array_equal(weights.tensors["layers.0.weight"], expected)


def test_a_chain_is_described_without_names():
    weights = from_keras.convert(DATA / "keras2_masked.h5")
    assert [str(layer) for layer in weights.network.layers] == [
        "Embedding(vocab_size=9, embedding_size=4, mask_zero=True)",
        "GRU(input_size=4, hidden_size=3, bias=True, direction='bidirectional', reset_after=False)",
        "LSTM(input_size=6, hidden_size=3, bias=True, outputs='last', "
        "recurrent_activation='hard_sigmoid')",
        "Linear(input_size=3, output_size=2, bias=True, activation=None)",
    ]


def test_labels_and_a_tokenizer_are_kept():
    model = numlstm.from_keras(DATA / "keras1.h5", labels=("no", "yes"))
    assert model.labels == ("no", "yes")
    with pytest.raises(WeightsError, match="tokenizer"):
        numlstm.from_keras(DATA / "keras1.h5", tokenizer="{}")


@pytest.mark.long
def test_a_model_that_does_nothing_is_a_network():
    assert graph.translate(files.read(chain(layers.Dropout(0.2)))).network == Network(
        (spec.Concat(3),)
    )


@pytest.mark.long
@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (3, "the config cannot be read .*'int' object is not iterable"),
        ([], "no call 0 of a layer"),
        ({"args": 3}, "GRU.*: reads 0 inputs, expected one"),
        ([[1, 2]], "the config cannot be read .*'int' object is not subscriptable"),
        ([["dense", 0]], "GRU.*: reads 0 inputs, expected one"),
    ],
)
def test_a_config_that_makes_no_sense_is_refused(broken, message):
    source = files.read(two_outputs())
    source.config["config"]["layers"][1]["inbound_nodes"] = broken
    with pytest.raises(WeightsError, match=message):
        graph.translate(source)


# Damaged files, and code --------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize("ending", ["keras", "h5"])
@pytest.mark.parametrize("is_chain", [True, False])
def test_a_file_of_a_model_that_was_trained_is_held_to_keras(tmp_path, is_chain, ending):
    rows = keras.Input((None, 3))
    model = keras.Sequential([rows, layers.GRU(4), layers.Dense(2)])
    if not is_chain:
        states = layers.LSTM(4, return_sequences=True)(rows)
        both = layers.Concatenate()([states, rows])
        model = keras.Model(rows, layers.GlobalMaxPooling1D()(both))
    rate = keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.9)
    model.compile(keras.optimizers.Adam(rate), loss="mse", metrics=["mae"])
    model.save(tmp_path / f"net.{ending}")
    weights = from_keras.convert(tmp_path / f"net.{ending}")
    assert f"probes from keras {keras.__version__}" in weights.origin
    xs = np.random.default_rng(0).standard_normal((9, 3)).astype(np.float32)
    found = numlstm.Model(weights).run(xs)[-1:]
    ANSWERS.check(found, model.predict_on_batch(xs[None]), "engine")


def test_a_lambda_in_a_file_is_never_run(tmp_path):
    path = tmp_path / "model.keras"
    chain(layers.Lambda(lambda x: x, name="code"), layers.GRU(2)).save(path)
    with pytest.raises(WeightsError, match=r'layer 1 "code": Lambda'):
        from_keras.convert(path)


def test_a_truncated_file_is_refused(tmp_path):
    for name in ("keras2_functional.h5", "keras2_functional.keras", "keras1.h5"):
        data = (DATA / name).read_bytes()
        for end in (0, 3, 4, 100, len(data) // 2, len(data) - 30):
            path = tmp_path / name
            path.write_bytes(data[:end])
            with pytest.raises(WeightsError, match=re.escape(str(path))):
                from_keras.convert(path)


def test_what_is_no_file_of_keras_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError):
        from_keras.convert(tmp_path / "missing.h5")
    with pytest.raises(WeightsError, match="is a folder"):
        from_keras.convert(tmp_path)
    with pytest.raises(WeightsError, match="neither a path, a Keras model nor a mapping"):
        from_keras.convert(3)
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = np.ones(3)
    with pytest.raises(WeightsError, match="it lists no layers"):
        from_keras.convert(tmp_path / "other.h5")
    with zipfile.ZipFile(tmp_path / "other.keras", "w") as archive:
        archive.writestr("config.json", "{}")
    with pytest.raises(WeightsError, match=r"holds no model\.weights\.h5"):
        from_keras.convert(tmp_path / "other.keras")


def test_weights_that_are_missing_or_of_other_shapes_are_listed():
    config = json.loads((DATA / "keras2_time_major.json").read_text())
    arrays = {
        "lstm_2/kernel": np.ones((3, 16)),
        "lstm_2/recurrent_kernel": np.ones((4, 12)),
        "lstm_2/bias": np.ones(16),
        "dense/kernel": np.ones((4, 2)),
    }
    names = [layer["config"]["name"] for layer in config["config"]["layers"]]
    arrays = {
        name.replace("lstm_2", names[1]).replace("dense", names[2]): array
        for name, array in arrays.items()
    }
    with pytest.raises(WeightsError) as caught:
        from_keras.convert(arrays, config=config)
    assert "recurrent_kernel expected (4, 16), found (4, 12)" in str(caught.value)
    assert "expected 2 weights, found kernel (4, 2)" in str(caught.value)


def test_a_file_that_claims_more_than_it_holds_is_refused(tmp_path):
    with h5py.File(tmp_path / "huge.h5", "w") as file:
        file.attrs["layer_names"] = [b"a"]
        group = file.create_group("a")
        group.attrs["weight_names"] = [b"kernel:0"]
        group.create_dataset("kernel:0", (2**20, 2**20), np.float32, chunks=(2**10, 2**10))
    with pytest.raises(WeightsError, match="never written"):
        from_keras.convert(tmp_path / "huge.h5", network=Network((spec.Linear(3, 2, name="a"),)))


def test_links_out_of_a_file_are_not_followed(tmp_path):
    with h5py.File(tmp_path / "linked.h5", "w") as file:
        file.attrs["layer_names"] = [b"a"]
        group = file.create_group("a")
        group.attrs["weight_names"] = [b"kernel:0"]
        group["kernel:0"] = h5py.ExternalLink(str(DATA / "keras1.h5"), "/model_weights")
    with pytest.raises(WeightsError, match="a/kernel:0 is a link, expected all in the file itself"):
        from_keras.convert(tmp_path / "linked.h5", network=Network((spec.Linear(3, 2, name="a"),)))


def test_a_network_must_name_the_groups():
    network = Network((spec.LSTM(3, 4, name="lstm_9"), spec.GRU(4, 5, name="gru")))
    with pytest.raises(
        WeightsError, match=r"'lstm_9': no weights of that name; there are lstm, gru"
    ):
        from_keras.convert(DATA / "keras2_cudnn.h5", network=network)
    with pytest.raises(WeightsError, match="give one of them"):
        from_keras.convert(DATA / "keras2_cudnn.h5", network=network, config={})
