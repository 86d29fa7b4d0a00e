"""What is measured: networks of one cell, size and depth, with random weights."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

SIZES = (16, 32, 64, 128, 256, 512, 1024)
_NUM_GATES = {"LSTM": 4, "GRU": 3}


@dataclass(frozen=True)
class Case:
    """A network of ``num_layers`` cells; its input is as wide as its hidden state.

    cell   "LSTM" or "GRU"
    """

    cell: str
    hidden_size: int
    num_layers: int

    @property
    def input_size(self) -> int:
        return self.hidden_size

    def __str__(self) -> str:
        return f"{self.cell} {self.num_layers} x {self.hidden_size}"


def make_tensors(case: Case) -> dict[str, Floats]:
    """Return weights by their canonical names, as PyTorch initialises them; the same every time."""
    rng = np.random.default_rng(case.hidden_size)
    gates, limit = _NUM_GATES[case.cell] * case.hidden_size, case.hidden_size**-0.5
    tensors = {}
    for n in range(case.num_layers):
        for name, shape in (
            ("weight_ih", (gates, case.input_size)),
            ("weight_hh", (gates, case.hidden_size)),
            ("bias_ih", (gates,)),
            ("bias_hh", (gates,)),
        ):
            tensors[f"layers.{n}.{name}"] = rng.uniform(-limit, limit, shape).astype(np.float32)
    return tensors


def make_inputs(case: Case, num_steps: int) -> Floats:
    """Return xs (T, I); the same every time."""
    return np.random.default_rng(0).standard_normal((num_steps, case.input_size), np.float32)
