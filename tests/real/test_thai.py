"""Thai word segmentation of the Unicode Consortium: a BiLSTM tags begin, inside, end, single."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from numlstm import reference
from numlstm.convert.assembly import named_tensors
from numlstm.convert.gates import from_keras
from numlstm.spec import LSTM, Embedding, Linear, Network, Softmax, Weights
from tests.cases import Tolerance
from tests.real.conftest import Runner

FOLDER = "unicode_thai_bilstm"
PROBABILITIES = Tolerance(1e-5, 0.0, "probabilities of up to 94 characters")

# A character with the vowels and the tone marks that follow it.
CLUSTER = re.compile("[^\u0e31\u0e33-\u0e3a\u0e47-\u0e4e]?[\u0e31\u0e33-\u0e3a\u0e47-\u0e4e]*")


def read(path: Path) -> tuple[Weights, dict[str, int]]:
    """Return the network of a weights.json, and its dictionary."""
    document = json.loads(path.read_text())
    arrays = [
        np.array(document[f"mat{n}"]["data"], np.float32).reshape(document[f"mat{n}"]["dim"])
        for n in range(1, 10)
    ]
    table, *lstms, kernel, bias = arrays
    forward, reverse = from_keras(*lstms[:3]), from_keras(*lstms[3:])
    both = forward | {f"{name}_reverse": tensor for name, tensor in reverse.items()}
    head = {"weight": kernel.T, "bias": bias}
    vocab_size, size = table.shape
    hidden_size = len(kernel) // 2
    network = Network(
        (
            Embedding(vocab_size, size),
            LSTM(size, hidden_size, direction="bidirectional"),
            Linear(2 * hidden_size, 4),
            Softmax(4),
        )
    )
    tensors = named_tensors(network, ({"weight": table}, both, head, {}))
    return Weights(network, tensors, labels=tuple("bies")), document["dic"]


def ids_of(symbols: list[str], dictionary: dict[str, int]) -> np.ndarray:
    return np.array([dictionary.get(symbol, len(dictionary)) for symbol in symbols], np.int32)


def tags_of(probabilities: np.ndarray) -> str:
    return "".join("bies"[tag] for tag in probabilities.argmax(1))


def word_starts(tags: str) -> list[bool]:
    return [tag in "bs" for tag in tags]


@pytest.fixture
def cases(real: Path) -> list[dict[str, str]]:
    return json.loads((real / "test_text_codepoints.json").read_text())["testcases"]


def test_the_tags_of_30_texts(runner: Runner, real, cases):
    weights, dictionary = read(real / "Thai_codepoints_exclusive_model4_heavy.weights.json")
    assert len(cases) == 30
    wrong = [
        case["unseg"]
        for case in cases
        if tags_of(runner.run(weights, ids_of(case["unseg"], dictionary))[0])
        != case["expected_bies"]
    ]
    assert wrong == []
    if runner.name == "engine":
        runner.record("Thai codepoints", "texts tagged wrong of 30", len(wrong), 0)


def test_probabilities_are_those_of_keras(runner: Runner, real):
    weights, _ = read(real / "Thai_codepoints_exclusive_model4_heavy.weights.json")
    with np.load(real / "ref_codepoints_first6.npz") as file:
        for n in range(6):
            found, _ = runner.run(weights, file[f"ids_{n}"])
            runner.hold(
                "Thai codepoints", "probabilities", found, file[f"probs_{n}"], PROBABILITIES
            )


def test_grapheme_clusters_begin_words_where_people_do(runner: Runner, real, cases):
    weights, dictionary = read(real / "Thai_graphclust_model4_heavy.weights.json")
    right = total = 0
    for case in cases:
        clusters = [cluster for cluster in CLUSTER.findall(case["unseg"]) if cluster]
        assert "".join(clusters) == case["unseg"]
        ids = ids_of(clusters, dictionary)
        found, _ = runner.run(weights, ids)
        expected, _ = reference.run(weights.network, weights.tensors, ids)
        runner.hold(
            "Thai graphemes", "probabilities, of reference.py", found, expected, PROBABILITIES
        )
        first = np.cumsum([0, *map(len, clusters)])[:-1]
        truth = word_starts(case["true_bies"])
        starts = word_starts(tags_of(np.asarray(found)))
        right += sum(truth[at] == start for at, start in zip(first, starts, strict=True))
        total += len(clusters)
    assert right / total > 0.9
