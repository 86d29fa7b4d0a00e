"""Make the files of this folder with Keras 2: ``python tests/data/make_keras2.py``, with tf_keras.

Every file holds a small model; ``keras2.npz`` holds an input of each, and what Keras answers.
"""

import json
import os
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import h5py
import numpy as np
import tf_keras as keras
from tf_keras.src.saving.legacy import hdf5_format

FOLDER = Path(__file__).parent
STEPS = 6

layers = keras.layers
generator = np.random.default_rng(0)
answers: dict[str, np.ndarray] = {}


def randomize(model):
    """Give every weight a random value, of variances a positive one."""
    for weight in model.weights:
        value = generator.normal(0, 0.5, weight.shape)
        weight.assign(np.abs(value) + 0.5 if "variance" in weight.name else value)
    return model


def numbers(*shape: int) -> np.ndarray:
    return generator.standard_normal(shape).astype(np.float32)


def keep(name: str, model, xs: np.ndarray, batch: np.ndarray | None = None) -> None:
    """Note what a model answers to one sequence."""
    answers[f"{name}.xs"] = xs
    answers[f"{name}.ys"] = np.asarray(model(xs[None] if batch is None else batch))


def functional() -> None:
    tokens = keras.Input((None,), name="tokens")
    x = layers.Embedding(9, 4)(tokens)
    both = layers.Bidirectional(layers.LSTM(3, return_sequences=True), merge_mode="mul")(x)
    cells = layers.StackedRNNCells([layers.LSTMCell(3), layers.GRUCell(2)])
    x = layers.RNN(cells, return_sequences=True)(both)
    dense = layers.Dense(2, activation="relu")
    x = layers.Add()([dense(x), dense(dense(x))])
    inner = keras.Sequential(
        [
            keras.Input((None, 5)),
            layers.BatchNormalization(),
            layers.Dense(3, trainable=False),
            layers.BatchNormalization(scale=False),
            layers.Dense(4),
        ]
    )
    x = inner(layers.Concatenate()([x, both]))
    x = layers.Conv1D(4, 3, padding="causal", dilation_rate=2)(x)
    x = layers.TimeDistributed(layers.Dense(3, activation="hard_sigmoid"))(x)
    x = layers.GlobalAveragePooling1D()(layers.LayerNormalization()(x))
    model = randomize(keras.Model(tokens, layers.Dense(3, activation="softmax")(x)))
    model.save(FOLDER / "keras2_functional.h5")
    model.save(FOLDER / "keras2_functional.keras")
    keep("functional", model, generator.integers(0, 9, STEPS).astype(np.int32))


def masked() -> None:
    model = keras.Sequential(
        [
            layers.Embedding(9, 4, mask_zero=True, input_length=STEPS),
            layers.Bidirectional(layers.GRU(3, reset_after=False, return_sequences=True)),
            layers.LSTM(3, recurrent_activation="hard_sigmoid"),
            layers.Dense(2),
        ]
    )
    model.build((None, STEPS))
    randomize(model).save(FOLDER / "keras2_masked.h5")
    keep("masked", model, np.array([3, 0, 5, 8, 0, 0], np.int32))


def stateful() -> None:
    model = keras.Sequential(
        [
            keras.Input((STEPS, 3), batch_size=1),
            layers.SimpleRNN(4, stateful=True, unroll=True, return_sequences=True),
            layers.GRU(3, stateful=True, go_backwards=True, return_sequences=True),
        ]
    )
    randomize(model).save(FOLDER / "keras2_stateful.h5")
    keep("stateful", model, numbers(STEPS, 3))


def time_major() -> None:
    model = keras.Sequential(
        [
            keras.Input((1, 3), batch_size=STEPS),
            layers.LSTM(4, time_major=True, return_sequences=True),
            layers.Dense(2),
        ]
    )
    model = randomize(model)
    xs = numbers(STEPS, 3)
    model.save_weights(FOLDER / "keras2_time_major_weights.h5")
    (FOLDER / "keras2_time_major.json").write_text(model.to_json())
    answers["time_major.xs"] = xs
    answers["time_major.ys"] = np.asarray(model(xs[:, None]))[:, 0][None]


def cudnn() -> None:
    """Write what CuDNNLSTM and CuDNNGRU have, without a GPU, from layers that compute the same."""
    model = keras.Sequential(
        [
            keras.Input((None, 3), name="input"),
            layers.LSTM(4, return_sequences=True, name="lstm"),
            layers.GRU(5, reset_after=True, name="gru"),
        ]
    )
    randomize(model)
    keep("cudnn", model, numbers(STEPS, 3))
    config = json.loads(model.to_json())
    with h5py.File(FOLDER / "keras2_cudnn.h5", "w") as file:
        group = file.create_group("model_weights")
        group.attrs["layer_names"] = [b"lstm", b"gru"]
        for layer in model.layers:
            target = f"CuDNN{layer.name.upper()}"
            arrays = hdf5_format._convert_rnn_weights(type(target, (), {})(), layer.get_weights())
            names = [f"{layer.name}/{part}:0" for part in ("kernel", "recurrent_kernel", "bias")]
            own = group.create_group(layer.name)
            own.attrs["weight_names"] = [name.encode() for name in names]
            for name, array in zip(names, arrays, strict=True):
                own[name] = array
        for described in config["config"]["layers"][1:]:
            kind, options = described["class_name"], described["config"]
            kept = (
                "name",
                "trainable",
                "units",
                "return_sequences",
                "return_state",
                "go_backwards",
            )
            described["class_name"] = f"CuDNN{kind}"
            described["config"] = {name: options[name] for name in kept}
        file.attrs["keras_version"] = b"2.1.5"
        file.attrs["backend"] = b"tensorflow"
        file.attrs["model_config"] = json.dumps(config).encode()


def keras_1() -> None:
    """Write what Keras 1 wrote of layers whose equations are those of Keras 2."""
    lstm = layers.LSTM(4, recurrent_activation="hard_sigmoid", return_sequences=True, name="lstm_1")
    gru = layers.GRU(3, recurrent_activation="hard_sigmoid", reset_after=False, name="gru_1")
    dense = layers.Dense(2, activation="softmax", name="dense_1")
    model = randomize(keras.Sequential([keras.Input((None, 3)), lstm, gru, dense]))
    keep("keras1", model, numbers(STEPS, 3))
    options = {"activation": "tanh", "inner_activation": "hard_sigmoid", "go_backwards": False,
               "init": "glorot_uniform", "inner_init": "orthogonal", "consume_less": "cpu",
               "dropout_W": 0.0, "dropout_U": 0.0, "W_regularizer": None, "U_regularizer": None,
               "b_regularizer": None, "stateful": False, "trainable": True}  # fmt: skip
    config = [
        {
            "class_name": "LSTM",
            "config": options
            | {"name": "lstm_1", "output_dim": 4, "return_sequences": True, "input_dim": 3}
            | {"batch_input_shape": [None, None, 3], "forget_bias_init": "one"},
        },
        {
            "class_name": "GRU",
            "config": options
            | {"name": "gru_1", "output_dim": 3, "return_sequences": False, "input_dim": 4},
        },
        {
            "class_name": "Dense",
            "config": {"name": "dense_1", "output_dim": 2, "activation": "softmax", "bias": True}
            | {"init": "glorot_uniform", "input_dim": 3, "W_constraint": None, "trainable": True},
        },
    ]
    with h5py.File(FOLDER / "keras1.h5", "w") as file:
        file.attrs["keras_version"] = b"1.2.2"
        file.attrs["model_config"] = json.dumps({"class_name": "Sequential", "config": config})
        group = file.create_group("model_weights")
        group.attrs["layer_names"] = [b"lstm_1", b"gru_1", b"dense_1"]
        for layer, gates, order in ((lstm, "ifco", "icfo"), (gru, "zrh", "zrh"), (dense, "", "")):
            arrays = layer.get_weights()
            named = {f"{layer.name}_{part}": a for part, a in zip("Wb", arrays, strict=False)}
            if gates:
                blocks = [
                    dict(zip(gates, np.split(a, len(gates), -1), strict=True)) for a in arrays
                ]
                named = {
                    f"{layer.name}_{part}_{gate}": block[gate]
                    for gate in order
                    for part, block in zip("WUb", blocks, strict=True)
                }
            own = group.create_group(layer.name)
            own.attrs["weight_names"] = [name.encode() for name in named]
            for name, array in named.items():
                own[name] = array


for make in (functional, masked, stateful, time_major, cudnn, keras_1):
    make()
np.savez(FOLDER / "keras2.npz", **answers)
