"""The bundled voice detector: Silero VAD 6, whose authors' ONNX Runtime answers are its reference.

The last chunks are louder noise: the states of an LSTM that has run for half a minute.
"""

from pathlib import Path

import numpy as np
import pytest

import numlstm
from tests.cases import Tolerance
from tests.cli.test_cli import numlstm_command
from tests.lazy import soundfile
from weights.recipes.vad import FILE, read

FOLDER = "silero_vad_6"

PROBABILITIES = Tolerance(1e-5, 0.0, "after up to 937 chunks in float32")
SOUNDS = {
    16000: ("speech_noise_30s_16k.wav", "ref_16k.npz"),
    8000: ("speech_noise_20s_8k.wav", "ref_8k.npz"),
}


@pytest.fixture(params=SOUNDS)
def rate(request):
    return request.param


@pytest.fixture
def expected(real: Path, rate):
    with np.load(real / SOUNDS[rate][1]) as file:
        return file["prob_ifless"].ravel()


def test_the_bundled_networks_have_the_tensors_of_the_authors(real):
    bundled = numlstm.load_parts("vad")
    for name, weights in read(real / FILE).items():
        assert bundled[name].network == weights.network
        for tensor, array in weights.tensors.items():
            assert bundled[name].weights.tensors[tensor].tobytes() == array.tobytes()


def test_probabilities_are_the_authors(real, rate, expected, record):
    found = numlstm.pipeline("vad")(real / SOUNDS[rate][0]).probabilities
    PROBABILITIES.check(found, expected, "probabilities")
    record("silero VAD, bundled", f"{rate} Hz", np.abs(found - expected).max(), PROBABILITIES)


def test_in_pieces_and_in_a_pool_they_have_the_same_bits(real, rate):
    pcm, _ = soundfile.read(real / SOUNDS[rate][0], dtype="int16")
    pipe = numlstm.pipeline("vad")
    whole = pipe((pcm, rate))
    stream, pool = pipe.stream(rate), pipe.pool(2, rate)
    slots = [pool.open(), pool.open()]
    for at in range(0, len(pcm), rate // 50):
        piece = pcm[at : at + rate // 50]
        events = stream.feed(piece)
        assert pool.feed(slots, [piece, piece]) == [events, events]
    assert stream.finish() == pool.close(slots[0]) == pool.close(slots[1]) == whole


def test_two_streams_of_the_authors_batch(real):
    """The second began at chunk 300, with what came before it as its context."""
    pcm, rate = soundfile.read(real / SOUNDS[16000][0], dtype="float32")
    with np.load(real / SOUNDS[16000][1]) as file:
        expected = file["prob_ifless_batch2"]
    padded = np.concatenate([np.zeros(64, np.float32), pcm])
    rows = np.lib.stride_tricks.sliding_window_view(padded, 576)[::512]
    model = numlstm.pipeline("vad").models[rate]
    pool = model.pool(2)
    slots = [pool.open(), pool.open()]
    xs = np.stack([rows[:60], rows[300:360]], axis=1)
    PROBABILITIES.check(pool.run(slots, xs)[..., 0], expected, "two streams")


def test_a_file_of_the_authors_is_converted_by_the_command_and_loaded_by_the_task(real, tmp_path):
    path = tmp_path / "vad.safetensors"
    _, said = numlstm_command("convert", real / FILE, path)
    assert "Silero VAD, at 16 kHz unless constants={'sr': 8000}" in said
    with np.load(real / SOUNDS[16000][1]) as file:
        expected = file["prob_ifless"].ravel()
    found = numlstm.pipeline("vad", path)(real / SOUNDS[16000][0]).probabilities
    PROBABILITIES.check(found, expected, "probabilities")
