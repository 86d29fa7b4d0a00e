"""Noise suppression of xiph/rnnoise: three GRUs that read each other, 100 frames a second."""

from pathlib import Path

import numpy as np
import pytest

from numlstm.spec import GRU, Concat, Linear, Network, Weights
from tests.cases import Tolerance
from tests.real.conftest import Runner, assert_streams
from tests.real.layouts import keras_gru, linear, prefixed

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

    def of(name: str, *parts: str) -> list[np.ndarray]:
        return [arrays[f"{name}__{part}"] for part in parts]

    dense, gru = ("kernel", "bias"), ("kernel", "recurrent_kernel", "bias")
    layers = (
        (Linear(42, 24, activation="tanh", name="dense"), linear(*of("input_dense", *dense))),
        (_gru(24, 24, "vad_state"), keras_gru(*of("vad_gru", *gru))),
        (
            _gru(90, 48, "noise_state", "dense", "vad_state", "input"),
            keras_gru(*of("noise_gru", *gru)),
        ),
        (
            _gru(114, 96, "denoise_state", "vad_state", "noise_state", "input"),
            keras_gru(*of("denoise_gru", *gru)),
        ),
        (Linear(96, 22, activation="sigmoid", name="gains"), linear(*of("denoise_output", *dense))),
        (
            Linear(24, 1, activation="sigmoid", name="vad", inputs=("vad_state",)),
            linear(*of("vad_output", *dense)),
        ),
        (Concat(sum(PARTS.values()), inputs=tuple(PARTS)), {}),
    )
    tensors = {}
    for n, (_, own) in enumerate(layers):
        tensors |= prefixed(f"layers.{n}", own)
    return Weights(Network(tuple(layer for layer, _ in layers)), tensors)


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
