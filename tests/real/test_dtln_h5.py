"""Noise suppression of breizhn/DTLN: two networks with the FFT between them, 8 ms at a time."""

import wave
from pathlib import Path

import numpy as np
import pytest

import numlstm
from numlstm import reference
from numlstm.spec import LSTM, Conv1d, LayerNorm, Linear, Multiply, Network, Weights
from tests.cases import Tolerance, assert_same_bits
from tests.lazy import from_keras, onnxruntime
from tests.real.conftest import Record

FOLDER = "dtln"
BLOCK, SHIFT = 512, 128
MASKS = Tolerance(1e-5, 0.0, "a sigmoid of two LSTMs, whose c reach 214, after up to 1000 blocks")
AUDIO = Tolerance(1e-5, 0.0, "sums of 256 masked features, and of 4 blocks of them")


MASKS_MAGNITUDES = Network(
    (
        LSTM(257, 128, name="lstm"),
        LSTM(128, 128, name="lstm_1"),
        Linear(128, 257, activation="sigmoid", name="dense"),
    )
)
MASKS_FEATURES = Network(
    (
        Conv1d(BLOCK, 256, 1, bias=False, name="conv1d"),
        LayerNorm(256, 1e-7, name="layer_normalization"),
        LSTM(256, 128, name="lstm_2"),
        LSTM(128, 128, name="lstm_3"),
        Linear(128, 256, activation="sigmoid", name="dense_1"),
        Multiply(256, inputs=("dense_1", "conv1d")),
        Conv1d(256, BLOCK, 1, bias=False, name="conv1d_1"),
    )
)


def read(path: Path) -> tuple[Weights, Weights]:
    """Return the network that masks magnitudes, and that which masks what a learned basis gives."""
    networks = MASKS_MAGNITUDES, MASKS_FEATURES
    return tuple(from_keras.convert(path, network=network) for network in networks)


def read_blocks(path: Path) -> np.ndarray:
    """Return noisy speech as the buffer of 512 samples after every 128, (T, 512)."""
    with wave.open(str(path)) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float32)
    padded = np.concatenate([np.zeros(BLOCK - SHIFT, np.float32), samples / 32768])
    return np.lib.stride_tricks.sliding_window_view(padded, BLOCK)[::SHIFT].copy()


@pytest.fixture
def stages(real: Path) -> tuple[Weights, Weights]:
    return read(real / "model.h5")


@pytest.fixture
def blocks(real: Path) -> np.ndarray:
    return read_blocks(real / "noisy_8s_16k.wav")


def overlap_add(blocks: np.ndarray) -> np.ndarray:
    """Return the samples of blocks that begin every 128."""
    samples = np.zeros(SHIFT * len(blocks) + BLOCK)
    for n, block in enumerate(blocks):
        samples[SHIFT * n : SHIFT * n + BLOCK] += block
    return samples[: SHIFT * len(blocks)]


def denoise(
    stages: tuple[Weights, ...], blocks: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Take every block through two streams; return masks, cleaned blocks and samples."""
    first, second = (numlstm.Model(weights).stream() for weights in stages)
    masks, cleaned = [], []
    for block in blocks:
        spectrum = np.fft.rfft(block)
        masks.append(first.step(np.abs(spectrum).astype(np.float32)))
        middle = np.fft.irfft(masks[-1] * spectrum).astype(np.float32)
        cleaned.append(second.step(middle))
    return np.array(masks), np.array(cleaned), overlap_add(np.array(cleaned))


def denoise_in_float64(stages, blocks):
    spectra = np.fft.rfft(blocks.astype(np.float64))
    masks, _ = reference.run(stages[0].network, stages[0].tensors, np.abs(spectra))
    cleaned, _ = reference.run(stages[1].network, stages[1].tensors, np.fft.irfft(masks * spectra))
    return masks, cleaned, overlap_add(cleaned)


def denoise_in_onnxruntime(real, blocks):
    sessions = [onnxruntime.InferenceSession(real / f"model_{n}.onnx") for n in (1, 2)]
    names = [[i.name for i in session.get_inputs()] for session in sessions]
    states = [np.zeros((1, 2, 128, 2), np.float32) for _ in sessions]

    def step(n: int, x: np.ndarray) -> np.ndarray:
        inputs = dict(zip(names[n], (x[None, None], states[n]), strict=True))
        y, states[n] = sessions[n].run(None, inputs)
        return y.reshape(-1)

    masks, cleaned = [], []
    for block in blocks:
        spectrum = np.fft.rfft(block)
        masks.append(step(0, np.abs(spectrum).astype(np.float32)))
        cleaned.append(step(1, np.fft.irfft(masks[-1] * spectrum).astype(np.float32)))
    return np.array(masks), np.array(cleaned), overlap_add(np.array(cleaned))


def hold(found, expected, record: Record, by: str) -> None:
    for what, a, b in zip(("masks", "blocks", "samples"), found, expected, strict=True):
        allowed = MASKS if what == "masks" else AUDIO
        allowed.check(a, b, f"{what} {by}")
        record("DTLN", f"{what}, {by}", np.abs(a - b).max(), allowed)


def test_8_seconds_block_by_block_are_those_of_the_reference(stages, blocks, record):
    found = denoise(stages, blocks)
    hold(found, denoise_in_float64(stages, blocks), record, "of reference.py")
    # It does suppress noise: the quietest tenth of the blocks loses most of its energy.
    before, after = (np.sort((b.astype(np.float64) ** 2).mean(1))[:100] for b in (blocks, found[1]))
    assert after.mean() < before.mean() / 4


def test_8_seconds_are_those_of_the_exported_graphs(real, stages, blocks, record):
    hold(denoise(stages, blocks), denoise_in_onnxruntime(real, blocks), record, "of ONNX Runtime")


def test_the_reference_is_that_of_the_exported_graphs(real, stages, blocks):
    few = blocks[:300]
    found, expected = denoise_in_float64(stages, few), denoise_in_onnxruntime(real, few)
    for allowed, a, b in zip((MASKS, AUDIO, AUDIO), found, expected, strict=True):
        allowed.check(a, b)


def test_a_stream_has_the_bits_of_a_run(stages, blocks):
    few = blocks[:300]
    spectra = np.fft.rfft(few)
    magnitudes = np.abs(spectra).astype(np.float32)
    for weights, xs in zip(stages, (magnitudes, few), strict=True):
        model = numlstm.Model(weights)
        stream = model.stream()
        assert_same_bits(np.stack([stream.step(x) for x in xs]), model.run(xs))
