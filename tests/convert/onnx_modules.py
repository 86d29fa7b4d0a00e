"""Modules of PyTorch whose exports are converted, apart as they derive from torch.nn.Module."""

from typing import Any

import torch
from torch import Tensor, nn


class Step(nn.Module):
    """One step of a cell; its states go in and out."""

    def __init__(self, kind: str, inputs: int, units: int) -> None:
        super().__init__()
        self.is_lstm = kind == "LSTM"
        self.cell = getattr(nn, f"{kind}Cell")(inputs, units)
        self.head = nn.Linear(units, 2)

    def forward(self, x: Any, h: Any, c: Any = None) -> Any:
        x = torch.tanh(x)
        if self.is_lstm:
            h, c = self.cell(x, (h, c))
            return self.head(h), h, c
        h = self.cell(x, h)
        return self.head(h), h


class WrittenOut(nn.Module):
    """A GRU, its equations written out."""

    def __init__(self, inputs: int, units: int) -> None:
        super().__init__()
        self.of_x = nn.Linear(inputs, 3 * units)
        self.of_h = nn.Linear(units, 3 * units)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        xr, xz, xn = self.of_x(x).chunk(3, 1)
        hr, hz, hn = self.of_h(h).chunk(3, 1)
        z = torch.sigmoid(xz + hz)
        n = torch.tanh(xn + torch.sigmoid(xr + hr) * hn)
        return (1 - z) * n + z * h


class Listed(nn.Module):
    """A loop over the steps around an LSTMCell, its answers in a list."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(3, 6)
        self.head = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.zeros(x.size(0), 6)
        c = torch.zeros(x.size(0), 6)
        ys: list[Tensor] = []
        for t in range(x.size(1)):
            h, c = self.cell(x[:, t], (h, c))
            ys.append(self.head(h))
        return torch.stack(ys, 1)


class Last(nn.Module):
    """A loop of which the last state is read; from the last step to the first, if asked."""

    def __init__(self, backward: bool) -> None:
        super().__init__()
        self.cell = WrittenOut(3, 6)
        self.head = nn.Linear(6, 2)
        self.backward = backward

    def forward(self, x: Tensor) -> Tensor:
        h = torch.zeros(x.size(0), 6)
        for t in range(x.size(1)):
            h = self.cell(x[:, x.size(1) - 1 - t] if self.backward else x[:, t], h)
        return self.head(h)


class Started(nn.Module):
    """A loop over unbound steps whose first state is a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.start = nn.Parameter(torch.randn(1, 6))
        self.of_x = nn.Linear(3, 6)
        self.of_h = nn.Linear(6, 6, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        h = self.start.expand(x.size(0), 6)
        ys: list[Tensor] = []
        for x_t in x.unbind(1):
            h = torch.tanh(self.of_x(x_t) + self.of_h(h))
            ys.append(h.unsqueeze(1))
        return torch.cat(ys, 1)


class Unusual(nn.Module):
    """A loop around what is no cell that has a name."""

    def __init__(self) -> None:
        super().__init__()
        self.of_x = nn.Linear(3, 6)
        self.of_h = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.zeros(x.size(0), 6)
        m = torch.zeros(x.size(0), 6)
        ys: list[Tensor] = []
        for t in range(x.size(1)):
            h = torch.relu(self.of_x(x[:, t]) * m + 0.5 * self.of_h(h)).clamp(0, 2)
            m = 0.9 * m + 0.1 * h + 0.1
            ys.append(torch.cat([h, m], 1))
        return torch.stack(ys, 1)


class Delayed(nn.Module):
    """The last two steps, end to end."""

    def forward(self, x: Tensor) -> Tensor:
        kept = torch.zeros(x.size(0), 6)
        for t in range(x.size(1)):
            kept = torch.cat([kept[:, 3:], x[:, t : t + 1].squeeze(1)], 1)
        return kept


LOOPS: dict[str, tuple[Any, list[str]]] = {
    "listed": (Listed, ["LSTM", "Linear"]),
    "last": (lambda: Last(False), ["GRU", "Linear"]),
    "backward": (lambda: Last(True), ["Reverse", "GRU", "Pooling", "Linear"]),
    "started": (Started, ["RNN"]),
    "delayed": (Delayed, ["Concat", "Feedback", "Concat"]),
}


class Around(nn.Module):
    """A function of what an LSTM of 6 answers."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function
        self.rnn = nn.LSTM(3, 6, batch_first=True)
        self.score = nn.Linear(6, 1)
        self.two = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Any:
        return self.function(self, self.rnn(x)[0])
