"""Small layers that transcranial/keras-js wrote with Keras 2.0: every flag of every cell."""

import json
from pathlib import Path

import numpy as np
import pytest

from numlstm.spec import Linear, Network, Weights
from tests.cases import Tolerance
from tests.lazy import from_keras
from tests.real.conftest import REAL, Runner

FOLDER = "kerasjs_layer_fixtures"
OUTPUTS = Tolerance(5e-6, 0.0, "weights, inputs and outputs rounded to 6 decimals")

_CASES = REAL / FOLDER / "cases.json"
NAMES = [
    *(json.loads(_CASES.read_text()) if _CASES.exists() else ()),
    "wrappers.TimeDistributed.0",
    "wrappers.TimeDistributed.1",
]


def array_of(data: dict) -> np.ndarray:
    return np.array(data["data"], np.float32).reshape(data["shape"])


def weights_of(name: str, options: dict, arrays: list[np.ndarray], steps: int) -> Weights:
    """Return the layer of a case, with its arrays in the order of Keras."""
    kind = name.split(".")[1]
    config = {"name": "layer", **options}
    if kind == "TimeDistributed":
        dense = {"name": "dense", "units": len(arrays[1]), "activation": "linear"}
        config["layer"] = {"class_name": "Dense", "config": dense}
    elif kind != "Bidirectional":
        config.setdefault("use_bias", len(arrays) != 2)
    layers = [{"class_name": kind, "config": config}]
    shape = [None, steps, len(arrays[0])]
    config["batch_input_shape"] = shape
    model = {"class_name": "Sequential", "config": layers, "keras_version": "2.0.5"}
    parts = ["kernel", "recurrent_kernel", "bias"]
    each = len(arrays) // 2 if kind == "Bidirectional" else len(arrays)
    parts = ["kernel", "bias"] if kind == "TimeDistributed" else parts[:each]
    words = ("forward/", "backward/") if kind == "Bidirectional" else ("",)
    names = [f"layer/{word}{part}" for word in words for part in parts]
    return from_keras.convert(dict(zip(names, arrays, strict=True)), config=model)


def unrolled_conv2d(kernel: np.ndarray, bias: np.ndarray, height: int, width: int) -> Weights:
    """Return a Conv2D without padding, of one small image, as one matrix."""
    rows, columns, channels, filters = kernel.shape
    high, wide = height - rows + 1, width - columns + 1
    matrix = np.zeros((high, wide, filters, height, width, channels), np.float32)
    for y in range(high):
        for x in range(wide):
            matrix[y, x, :, y : y + rows, x : x + columns] = kernel.transpose(3, 0, 1, 2)
    matrix = matrix.reshape(high * wide * filters, -1)
    network = Network((Linear(matrix.shape[1], matrix.shape[0]),))
    tensors = {"layers.0.weight": matrix, "layers.0.bias": np.tile(bias, high * wide)}
    return Weights(network, tensors)


@pytest.mark.parametrize("name", NAMES)
def test_the_outputs_are_those_of_keras_2(runner: Runner, real: Path, name):
    kind = name.split(".")[1]
    case = json.loads((real / f"{kind}.json").read_text())[name]
    options = json.loads((real / "cases.json").read_text()).get(name, {})
    xs, expected = array_of(case["input"]), array_of(case["expected"])
    arrays = [array_of(weight) for weight in case["weights"]]
    if arrays[0].ndim == 4:
        weights = unrolled_conv2d(*arrays, *xs.shape[1:3])
        xs, expected = xs.reshape(len(xs), -1), expected.reshape(len(expected), -1)
    else:
        weights = weights_of(name, options, arrays, len(xs))
    if options.get("stateful"):
        xs = np.concatenate([xs, xs])  # the second call goes on from the first
    if options.get("go_backwards") and options.get("stateful"):
        xs, weights = xs[::-1].copy(), forwards(name, options, arrays, len(xs))
    ys, _ = runner.run(weights, xs)
    ys = ys[-1] if expected.ndim == 1 else ys[-len(expected) :]
    runner.hold("keras-js layers", kind, ys, expected, OUTPUTS)


def forwards(name: str, options: dict, arrays: list[np.ndarray], steps: int) -> Weights:
    """Return a layer with go_backwards for a sequence that the caller has turned round.

    Keras turns each call round on its own, so a state goes from the first step of one call to the
    last step of the next, as no layer of a network does.
    """
    return weights_of(name, options | {"go_backwards": False}, arrays, steps)


def test_every_case_is_there(real: Path):
    assert len(NAMES) == 26
