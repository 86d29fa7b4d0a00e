"""Sentiment of film reviews, transcranial/keras-js-demos-data: a BiLSTM of Keras 2."""

from pathlib import Path

import numpy as np
import pytest

import numlstm
from numlstm.spec import Weights
from tests.cases import Tolerance
from tests.lazy import from_keras
from tests.real.conftest import Runner

FOLDER = "kerasjs_imdb_bilstm"
PROBABILITIES = Tolerance(1e-5, 0.0, "a probability after 200 words")


def read(folder: Path) -> Weights:
    with np.load(folder / "weights_dequantized.npz") as file:
        return from_keras.convert(
            {name: file[name] for name in file}, config=folder / "model_config.json"
        )


@pytest.fixture
def weights(real: Path) -> Weights:
    return read(real)


@pytest.fixture
def reviews(real: Path) -> dict[str, np.ndarray]:
    with np.load(real / "ref_first500.npz") as file:
        return {name: file[name] for name in file}


def test_the_probabilities_of_20_reviews(runner: Runner, weights, reviews):
    found = [runner.run(weights, ids)[0][-1, 0] for ids in reviews["input_ids"][:20]]
    runner.hold("imdb", "P(positive)", found, reviews["prob"][:20], PROBABILITIES)


def test_the_accuracy_on_500_reviews(weights, reviews, record):
    model = numlstm.Model(weights)
    found = np.array([model.run(ids)[-1, 0] for ids in reviews["input_ids"]])
    PROBABILITIES.check(found, reviews["prob"], "500 reviews")
    record("imdb", "P(positive)", np.abs(found - reviews["prob"]).max(), PROBABILITIES)
    assert ((found > 0.5) == reviews["label"]).mean() == 0.870
