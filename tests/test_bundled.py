"""The bundled models: their sizes, their cards."""

import re

import pytest

import numlstm
from numlstm.tasks import TASKS
from tests.conftest import ROOT
from weights.scores.card import describe

PATHS = numlstm.bundled()
EXACT = {"vad"}  # probabilities that are held to their authors', which rounding moves by 0.01
LARGE = [n for n, path in PATHS.items() if path.stat().st_size > 2e6 and n not in EXACT]
RECIPES = {"sentiment-bilstm": "sentiment_bilstm", "email": "mail"}
MARKERS = ("summary", "model", "scores", "speed", "agreement", "dtypes")


def test_all_have_a_task_and_together_are_small():
    assert set(PATHS) == {model for task in TASKS.values() for model in task.models}
    assert sum(path.stat().st_size for path in PATHS.values()) < 40e6


@pytest.mark.parametrize("name", LARGE)
def test_what_is_large_is_rounded(name):
    networks = [model.network for model in numlstm.load_parts(name).values()]
    largest = max(networks, key=lambda network: len(str(network.tensor_shapes())))
    assert set(largest.matrix_dtypes().values()) <= {"bfloat16", "int8"}


@pytest.mark.parametrize("name", PATHS)
def test_a_card_says_what_was_measured_and_how_to_train_anew(name):
    card = PATHS[name].with_suffix(".md").read_text(encoding="utf-8")
    for marker in MARKERS:
        found = re.search(rf"<!-- {marker} -->\n(.+?)\n<!-- /{marker} -->", card, re.S)
        assert found, marker
        assert any(character.isdigit() for character in found[1]), marker
    assert f"<!-- model -->\n{describe(PATHS[name])}\n<!-- /model -->" in card
    recipe = f"weights/recipes/{RECIPES.get(name, name)}.py"
    assert f"python {recipe} --data" in card
    assert (ROOT / recipe).is_file()
    assert f"python -m weights.evaluate {name} --data DIR" in card
    assert "licence" in card
    assert "## Known failures" in card
