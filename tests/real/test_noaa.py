"""Hourly streamflow, NOAA-OWP/lstm: a PyTorch LSTM of 126 units, 720 hours, one at a time."""

import numpy as np
import pytest

import numlstm
from tests.cases import TOLERANCES, Tolerance, assert_same_bits

STREAMED = Tolerance(1e-4, 0.0, "logits and streamed states after 720 hours in float32")


@pytest.fixture
def stream(real) -> numlstm.Stream:
    path = real / "aorc_hourly_model_epoch009.pt"
    return numlstm.from_torch(path, layers="lstm:LSTM head.net.0:Linear").stream()


@pytest.fixture
def expected(real) -> dict[str, np.ndarray]:
    with np.load(real / "ref_aorc_cat67.npz") as file:
        return {name: file[name] for name in file}


def test_720_hours_streamed_are_those_of_torch(stream, expected):
    ys, hs = [], []
    for x in expected["x"]:
        ys.append(stream.step(x))
        hs.append(stream.state["layers.0.h"])
    STREAMED.check(np.concatenate(ys), expected["head_out"], "head")
    STREAMED.check(hs[-1], expected["h_last"], "h")
    TOLERANCES["c"].check(stream.state["layers.0.c"], expected["c_last"], "c")
    STREAMED.check(hs[::48], expected["h_every_48"], "h every 48 hours")


def test_a_run_has_the_bits_of_the_stream(stream, expected):
    twin = stream.copy()
    ys = np.stack([twin.step(x) for x in expected["x"]])
    assert_same_bits(stream.run(expected["x"]), ys)
