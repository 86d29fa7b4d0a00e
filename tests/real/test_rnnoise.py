"""Noise suppression of xiph/rnnoise: three GRUs that read each other, 100 frames a second."""

from pathlib import Path

import numpy as np
import pytest

from numlstm.convert.assembly import named_tensors
from numlstm.convert.gates import from_keras
from numlstm.spec import GRU, Concat, Linear, Network, Weights
from tests.cases import Tolerance
from tests.real.conftest import Runner, assert_streams

TABLE = "the tanh of the C code is a table, off by 1e-6 each time, fed back for 300 frames"
GAINS = Tolerance(2e-5, 0.0, TABLE)
STATES = Tolerance(1e-4, 0.0, f"{TABLE}; the states reach 13")

PARTS = {"gains": 22, "vad": 1, "vad_state": 24, "noise_state": 48, "denoise_state": 96}


def _gru(input_size: int, hidden_size: int, name: str, *inputs: str) -> GRU:
    return GRU(
        input_size, hidden_size, reset_after=False, activation="relu", name=name, inputs=inputs
    )


def read(path: Path) -> Weights:
    """Return the network, with all that the C code has logged as its output."""
    with np.load(path) as file:
        arrays = {name: file[name].astype(np.float32) / 256 for name in file}

    def dense(name: str) -> dict[str, np.ndarray]:
        return {"weight": arrays[f"{name}__kernel"].T, "bias": arrays[f"{name}__bias"]}

    def gru(name: str) -> dict[str, np.ndarray]:
        parts = ("kernel", "recurrent_kernel", "bias")
        return from_keras(*(arrays[f"{name}__{part}"] for part in parts))

    layers = (
        (Linear(42, 24, activation="tanh", name="dense"), dense("input_dense")),
        (_gru(24, 24, "vad_state"), gru("vad_gru")),
        (_gru(90, 48, "noise_state", "dense", "vad_state", "input"), gru("noise_gru")),
        (_gru(114, 96, "denoise_state", "vad_state", "noise_state", "input"), gru("denoise_gru")),
        (Linear(96, 22, activation="sigmoid", name="gains"), dense("denoise_output")),
        (
            Linear(24, 1, activation="sigmoid", name="vad", inputs=("vad_state",)),
            dense("vad_output"),
        ),
        (Concat(sum(PARTS.values()), inputs=tuple(PARTS)), {}),
    )
    network = Network(tuple(layer for layer, _ in layers))
    return Weights(network, named_tensors(network, (own for _, own in layers)))


@pytest.fixture
def weights(real: Path) -> Weights:
    return read(real / "weights_int8.npz")


@pytest.fixture
def expected(real: Path) -> dict[str, np.ndarray]:
    with np.load(real / "ref_first300.npz") as file:
        return {name: file[name].reshape(300, -1) for name in file}


def test_300_frames_are_those_of_the_c_code(runner: Runner, weights, expected):
    ys, states = runner.run(weights, expected["features"])
    columns = np.split(ys, np.cumsum(list(PARTS.values()))[:-1], 1)
    for what, found in zip(PARTS, columns, strict=True):
        allowed = STATES if what.endswith("state") else GAINS
        runner.hold("RNNoise", what, found, expected[what], allowed)
    for n, what in enumerate(("vad_state", "noise_state", "denoise_state"), 1):
        STATES.check(states[f"layers.{n}.h"], expected[what][-1], what)


def test_a_stream_has_the_bits_of_a_run(weights, expected):
    assert_streams(weights, expected["features"])
