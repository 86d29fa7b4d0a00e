"""The speech pipeline: any sound in, in any pieces the same words, and clear refusals."""

import io
import sys
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import numlstm
from numlstm.spec import Weights
from numlstm.tasks.audio.features import ROW_SIZE, SAMPLE_RATE
from numlstm.tasks.audio.sound import Resampler, mono
from numlstm.tasks.audio.transcribe import Transcriber, Transcript
from tests.conftest import ROOT
from tests.lazy import soundfile

LABELS = ("<blank>", "|", "yes", "no")


def make_model(labels=LABELS, input_size=ROW_SIZE, last=numlstm.LogSoftmax, direction="forward"):
    size = 12 * (2 if direction == "bidirectional" else 1)
    network = numlstm.Network(
        (
            numlstm.LSTM(input_size, 12, direction=direction),
            numlstm.Linear(size, len(labels)),
            last(len(labels)),
        )
    )
    rng = np.random.default_rng(5)
    tensors = {
        name: rng.standard_normal(shape).astype(np.float32)
        for name, shape in network.tensor_shapes().items()
    }
    return numlstm.Model(Weights(network, tensors, labels=labels))


def make_samples(rate, seconds=2.0):
    """Return bursts of noise of different colours."""
    rng = np.random.default_rng(2)
    samples = rng.standard_normal(round(rate * seconds)) * 0.05
    samples *= np.sin(np.arange(len(samples)) * 9 / rate) ** 2
    samples += np.sin(np.arange(len(samples)) ** 1.1 * 700 / rate) * 0.1
    return samples.astype(np.float32)


SAMPLES = {rate: make_samples(rate) for rate in (8000, 44100)}


@pytest.fixture(scope="module", params=[1, 4], ids=["greedy", "beam"])
def pipe(request):
    return Transcriber(make_model(), request.param)


def write(path, samples, rate=SAMPLE_RATE, **options):
    soundfile.write(path, samples, rate, **options)
    return path


def test_words_have_a_text_and_times_in_order(pipe):
    found = pipe((SAMPLES[8000], 8000))
    assert len(found.words) > 3
    assert found.text == " ".join(word.text for word in found.words)
    assert {word.text for word in found.words} <= {"yes", "no"}
    for word in found.words:
        assert 0 <= word.start <= word.end <= 2.0
    for a, b in pairwise(found.words):
        assert a.end <= b.start


@pytest.mark.parametrize("rate", SAMPLES)
@settings(max_examples=30, deadline=None)
@given(cuts=st.lists(st.integers(0, 16000), max_size=20))
def test_any_pieces_give_the_same_transcript(pipe, rate, cuts):
    samples = SAMPLES[rate]
    stream = pipe.stream(rate)
    for a, b in pairwise([0, *sorted(cuts), len(samples)]):
        stream.feed(samples[a:b])
    assert stream.finish() == pipe((samples, rate))


def test_a_stream_says_what_it_has_heard(pipe):
    stream = pipe.stream()
    so_far = [len(stream.feed(part).words) for part in np.split(SAMPLES[8000], 100)]
    assert so_far[0] == 0
    assert any(0 < count < so_far[-1] for count in so_far)
    stream.finish()
    with pytest.raises(ValueError, match="finished; begin a new one with reset"):
        stream.feed(SAMPLES[8000])
    with pytest.raises(ValueError, match="finished"):
        stream.finish()
    stream.reset()
    stream.feed(SAMPLES[8000])
    assert stream.finish() == pipe((SAMPLES[8000], 8000))


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "PCM_32", "PCM_U8", "FLOAT", "DOUBLE"])
@pytest.mark.parametrize("kind", ["WAV", "WAVEX"])
def test_wav_files_of_every_kind(pipe, tmp_path, kind, subtype):
    path = write(tmp_path / "a.wav", SAMPLES[8000], format=kind, subtype=subtype)
    read, rate = soundfile.read(path, dtype="float32")
    assert pipe(path) == pipe(str(path)) == pipe((read, rate))


def test_a_stereo_file_of_44100_hertz_is_that_of_its_mean(pipe, tmp_path):
    stereo = np.stack([SAMPLES[44100] * 1.5, SAMPLES[44100] * 0.5], axis=1)
    path = write(tmp_path / "a.wav", stereo, 44100, subtype="FLOAT")
    assert pipe(path) == pipe((stereo, 44100))
    assert np.abs(mono(stereo) - SAMPLES[44100]).max() < 1e-7


def test_of_a_truncated_file_what_is_there(pipe, tmp_path):
    path = write(tmp_path / "a.wav", SAMPLES[8000], subtype="PCM_16")
    path.write_bytes(path.read_bytes()[: 44 + 2 * 5000 + 1])
    pcm = np.round(SAMPLES[8000][:5000] * 2**15).astype(np.int16)
    assert pipe(path) == pipe((pcm, 8000))


def test_without_samples_nothing_is_said(pipe, tmp_path):
    path = write(tmp_path / "a.wav", np.zeros(0, np.float32))
    assert pipe(path) == pipe((np.zeros(0, np.float32), 8000)) == pipe(([], 8000))


@pytest.mark.parametrize(
    ("data", "reason"),
    [(b"", "it is empty"), (b"what is this?\n" * 99, ""), (b"RIFF\x10\0\0\0WAVE", "")],
)
def test_a_file_without_sound_is_refused(pipe, tmp_path, data, reason):
    path = tmp_path / "a.wav"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=rf"a\.wav' is not a sound file: {reason}"):
        pipe(path)


def test_a_file_that_is_not_there_is_an_error_of_the_system(pipe, tmp_path):
    with pytest.raises(FileNotFoundError):
        pipe(tmp_path / "a.wav")
    with pytest.raises(OSError, match="directory"):
        pipe(tmp_path)


def test_every_type_of_samples_has_its_scale():
    pcm = np.array([-(2**15), 0, 2**14], np.int16)
    expected = np.array([-1, 0, 0.5], np.float32)
    for samples in (
        pcm,
        pcm.astype(np.int32) << 16,
        np.array([0, 128, 192], np.uint8),
        expected,
        expected.astype(np.float64),
        expected.tolist(),
    ):
        assert mono(samples).tolist() == expected.tolist()
        assert mono(samples).dtype == np.float32


@pytest.mark.parametrize(
    ("samples", "error", "message"),
    [
        ("zero", ValueError, r"shape \(\)"),
        (["zero"], TypeError, "of str"),
        (np.zeros(3, bool), TypeError, "of bool"),
        (np.zeros(3, np.int64), TypeError, "of int64, expected float32, int16, int32 or uint8"),
        (np.zeros(3, complex), TypeError, "of complex128"),
        (np.zeros((2, 8000), np.float32), ValueError, r"shape \(2, 8000\), expected \(T,\), or"),
        (np.zeros((3, 0), np.float32), ValueError, "shape"),
        ([[1.0], [1.0, 2.0]], TypeError, "cannot be read as an array"),
        ([0.0, np.nan], ValueError, r"samples\[1\] is not finite"),
        ([[0.0, np.inf]], ValueError, r"samples\[0, 1\] is not finite"),
        ([0.0, 3000.0], ValueError, "reach 3000, expected -1 to 1; pass 16-bit samples as int16"),
    ],
)
def test_a_refusal_leaves_the_stream_as_it_was(pipe, samples, error, message):
    stream = pipe.stream()
    stream.feed(SAMPLES[8000][:7000])
    with pytest.raises(error, match=message):
        stream.feed(samples)
    stream.feed(SAMPLES[8000][7000:])
    assert stream.finish() == pipe((SAMPLES[8000], 8000))


@pytest.mark.parametrize(
    ("rate", "error"),
    [("8000", TypeError), (None, TypeError), (True, TypeError), (0, ValueError),
     (-8000, ValueError), (float("nan"), ValueError), (1e9, ValueError)],
)  # fmt: skip
def test_a_rate_is_a_number_of_hertz(pipe, rate, error):
    with pytest.raises(error, match="the sample rate is"):
        pipe.stream(rate)


def test_a_sound_is_a_path_or_samples_and_rate(pipe):
    one = (SAMPLES[8000], 8000)
    assert pipe([one, one]) == [pipe(one)] * 2
    assert pipe([one, ([], 8000), one]) == [pipe(one), Transcript("", ()), pipe(one)]
    assert pipe([]) == []
    with pytest.raises(TypeError, match=r"ndarray, expected a path or \(samples, rate\)"):
        pipe(SAMPLES[8000])
    with pytest.raises(ValueError, match="sound 1: the samples reach 99"):
        pipe([one, ([99.0], 8000)])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": ("a", "b", "c")}, "first labels are not '<blank>' and '|'"),
        ({"input_size": 40}, "does not read rows of 80 log-mel energies"),
        ({"last": numlstm.Softmax}, "does not end in a log-softmax"),
        ({"direction": "bidirectional"}, "reads later steps"),
    ],
)
def test_a_model_for_something_else_is_refused(options, message):
    with pytest.raises(numlstm.WeightsError, match=message):
        Transcriber(make_model(**options))


@pytest.mark.parametrize("beam_size", [0, 1.5, True, "2"])
def test_a_beam_size_is_an_integer_from_one(beam_size):
    with pytest.raises(ValueError, match="beam_size is"):
        Transcriber(make_model(), beam_size)


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 44100, 48000])
def test_a_tone_keeps_its_pitch_and_its_length(rate):
    samples = np.sin(2 * np.pi * 440 * np.arange(rate) / rate).astype(np.float32)
    resampled = Resampler(rate, SAMPLE_RATE).feed(samples, last=True)
    expected = np.sin(2 * np.pi * 440 * np.arange(SAMPLE_RATE) / SAMPLE_RATE)
    assert len(resampled) == SAMPLE_RATE
    np.testing.assert_allclose(resampled[200:-200], expected[200:-200], atol=1e-3)


@pytest.mark.parametrize(
    ("module", "package", "sound"),
    [("soxr", "soxr", ([0.0], 16000)), ("soundfile", "soundfile", "a.wav")],
)
def test_a_missing_package_says_what_to_install(pipe, monkeypatch, module, package, sound):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf'{package}.*pip install "numlstm\[audio\]"'):
        pipe(sound)


def test_a_file_in_memory_is_read(pipe):
    path = ROOT / "weights" / "digits.wav"
    assert pipe(io.BytesIO(path.read_bytes())) == pipe(path)
    with pytest.raises(ValueError, match="the file' is not a sound file: it is empty"):
        pipe(io.BytesIO())


def test_nothing_was_said_yet(pipe):
    assert pipe.stream().feed([]) == Transcript("", ())
