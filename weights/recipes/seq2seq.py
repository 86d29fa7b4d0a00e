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
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import nn
from torch.nn import functional as F
from trainer import pad

import numlstm
from numlstm import (
    LSTM,
    Activation,
    Attention,
    Copy,
    Embedding,
    Linear,
    LogSoftmax,
    Network,
    Softmax,
    Weights,
)
from numlstm.spec import Probe

PROBE_ROWS, PROBE_STEPS = 24, 4  # of what is read and written in a probe
SMALLEST = 1e-9  # probability of a token, so that its logarithm is finite

Pair = tuple[list[int], list[int]]  # source; target, from the token it begins with to its end


class Bidirectional(nn.Module):
    """Two LSTMs over padded sequences, one from the left and one from the last real step.

    Faster on a CPU than one bidirectional nn.LSTM over a packed sequence: 3 times.
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.left = nn.LSTM(input_size, hidden_size, batch_first=True)
        self.right = nn.LSTM(input_size, hidden_size, batch_first=True)

    def forward(self, xs: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Return (S, T, 2 H) of xs (S, T, I)."""
        at, last = torch.arange(xs.shape[1]), lengths[:, None] - 1
        turned = torch.where(at <= last, last - at, at)
        back, _ = self.right(_pick(xs, turned))
        return torch.cat([self.left(xs)[0], _pick(back, turned)], 2)

    def tensors(self, prefix: str) -> dict[str, torch.Tensor]:
        """Return the tensors by numlstm's names."""
        return lstm_tensors(self.left, prefix) | lstm_tensors(self.right, prefix, "_reverse")


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
        self.encoder: nn.Module = (
            Bidirectional(embedding_size, hidden_size // 2)
            if bidirectional
            else nn.LSTM(embedding_size, hidden_size, batch_first=True)
        )
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
        last = (lengths - 1)[:, None]
        if not self.bidirectional:
            rows, _ = self.encoder(xs)
            return rows, _pick(rows, last)[:, 0]
        rows = self.encoder(xs, lengths)
        left, right = rows.chunk(2, dim=2)
        return rows, torch.cat([_pick(left, last)[:, 0], right[:, 0]], 1)

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

    def nats(self, pairs: Sequence[Pair]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return -log p of each target (S,), and how many tokens were predicted in it (S,)."""
        sources = {id(source): source for source, _ in pairs}  # one that is shared is read once
        at = {key: n for n, key in enumerate(sources)}
        index = torch.tensor([at[id(source)] for source, _ in pairs])
        ids, lengths = pad(list(sources.values()))
        rows, h = (part[index] for part in self.encode(ids, lengths))
        ids, lengths = ids[index], lengths[index]
        tokens, token_lengths = pad([target for _, target in pairs])
        targets, counts = tokens[:, 1:], token_lengths - 1
        logits, attention, gate = self.decode(tokens[:, :-1], rows, h, lengths)
        nats = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
        nats = nats.view(targets.shape)
        if self.copies:
            here = ids[:, None] == targets[:, :, None]
            copied = (attention * here).sum(2)
            nats = -(gate * (-nats).exp() + (1 - gate) * copied + SMALLEST).log()
        padding = torch.arange(targets.shape[1]) >= counts[:, None]
        return nats.masked_fill(padding, 0).sum(1), counts


def _pick(xs: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
    return xs.gather(1, at[:, :, None].expand(-1, -1, xs.shape[2]))


def mean_nats(net: Seq2Seq, pairs: Sequence[Pair], batch_size: int = 64) -> float:
    """Return the mean of -log p over all target tokens, dropout off."""
    net.eval()
    order = sorted(pairs, key=lambda pair: (len(pair[1]), len(pair[0])))
    nats, count = 0.0, 0
    with torch.no_grad():
        for at in range(0, len(order), batch_size):
            total, counts = net.nats(order[at : at + batch_size])
            nats, count = nats + total.sum().item(), count + int(counts.sum())
    return nats / count


# --------------------------------------------------------------------------------------- result


def networks(net: Seq2Seq) -> tuple[Weights, Weights]:
    """Return encoder and decoder for numlstm, with neither labels nor tokenizer.

    The encoder's answers are the memory of the decoder, which gives log p of every token.
    """
    vocab_size, embedding_size = net.embedding.weight.shape
    size = net.decoder.hidden_size
    direction = "bidirectional" if net.bidirectional else "forward"
    embedding = {"embedding.weight": net.embedding.weight}
    encoder_network = Network(
        (
            Embedding(vocab_size, embedding_size),
            LSTM(embedding_size, size // (1 + net.bidirectional), direction=direction),
        )
    )
    prefix = "layers.0."
    encoder = embedding | (
        net.encoder.tensors(prefix) if net.bidirectional else lstm_tensors(net.encoder, prefix)
    )

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
                    Copy(vocab_size, size, inputs=("written", "gate", "query")),
                    Activation(vocab_size, f"affine(1.0, {SMALLEST})"),
                    Activation(vocab_size, "log"),
                )
                if net.copies
                else (LogSoftmax(vocab_size),)
            ),
        )
    )
    decoder = embedding | lstm_tensors(net.decoder, prefix)
    decoder |= {
        "layers.1.weight": net.query.weight,
        "layers.3.weight": net.attended.weight,
        "layers.3.bias": net.attended.bias,
        "layers.4.weight": net.embedding.weight,
        "layers.4.bias": net.bias,
    }
    if net.copies:
        decoder |= {"layers.6.weight": net.gate.weight, "layers.6.bias": net.gate.bias}
    return as_weights(encoder_network, encoder), as_weights(decoder_network, decoder)


def lstm_tensors(lstm: nn.LSTM, prefix: str, suffix: str = "") -> dict[str, torch.Tensor]:
    """Return the tensors of a layer by numlstm's names."""
    return {f"{prefix}{name.removesuffix('_l0')}{suffix}": p for name, p in lstm.named_parameters()}


def as_weights(network: Network, tensors: dict[str, torch.Tensor]) -> Weights:
    """Return network and tensors as float32, with neither labels nor tokenizer."""
    arrays = {name: t.detach().numpy().astype(np.float32) for name, t in tensors.items()}
    return Weights(network, arrays, origin=f"torch {torch.__version__}")


def log_probabilities(
    net: Seq2Seq, ids: torch.Tensor, rows: torch.Tensor, h: torch.Tensor, tokens: torch.Tensor
) -> torch.Tensor:
    """Return log p (T, V) after tokens (1, T), by PyTorch; rows (1, M, H) are those of ids (M,)."""
    logits, attention, gate = net.decode(tokens, rows, h, torch.tensor([len(ids)]))
    ys = logits.log_softmax(2)[0]
    if not net.copies:
        return ys
    shares = (1 - gate[0][:, None]) * attention[0]
    return ((gate[0][:, None] * ys.exp()).index_add(1, ids, shares) + SMALLEST).log()


@torch.no_grad()
def save(net: Seq2Seq, tokenizer: Tokenizer, pairs: Sequence[Pair], path: Path, dtype: str) -> None:
    """Write encoder and decoder to one file; what PyTorch makes of pairs proves them."""
    net.eval()
    of_encoder, of_decoder = [], []
    for source, target in pairs:
        ids, tokens = source[:PROBE_ROWS], target[:PROBE_STEPS]
        rows, h = net.encode(*pad([ids]))
        start = torch.zeros_like(h)
        ys = log_probabilities(net, torch.tensor(ids), rows, start, torch.tensor([tokens]))
        xs, memory = np.array(ids, np.int32), rows[0].numpy()
        of_encoder.append(Probe(xs, memory))
        memory_ids = xs if net.copies else None
        of_decoder.append(Probe(np.array(tokens, np.int32), ys.numpy(), memory, memory_ids))
    encoder, decoder = networks(net)
    parts = {
        "encoder": replace(encoder, tokenizer=tokenizer.to_str(), probes=tuple(of_encoder)),
        "decoder": replace(decoder, probes=tuple(of_decoder)),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    models = {part: numlstm.Model(weights) for part, weights in parts.items()}
    numlstm.save_parts(models, path, dtype)


@torch.no_grad()
def largest_difference(net: Seq2Seq, pairs: Sequence[Pair]) -> float:
    """Return max |engine - PyTorch| over log p of every step of `pairs`."""
    net.eval()
    encoder, decoder = (numlstm.Model(weights) for weights in networks(net))
    largest = 0.0
    for source, target in pairs:
        tokens = torch.tensor([target[:-1]])
        rows, h = net.encode(*pad([source]))
        ys = log_probabilities(net, torch.tensor(source), rows, h, tokens)
        memory_ids = source if net.copies else None
        stream = decoder.stream(memory=encoder.run(source), memory_ids=memory_ids)
        stream.state = {"layers.0.h": h[0].numpy()}
        found = stream.run(tokens[0].numpy())
        largest = max(largest, float(np.abs(found - ys.numpy()).max()))
    return largest
