"""A guitar amplifier, sdatkinson/NeuralAmpModelerCore: an LSTM of 3 units, sample by sample."""

import json
from pathlib import Path

import numpy as np
import pytest

import numlstm
from numlstm import reference
from numlstm.spec import LSTM, Linear, Network, Weights
from tests.cases import Tolerance, assert_same_bits
from tests.real.conftest import Record, assert_streams

SAMPLES = Tolerance(1e-6, 0.0, "24000 samples of an output in [-1, 1], from float32 states")


def read(path: Path) -> Weights:
    """Return the network of a file, which begins in a state of its own."""
    document = json.loads(path.read_text())
    numbers = np.array(document["weights"], np.float32)
    size, rows = 3, 12
    both, bias, h, c, head, head_bias = np.split(numbers, np.cumsum([rows * 4, rows, 3, 3, 3]))
    both = both.reshape(rows, 1 + size)  # [weight_ih | weight_hh]
    tensors = {
        "layers.0.weight_ih": both[:, :1],
        "layers.0.weight_hh": both[:, 1:],
        "layers.0.bias_ih": bias,
        "layers.0.bias_hh": np.zeros_like(bias),
        "layers.0.initial_h": h,
        "layers.0.initial_c": c,
        "layers.1.weight": head.reshape(1, size),
        "layers.1.bias": head_bias,
    }
    return Weights(Network((LSTM(1, size, initial_state=True), Linear(size, 1))), tensors)


@pytest.fixture
def weights(real: Path) -> Weights:
    return read(real / "lstm.nam")


@pytest.fixture
def samples(real: Path) -> tuple[np.ndarray, np.ndarray]:
    with np.load(real / "ref.npz") as file:
        return file["x"][:, None], file["y"][:, None]


def test_24000_samples_are_those_of_torch(weights, samples, record: Record):
    xs, expected = samples
    ys = numlstm.Model(weights).run(xs)
    SAMPLES.check(ys, expected, "run")
    record("NAM", "samples", np.abs(ys - expected).max(), SAMPLES)


def test_the_reference_gives_them_too(weights, samples):
    xs, expected = samples
    ys, _ = reference.run(weights.network, weights.tensors, xs[:2000])
    SAMPLES.check(ys, expected[:2000], "reference")


def test_a_stream_has_the_bits_of_a_run(weights, samples):
    assert_streams(weights, samples[0])


def test_a_reset_is_a_return_to_the_state_of_the_file(weights, samples):
    xs = samples[0][:100]
    stream = numlstm.Model(weights).stream()
    np.testing.assert_array_equal(stream.state["layers.0.h"], weights.tensors["layers.0.initial_h"])
    first = stream.run(xs)
    stream.reset()
    assert_same_bits(stream.run(xs), first)
