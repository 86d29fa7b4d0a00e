"""Noise suppression of NSNet2: gains of 161 bins, of a whole recording and frame by frame.

The graph makes its own first states, and gives none back; the network that is found is causal, so
it streams all the same.
"""

from pathlib import Path

import numpy as np
import pytest

import numlstm
from numlstm.spec import Weights
from tests.cases import Tolerance
from tests.lazy import from_onnx
from tests.real.conftest import Runner, assert_streams

GAINS = Tolerance(1e-5, 0.0, "gains in [0, 1] after up to 200 frames")
STATES = Tolerance(1e-4, 0.0, "two GRUs of 400 units")


@pytest.fixture
def weights(real: Path) -> Weights:
    return from_onnx.convert(real / "nsnet2-20ms-baseline.onnx")


@pytest.fixture
def expected(real: Path) -> dict[str, np.ndarray]:
    with np.load(real / "ref_200_frames.npz") as file:
        return {name: file[name] for name in file}


def test_a_whole_recording(runner: Runner, weights, expected):
    ys, _ = runner.run(weights, expected["features"])
    runner.hold("NSNet2", "gains", ys, expected["gains"], GAINS)


def test_frame_by_frame_with_its_states(weights, expected, record):
    names = [type(layer).__name__ for layer in weights.network.layers]
    assert names == ["Linear", "GRU", "GRU", "Linear", "Linear", "Linear"]
    stream = numlstm.Model(weights).stream()
    gains, states = [], []
    for n, frame in enumerate(expected["features"]):
        gains.append(stream.step(frame))
        if n % 10 == 9:
            states.append([stream.state[f"layers.{layer}.h"] for layer in (1, 2)])
    for what, found, held, allowed in (
        ("gains, frame by frame", gains, expected["gains_streamed"], GAINS),
        ("h every 10 frames", states, expected["h_every_10"], STATES),
    ):
        allowed.check(found, held, what)
        record("NSNet2", what, np.abs(np.asarray(found) - held).max(), allowed)


def test_a_stream_has_the_bits_of_a_run(weights, expected):
    assert_streams(weights, expected["features"][:50])
