"""PyTorch: the module with its state fed back, and the cell."""

from pathlib import Path
from typing import Any

import torch

from bench.cases import Case, Floats
from bench.engines import Engine

_FILE = "weights.pt"


def save(case: Case, tensors: dict[str, Floats], folder: Path) -> None:
    """Write the state dict of the module; its names end in the number of the layer."""
    named = {}
    for name, tensor in tensors.items():
        _, n, suffix = name.split(".")
        named[f"{suffix}_l{n}"] = torch.from_numpy(tensor)
    torch.save(named, folder / _FILE)


class _Torch(Engine):
    def __init__(self, case: Case) -> None:
        super().__init__(case)
        torch.set_num_threads(1)
        # For the life of the process: entering the mode for each step would be part of its time.
        self._mode = torch.inference_mode()
        self._mode.__enter__()


class Module(_Torch):
    """nn.LSTM or nn.GRU, one step per call; its state is a tuple of h and c, or h."""

    def __init__(self, case: Case, folder: Path) -> None:
        super().__init__(case)
        kind = getattr(torch.nn, case.cell)
        self.module = kind(case.input_size, case.hidden_size, case.num_layers).eval()
        self.module.load_state_dict(torch.load(folder / _FILE, weights_only=True))
        self.x = torch.from_numpy(self.input).reshape(1, 1, -1)
        h = torch.zeros(case.num_layers, 1, case.hidden_size)
        self.state: Any = (h, h.clone()) if case.cell == "LSTM" else h
        self.y = h

    def step(self, x: torch.Tensor, out: Floats) -> None:
        self.y, self.state = self.module(x, self.state)

    def output(self) -> Floats:
        y: Floats = self.y.reshape(-1).numpy()
        return y.copy()


class Cells(_Torch):
    """One nn.LSTMCell or nn.GRUCell per layer, called in sequence."""

    def __init__(self, case: Case, folder: Path) -> None:
        super().__init__(case)
        kind = getattr(torch.nn, f"{case.cell}Cell")
        named = torch.load(folder / _FILE, weights_only=True)
        self.cells = []
        for n in range(case.num_layers):
            cell = kind(case.input_size, case.hidden_size).eval()
            cell.load_state_dict({name: named[f"{name}_l{n}"] for name in cell.state_dict()})
            self.cells.append(cell)
        self.x = torch.from_numpy(self.input).reshape(1, -1)
        h = torch.zeros(1, case.hidden_size)
        self.is_lstm = case.cell == "LSTM"
        self.states: list[Any] = [(h, h.clone()) if self.is_lstm else h for _ in self.cells]

    def step(self, x: torch.Tensor, out: Floats) -> None:
        states = self.states
        if self.is_lstm:
            for n, cell in enumerate(self.cells):
                states[n] = state = cell(x, states[n])
                x = state[0]
        else:
            for n, cell in enumerate(self.cells):
                states[n] = x = cell(x, states[n])

    def output(self) -> Floats:
        h = self.states[-1][0] if self.is_lstm else self.states[-1]
        y: Floats = h.reshape(-1).numpy()
        return y.copy()
