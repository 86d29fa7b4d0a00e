"""The next token from logits, as one writes it with NumPy: temperature and top-k."""

from typing import Any

import numpy as np

from bench.cases import Floats

TEMPERATURE = 0.8
TOP_K = 40


def sample(logits: Floats, rng: np.random.Generator) -> Any:
    """Return one of the TOP_K likeliest ids, drawn by its probability. logits (V,)."""
    top = np.argpartition(logits, -TOP_K)[-TOP_K:]
    chosen = logits[top]
    weights = np.exp((chosen - chosen.max()) / TEMPERATURE)
    sums = np.cumsum(weights)
    return top[np.searchsorted(sums, rng.random() * sums[-1])]
