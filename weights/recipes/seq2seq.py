"""An encoder and a decoder with attention, in PyTorch for training and as networks of numlstm.

    rows = LSTM(embedding(source))                   the memory, (M, H)
    h = LSTM(embedding(token)), from h = the encoder's last answer and c = 0
    query = W h;  a = softmax(rows . query);  context = sum_m a_m rows_m
    attended = tanh(W [context, h] + b)
    probabilities = softmax(E attended + b), E being the embedding

With `copies`, the pointer-generator of See, Liu, Manning 2017: a token is written with
probability g = sigmoid(w [context, h, embedding] + b), else one of the source is copied, by a.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from trainer import pad

import numlstm
from numlstm import (
    LSTM,
    Attention,
    Concat,
    Embedding,
    Linear,
    LogSoftmax,
    Network,
    Softmax,
    Weights,
)

Pair = tuple[list[int], list[int]]  # source, target with its end


class Seq2Seq(nn.Module):
    """Encoder and decoder over one vocabulary, one embedding for both and for the output."""

    def __init__(
        self,
        vocab_size: int,
        embedding_size: int,
        hidden_size: int,
        *,
        dropout: float,
        bidirectional: bool = False,
        copies: bool = False,
    ) -> None:
        super().__init__()
        self.bidirectional, self.copies = bidirectional, copies
        self.embedding = nn.Embedding(vocab_size, embedding_size)
        self.encoder = nn.LSTM(embedding_size, hidden_size // (1 + bidirectional), batch_first=True)
        if bidirectional:
            self.backward_encoder = nn.LSTM(embedding_size, hidden_size // 2, batch_first=True)
        self.decoder = nn.LSTM(embedding_size, hidden_size, batch_first=True)
        self.query = nn.Linear(hidden_size, hidden_size, bias=False)
        self.attended = nn.Linear(2 * hidden_size, embedding_size)
        self.bias = nn.Parameter(torch.zeros(vocab_size))
        if copies:
            self.gate = nn.Linear(2 * hidden_size + embedding_size, 1)
        self.dropout = nn.Dropout(dropout)
        nn.init.normal_(self.embedding.weight, std=0.1)
        nn.init.normal_(self.query.weight, std=hidden_size**-1.0)

    def encode(self, ids: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the memory (S, M, H) of ids (S, M) and the first h of the decoder (S, H)."""
        xs = self.dropout(self.embedding(ids))
        rows, _ = self.encoder(xs)
        last = (lengths - 1)[:, None, None].expand(-1, 1, rows.shape[2])
        h = rows.gather(1, last)[:, 0]
        if self.bidirectional:
            # Turned around within its length, so that no step reads padding before the text.
            at = torch.arange(ids.shape[1])
            turned = torch.where(at < lengths[:, None], lengths[:, None] - 1 - at, at)
            back, _ = self.backward_encoder(_pick(xs, turned))
            back = _pick(back, turned)
            rows, h = torch.cat([rows, back], 2), torch.cat([h, back[:, 0]], 1)
        return rows, h

    def decode(
        self, tokens: torch.Tensor, rows: torch.Tensor, h: torch.Tensor, lengths: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return logits (S, T, V), attention (S, T, M) and gate (S, T) after tokens (S, T)."""
        xs = self.dropout(self.embedding(tokens))
        hs, _ = self.decoder(xs, (h[None], torch.zeros_like(h)[None]))
        scores = self.query(hs) @ rows.mT
        padding = torch.arange(rows.shape[1]) >= lengths[:, None]
        attention = scores.masked_fill(padding[:, None], -torch.inf).softmax(2)
        context = attention @ rows
        attended = torch.tanh(self.attended(torch.cat([context, hs], 2)))
        logits = F.linear(self.dropout(attended), self.embedding.weight, self.bias)
        if not self.copies:
            return logits, attention, torch.ones(tokens.shape)
        gate = self.gate(torch.cat([context, hs, xs], 2)).sigmoid()[:, :, 0]
        return logits, attention, gate

    def nats(self, pairs: Sequence[Pair], first: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return -log p of each target (S,), the decoder beginning with `first`, and lengths."""
        ids, lengths = pad([source for source, _ in pairs])
        targets, target_lengths = pad([target for _, target in pairs])
        tokens = F.pad(targets[:, :-1], (1, 0), value=first)
        logits, attention, gate = self.decode(tokens, *self.encode(ids, lengths), lengths)
        nats = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
        nats = nats.view(targets.shape)
        if self.copies:
            inside = torch.arange(ids.shape[1]) < lengths[:, None]
            here = (ids[:, None] == targets[:, :, None]) & inside[:, None]
            copied = (attention * here).sum(2)
            nats = -(gate * (-nats).exp() + (1 - gate) * copied + 1e-9).log()
        padding = torch.arange(targets.shape[1]) >= target_lengths[:, None]
        return nats.masked_fill(padding, 0).sum(1), target_lengths


def _pick(xs: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
    return xs.gather(1, at[:, :, None].expand(-1, -1, xs.shape[2]))


def mean_nats(net: Seq2Seq, pairs: Sequence[Pair], first: int, batch_size: int = 64) -> float:
    """Return the mean of -log p over all target tokens, dropout off."""
    net.eval()
    order = sorted(pairs, key=lambda pair: (len(pair[1]), len(pair[0])))
    nats, count = 0.0, 0
    with torch.no_grad():
        for at in range(0, len(order), batch_size):
            total, lengths = net.nats(order[at : at + batch_size], first)
            nats, count = nats + total.sum().item(), count + int(lengths.sum())
    return nats / count


# --------------------------------------------------------------------------------------- result


def networks(net: Seq2Seq) -> tuple[Weights, Weights]:
    """Return encoder and decoder for numlstm, with neither labels nor tokenizer.

    The encoder's answers are the memory of the decoder. The decoder gives log p of every token;
    if it copies, p of every token, the gate and the query, (V + 1 + H).
    """
    vocab_size, embedding_size = net.embedding.weight.shape
    size = net.decoder.hidden_size
    direction = "bidirectional" if net.bidirectional else "forward"
    embedding = {"embedding.weight": net.embedding.weight}
    encoder_network = Network(
        (
            Embedding(vocab_size, embedding_size),
            LSTM(embedding_size, net.encoder.hidden_size, direction=direction),
        )
    )
    encoder = embedding | _lstm(net.encoder, "layers.0.")
    if net.bidirectional:
        encoder |= _lstm(net.backward_encoder, "layers.0.", "_reverse")

    both = ("context", "lstm")
    decoder_network = Network(
        (
            Embedding(vocab_size, embedding_size, name="token"),
            LSTM(embedding_size, size, name="lstm"),
            Linear(size, size, bias=False, name="query"),
            Attention(size, size, name="context"),
            Linear(2 * size, embedding_size, activation="tanh", inputs=both),
            Linear(embedding_size, vocab_size),
            *(
                (
                    Softmax(vocab_size, name="written"),
                    Linear(
                        2 * size + embedding_size,
                        1,
                        activation="sigmoid",
                        name="gate",
                        inputs=(*both, "token"),
                    ),
                    Concat(vocab_size + 1 + size, inputs=("written", "gate", "query")),
                )
                if net.copies
                else (LogSoftmax(vocab_size),)
            ),
        )
    )
    decoder = embedding | _lstm(net.decoder, "layers.0.")
    decoder |= {
        "layers.1.weight": net.query.weight,
        "layers.3.weight": net.attended.weight,
        "layers.3.bias": net.attended.bias,
        "layers.4.weight": net.embedding.weight,
        "layers.4.bias": net.bias,
    }
    if net.copies:
        decoder |= {"layers.6.weight": net.gate.weight, "layers.6.bias": net.gate.bias}
    return _weights(encoder_network, encoder), _weights(decoder_network, decoder)


def _lstm(lstm: nn.LSTM, prefix: str, suffix: str = "") -> dict[str, torch.Tensor]:
    return {f"{prefix}{name.removesuffix('_l0')}{suffix}": p for name, p in lstm.named_parameters()}


def _weights(network: Network, tensors: dict[str, torch.Tensor]) -> Weights:
    arrays = {name: t.detach().numpy().astype(np.float32) for name, t in tensors.items()}
    return Weights(network, arrays, origin=f"torch {torch.__version__}")


def paths(out: Path) -> tuple[Path, Path]:
    """Return where encoder and decoder are: `chat.encoder.safetensors` for `chat.safetensors`."""
    return out.with_suffix(".encoder.safetensors"), out.with_suffix(".decoder.safetensors")


@torch.no_grad()
def largest_difference(net: Seq2Seq, pairs: Sequence[Pair], first: int) -> float:
    """Return max |engine - PyTorch| over log p (or p, gate and query) of every step of `pairs`."""
    net.eval()
    encoder, decoder = (numlstm.Model(weights) for weights in networks(net))
    largest = 0.0
    for source, target in pairs:
        ids, lengths = pad([source])
        tokens = torch.tensor([[first, *target[:-1]]])
        rows, h = net.encode(ids, lengths)
        logits, _, gate = net.decode(tokens, rows, h, lengths)
        ys = logits.log_softmax(2)[0]
        if net.copies:
            hs, _ = net.decoder(net.embedding(tokens), (h[None], torch.zeros_like(h)[None]))
            ys = torch.cat([ys.exp(), gate[0][:, None], net.query(hs)[0]], 1)
        stream = decoder.stream(memory=encoder.run(source))
        stream.state = {"layers.0.h": h[0].numpy()}
        found = stream.run(tokens[0].numpy())
        largest = max(largest, float(np.abs(found - ys.numpy()).max()))
    return largest
