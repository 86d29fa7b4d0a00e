"""Modules of PyTorch whose exports are converted, apart as they derive from torch.nn.Module."""

from typing import Any

import torch
from torch import nn


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
