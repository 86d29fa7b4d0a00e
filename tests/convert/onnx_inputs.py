"""Modules of PyTorch with several inputs and outputs. Imported as torch is: late."""

import torch
from torch import nn


class Picked(nn.Module):
    """What is at the last step of each length, found in one of several ways."""

    def __init__(self, how: str, kind: str = "LSTM") -> None:
        super().__init__()
        self.rnn = getattr(nn, kind)(5, 8, batch_first=True)
        self.head = nn.Linear(8, 3)
        self.how = how

    def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        ys = self.rnn(x)[0]
        mask = (torch.arange(x.shape[1])[None] < lengths[:, None])[..., None]
        match self.how:
            case "index":
                picked = ys[torch.arange(x.shape[0]), lengths - 1]
            case "gather":
                at = (lengths - 1).view(-1, 1, 1).expand(-1, 1, ys.shape[2])
                picked = ys.gather(1, at)[:, 0]
            case "mean":
                picked = (ys * mask.float()).sum(1) / mask.float().sum(1)
            case "clamped":
                total = mask.float().sum(1).clamp(min=1e-6)
                picked = (ys * mask.float()).sum(1) * (1 / total)
            case "by_length":
                picked = (ys * mask).sum(1) / lengths[:, None].float()
            case "max":
                picked = ys.masked_fill(~mask, float("-inf")).amax(1)
        return self.head(picked)


class Packed(nn.Module):
    """What torch.nn.utils.rnn packs, and pads again."""

    def __init__(self, bidirectional: bool = False) -> None:
        super().__init__()
        self.rnn = nn.LSTM(5, 8, batch_first=True, bidirectional=bidirectional)
        self.head = nn.Linear(16 if bidirectional else 8, 3)

    def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True)
        ys, _ = nn.utils.rnn.pad_packed_sequence(self.rnn(packed)[0], batch_first=True)
        return self.head(ys)


class Masked(nn.Module):
    """A mean over the steps that a mask of 0 and 1 names."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(5, 8, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        weights = mask.float()[..., None]
        return self.head((self.rnn(x)[0] * weights).sum(1) / weights.sum(1))


class Static(nn.Module):
    """Numbers of the whole sequence: at the head, before the steps, or times them."""

    def __init__(self, how: str, bidirectional: bool = False, answers: int = 2) -> None:
        super().__init__()
        size = 8 if how == "steps" else 5
        self.rnn = nn.LSTM(size, 8, batch_first=True, bidirectional=bidirectional)
        width = 16 if bidirectional else 8
        self.embed = nn.Linear(3, width if how == "gate" else 3)
        self.head = nn.Linear(width + (3 if how == "head" else 0), answers)
        self.how = how

    def forward(self, x: torch.Tensor, static: torch.Tensor) -> torch.Tensor:
        s = torch.tanh(self.embed(static))
        if self.how == "steps":
            x = torch.cat([x, s[:, None].expand(-1, x.shape[1], -1)], -1)
        ys = self.rnn(x)[0]
        if self.how == "gate":
            return self.head(ys * s[:, None])
        last = ys[:, -1]
        return self.head(torch.cat([last, s], -1) if self.how == "head" else last)


class TwoSequences(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(7, 8, batch_first=True)
        self.first, self.second = nn.Linear(8, 3), nn.Linear(8, 1)

    def forward(self, x: torch.Tensor, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        ys = self.rnn(torch.cat([x, z], -1))[0]
        return self.first(ys), torch.sigmoid(self.second(ys))


class All(nn.Module):
    """A sequence, numbers of all of it, its length, and the states that go in and out."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(5, 8, batch_first=True)
        self.head = nn.Linear(11, 2)

    def forward(self, c0, static, x, lengths, h0):
        ys, (h, c) = self.rnn(x, (h0, c0))
        last = ys[torch.arange(x.shape[0]), lengths - 1]
        return c, self.head(torch.cat([last, static], -1)), h


class Policy(nn.Module):
    """One step of an actor and a critic, each with an LSTM of its own, and a reset of both."""

    def __init__(self, reset: str, actions: int = 2) -> None:
        super().__init__()
        self.actor, self.critic = nn.LSTM(4, 6), nn.LSTM(4, 6)
        self.logits, self.value = nn.Linear(6, actions), nn.Linear(6, 1)
        self.reset = reset

    def forward(self, obs, h, c, reset):
        keep = reset if self.reset == "mask" else 1.0 - reset
        keep = keep.view(1, -1, 1)
        outs, hs, cs = [], [], []
        for n, lstm in enumerate((self.actor, self.critic)):
            state = (h[n : n + 1] * keep, c[n : n + 1] * keep)
            y, (h_n, c_n) = lstm(obs[None], state)
            outs.append(y[0])
            hs.append(h_n)
            cs.append(c_n)
        logits = self.logits(outs[0])
        return logits.argmax(-1), logits, self.value(outs[1]), torch.cat(hs), torch.cat(cs)


class Continuous(nn.Module):
    """A written-out cell with its states apart, in another order after than before."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(4, 4)
        self.mean = nn.Linear(4, 4)

    def forward(self, obs, hx, cx, done):
        keep = (~done).float()[:, None]
        h, c = self.cell(obs, (hx * keep, cx * keep))
        return c, h, torch.tanh(self.mean(h))
