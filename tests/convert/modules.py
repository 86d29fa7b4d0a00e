"""Modules of PyTorch that the tests convert. They import this file as they import torch: late."""

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from numlstm import reference


class Net(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


class MyLSTM(nn.LSTM):
    pass


class Residual(nn.Sequential):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + super().forward(x)


class Conv(nn.Conv1d):
    """nn.Conv1d of (T, I), with as many zeros before and after."""

    def __init__(self, *args: Any, pads: tuple[int, int] = (0, 0), **options: Any) -> None:
        super().__init__(*args, **options)
        self.pads = pads

    def forward(self, xs: torch.Tensor) -> torch.Tensor:
        return super().forward(functional.pad(xs.T, self.pads)).T


class FrameConv(nn.Conv1d):
    """A convolution within each row, (T, frames of `inputs` numbers): a batch of signals."""

    def __init__(self, inputs, outputs, kernel_size, pads=(0, 0), **options):
        super().__init__(inputs, outputs, kernel_size, **options)
        self.pads = pads

    def forward(self, xs):
        frames = xs.reshape(len(xs), -1, self.in_channels).transpose(1, 2)
        return super().forward(functional.pad(frames, self.pads)).transpose(1, 2).flatten(1)


# As state dicts -----------------------------------------------------------------------------------


class Sentiment(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(9, 5)
        self.rnn = nn.LSTM(5, 6, 2)
        self.norm = nn.LayerNorm(6)
        self.head = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2))


class CRF(nn.Module):
    """What the class of pytorch-crf has."""

    def __init__(self, num_tags: int, batch_first: bool = False) -> None:
        super().__init__()
        self.batch_first = batch_first
        self.start_transitions = nn.Parameter(torch.randn(num_tags))
        self.end_transitions = nn.Parameter(torch.randn(num_tags))
        self.transitions = nn.Parameter(torch.randn(num_tags, num_tags))

    def decode(self, emissions: torch.Tensor) -> list[list[int]]:
        scores = emissions[0] if self.batch_first else emissions[:, 0]
        tensors = {name: tensor.numpy() for name, tensor in self.state_dict().items()}
        return [reference.viterbi(tensors, scores.numpy()).tolist()]


class Skip(nn.Module):
    """Two ways from the embedding to the head."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(9, 5)
        self.encoder = nn.LSTM(5, 6, 2, bidirectional=True)
        self.cell = nn.GRUCell(5, 12)
        self.norm = nn.BatchNorm1d(12)
        self.head = nn.Linear(17, 2)

    def forward(self, xs: torch.Tensor) -> torch.Tensor:
        es = self.embed(xs)
        hs = self.encoder(es)[0]
        cs = [self.cell(es[0])]
        for x in es[1:]:
            cs.append(self.cell(x, cs[-1]))
        both = self.norm(hs + torch.stack(cs))
        return self.head(torch.hstack([both, es]))


# As graphs of ONNX --------------------------------------------------------------------------------


class Stack(nn.Module):
    """Embedding or vectors, a stack, a way to one row, and a head."""

    def __init__(self, kind: str, pick: str, tokens: bool, **options: Any) -> None:
        super().__init__()
        self.pick = pick
        self.embed = nn.Embedding(11, 4) if tokens else nn.Identity()
        self.rnn = getattr(nn, kind)(4, 6, batch_first=True, **options)
        self.head = nn.Linear(6 * (2 if options.get("bidirectional") else 1), 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        ys, h = self.rnn(self.embed(x))
        h = h[0] if isinstance(h, tuple) else h
        match self.pick:
            case "last":
                ys = ys[:, -1]
            case "mean":
                ys = ys.mean(1)
            case "max":
                ys = ys.max(1).values
            case "h":
                ys = torch.cat([h[-2], h[-1]], 1) if self.rnn.bidirectional else h[-1]
        return torch.softmax(self.head(ys), -1)


class Streaming(nn.Module):
    """A causal convolution, then a GRU whose state goes in and out."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(3, 5, 3, padding=2)
        self.norm = nn.LayerNorm(5)
        self.rnn = nn.GRU(5, 6)
        self.head = nn.Linear(6, 2)

    def forward(self, x: torch.Tensor, h: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y = torch.relu(self.conv(x.T[None])[:, :, :-2])[0].T
        y, h = self.rnn(self.norm(y), h)
        return torch.sigmoid(self.head(y)), h


class Cell(nn.Module):
    def __init__(self, inputs: int, units: int) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(inputs, units)
        self.head = nn.Linear(units, 2)

    def forward(self, x: Any, h: Any, c: Any) -> Any:
        h, c = self.cell(x, (h, c))
        return self.head(h), h, c


# As a policy of sb3-contrib -----------------------------------------------------------------------


class Policy(nn.Module):
    """The modules of a policy under the names that they have in one."""

    def __init__(self, inputs=3, outputs=4, net=(6,), critic="lstm", layers=1, activation=None):
        super().__init__()
        self.activation = activation or nn.Tanh()
        self.lstm_actor = nn.LSTM(inputs, 5, layers)
        self.lstm_critic = nn.LSTM(inputs, 5, layers) if critic == "lstm" else None
        self.critic = nn.Linear(inputs, 5) if critic == "linear" else None
        self.mlp_extractor = nn.ModuleDict(
            {f"{name}_net": self._mlp(net) for name in ("policy", "value")}
        )
        last = net[-1] if net else 5
        self.action_net, self.value_net = nn.Linear(last, outputs), nn.Linear(last, 1)

    def _mlp(self, net):
        sizes = [5, *net]
        layers = [(nn.Linear(a, b), self.activation) for a, b in zip(sizes, net, strict=False)]
        return nn.Sequential(*(module for pair in layers for module in pair))

    def forward(self, features):
        """Return what actor and critic make of (T, inputs)."""
        with torch.no_grad():
            own = self.lstm_critic or self.critic or self.lstm_actor
            read = own(features) if own is self.critic else own(features)[0]
            nets = self.mlp_extractor
            return (
                self.action_net(nets["policy_net"](self.lstm_actor(features)[0])).numpy(),
                self.value_net(nets["value_net"](read)).numpy(),
            )


# As files -----------------------------------------------------------------------------------------


class Tagger(nn.Module):
    """Layers of each kind that is packed when it is quantised, in a list and by themselves."""

    def __init__(self, bidirectional: bool = True, num_layers: int = 2) -> None:
        super().__init__()
        self.embed = nn.Embedding(9, 6)
        self.lstm = nn.LSTM(6, 6, num_layers, bidirectional=bidirectional)
        self.gru = nn.GRU(12 if bidirectional else 6, 5)
        self.cells = nn.ModuleList([nn.LSTMCell(5, 5)])
        self.head = nn.Linear(5, 3)
        self.register_buffer("scratch", torch.zeros(2), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.gru(self.lstm(self.embed(x))[0])[0])
