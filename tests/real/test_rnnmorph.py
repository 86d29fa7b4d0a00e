"""English parts of speech, rnnmorph 0.4.1: two inputs, letters by their ids, a class of its own."""

import json
from pathlib import Path

import numpy as np
import pytest

import numlstm
from numlstm.spec import Columns, Weights
from tests.cases import Tolerance
from tests.lazy import from_keras
from tests.real.conftest import Runner

CUSTOM = {"ReversedLSTM": "LSTM Reverse"}
NUM_LETTERS = 153
PROBABILITIES = Tolerance(1e-5, 0.0, "softmax of 187 behind three LSTM layers, hard sigmoids")


@pytest.fixture(scope="module")
def converted() -> dict[Path, Weights]:
    return {}


def read(folder: Path, converted: dict[Path, Weights]) -> Weights:
    if folder not in converted:
        config = folder / "eval_model.json"
        converted[folder] = from_keras.convert(
            folder / "eval_model.h5", config=config, custom=CUSTOM
        )
    return converted[folder]


def rows_of(weights: Weights, grammemes: np.ndarray, chars: np.ndarray) -> np.ndarray:
    """Return rows of both inputs: a letter is 1 at its id."""
    letters = np.eye(NUM_LETTERS, dtype=np.float32)[chars.astype(int)]
    letters = letters.reshape(len(chars), -1)
    return numlstm.Model(weights).joined(grammemes=grammemes, chars=letters)


def test_the_tags_of_30_sentences(runner: Runner, real, converted):
    weights = read(real, converted)
    assert weights.inputs == (Columns("grammemes", 13), Columns("chars", 32 * NUM_LETTERS))
    found, expected, by_keras = [], [], []
    with np.load(real / "ref_30_sentences.npz") as file:
        for n in range(30):
            xs = rows_of(weights, file[f"grammemes{n:02}"], file[f"chars{n:02}"])
            found.append(runner.run(weights, xs)[0])
            expected.append(file[f"prob_f64_{n:02}"])
            by_keras.append(file[f"prob_keras_{n:02}"])
    ys, wanted = np.concatenate(found), np.concatenate(expected)
    runner.hold("rnnmorph", "probabilities", ys, wanted, PROBABILITIES)
    runner.hold("rnnmorph", "those of tf_keras", ys, np.concatenate(by_keras), PROBABILITIES)
    np.testing.assert_array_equal(ys[:, 1:].argmax(1), wanted[:, 1:].argmax(1))


def test_sentences_in_a_batch_have_the_answers_of_each(real, converted):
    weights = read(real, converted)
    model = numlstm.Model(weights)
    with np.load(real / "ref_30_sentences.npz") as file:
        xss = [rows_of(weights, file[f"grammemes{n:02}"], file[f"chars{n:02}"]) for n in range(3)]
    for xs, ys in zip(xss, model.run_batch(xss), strict=True):
        PROBABILITIES.check(ys, model.run(xs), "in a batch")


def test_the_names_of_the_tags_are_those_of_the_sentences(real, converted):
    sentence = json.loads((real / "sentences.json").read_text(encoding="utf-8"))[0]
    names = json.loads((real / "gram_output.json").read_text(encoding="utf-8"))["name_to_index"]
    tags = {index: name for name, index in names.items()}
    weights = read(real, converted)
    with np.load(real / "ref_30_sentences.npz") as file:
        ys = numlstm.Model(weights).run(rows_of(weights, file["grammemes00"], file["chars00"]))
    assert len(ys) == len(sentence["words"])
    assert all(tags[int(tag)] for tag in ys[:, 1:].argmax(1) + 1)
