"""Voice activity detection of silero-vad 6, from its own graphs: a sequence, and one of two rates.

A row is the last 64 samples of the chunk before and 512 new ones, 32 and 256 at 8 kHz.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import numlstm
from numlstm.spec import Weights
from tests.cases import Tolerance
from tests.lazy import from_onnx
from tests.real.conftest import Runner, assert_streams, read_chunks

FOLDER = "silero_vad_6"
PROBABILITIES = Tolerance(1e-5, 0.0, "after up to 937 chunks in float32")
STATES = Tolerance(1e-4, 1e-5, "h and c of an LSTM that runs for half a minute")
NAME = "silero VAD 6"


def at_rate(path: Path, rate: int) -> Weights:
    """Convert the graph of two rates, of which one is given."""
    return from_onnx.convert(path, constants={"sr": rate})


@pytest.fixture
def chunks(real: Path) -> np.ndarray:
    return read_chunks(real / "speech_noise_30s_16k.wav", 512, 64)


@pytest.fixture
def expected(real: Path) -> dict[str, np.ndarray]:
    with np.load(real / "ref_16k.npz") as file:
        return {name: file[name] for name in file}


def lstm_states(states: dict[str, Any]) -> tuple[Any, Any]:
    (h,) = (array for name, array in states.items() if name.endswith(".h"))
    (c,) = (array for name, array in states.items() if name.endswith(".c"))
    return h, c


def test_the_graph_of_a_sequence(runner: Runner, real, chunks, expected):
    weights = from_onnx.convert(real / "silero_vad_16k_sequence.onnx")
    assert weights.network.input_size == 576
    ys, states = runner.run(weights, chunks)
    assert len(ys) == 937
    runner.hold(NAME, "sequence", ys[:, 0], expected["prob_sequence_one_call"], PROBABILITIES)
    h, c = lstm_states(states)
    runner.hold(NAME, "sequence, h", h, expected["h_sequence_last"].ravel(), STATES)
    runner.hold(NAME, "sequence, c", c, expected["c_sequence_last"].ravel(), STATES)


def test_the_graph_of_two_rates_at_16_khz(runner: Runner, real, chunks, expected):
    weights = at_rate(real / "silero_vad_op18_ifless.onnx", 16000)
    assert weights.network.input_size == 576
    assert "LSTM" in [type(layer).__name__ for layer in weights.network.layers]
    ys, states = runner.run(weights, chunks)
    runner.hold(NAME, "16 kHz", ys[:, 0], expected["prob_ifless"], PROBABILITIES)
    last = expected["state_ifless_last"].reshape(2, 128)
    for name, found, state in zip("hc", lstm_states(states), last, strict=True):
        runner.hold(NAME, f"16 kHz, {name}", found, state, STATES)


def test_the_graph_of_two_rates_at_8_khz(runner: Runner, real):
    weights = at_rate(real / "silero_vad_op18_ifless.onnx", 8000)
    assert weights.network.input_size == 288
    with np.load(real / "ref_8k.npz") as file:
        expected = file["prob_ifless"]
    xs = read_chunks(real / "speech_noise_20s_8k.wav", 256, 32)
    ys, _ = runner.run(weights, xs[: len(expected)])
    runner.hold(NAME, "8 kHz", ys[:, 0], expected, PROBABILITIES)


def test_two_streams_as_a_batch_of_two(real, chunks, expected, record):
    model = numlstm.Model(at_rate(real / "silero_vad_op18_ifless.onnx", 16000))
    pool = model.pool(2)
    slots = [pool.open(), pool.open()]
    answers = [
        pool.step(slots, np.stack(pair)) for pair in zip(chunks[:60], chunks[300:360], strict=True)
    ]
    found = np.stack(answers)[:, :, 0]
    PROBABILITIES.check(found, expected["prob_ifless_batch2"], "two streams")
    difference = np.abs(found - expected["prob_ifless_batch2"]).max()
    record(NAME, "two streams of a pool", difference, PROBABILITIES)


def test_a_stream_has_the_bits_of_a_run(real, chunks):
    assert_streams(at_rate(real / "silero_vad_op18_ifless.onnx", 16000), chunks[:100])
