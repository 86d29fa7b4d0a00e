"""The cells that torch.nn has not, as modules of PyTorch, each as its authors write it.

The names of the parameters are those of `numlstm`. A module takes (T, I) and returns the answers
(T, H), and the last states by their letters.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from numlstm import spec

Answers = tuple[Tensor, dict[str, Tensor]]


class Cell(nn.Module):
    """A cell with the parameters and options of a layer."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.layer = layer
        for name, shape in layer.tensors().items():
            self.register_parameter(name, nn.Parameter(torch.zeros(shape)))

    def gates(self, xs: Tensor) -> tuple[Tensor, ...]:
        """Return what is made of the input alone, (T, H) for each gate."""
        bias = self.bias_ih if self.layer.bias else None
        return functional.linear(xs, self.weight_ih, bias).chunk(self.layer.num_gates, -1)

    def first(self, name: str) -> Tensor:
        if self.layer.initial_state:
            return getattr(self, f"initial_{name}")
        return self.weight_ih.new_zeros(self.layer.hidden_size)


FUNCTIONS = {"linear": lambda x: x, "tanh": torch.tanh, "relu": torch.relu}


class MinGRU(Cell):
    """Feng et al. 2024, "Were RNNs All We Needed?", appendix A: the sequential mode."""

    def forward(self, xs: Tensor) -> Answers:
        z, n = self.gates(xs)
        z, n = torch.sigmoid(z), FUNCTIONS[self.layer.activation](n)
        h, rows = self.first("h"), []
        for t in range(len(xs)):
            h = torch.lerp(h, n[t], z[t])
            rows.append(h)
        return torch.stack(rows), {"h": h}


class MinLSTM(Cell):
    """The same, appendix A: forget and input gate normalised to a sum of 1."""

    def forward(self, xs: Tensor) -> Answers:
        f, i, n = self.gates(xs)
        f, i, n = torch.sigmoid(f), torch.sigmoid(i), FUNCTIONS[self.layer.activation](n)
        share = f / (f + i)
        h, rows = self.first("h"), []
        for t in range(len(xs)):
            h = torch.lerp(n[t], h, share[t])
            rows.append(h)
        return torch.stack(rows), {"h": h}


class IndRNN(Cell):
    """Li et al. 2018, "Independently Recurrent Neural Network"."""

    def forward(self, xs: Tensor) -> Answers:
        (a,) = self.gates(xs)
        h, rows = self.first("h"), []
        for t in range(len(xs)):
            h = FUNCTIONS[self.layer.nonlinearity](torch.addcmul(a[t], self.weight_hh, h))
            rows.append(h)
        return torch.stack(rows), {"h": h}


MODULES: dict[type, type[Cell]] = {
    spec.MinGRU: MinGRU,
    spec.MinLSTM: MinLSTM,
    spec.IndRNN: IndRNN,
}


def cell_of(layer: spec.Layer, tensors: dict[str, Any]) -> Cell:
    """Return the module of a layer of one direction in float64, with its tensors."""
    module = MODULES[type(layer)](layer).double()
    module.load_state_dict({name: torch.as_tensor(tensor) for name, tensor in tensors.items()})
    return module
