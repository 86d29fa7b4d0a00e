"""Character models of ml5js: two BasicLSTMCells of TensorFlow 1, 128 units each."""

import json
from pathlib import Path

import numpy as np
import pytest

import numlstm
from numlstm import reference
from numlstm.convert.assembly import named_tensors
from numlstm.convert.gates import from_tensorflow_lstm
from numlstm.spec import LSTM, Embedding, Linear, Network, Weights
from tests.cases import TOLERANCES, Tolerance
from tests.real.conftest import Runner, assert_streams

LOGITS = Tolerance(1e-4, 0.0, "logits after 1500 characters in float32, of states up to 646")
NLL = Tolerance(1e-6, 0.0, "a mean of 1500 logarithms")


def read(folder: Path) -> Weights:
    """Return the network that a manifest.json and its raw float32 files describe."""
    manifest = json.loads((folder / "manifest.json").read_text())
    arrays = {
        name: np.fromfile(folder / entry["filename"], "<f4").reshape(entry["shape"])
        for name, entry in manifest.items()
    }
    cells = [
        from_tensorflow_lstm(arrays[f"{cell}/weights"], arrays[f"{cell}/biases"])
        for cell in (f"rnnlm/multi_rnn_cell/cell_{n}/basic_lstm_cell" for n in range(2))
    ]
    head = {"weight": arrays["rnnlm/softmax_w"].T, "bias": arrays["rnnlm/softmax_b"]}
    vocab_size, size = arrays["embedding"].shape
    lstm = LSTM(size, size, forget_bias=1.0)
    network = Network((Embedding(vocab_size, size), lstm, lstm, Linear(size, vocab_size)))
    contents = ({"weight": arrays["embedding"]}, *cells, head)
    return Weights(network, named_tensors(network, contents))


def ids_of_darwin(folder: Path) -> np.ndarray:
    """Return the end of the Origin of Species."""
    vocab = json.loads((folder / "vocab.json").read_text())
    text = (
        "There is grandeur in this view of life, with its several powers, having been originally "
        "breathed into a few forms or into one; and that, whilst this planet has gone cycling on "
        "according to the fixed law of gravity, from so simple a beginning endless forms most "
        "beautiful and most wonderful have been, and are being, evolved."
    )
    return np.array([vocab[character] for character in text], np.int32)


@pytest.fixture
def shakespeare(real: Path) -> Weights:
    return read(real / "shakespeare")


@pytest.fixture
def expected(real: Path) -> dict[str, np.ndarray]:
    with np.load(real / "ref_shakespeare.npz") as file:
        return {name: file[name] for name in file}


def test_1500_logits_and_the_states_after_them(runner: Runner, shakespeare, expected):
    ids = expected["input_ids"]
    logits, states = runner.run(shakespeare, ids)
    runner.hold("ml5 shakespeare", "logits", logits, expected["logits"], LOGITS)
    for n in range(2):
        h, c = states[f"layers.{n}.h"], states[f"layers.{n}.c"]
        runner.hold("ml5 shakespeare", "h", h, expected["final_h"][n], LOGITS)
        runner.hold("ml5 shakespeare", "c", c, expected["final_c"][n], TOLERANCES["c"])
    log_p = reference.log_softmax(np.asarray(logits, np.float64))
    nll = -log_p[np.arange(len(ids) - 1), ids[1:]].mean()
    runner.hold("ml5 shakespeare", "nats per character", nll, expected["nll_per_char"], NLL)


def test_the_greedy_text(real, shakespeare, record):
    vocab = json.loads((real / "shakespeare" / "vocab_fixed.json").read_text())
    characters = {n: character for character, n in vocab.items()}
    model = numlstm.Model(shakespeare)
    cases = json.loads((real / "greedy_shakespeare.json").read_text())
    wrong = 0
    for case in cases:
        stream = model.stream()
        logits = stream.run([vocab[character] for character in case["seed"]])[-1]
        found = ""
        while len(found) < len(case["greedy"]):
            found += characters[int(logits.argmax())]
            logits = stream.step(vocab[found[-1]])
        wrong += found != case["greedy"]
        assert found == case["greedy"]
    record("ml5 shakespeare", f"greedy texts wrong of {len(cases)}", wrong, 0)


@pytest.mark.parametrize("name", ["shakespeare", "darwin"])
def test_a_stream_has_the_bits_of_a_run(real, name):
    weights = read(real / name)
    ids = np.random.default_rng(0).integers(0, weights.network.vocab_size, 500).astype(np.int32)
    assert_streams(weights, ids)


def test_darwin_predicts_darwin(runner: Runner, real):
    ids = ids_of_darwin(real / "darwin")
    weights = read(real / "darwin")
    logits, _ = runner.run(weights, ids)
    log_p = reference.log_softmax(np.asarray(logits, np.float64))
    assert -log_p[np.arange(len(ids) - 1), ids[1:]].mean() < 2.0  # 4.6 by chance
    expected, _ = reference.run(weights.network, weights.tensors, ids)
    runner.hold("ml5 darwin", "logits, of reference.py", logits, expected, LOGITS)
