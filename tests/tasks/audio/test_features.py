"""Log-mel features: those of Kaldi, the same bits in whatever pieces the sound arrives."""

import sys
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from numlstm.tasks.audio.features import NUM_BINS, ROW_SIZE, SAMPLE_RATE, LogMel


def random_samples(seconds, seed=0):
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(round(seconds * SAMPLE_RATE)) * 0.1).astype(np.float32)


def mel(hertz):
    return 1127 * np.log1p(hertz / 700)


def log_mel(samples):
    """Return frames (T, NUM_BINS) by the definition, in float64."""
    length, shift, size = 200, 80, 256
    window = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / (length - 1))) ** 0.85  # povey
    edges = np.linspace(mel(20), mel(SAMPLE_RATE / 2), NUM_BINS + 2)
    at = mel(np.arange(size // 2) * SAMPLE_RATE / size)
    left, middle, right = (edges[n : n + NUM_BINS, None] for n in range(3))
    triangles = np.minimum((at - left) / (middle - left), (right - at) / (right - middle)).clip(0)
    frames = []
    for start in range(0, len(samples) - length + 1, shift):
        frame = samples[start : start + length].astype(np.float64)
        frame -= frame.mean()
        frame = frame - 0.97 * np.concatenate([frame[:1], frame[:-1]])
        power = np.abs(np.fft.rfft(frame * window, size))[: size // 2] ** 2
        frames.append(np.log(np.maximum(triangles @ power, np.finfo(np.float32).eps)))
    return np.array(frames)


def test_the_rows_are_two_frames_of_log_mel_energies_by_their_definition():
    samples = random_samples(1.0)
    rows = LogMel().feed(samples)
    assert rows.shape == (49, ROW_SIZE)
    assert rows.dtype == np.float32
    frames = log_mel(samples)[: 2 * len(rows)]
    np.testing.assert_allclose(rows.reshape(-1, NUM_BINS), frames, atol=2e-3)


SAMPLES = random_samples(0.5, seed=1)
ROWS = LogMel().feed(SAMPLES)


@settings(max_examples=60, deadline=None)
@given(cuts=st.lists(st.integers(0, len(SAMPLES)), max_size=40))
def test_any_pieces_give_the_same_bits(cuts):
    log_mel = LogMel()
    pieces = [log_mel.feed(SAMPLES[a:b]) for a, b in pairwise([0, *sorted(cuts), len(SAMPLES)])]
    assert np.concatenate(pieces).tobytes() == ROWS.tobytes()


def test_sample_by_sample_a_row_comes_as_soon_as_its_last_sample():
    log_mel = LogMel()
    counts = np.cumsum([len(log_mel.feed(SAMPLES[n : n + 1])) for n in range(1000)])
    for t in range(3):
        assert counts[160 * t + 280 - 2] == t
        assert counts[160 * t + 280 - 1] == t + 1


def test_digital_silence_is_finite():
    rows = LogMel().feed(np.zeros(SAMPLE_RATE, np.float32))
    np.testing.assert_allclose(rows, np.log(np.finfo(np.float32).eps), rtol=1e-6)


def test_a_missing_package_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "kaldi_native_fbank", None)
    with pytest.raises(ImportError, match=r'kaldi-native-fbank.*pip install "numlstm\[audio\]"'):
        LogMel()
