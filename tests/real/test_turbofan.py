"""Remaining life of jet engines, umbertogriffo/Predictive-Maintenance: files of Keras 2.0.5."""

from pathlib import Path

import numpy as np
import pytest

from tests.cases import Tolerance
from tests.lazy import from_keras
from tests.real.conftest import Runner, assert_streams

CYCLES = Tolerance(1e-4, 0.0, "the authors' saved predictions, up to 159 cycles")
KERAS = Tolerance(1e-4, 1e-6, "predictions up to 159 cycles of tf_keras, in float32")


@pytest.fixture
def windows(real: Path) -> dict[str, np.ndarray]:
    with np.load(real / "windows.npz") as file, np.load(real / "ref_regression.npz") as expected:
        return {name: file[name] for name in file} | {name: expected[name] for name in expected}


def test_cycles_left_of_93_engines(runner: Runner, real, windows):
    weights = from_keras.convert(real / "regression_model.h5")
    found = np.array([runner.run(weights, x)[0][-1, 0] for x in windows["x"]], np.float64)
    saved = windows["upstream_saved_prediction"]
    runner.hold("turbofan", "cycles, the authors' own", found, saved, CYCLES)
    runner.hold("turbofan", "cycles, of tf_keras", found, windows["keras_prediction"], KERAS)
    error = np.abs(found - windows["true_rul"]).mean()
    assert error == pytest.approx(12.2, abs=0.05)


def test_engines_that_fail_within_30_cycles(runner: Runner, real, windows):
    weights = from_keras.convert(real / "binary_model.h5")
    found = np.array([runner.run(weights, x)[0][-1, 0] for x in windows["x"]])
    right = ((found > 0.5) == windows["failure_within_30"]).mean()
    assert right > 0.9


def test_a_stream_has_the_bits_of_a_run(real, windows):
    assert_streams(from_keras.convert(real / "regression_model.h5"), windows["x"][0])
