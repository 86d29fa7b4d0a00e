"""Voice activity detection of snakers4/silero-vad, 32 ms at a time.

The graph is full of branches, so its tensors are read by name. One step is one chunk: 512 samples
after the last 64 of the chunk before. Within it, the STFT and the convolutions over its four frames
are matrices.
"""

from pathlib import Path

import numpy as np
import pytest

import numlstm
from numlstm.spec import LSTM, Activation, Add, Linear, Network, Slice, Weights
from tests.cases import Tolerance
from tests.lazy import onnx
from tests.real.conftest import Runner, assert_streams, read_chunks

FOLDER = "silero_vad"
CHUNK, CONTEXT, PADDED = 512, 64, 640
PROBABILITIES = Tolerance(1e-5, 0.0, "after up to 1875 chunks in float32")
STATES = Tolerance(1e-4, 1e-5, "h and c of an LSTM that runs for a minute")


def convolved(weight: np.ndarray, length: int, stride: int, pad: int = 1) -> np.ndarray:
    """Return the matrix (outputs * frames, inputs * length) of a convolution over `length`."""
    outputs, inputs, kernel_size = weight.shape
    frames = (length + 2 * pad - kernel_size) // stride + 1
    matrix = np.zeros((outputs, frames, inputs, length + 2 * pad), np.float32)
    for t in range(frames):
        matrix[:, t, :, t * stride : t * stride + kernel_size] = weight
    return matrix[..., pad : pad + length].reshape(outputs * frames, inputs * length)


def read(path: Path) -> Weights:
    """Return the network with the tensors of the graph."""
    tensors = {
        tensor.name.removeprefix("model."): onnx.numpy_helper.to_array(tensor)
        for tensor in onnx.load(path).graph.initializer
    }
    reflected = np.eye(PADDED, CHUNK + CONTEXT, dtype=np.float32)
    for n in range(CONTEXT):
        reflected[CHUNK + CONTEXT + n, CHUNK + CONTEXT - 2 - n] = 1.0
    stft = convolved(tensors["stft.forward_basis_buffer"], PADDED, 128, pad=0) @ reflected
    frames, half = 4, len(stft) // 2
    layers = [
        Linear(CHUNK + CONTEXT, 2 * half, bias=False),
        Activation(2 * half, "square", name="squares"),
        Slice(2 * half, 0, half, name="re"),
        Slice(2 * half, half, 2 * half, inputs=("squares",), name="im"),
        Add(half, inputs=("re", "im")),
        Activation(half, "sqrt"),
    ]
    found = {"layers.0.weight": stft}
    for n, stride in enumerate((1, 2, 2, 1)):
        weight, bias = (tensors[f"encoder.{n}.reparam_conv.{name}"] for name in ("weight", "bias"))
        matrix = convolved(weight, frames, stride)
        frames = len(matrix) // len(weight)
        found[f"layers.{len(layers)}.weight"] = matrix
        found[f"layers.{len(layers)}.bias"] = np.repeat(bias, frames)
        layers.append(Linear(matrix.shape[1], matrix.shape[0], activation="relu"))
    cell = {name: tensors[f"decoder.rnn.{name}"] for name in LSTM(128, 128).tensors()}
    found |= {f"layers.10.{name}": tensor for name, tensor in cell.items()}
    found["layers.12.weight"] = tensors["decoder.decoder.2.weight"][:, :, 0]
    found["layers.12.bias"] = tensors["decoder.decoder.2.bias"]
    layers += [LSTM(128, 128), Activation(128, "relu"), Linear(128, 1, activation="sigmoid")]
    arrays = {name: np.ascontiguousarray(array, np.float32) for name, array in found.items()}
    return Weights(Network(tuple(layers)), arrays)


@pytest.fixture
def weights(real: Path) -> Weights:
    return read(real / "silero_vad_16k_op15.onnx")


@pytest.fixture
def chunks(real: Path) -> np.ndarray:
    return read_chunks(real / "test.wav", CHUNK, CONTEXT)


@pytest.fixture
def expected(real: Path) -> dict[str, np.ndarray]:
    with np.load(real / "ref_onnx16k.npz") as file:
        return {name: file[name] for name in file}


def test_1875_probabilities_chunk_by_chunk(weights, chunks, expected, record):
    assert len(chunks) == len(expected["prob"]) == 1875
    stream = numlstm.Model(weights).stream()
    found = np.array([stream.step(chunk)[0] for chunk in chunks])
    PROBABILITIES.check(found, expected["prob"], "probabilities")
    difference = np.abs(found - expected["prob"]).max()
    record("silero VAD", "probabilities", difference, PROBABILITIES)


def test_the_probabilities_and_states_of_400_chunks(runner: Runner, weights, chunks, expected):
    ys, states = runner.run(weights, chunks[:400])
    runner.hold("silero VAD", "first 400", ys[:, 0], expected["prob"][:400], PROBABILITIES)
    for n, name in enumerate("hc"):
        found = states[f"layers.10.{name}"]
        runner.hold("silero VAD", name, found, expected["state_after"][399, n], STATES)


def test_a_stream_has_the_bits_of_a_run(weights, chunks):
    assert_streams(weights, chunks[:200])


def test_the_graph_itself_is_converted(real, chunks, expected, record):
    """Its state goes on as an output whose sizes it leaves open, and so it does that of a row."""
    model = numlstm.from_onnx(real / "silero_vad_16k_op15.onnx", constants={"sr": 16000})
    assert model.input_size == CHUNK + CONTEXT
    found = model.stream().run(chunks)[:, 0]
    PROBABILITIES.check(found, expected["prob"], "probabilities")
    difference = np.abs(found - expected["prob"]).max()
    record("silero VAD, its graph", "probabilities", difference, PROBABILITIES)
    assert len(numlstm.pipeline("vad", model)(real / "test.wav").segments) > 10
