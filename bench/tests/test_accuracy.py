"""What `accuracy` counts, and the command from end to end where the real networks are."""

from pathlib import Path

import numpy as np
import pytest
import typer

from bench import report
from bench.measure import accuracy
from bench.measure.accuracy_networks import Trial
from numlstm import Linear, Network, Weights
from tests.real.conftest import REAL


def test_labels_errors_and_nats() -> None:
    weight = np.array([[1.0, 0.0], [1.001, 0.0]], np.float32)  # in bfloat16, two rows alike
    weights = Weights(Network((Linear(2, 2, bias=False),)), {"layers.0.weight": weight})
    ys = np.array([[1.0, 1.001]])
    trial = Trial(
        "two rows",
        "a number",
        "logits",
        (weights,),
        lambda rounded: ys[:, :1] * rounded.tensors["layers.0.weight"][:, 0],
        label=lambda ys: ys.argmax(1),
        truth=np.array([1]),
        log_p=lambda ys: np.log(ys / ys.sum(1)),
    )
    found = accuracy.compare(trial)
    dtypes = found["dtypes"]
    assert found["num_outputs"] == 1
    assert found["largest_output"] == pytest.approx(1.001)
    assert dtypes["float32"] | {"nats": 0} == {
        "largest_error": 0, "label_changes": 0, "right": 1, "nats": 0
    }  # fmt: skip
    assert dtypes["float32"]["nats"] == pytest.approx(-np.log(1.001 / 2.001))
    assert dtypes["bfloat16"]["largest_error"] == pytest.approx(0.001, rel=1e-3)
    assert (dtypes["bfloat16"]["label_changes"], dtypes["bfloat16"]["right"]) == (1, 0)
    assert dtypes["bfloat16"]["nats"] == pytest.approx(np.log(2))
    assert dtypes["int8"]["label_changes"] == 0  # each row has a scale


def test_some_networks(tmp_path: Path) -> None:
    if not REAL.is_dir():
        pytest.skip("no real networks beside the repository")
    for package in ("onnxruntime", "matplotlib"):  # to hold it against, to report it
        pytest.importorskip(package)
    path = tmp_path / "accuracy.json"
    accuracy.accuracy(quick=True, json_path=path)
    page = path.with_suffix(".md").read_text()
    for text in ("sentiment (bundled)", "ml5 darwin", "## Nats per character", "LSTM 1 x 160"):
        assert text in page
    path.with_suffix(".md").unlink()
    report.report([path])
    assert path.with_suffix(".md").read_text() == page


def test_no_networks(tmp_path: Path) -> None:
    with pytest.raises(typer.BadParameter, match=r"there is no folder .* of real networks"):
        accuracy.accuracy(real=tmp_path / "none")
