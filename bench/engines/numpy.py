"""NumPy: the equations as one would write them, with the biases summed beforehand."""

from pathlib import Path
from typing import Any

import numpy as np

from bench.engines import Engine
from bench.engines.cases import Case, Floats

_FILE = "weights.npz"


def save(case: Case, tensors: dict[str, Floats], folder: Path) -> None:
    """Write the canonical tensors."""
    np.savez(folder / _FILE, **tensors)  # type: ignore[arg-type]


def _sigmoid(x: Floats) -> Any:
    return 1 / (1 + np.exp(-x))


class NumPy(Engine):
    """Two matrix products per layer, and the formula of the cell."""

    def __init__(self, case: Case, folder: Path) -> None:
        super().__init__(case)
        with np.load(folder / _FILE) as tensors:
            self.layers = [
                tuple(
                    tensors[f"layers.{n}.{name}"]
                    for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
                )
                for n in range(case.num_layers)
            ]
        self.size = case.hidden_size
        self.x = self.input.reshape(-1)
        self.hs = [np.zeros(self.size, np.float32) for _ in self.layers]
        self.cs = [np.zeros(self.size, np.float32) for _ in self.layers]
        self._cell = self._lstm if case.cell == "LSTM" else self._gru
        if case.cell == "LSTM":
            self.layers = [
                (w_ih, w_hh, b_ih + b_hh, np.zeros(0, np.float32))
                for w_ih, w_hh, b_ih, b_hh in self.layers
            ]

    def step(self, x: Floats, out: Floats) -> None:
        for n in range(len(self.layers)):
            x = self._cell(n, x)

    def _lstm(self, n: int, x: Floats) -> Any:
        size = self.size
        w_ih, w_hh, bias, _ = self.layers[n]
        a = w_ih @ x + w_hh @ self.hs[n] + bias
        i_f = _sigmoid(a[: 2 * size])
        self.cs[n] = c = i_f[size:] * self.cs[n] + i_f[:size] * np.tanh(a[2 * size : 3 * size])
        self.hs[n] = h = _sigmoid(a[3 * size :]) * np.tanh(c)
        return h

    def _gru(self, n: int, x: Floats) -> Any:
        size = self.size
        w_ih, w_hh, b_ih, b_hh = self.layers[n]
        h = self.hs[n]
        from_x = w_ih @ x + b_ih
        from_h = w_hh @ h + b_hh
        r_z = _sigmoid(from_x[: 2 * size] + from_h[: 2 * size])
        new = np.tanh(from_x[2 * size :] + r_z[:size] * from_h[2 * size :])
        z = r_z[size:]
        self.hs[n] = h = new + z * (h - new)
        return h

    def output(self) -> Floats:
        return self.hs[-1].copy()
