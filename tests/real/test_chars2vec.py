"""Vectors of words from their characters, IntuitionEngineeringTeam/chars2vec: Keras 2.2 weights."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from numlstm.spec import Weights, WeightsError
from tests.cases import Tolerance
from tests.lazy import from_keras, h5py
from tests.real.conftest import Runner, assert_streams

VECTORS = Tolerance(1e-5, 0.0, "the last h of two LSTMs after a short word")


def config_of(names: list[str], sizes: list[int], gates: str) -> dict[str, Any]:
    """Return the model that upstream's code builds around the weights."""
    first, last = (
        {"name": name, "units": size, "recurrent_activation": gates, "activation": "tanh"}
        for name, size in zip(names, sizes, strict=True)
    )
    first |= {"return_sequences": True, "batch_input_shape": [None, None, 59]}
    layers = [{"class_name": "LSTM", "config": config} for config in (first, last)]
    return {"class_name": "Sequential", "config": {"layers": layers}, "keras_version": "2.2.0"}


def read(folder: Path, gates: str) -> Weights:
    with h5py.File(folder / "weights.h5") as file:
        names = [name.decode() for name in file.attrs["layer_names"]][1:]
        sizes = [len(file[f"{name}/{name}/recurrent_kernel:0"]) for name in names]
    return from_keras.convert(folder / "weights.h5", config=config_of(names, sizes, gates))


def one_hot(folder: Path, word: str) -> np.ndarray:
    ids = json.loads((folder / "model.json").read_text())["char_to_ix"]
    rows = np.zeros((len(word), len(ids)), np.float32)
    for row, character in zip(rows, word.lower(), strict=True):
        if character in ids:
            row[ids[character]] = 1
    return rows


@pytest.mark.parametrize("gates", ["hard_sigmoid", "sigmoid"])
def test_the_vectors_of_10_words(runner: Runner, real, gates):
    folder = real / "eng_50"
    weights = read(folder, gates)
    with np.load(real / "ref_eng_50_first10.npz") as file:
        found = [runner.run(weights, one_hot(folder, word))[0][-1] for word in file["words"]]
        runner.hold("chars2vec", f"vectors, {gates}", found, file[gates], VECTORS)


def test_the_larger_network(runner: Runner, real):
    weights = read(real / "eng_100", "hard_sigmoid")
    ys, _ = runner.run(weights, one_hot(real / "eng_100", "numlstm"))
    assert ys.shape == (7, 100)


def test_a_stream_has_the_bits_of_a_run(real):
    folder = real / "eng_50"
    assert_streams(read(folder, "hard_sigmoid"), one_hot(folder, "predictive maintenance"))


def test_the_weights_alone_say_what_they_need(real):
    with pytest.raises(WeightsError, match=r"config=.*network=.*lstm_1, lstm_2"):
        from_keras.convert(real / "eng_50" / "weights.h5")
