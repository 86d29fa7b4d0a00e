"""What the language models share: the network, one long text read in windows, nats per token.

All of them are trained on one long text, and scored on another from its first token to its last,
the state never reset.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import torch
from surprise import nats_of
from tokenizers import Tokenizer
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F
from trainer import Result, batches_of_stream, fit

State = list[tuple[torch.Tensor, torch.Tensor]]


class LanguageNet(nn.Module):
    """Embedding, LSTM layers, a linear head: logits of the next token.

    Args:
        vocab_size: V, of the embedding and of the head.
        embedding_size: E.
        hidden_sizes: H of each layer.
        input_dropout: Of the embedding, one mask for all the steps of a window.
        output_dropout: Of the answers of each layer, one mask for all the steps of a window.
        weight_dropout: Of the entries of weight_hh (DropConnect; Merity et al. 2017).
        tied: Whether the head has the weights of the embedding.
    """

    def __init__(
        self,
        vocab_size: int,
        embedding_size: int,
        hidden_sizes: tuple[int, ...],
        *,
        input_dropout: float = 0.0,
        output_dropout: float = 0.0,
        weight_dropout: float = 0.0,
        tied: bool = False,
    ) -> None:
        super().__init__()
        sizes = (embedding_size, *hidden_sizes)
        self.embedding = nn.Embedding(vocab_size, embedding_size)
        self.layers = nn.ModuleList(
            nn.LSTM(size, hidden_size, batch_first=True)
            for size, hidden_size in zip(sizes, hidden_sizes, strict=False)
        )
        self.head = nn.Linear(hidden_sizes[-1], vocab_size)
        self.input_dropout = input_dropout
        self.output_dropout = output_dropout
        self.weight_dropout = weight_dropout
        nn.init.normal_(self.embedding.weight, std=0.1)
        nn.init.zeros_(self.head.bias)
        for lstm in self.layers:
            nn.init.ones_(lstm.bias_ih_l0.data.chunk(4)[1])  # remember at first
        if tied:
            self.head.weight = self.embedding.weight

    @torch.no_grad()
    def expect_frequencies(self, ids: list[int]) -> None:
        """Set the bias of the head so that tokens begin as likely as they are frequent in `ids`."""
        counts = torch.bincount(torch.tensor(ids), minlength=len(self.head.bias)) + 1
        self.head.bias.copy_((counts / counts.sum()).log())

    def forward(self, ids: torch.Tensor, state: State | None = None) -> tuple[torch.Tensor, State]:
        """Return logits (S, T, V) of ids (S, T), and the state after them."""
        hs = self._drop(self.embedding(ids), self.input_dropout)
        after = []
        for lstm, before in zip(self.layers, state or [None] * len(self.layers), strict=True):
            weights = {
                "weight_hh_l0": F.dropout(lstm.weight_hh_l0, self.weight_dropout, self.training)
            }
            hs, last = functional_call(lstm, weights, (hs, before))
            hs = self._drop(hs, self.output_dropout)
            after.append(tuple(part.detach() for part in last))
        return self.head(hs), after

    def _drop(self, hs: torch.Tensor, share: float) -> torch.Tensor:
        return hs * F.dropout(torch.ones_like(hs[:, :1]), share, self.training)


class Text:
    """One long text (N,), read in windows as `fit` asks for them, the state carried over."""

    def __init__(self, ids: list[int], num_streams: int, num_steps: int, seed: int) -> None:
        self.ids = torch.tensor(ids)
        self.num_streams = num_streams
        self.num_steps = num_steps
        self.rng = random.Random(seed)
        self.state: State | None = None

    def batches(self, epoch: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Return the windows of an epoch, cut elsewhere in each."""
        self.state = None
        offset = self.rng.randrange(self.num_steps)
        return batches_of_stream(self.ids, self.num_streams, self.num_steps, offset)

    def loss_of(self, net: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        """Return the nats per token of a window."""
        ids, targets = batch
        logits, self.state = net(ids, self.state)
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def train(net: LanguageNet, name: str, text: Text, valid: list[int], **options: Any) -> Result:
    """Train on a text; the epoch is chosen by the nats per token of valid."""
    return fit(
        net,
        batches=text.batches,
        loss_of=text.loss_of,
        score_of=lambda net: nats_per_token(net, valid),
        name=name,
        minimize=True,
        **options,
    )


@torch.no_grad()
def nats_per_token(net: nn.Module, ids: list[int], num_steps: int = 500) -> float:
    """Return -log p of every token but the first, on the average, the state never reset."""
    state, total = None, 0.0
    for xs, ys in batches_of_stream(torch.tensor(ids), 1, num_steps):
        logits, state = net(xs, state)
        total += F.cross_entropy(logits[0], ys[0], reduction="sum").item()
    return total / (len(ids) - 1)


def export(
    net: LanguageNet, tokenizer: Tokenizer, path: Path, dtype: str, test: list[int]
) -> dict[str, float]:
    """Save the network, which ends in logits, with its tokenizer for numlstm.

    Returns:
        The nats per token of test by the engine, for each dtype.
    """
    import numlstm

    model = numlstm.from_torch(net.embedding, *net.layers, net.head, tokenizer=tokenizer.to_str())
    path.parent.mkdir(parents=True, exist_ok=True)
    model.save(path, dtype=dtype)
    return {
        dtype: nats_of(model.astype(dtype), test) / (len(test) - 1)
        for dtype in ("float32", "bfloat16", "int8")
    }
