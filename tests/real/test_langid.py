"""Language identification, AU-DIS/LSTM_langid: a BiLSTM whose logits are summed over the text."""

import json
from pathlib import Path

import numpy as np
import pytest

import numlstm
from tests.cases import Tolerance
from tests.lazy import nn, torch
from tests.real.conftest import Runner

SUMS = Tolerance(1e-4, 1e-5, "sums of up to 34 logits in float32")
LAYERS = "char_embeddings:Embedding lstm:LSTM hidden2lang:Linear sum"


def read_checkpoint(path: Path) -> dict:
    return torch.load(path, map_location="cpu", weights_only=True)


def read(path: Path) -> numlstm.Model:
    languages = read_checkpoint(path)["lang_to_idx"]
    labels = sorted(languages, key=languages.get)
    return numlstm.from_torch(path, layers=LAYERS, key="model_state_dict", labels=labels)


def ids_of(text: str, checkpoint: dict) -> np.ndarray:
    """Return the ids of a text; a character the model does not know has the last id."""
    known = checkpoint["char_to_idx"]
    return np.array([known.get(c, len(known)) for c in text], np.int32)


@pytest.fixture
def path(real: Path) -> Path:
    return real / "LID_mixed_model.pkl"


@pytest.fixture
def checkpoint(path: Path) -> dict:
    return read_checkpoint(path)


@pytest.fixture
def model(path: Path) -> numlstm.Model:
    return read(path)


@pytest.fixture
def texts(real: Path, checkpoint: dict) -> dict[str, np.ndarray]:
    answers = json.loads((real / "ref_labels_first5.json").read_text())
    return {text: ids_of(text, checkpoint) for text in answers}


def test_the_languages_of_5_texts(runner: Runner, real, model, texts):
    expected = json.loads((real / "ref_labels_first5.json").read_text())
    assert len(texts) == 5
    found = {}
    for text, ids in texts.items():
        ys, _ = runner.run(model.weights, ids)
        assert ys.shape == (1, 20)  # one row for the whole text
        found[text] = model.labels[int(ys[0].argmax())]
    assert found == expected
    wrong = sum(found[text] != language for text, language in expected.items())
    if runner.name == "engine":
        runner.record("langid", "languages wrong of 5", wrong, 0)


def test_sums_of_logits_are_those_of_torch(runner: Runner, model, texts, checkpoint):
    tensors = checkpoint["model_state_dict"]
    modules = nn.ModuleDict(
        {
            "char_embeddings": nn.Embedding(682, 150),
            "lstm": nn.LSTM(150, 150, 2, bidirectional=True),
            "hidden2lang": nn.Linear(300, 20),
        }
    )
    modules.load_state_dict(tensors)
    for ids in texts.values():
        with torch.no_grad():
            hs, _ = modules["lstm"](modules["char_embeddings"](torch.from_numpy(ids)))
            expected = modules["hidden2lang"](hs).sum(0, keepdim=True).numpy()
        found, _ = runner.run(model.weights, ids)
        runner.hold("langid", "sums of logits", found, expected, SUMS)


def test_the_conversion_is_verified_against_torch(model):
    assert model.verify().ok
    assert not model.network.is_causal
