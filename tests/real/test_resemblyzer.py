"""Resemblyzer: 1.6 s of speech become a vector of the speaker, of length 1."""

from typing import Any

import numpy as np
import pytest

import numlstm
from numlstm import LSTM, Activation, Linear, Multiply, Network
from tests.cases import Tolerance, assert_same_bits
from tests.real.conftest import Record, Runner, assert_streams

VECTORS = Tolerance(1e-5, 0.0, "numbers of a vector of length 1, after 160 steps in float32")

# The division by the length is said in layers: x * (1 / sqrt(sum of squares)).
NETWORK = Network(
    (
        LSTM(40, 256, name="lstm"),
        LSTM(256, 256, name="lstm.l1"),
        LSTM(256, 256, name="lstm.l2"),
        Linear(256, 256, activation="relu", name="linear"),
        Activation(256, "square"),
        Linear(256, 256, bias=False),
        Activation(256, "sqrt"),
        Activation(256, "reciprocal", name="scale"),
        Multiply(256, inputs=("linear", "scale")),
    )
)
SUM = {"layers.5.weight": np.ones((256, 256), np.float32)}


@pytest.fixture
def model(real) -> numlstm.Model:
    return numlstm.from_torch(real / "pretrained.pt", network=NETWORK, tensors=SUM)


@pytest.fixture
def expected(real) -> dict[str, Any]:
    with np.load(real / "ref_5.npz") as file:
        return {name: file[name] for name in file}


def test_the_vectors_of_5_utterances_are_those_of_torch(runner: Runner, model, expected):
    for mel, vector in zip(expected["mel"], expected["embedding"], strict=True):
        ys, _ = runner.run(model.weights, mel)
        runner.hold("resemblyzer", "vector", ys[-1], vector, VECTORS)
        runner.hold("resemblyzer", "length", np.linalg.norm(ys[-1]), 1.0, VECTORS)


def test_it_is_one_line(real, expected, record: Record):
    layers = "lstm:LSTM final linear:Linear relu normalize"
    model = numlstm.from_torch(real / "pretrained.pt", layers=layers, ignore="similarity_*")
    for mel, vector in zip(expected["mel"], expected["embedding"], strict=True):
        y = model.run(mel)[-1]
        VECTORS.check(y, vector, "one line")
        record("resemblyzer", "one line", np.abs(y - vector).max(), VECTORS)


def test_the_weights_of_the_loss_are_named_where_they_are_not_left_out(real):
    with pytest.raises(numlstm.WeightsError) as caught:
        numlstm.from_torch(real / "pretrained.pt", layers="lstm:LSTM final linear:Linear relu")
    assert 'ignore="similarity_weight,similarity_bias"' in str(caught.value)


def test_frames_of_a_stream_have_the_bits_of_a_run(model, expected):
    assert_streams(model.weights, expected["mel"][0][:20])


def test_speakers_are_told_apart(model, expected):
    vectors = np.stack([model.run(mel)[-1] for mel in expected["mel"]])
    alike = vectors @ vectors.T
    same = expected["speaker"][:, None] == expected["speaker"]
    assert alike[same].min() > 0.7 > alike[~same].max()


def test_a_pool_of_calls_gives_the_same(model, expected):
    together = model.run_batch(list(expected["mel"][:3]))
    for ys, mel in zip(together, expected["mel"], strict=False):
        assert_same_bits(ys, model.run(mel))
