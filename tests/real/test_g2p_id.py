"""Indonesian words to phonemes: bookbot-kids/g2p_id, an encoder and a decoder in ONNX."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import numlstm
from numlstm import reference
from numlstm.spec import Weights
from tests.cases import Tolerance
from tests.lazy import from_onnx

STATES = Tolerance(1e-4, 1e-5, "h and c after 24 one-hot letters")
PROBABILITIES = Tolerance(1e-5, 0.0, "the softmax of 14 phonemes")


def one_hot(ids: list[int], size: int) -> np.ndarray:
    return np.eye(size, dtype=np.float32)[ids]


@dataclass(frozen=True)
class G2P:
    """Both networks, and the numbers of letters and phonemes."""

    encoder: Weights
    decoder: Weights
    letters: dict[str, int]
    phonemes: dict[str, int]
    config: dict[str, object]

    def xs(self, word: str) -> np.ndarray:
        """Return the letters, then the symbol for none, which is read, too: (24, 28)."""
        padded = word.ljust(24)
        return one_hot([self.letters[letter] for letter in padded], 28)

    def decode(self, state: dict[str, np.ndarray]) -> tuple[str, np.ndarray]:
        """Return the most likely phonemes, one after the other, and all probabilities."""
        names = {number: phoneme for phoneme, number in self.phonemes.items()}
        stream = numlstm.Model(self.decoder).stream()
        stream.state = state
        text, rows = "\t", []
        while True:
            rows.append(stream.step(one_hot([self.phonemes[text[-1]]], 32)[0]))
            text += names[int(rows[-1].argmax())]
            if text[-1] == "\n" or len(text) > 26:
                return text.strip("\t\n"), np.array(rows)

    def pronounce(self, word: str) -> str:
        stream = numlstm.Model(self.encoder).stream()
        stream.run(self.xs(word))
        return self.decode(stream.state)[0]


@pytest.fixture
def g2p(real: Path) -> G2P:

    def read(name: str):
        return json.loads((real / name).read_text())

    return G2P(
        from_onnx.convert(real / "encoder_model.onnx"),
        from_onnx.convert(real / "decoder_model.onnx"),
        read("g2id.json"),
        read("p2id.json"),
        read("config.json"),
    )


def test_the_words_of_the_authors(real, g2p, record):
    expected = json.loads((real / "upstream_expected.json").read_text())
    assert {word: g2p.pronounce(word) for word in expected} == expected
    record("g2p_id", f"words wrong of {len(expected)}", 0, 0)


def test_50_words_of_onnxruntime(real, g2p, record):
    expected = json.loads((real / "ref_words.json").read_text())
    assert {word: g2p.pronounce(word) for word in expected} == expected
    record("g2p_id", f"words wrong of {len(expected)}", 0, 0)


def test_states_and_probabilities(real, g2p, runner):
    with np.load(real / "ref_mengembangkannya.npz") as file:
        expected = {name: file[name] for name in file}
    np.testing.assert_array_equal(g2p.xs("mengembangkannya"), expected["x"][0])
    _, states = runner.run(g2p.encoder, expected["x"][0])
    for name in "hc":
        found = states[f"layers.0.{name}"]
        runner.hold("g2p_id", name, found, expected[name][0], STATES)
    given = {f"layers.0.{name}": expected[name][0] for name in "hc"}
    text, rows = g2p.decode(given)
    assert text == "məŋəmbaŋkanɲa"
    if runner.name == "reference":
        xs = one_hot([g2p.phonemes[phoneme] for phoneme in "\t" + text], 32)
        decoder = g2p.decoder
        rows, _ = reference.run(decoder.network, decoder.tensors, xs, states=given)
    runner.hold("g2p_id", "probabilities", rows, expected["probs"], PROBABILITIES)
