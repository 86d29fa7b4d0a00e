"""docs/horizon.md holds the figures of docs/horizon.json; the adding problem is what it says."""

import json

import numpy as np
import pytest

from tests.conftest import ROOT
from tests.lazy import Lazy

adding = Lazy("weights.recipes.adding")
DOCS = ROOT / "docs"


@pytest.mark.parametrize("seq_len", [2, 3, 10, 101])
def test_one_mark_is_in_each_half(seq_len):
    xs, sums = adding.draw(np.random.default_rng(0), 500, seq_len)
    assert xs.shape == (500, seq_len, 2)
    marks, half = xs[:, :, 1], seq_len // 2
    assert set(np.unique(marks)) <= {0.0, 1.0}
    assert (marks[:, :half].sum(1) == 1).all()
    assert (marks[:, half:].sum(1) == 1).all()
    expected = [numbers[mark == 1].sum() for numbers, mark in zip(xs[:, :, 0], marks, strict=True)]
    np.testing.assert_allclose(sums, expected, rtol=1e-6)
    assert (marks.sum(0) > 0).all()  # any step may be marked


def test_the_error_of_who_always_answers_1_is_a_sixth():
    _, sums = adding.draw(np.random.default_rng(0), 100_000, 10)
    assert np.mean((sums.astype(np.float64) - 1) ** 2) == pytest.approx(1 / 6, rel=0.02)


def test_the_page_holds_the_figures():
    figures = json.loads((DOCS / "horizon.json").read_text(encoding="utf-8"))
    page = (DOCS / "horizon.md").read_text(encoding="utf-8")
    assert adding.table(figures) in page
    assert {(row["cell"], row["steps"]) for row in figures["rows"]} == {
        (cell, steps) for cell in adding.CELLS for steps in adding.SEQ_LENS
    }
    for picture in ("horizon-task.png", "horizon-jacobian.png", "trace.png"):
        assert f"]({picture})" in page
        assert (DOCS / picture).read_bytes().startswith(b"\x89PNG")


def test_what_the_page_says_of_the_cells_is_so():
    """The RNN is lost at the longest, the others add; its Jacobian falls away, theirs do not."""
    figures = json.loads((DOCS / "horizon.json").read_text(encoding="utf-8"))
    errors = {(row["cell"], row["steps"]): row["mean_squared_error"] for row in figures["rows"]}
    longest = max(adding.SEQ_LENS)
    assert errors["RNN", min(adding.SEQ_LENS)] < 0.01
    assert errors["RNN", longest] > 0.15
    norms = {cell: own["trained"] for cell, own in figures["jacobians"].items()}
    for cell in ("GRU", "LSTM"):
        assert errors[cell, longest] < 0.01
        assert norms[cell][-1] > 0.5
    assert norms["RNN"][-1] < 0.05
    before = {cell: own["untrained"] for cell, own in figures["jacobians"].items()}
    for cell in ("RNN", "GRU"):  # a straight line on a logarithmic scale
        slopes = np.diff(np.log(before[cell]))[10:]
        assert slopes.std() < 0.2 * -slopes.mean()
    assert before["RNN"][-1] < before["LSTM"][-1] < norms["RNN"][-1]
