"""Texts, character by character, minimaxir/textgenrnn: weights of cuDNN layers, attention."""

import json
from pathlib import Path

import numpy as np
import pytest

import numlstm
from numlstm import reference
from numlstm.spec import LSTM, AttentionPooling, Embedding, Linear, Network, Softmax, Weights
from tests.cases import Tolerance
from tests.lazy import from_keras
from tests.real.conftest import Runner

PROBABILITIES = Tolerance(1e-5, 0.0, "probabilities after a window of 40 characters")
EVERY = Tolerance(5e-5, 0.0, "probabilities after each of 40 characters, of large weights")
WINDOW = 40

NETWORK = Network(
    (
        Embedding(465, 100, name="embedding"),
        LSTM(100, 128, name="rnn_1"),
        LSTM(128, 128, name="rnn_2"),
        AttentionPooling(
            356, eps=1e-7, inputs=("embedding", "rnn_1", "rnn_2"), name="attention"
        ),
        Linear(356, 465, name="output"),
        Softmax(465),
    )
)  # fmt: skip


def read(path: Path) -> Weights:
    return from_keras.convert(path, network=NETWORK)


def window(ids: list[int]) -> np.ndarray:
    """Return the last 40 ids, with zeros before them."""
    return np.array(([0] * WINDOW + ids)[-WINDOW:], np.int32)


def test_the_probabilities_after_14_texts(runner: Runner, real):
    weights = read(real / "textgenrnn_weights.hdf5")
    with np.load(real / "ref_textgenrnn_weights.npz") as file:
        for ids, expected in zip(file["input_ids"], file["probs"], strict=True):
            ys, _ = runner.run(weights, ids)
            runner.hold("textgenrnn", "probabilities", ys[-1], expected, PROBABILITIES)


def test_the_other_weights_are_those_of_the_reference(real, record):
    weights = read(real / "hacker_news.hdf5")
    with np.load(real / "ref_textgenrnn_weights.npz") as file:
        for ids in file["input_ids"]:
            found = numlstm.Model(weights).run(ids)
            expected, _ = reference.run(weights.network, weights.tensors, ids)
            EVERY.check(found, expected)
            off = np.abs(found - expected).max()
            record("textgenrnn", "hacker_news, of reference.py", off, EVERY)


def test_the_greedy_texts(real):
    model = numlstm.Model(read(real / "textgenrnn_weights.hdf5"))
    vocabulary = json.loads((real / "textgenrnn_vocab.json").read_text())
    characters = {n: character for character, n in vocabulary.items()}
    for case in json.loads((real / "greedy_textgenrnn_weights.json").read_text()):
        ids = [vocabulary[character] for character in case["prefix"]]
        text: list[str] = []
        while len(text) < len(case["greedy_continuation"]):
            # The network sees a window anew for every character, no state is kept.
            best = int(model.run(window(ids))[-1].argmax())
            if best == vocabulary["<s>"]:
                break
            ids.append(best)
            text.append(characters[best])
        assert text == case["greedy_continuation"], case["prefix"]


def test_the_attention_is_that_of_keras(real):
    weights = read(real / "textgenrnn_weights.hdf5")
    network = Network(weights.network.layers[:4])
    with np.load(real / "ref_textgenrnn_weights.npz") as file:
        for ids, expected in zip(file["input_ids"], file["attention"], strict=True):
            ys, _ = reference.run(network, weights.tensors, ids)
            assert ys[-1] == pytest.approx(expected, abs=1e-5)
