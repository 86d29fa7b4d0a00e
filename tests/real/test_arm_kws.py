"""Keyword spotting of ARM: frozen graphs of TensorFlow 1, a BasicLSTMCell and a GRUCell."""

from pathlib import Path

import numpy as np
import pytest

from numlstm.convert.assembly import named_tensors
from numlstm.convert.gates import from_tensorflow_gru, from_tensorflow_lstm
from numlstm.reference import sigmoid, softmax
from numlstm.spec import GRU, LSTM, Linear, Network, Softmax, Weights
from tests.cases import TOLERANCES, Tolerance
from tests.real.conftest import Runner, assert_streams

PROBABILITIES = Tolerance(1e-5, 0.0, "probabilities after 49 frames")
SIZES = {"Basic_LSTM_S": 118, "GRU_S": 154}
CELL = "rnn__multi_rnn_cell__cell_0__gru_cell__"


def arrays_of(real: Path, name: str) -> dict[str, np.ndarray]:
    with np.load(real / f"{name}_weights.npz") as file:
        return {name: file[name] for name in file}


def read(real: Path, name: str) -> Weights:
    """Return a network that answers after every frame; the last answer is that to the clip."""
    arrays = arrays_of(real, name)
    size = SIZES[name]
    if name == "Basic_LSTM_S":
        cell = LSTM(10, size, forget_bias=1.0)
        prefix = "lstm__rnn__basic_lstm_cell__"
        own = from_tensorflow_lstm(arrays[f"{prefix}kernel"], arrays[f"{prefix}bias"])
    else:
        cell = GRU(10, size, reset_after=False)
        parts = ("gates__kernel", "gates__bias", "candidate__kernel", "candidate__bias")
        own = from_tensorflow_gru(*(arrays[f"{CELL}{part}"] for part in parts))
    head = {"weight": arrays["W_o"].T, "bias": arrays["b_o"]}
    network = Network((cell, Linear(size, 12), Softmax(12)))
    labels = tuple((real / "labels.txt").read_text().split())
    return Weights(network, named_tensors(network, (own, head, {})), labels)


@pytest.fixture
def clips(real: Path) -> dict[str, np.ndarray]:
    with np.load(real / "ref_Basic_LSTM_S.npz") as file:
        return {name: file[name] for name in ("mfcc", "prob", "clip")}


def test_20_clips_are_those_of_tensorflow(runner: Runner, real, clips):
    weights = read(real, "Basic_LSTM_S")
    found = [runner.run(weights, frames)[0][-1] for frames in clips["mfcc"]]
    runner.hold("ARM Basic_LSTM_S", "probabilities", found, clips["prob"], PROBABILITIES)


def gru_cell_of_tensorflow(frames: np.ndarray, arrays: dict[str, np.ndarray]) -> np.ndarray:
    """Return the probabilities by the equations of TensorFlow's GRUCell, in its own layout."""
    w = {name.removeprefix(CELL): array.astype(np.float64) for name, array in arrays.items()}
    h = np.zeros(SIZES["GRU_S"])
    for x in frames.astype(np.float64):
        gates = sigmoid(np.hstack([x, h]) @ w["gates__kernel"] + w["gates__bias"])
        r, u = np.split(gates, 2)
        c = np.tanh(np.hstack([x, r * h]) @ w["candidate__kernel"] + w["candidate__bias"])
        h = u * h + (1 - u) * c
    return softmax(h @ w["W_o"] + w["b_o"])


def test_the_gru_is_that_of_its_equations(runner: Runner, real, clips):
    weights, arrays = read(real, "GRU_S"), arrays_of(real, "GRU_S")
    windows = clips["mfcc"][:, ::2]  # it takes 25 frames of 40 ms, 40 ms apart
    found = [runner.run(weights, frames)[0][-1] for frames in windows]
    expected = [gru_cell_of_tensorflow(frames, arrays) for frames in windows]
    allowed = PROBABILITIES if runner.name == "engine" else TOLERANCES["float64"]
    runner.hold("ARM GRU_S", "probabilities, of its equations", found, expected, allowed)
    # None of the words is one it knows, nor is it silence: it should mostly say so.
    said = [weights.labels[int(np.argmax(p))] for p in found]
    assert said.count("_unknown_") >= 8


@pytest.mark.parametrize("name", SIZES)
def test_a_stream_has_the_bits_of_a_run(real, clips, name):
    assert_streams(read(real, name), clips["mfcc"].reshape(-1, 10))
