"""PyTorch: the module with its state fed back, its dynamic quantisation, and the cell."""

import warnings
from pathlib import Path
from typing import Any

import torch

from bench.engines import Engine
from bench.engines.cases import Case, Floats

_FILE = "weights.pt"


class _Network(torch.nn.Module):  # type: ignore[misc]
    """An optional embedding, the recurrent layers, an optional Linear."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        size, vocab_size = case.hidden_size, case.vocab_size
        both = case.num_directions == 2
        kind = getattr(torch.nn, case.cell)
        self.rnn = kind(size, size, case.num_layers, bidirectional=both)
        if vocab_size:
            self.embedding = torch.nn.Embedding(vocab_size, size)
            self.linear = torch.nn.Linear(size, vocab_size)

    def forward(self, x: torch.Tensor, state: Any) -> Any:
        hs, state = self.rnn(self.embedding(x), state)
        return self.linear(hs), state


def save(case: Case, tensors: dict[str, Floats], folder: Path) -> None:
    """Write the state dict of the network; the names of the cells end in the number of a layer."""
    named = {}
    for name, tensor in tensors.items():
        *_, n, suffix = name.split(".")
        if n == "embedding":
            key = name
        elif suffix in ("weight", "bias"):
            key = f"linear.{suffix}"
        else:
            suffix, reverse = suffix.removesuffix("_reverse"), suffix.endswith("_reverse")
            key = f"rnn.{suffix}_l{n}" + ("_reverse" if reverse else "")
        named[key] = torch.from_numpy(tensor)
    torch.save(named, folder / _FILE)


class _Torch(Engine):
    def __init__(self, case: Case) -> None:
        super().__init__(case)
        torch.set_num_threads(case.num_threads)
        # For the life of the process: entering the mode for each step would be part of its time.
        self._mode = torch.inference_mode()
        self._mode.__enter__()


class Module(_Torch):
    """nn.LSTM or nn.GRU, one step per call; its state is a tuple of h and c, or h."""

    def __init__(self, case: Case, folder: Path) -> None:
        super().__init__(case)
        network = _Network(case).eval()
        network.load_state_dict(torch.load(folder / _FILE, weights_only=True))
        network = self.prepared(network)
        self.module = network if case.vocab_size else network.rnn
        self.x = torch.from_numpy(self.input)
        h = torch.zeros(case.num_layers * case.num_directions, case.num_streams, case.hidden_size)
        self.state: Any = (h, h.clone()) if case.cell == "LSTM" else h
        self.anew = self.state if case.is_anew else None
        self.y = h

    def prepared(self, network: torch.nn.Module) -> torch.nn.Module:
        """Return the network as it is run."""
        return network

    def step(self, x: torch.Tensor, out: Floats) -> None:
        self.y, state = self.module(x, self.state)
        if self.anew is None:
            self.state = state

    def output(self) -> Floats:
        y: Floats = self.y.reshape(-1).numpy()
        return y.copy()


class Int8(Module):
    """`quantize_dynamic`: int8 weights, activations of 8 bits scaled at each step."""

    def prepared(self, network: torch.nn.Module) -> torch.nn.Module:
        # Only modules inside of a module are replaced: an nn.LSTM by itself would stay float32.
        kinds = {torch.nn.LSTM, torch.nn.GRU, torch.nn.Linear}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it is deprecated; what follows it has no LSTM
            return torch.ao.quantization.quantize_dynamic(network, kinds, dtype=torch.qint8)


class Cells(_Torch):
    """One nn.LSTMCell or nn.GRUCell per layer, called in sequence."""

    def __init__(self, case: Case, folder: Path) -> None:
        super().__init__(case)
        kind = getattr(torch.nn, f"{case.cell}Cell")
        named = torch.load(folder / _FILE, weights_only=True)
        self.cells = []
        for n in range(case.num_layers):
            cell = kind(case.hidden_size, case.hidden_size).eval()
            cell.load_state_dict({name: named[f"rnn.{name}_l{n}"] for name in cell.state_dict()})
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
