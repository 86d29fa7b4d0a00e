"""The operator tests of onnx as its repository once kept them, through `numlstm.backend`."""

import numpy as np
import pytest

from tests.cases import Tolerance
from tests.lazy import backend, onnx
from tests.real.conftest import REAL

FOLDER = "onnx_node_rnn"
EXACT = Tolerance(1e-6, 0.0, "a few steps of a few units; the other engines differ by 1.2e-7")
NAMES = sorted(path.name for path in (REAL / FOLDER).glob("test_*"))


@pytest.mark.parametrize("name", NAMES or ["none"])
def test_operator(real, name, record):
    def tensors(what: str) -> list[np.ndarray]:
        paths = sorted((real / name / "test_data_set_0").glob(f"{what}_*.pb"))
        return [onnx.numpy_helper.to_array(onnx.load_tensor(path)) for path in paths]

    model, expected = onnx.load(real / name / "model.onnx"), tensors("output")
    found = backend.run_model(model, tensors("input"))
    assert len(found) == len(expected) > 0
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == b.dtype
        EXACT.check(a, b, name)
        record("ONNX operators", "Y, Y_h", np.abs(a - b).max(), EXACT)


def test_there_are_eight(real):
    assert len(NAMES) == 8
