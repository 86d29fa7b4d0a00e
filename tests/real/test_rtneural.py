"""Layers of jatinchowdhury18/RTNeural: its JSON of Keras models, and of PyTorch state dicts."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import numlstm
from numlstm import reference
from numlstm.convert.assembly import named_tensors
from numlstm.convert.gates import from_torch
from numlstm.spec import GRU, LSTM, Linear, Network, Weights, WeightsError
from tests.cases import Tolerance
from tests.lazy import from_keras
from tests.real.conftest import Runner, assert_streams

SAMPLES = Tolerance(5e-6, 0.0, "one output per sample")

KINDS = {"time-distributed-dense": "Dense", "dense": "Dense", "lstm": "LSTM", "gru": "GRU"}
PARTS = {"Dense": ("kernel", "bias"), "recurrent": ("kernel", "recurrent_kernel", "bias")}


def read_keras(path: Path) -> Weights:
    """Convert a JSON that RTNeural's Python script wrote of a Keras model."""
    document = json.loads(path.read_text())
    layers, arrays = [], {}
    for n, layer in enumerate(document["layers"]):
        kind, name = KINDS[layer["type"]], f"layer_{n}"
        config: dict[str, Any] = {"name": name, "units": layer["shape"][-1]}
        config["activation"] = layer["activation"] or "linear"
        if kind != "Dense":
            config |= {"return_sequences": True, "recurrent_activation": "sigmoid"}
            config["activation"] = layer["activation"] or "tanh"
        if n == 0:
            config["batch_input_shape"] = document["in_shape"]
        layers.append({"class_name": kind, "config": config})
        parts = PARTS["Dense" if kind == "Dense" else "recurrent"]
        for part, array in zip(parts, layer["weights"], strict=True):
            arrays[f"{name}/{part}"] = np.array(array, np.float32)
    model = {"class_name": "Sequential", "config": layers, "keras_version": "2.2.4"}
    return from_keras.convert(arrays, config=model)


def read_torch(path: Path, cell: Any) -> Weights:
    """Return the network of a state dict: one layer, three layers upon it, a Linear."""
    arrays = {k: np.array(v, np.float32) for k, v in json.loads(path.read_text()).items()}
    word = cell.__name__.lower()

    def own(prefix: str) -> dict[str, np.ndarray]:
        names = (name for name in arrays if name.startswith(f"{prefix}."))
        return {name.removeprefix(f"{prefix}."): arrays[name] for name in names}

    contents = [from_torch(own(word)), *(from_torch(own(f"{word}2"), n) for n in range(3))]
    network = Network((cell(1, 8), cell(8, 8), cell(8, 8), cell(8, 8), Linear(8, 1)))
    return Weights(network, named_tensors(network, (*contents, own("dense"))))


def column(path: Path) -> np.ndarray:
    return np.loadtxt(path, dtype=np.float32)[:, None]


@pytest.mark.parametrize("name", ["lstm", "gru", "gru_1d"])
def test_the_outputs_are_those_of_keras(runner: Runner, real, name):
    weights = read_keras(real / f"{name}.json")
    ys, _ = runner.run(weights, column(real / f"{name}_x_python.csv"))
    runner.hold("RTNeural", f"{name}.json", ys, column(real / f"{name}_y_python.csv"), SAMPLES)


def test_the_outputs_are_those_of_torch(runner: Runner, real):
    weights = read_torch(real / "lstm_torch.json", LSTM)
    ys, _ = runner.run(weights, column(real / "lstm_torch_x_python.csv"))
    expected = column(real / "lstm_torch_y_python.csv")
    runner.hold("RTNeural", "lstm_torch.json", ys, expected, SAMPLES)


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("lstm_1d", read_keras),
        ("gru_torch", lambda path: read_torch(path, GRU)),
    ],
)
def test_networks_without_outputs_are_those_of_the_reference(real, record, name, read):
    weights, xs = read(real / f"{name}.json"), column(real / "lstm_x_python.csv")
    found = numlstm.Model(weights).run(xs)
    expected, _ = reference.run(weights.network, weights.tensors, xs)
    SAMPLES.check(found, expected)
    off = np.abs(found - expected).max()
    record("RTNeural", f"{name}.json, of reference.py", off, SAMPLES)


@pytest.mark.parametrize("name", ["lstm", "gru", "gru_1d", "lstm_1d"])
def test_a_stream_has_the_bits_of_a_run(real, name):
    assert_streams(read_keras(real / f"{name}.json"), column(real / "lstm_x_python.csv"))


def test_a_malformed_file_is_a_clean_error(real):
    with pytest.raises(WeightsError, match="layer_0") as caught:
        read_keras(real / "bad_lstm.json")
    assert "expected" in str(caught.value)
