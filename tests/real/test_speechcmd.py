"""35 spoken words, douglas125/SpeechCmdRecognition: weights by name, a Lambda in the config."""

import json
from pathlib import Path

import numpy as np
import pytest

from numlstm.spec import LSTM, Attention, Linear, Network, Pooling, Softmax, Weights, WeightsError
from tests.cases import Tolerance
from tests.lazy import from_keras, h5py
from tests.real.conftest import Runner

PROBABILITIES = Tolerance(1e-5, 0.0, "probabilities after two BiLSTMs over 125 frames")
FROM_AUDIO = Tolerance(5e-4, 0.0, "the log of near silence enlarges the noise of a float32 FFT")
HIDDEN = Tolerance(1e-5, 0.0, "hidden states of 125 frames")

NETWORK = Network(
    (
        LSTM(80, 64, direction="bidirectional", name="bidirectional"),
        LSTM(128, 64, direction="bidirectional", name="bidirectional_1"),
        Pooling(128, "last"),
        Linear(128, 128, name="dense"),
        Attention(128, 128, "dot", memory="bidirectional_1"),
        Linear(128, 64, True, "relu", name="dense_1"),
        Linear(64, 32, name="dense_2"),
        Linear(32, 36, name="output"),
        Softmax(36),
    )
)


@pytest.fixture
def weights(real: Path) -> Weights:
    return from_keras.convert(real / "model-attRNN.h5", network=NETWORK)


@pytest.fixture
def words(real: Path) -> dict[str, np.ndarray]:
    with np.load(real / "ref_words.npz") as file:
        return {name: file[name] for name in file}


def log_mel(folder: Path, samples: np.ndarray) -> np.ndarray:
    """Return 125 frames of 80 bands, with mean 0 and deviation 1."""
    with np.load(folder / "mel_filter.npz") as file:
        mel = file["mel_513x80"]
    padded = np.pad(samples.astype(np.float64) / 32768, (0, 1024))
    frames = np.lib.stride_tricks.sliding_window_view(padded, 1024)[: len(samples) : 128]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(1024) / 1024)
    bands = np.log(np.abs(np.fft.rfft(frames * hann)) @ mel + 1e-6)
    return (bands - bands.mean()) / bands.std()


def front_end(folder: Path, bands: np.ndarray) -> np.ndarray:
    """Return what the LSTMs read: two convolutions over 5 frames, each with ReLU and BatchNorm."""
    xs = bands[..., None]  # (T, 80, channels)
    with h5py.File(folder / "model-attRNN.h5") as file:
        for suffix in ("", "_1"):
            conv = file[f"model_weights/conv2d{suffix}/conv2d{suffix}"]
            norm = file[f"model_weights/batch_normalization{suffix}/batch_normalization{suffix}"]
            kernel, bias = conv["kernel:0"][:, 0].astype(np.float64), conv["bias:0"][()]
            padded = np.pad(xs, ((2, 2), (0, 0), (0, 0)))
            ys = sum(padded[k : k + len(xs)] @ kernel[k] for k in range(5)) + bias
            gamma, beta, mean, variance = (
                norm[f"{name}:0"][()]
                for name in ("gamma", "beta", "moving_mean", "moving_variance")
            )
            xs = (np.maximum(ys, 0) - mean) / np.sqrt(variance + 1e-3) * gamma + beta
    return xs[..., 0]


def test_three_words_from_the_frames_on(runner: Runner, weights, words):
    for xs, prob in zip(words["lstm_input"], words["prob"], strict=True):
        ys, _ = runner.run(weights, xs)
        assert ys.shape == (1, 36)
        runner.hold("speech commands", "probabilities", ys[0], prob, PROBABILITIES)


def test_the_hidden_states_of_three_words(runner: Runner, weights, words):
    for count in (1, 2):
        network = Network(NETWORK.layers[:count])
        kept = Weights(network, {name: weights.tensors[name] for name in network.tensor_shapes()})
        for xs, expected in zip(words["lstm_input"], words[f"bilstm{count}"], strict=True):
            ys, _ = runner.run(kept, xs)
            runner.hold("speech commands", f"BiLSTM {count}", ys, expected, HIDDEN)


def test_three_words_from_their_samples(runner: Runner, real, weights, words):
    labels = json.loads((real / "labels.json").read_text())
    for word, samples, prob in zip(
        words["word"], words["audio16k_int16"], words["prob"], strict=True
    ):
        xs = front_end(real, log_mel(real, samples)).astype(np.float32)
        ys, _ = runner.run(weights, xs)
        assert ys[0].argmax() == labels[word]
        runner.hold("speech commands", "probabilities, from audio", ys[0], prob, FROM_AUDIO)


def test_30_digits_of_other_people(runner: Runner, real, weights):
    with np.load(real / "ref_fsdd.npz") as file:
        prob, true, audio = file["prob"], file["true"], file["audio16k_int16"]
    found = np.array([
        runner.run(weights, front_end(real, log_mel(real, samples)).astype(np.float32))[0][0]
        for samples in audio
    ])  # fmt: skip
    assert (found.argmax(1) == prob.argmax(1)).all()
    assert (found.argmax(1) == true).mean() == pytest.approx(0.667, abs=1e-3)
    runner.hold("speech commands", "probabilities of digits", found, prob, FROM_AUDIO)


def test_the_file_itself_is_refused_by_name(real):
    with pytest.raises(WeightsError) as caught:
        from_keras.convert(real / "model-attRNN.h5")
    lines = str(caught.value)
    assert "Lambda: code in a file is not run" in lines
    assert lines.count("tf.signal.stft: is not an operation numlstm knows") == 1
    assert "Conv2D: reads images" in lines
