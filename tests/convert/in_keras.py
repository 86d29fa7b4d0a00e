"""What the tests of Keras models share: random weights, and what Keras answered."""

from typing import Any

import numpy as np
import pytest

import numlstm
from numlstm import reference
from numlstm.convert import probes
from numlstm.spec import Weights
from tests.cases import Tolerance

ANSWERS = Tolerance(1e-5, 1e-5, "a few steps of small layers, in float32 by Keras")
QUIET = pytest.mark.filterwarnings("ignore:::keras", "ignore:::torch", "ignore:::numpy")


def probe_briefly(monkeypatch: pytest.MonkeyPatch, num_steps: int) -> None:
    """Let a conversion be held to one answer of so many steps."""
    monkeypatch.setattr(probes, "_NUM_PROBES", 1)
    monkeypatch.setattr(probes, "_NUM_STEPS", num_steps)


def check(weights: Weights, xs: Any, expected: Any) -> None:
    """Hold the reference and the engine to what Keras answered."""
    ANSWERS.check(reference.run(weights.network, weights.tensors, xs)[0], expected, "reference")
    ANSWERS.check(numlstm.Model(weights).run(xs), expected, "engine")


def randomized(model: Any) -> Any:
    """Return a Keras model with random weights; its whole numbers stay what they are."""
    generator = np.random.default_rng(0)
    for weight in model.weights:
        if weight.dtype.startswith("float"):
            value = generator.normal(0, 0.5, weight.shape)
            weight.assign(np.abs(value) + 0.5 if "variance" in weight.path else value)
    return model
