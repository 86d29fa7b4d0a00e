"""English spelling to sound, Kyubyong/g2p: a GRU reads letters, another says phonemes."""

import json
from pathlib import Path

import numpy as np
import pytest

import numlstm
from numlstm import reference
from numlstm.spec import GRU, Embedding, Linear, Network, Weights
from tests.cases import Tolerance, assert_same_bits
from tests.real.conftest import assert_streams

LOGITS = Tolerance(1e-4, 0.0, "logits after up to 35 float32 steps, of the float64 reference")
START, END, LONGEST = 2, 3, 20  # phonemes <s>, </s>, and how many are said at most


def read(path: Path) -> tuple[Weights, Weights]:
    """Return the encoder and the decoder."""
    with np.load(path) as file:
        arrays = {name: file[name] for name in file}

    def part(prefix: str) -> dict[str, np.ndarray]:
        names = {"w_ih": "weight_ih", "w_hh": "weight_hh", "b_ih": "bias_ih", "b_hh": "bias_hh"}
        tensors = {f"layers.0.{to}": arrays[f"{prefix}_{name}"] for name, to in names.items()}
        return {"embedding.weight": arrays[f"{prefix}_emb"]} | tensors

    encoder = Network((Embedding(29, 256), GRU(256, 256)))
    decoder = Network((Embedding(74, 256), GRU(256, 256), Linear(256, 74)))
    head = {"layers.1.weight": arrays["fc_w"], "layers.1.bias": arrays["fc_b"]}
    return Weights(encoder, part("enc")), Weights(decoder, part("dec") | head)


@pytest.fixture
def models(real: Path) -> tuple[Weights, Weights]:
    return read(real / "checkpoint20.npz")


@pytest.fixture
def vocab(real: Path) -> dict[str, list[str]]:
    return json.loads((real / "vocab.json").read_text())


@pytest.fixture
def expected(real: Path) -> dict[str, list[str]]:
    return json.loads((real / "expected_pronunciations.json").read_text())


def letters_of(word: str, vocab: dict[str, list[str]]) -> np.ndarray:
    known = {symbol: n for n, symbol in enumerate(vocab["graphemes"])}
    return np.array([known.get(symbol, 1) for symbol in [*word.lower(), "</s>"]], np.int32)


def said(models: tuple[Weights, Weights], ids: np.ndarray) -> tuple[list[int], list[np.ndarray]]:
    """Return the phonemes that the engine says, and the logits of each."""
    encoder, decoder = (numlstm.Model(weights).stream() for weights in models)
    encoder.run(ids)
    decoder.state = {"layers.0.h": encoder.state["layers.0.h"]}
    phonemes, logits = [START], []
    while len(logits) < LONGEST:
        logits.append(decoder.step(phonemes[-1]))
        phonemes.append(int(logits[-1].argmax()))
        if phonemes[-1] == END:
            return phonemes[1:-1], logits
    return phonemes[1:], logits


def test_the_sounds_of_101_words(models, vocab, expected, record):
    assert len(expected) == 101
    wrong = []
    for word, sounds in expected.items():
        phonemes, _ = said(models, letters_of(word, vocab))
        if [vocab["phonemes"][n] for n in phonemes] != sounds:
            wrong.append(word)
    assert wrong == []
    record("g2p_en", "words wrong of 101", len(wrong), 0)


def test_logits_are_those_of_the_reference(models, vocab, expected, record):
    """Each step of the decoder reads what it said before, so this is every word's own path."""
    encoder, decoder = models
    for word in list(expected)[::10]:
        ids = letters_of(word, vocab)
        phonemes, logits = said(models, ids)
        read = np.array([START, *phonemes][: len(logits)], np.int32)
        _, states = reference.run(encoder.network, encoder.tensors, ids)
        exact, _ = reference.run(decoder.network, decoder.tensors, read, states=states)
        LOGITS.check(logits, exact, word)
        assert [int(n) for n in exact.argmax(1)][: len(phonemes)] == phonemes
        record("g2p_en", "logits, of reference.py", np.abs(logits - exact).max(), LOGITS)


def test_a_stream_has_the_bits_of_a_run(models, vocab):
    encoder, decoder = models
    assert_streams(encoder, letters_of("activationist", vocab))
    streams = [numlstm.Model(decoder).stream() for _ in range(2)]
    state = {"layers.0.h": numlstm.Model(encoder).run([3, 4, 5])[-1]}
    for stream in streams:
        stream.state = state
    ids = np.arange(2, 30, dtype=np.int32)
    steps = np.stack([streams[0].step(int(n)) for n in ids])
    assert_same_bits(streams[1].run(ids), steps, "after a hand-over")
