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


def log_g(x: Tensor) -> Tensor:
    """The logarithm of what keeps h positive; Feng et al. 2024, appendix B.3."""
    return torch.where(x >= 0, (functional.relu(x) + 0.5).log(), -functional.softplus(-x))


def scan_of_logs(log_keeps: Tensor, log_takes: Tensor) -> Tensor:
    """All h at once, ``h[t] = keeps[t] * h[t - 1] + takes[t]``: Heinsen 2023."""
    kept = log_keeps.cumsum(0)
    return (kept + (log_takes - kept).logcumsumexp(0)).exp()


class MinGRU(Cell):
    """Feng et al. 2024, "Were RNNs All We Needed?", appendix B: sequential, or in log space."""

    def forward(self, xs: Tensor) -> Answers:
        z, n = self.gates(xs)
        if self.layer.activation == "linear_sigmoid":
            rows = scan_of_logs(functional.logsigmoid(-z), functional.logsigmoid(z) + log_g(n))
            return rows, {"h": rows[-1]}
        z, n = torch.sigmoid(z), FUNCTIONS[self.layer.activation](n)
        h, rows = self.first("h"), []
        for t in range(len(xs)):
            h = torch.lerp(h, n[t], z[t])
            rows.append(h)
        return torch.stack(rows), {"h": h}


class MinLSTM(Cell):
    """The same: forget and input gate normalised to a sum of 1."""

    def forward(self, xs: Tensor) -> Answers:
        f, i, n = self.gates(xs)
        if self.layer.activation == "linear_sigmoid":
            difference = functional.softplus(-f) - functional.softplus(-i)
            log_f, log_i = -functional.softplus(difference), -functional.softplus(-difference)
            rows = scan_of_logs(log_f, log_i + log_g(n))
            return rows, {"h": rows[-1]}
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


class SRU(Cell):
    """Lei et al. 2018, "Simple Recurrent Units for Highly Parallelizable Recurrence".

    The matrix is that of the authors' package, (I, H * gates): the gates of a unit side by side.
    """

    def forward(self, xs: Tensor) -> Answers:
        size = self.layer.hidden_size
        weight = self.weight_ih.unflatten(0, (-1, size)).permute(2, 1, 0).flatten(1)
        us = (xs @ weight).view(len(xs), size, -1).unbind(-1)
        highway = us[3] if len(us) == 4 else self.layer.highway_scale * xs
        zeros = xs.new_zeros(2 * size)
        b_f, b_r = (self.bias_ih if self.layer.bias else zeros).chunk(2)
        v_f, v_r = zeros.chunk(2)
        if self.layer.peepholes:
            v_f, v_r = self.peephole_f, self.peephole_r
        c, rows = self.first("c"), []
        for t in range(len(xs)):
            f = torch.sigmoid(us[1][t] + v_f * c + b_f)
            r = torch.sigmoid(us[2][t] + v_r * c + b_r)
            c = torch.lerp(us[0][t], c, f)
            rows.append(torch.lerp(highway[t], FUNCTIONS[self.layer.activation](c), r))
        return torch.stack(rows), {"c": c}


MODULES: dict[type, type[Cell]] = {
    spec.MinGRU: MinGRU,
    spec.MinLSTM: MinLSTM,
    spec.IndRNN: IndRNN,
    spec.SRU: SRU,
}


def cell_of(layer: spec.Layer, tensors: dict[str, Any]) -> Cell:
    """Return the module of a layer of one direction in float64, with its tensors."""
    module = MODULES[type(layer)](layer).double()
    module.load_state_dict({name: torch.as_tensor(tensor) for name, tensor in tensors.items()})
    return module
