"""Run an encoder and a decoder of two files, and search for what to write."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import numlstm

Floats = NDArray[np.float32]
LogProbabilities = Callable[[Floats], Floats]


def files(path: Path) -> dict[str, Path]:
    """Return the two files of an encoder and decoder."""
    return {part: path.with_suffix(f".{part}.safetensors") for part in ("encoder", "decoder")}


class EncoderDecoder:
    """An encoder, a decoder and their tokenizer: NAME.encoder and NAME.decoder.safetensors."""

    def __init__(self, path: Path, dtype: str | None = None) -> None:
        self.encoder, self.decoder = (
            numlstm.load(file, dtype=dtype) for file in files(path).values()
        )
        self.tokenizer: Any = self.encoder.load_tokenizer()
        self.bidirectional = not self.encoder.network.is_causal

    def read(self, source: Sequence[int]) -> tuple[numlstm.Stream, LogProbabilities]:
        """Return a decoder that has written nothing yet, and what makes log p of its answers."""
        rows = self.encoder.run(np.array(source, np.int32))
        half = rows.shape[1] // 2
        # Where each direction ended: for the one from the right that is the first row.
        last = np.concatenate([rows[-1, :half], rows[0, half:]]) if self.bidirectional else rows[-1]
        stream = self.decoder.stream(memory=rows)
        stream.state = {"layers.0.h": last}
        if self.decoder.output_size == self.decoder.vocab_size:
            return stream, lambda ys: ys
        return stream, lambda ys: copied(ys, rows, np.array(source))

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of tokens, without marks."""
        return str(self.tokenizer.decode(list(tokens), skip_special_tokens=True)).strip()


def copied(ys: Floats, rows: Floats, ids: NDArray[Any]) -> Floats:
    """Return log p (..., V) of what a decoder that copies answers, `rows` being its memory.

        p = gate * written + (1 - gate) * (attention, summed over the places of each token)

    ys     written (V,), gate (1,), query (H,)
    rows   (M, H), of the tokens ids (M,)
    """
    vocab_size = ys.shape[-1] - rows.shape[1] - 1
    written, gate, query = np.split(ys, [vocab_size, vocab_size + 1], axis=-1)
    scores = query @ rows.T
    attention = np.exp(scores - scores.max(-1, keepdims=True))
    attention *= (1 - gate) / attention.sum(-1, keepdims=True)
    p = gate * written
    np.add.at(p.T, ids, attention.T)
    log_p: Floats = np.log(p + np.float32(1e-9))
    return log_p


def sample(
    stream: numlstm.Stream,
    first: int,
    end: int,
    generator: np.random.Generator,
    *,
    temperature: float,
    top_p: float,
    max_tokens: int,
) -> list[int]:
    """Draw tokens of log p, from the likeliest ones that together have `top_p`, until `end`."""
    tokens = [first]
    while len(tokens) <= max_tokens:
        log_p = stream.step(tokens[-1]).astype(np.float64) / temperature
        p = np.exp(log_p - log_p.max())
        order = np.argsort(-p, kind="stable")
        mass = np.cumsum(p[order]) / p.sum()
        order = order[: 1 + int(np.searchsorted(mass, top_p))]
        token = int(generator.choice(order, p=p[order] / p[order].sum()))
        if token == end:
            break
        tokens.append(token)
    return tokens[1:]


def beam_search(
    stream: numlstm.Stream,
    first: int,
    end: int,
    log_probabilities: LogProbabilities,
    *,
    width: int,
    max_tokens: int,
    min_tokens: int,
    forbidden: Sequence[int] = (),
) -> list[int]:
    """Return the tokens with the best mean log p; none of them has the same trigram twice."""
    beams = [(0.0, [first], stream)]
    done: list[tuple[float, list[int]]] = []
    for length in range(1, max_tokens + 1):
        candidates = []
        for n, (total, tokens, decoder) in enumerate(beams):
            log_p = log_probabilities(decoder.step(tokens[-1]))
            log_p[list(forbidden)] = -np.inf
            if length <= min_tokens:
                log_p[end] = -np.inf
            log_p[_repeating(tokens)] = -np.inf
            for token in np.argpartition(-log_p, 2 * width)[: 2 * width]:
                candidates.append((total + float(log_p[token]), n, int(token)))
        candidates.sort(reverse=True)
        chosen: list[tuple[float, int, int]] = []
        for total, n, token in candidates:
            if token == end:
                done.append((total / length, beams[n][1]))
            elif len(chosen) < width:
                chosen.append((total, n, token))
            if len(done) >= width or len(chosen) == width:
                break
        if len(done) >= width or not chosen:
            break
        beams = [(total, [*beams[n][1], token], beams[n][2].copy()) for total, n, token in chosen]
    done = done or [(total / len(tokens), tokens) for total, tokens, _ in beams]
    return max(done, key=lambda found: found[0])[1][1:]


def _repeating(tokens: list[int]) -> list[int]:
    """Return the tokens that would end a trigram which is already there."""
    pair = tokens[-2:]
    return [
        tokens[at + 2]
        for at in range(len(tokens) - 2)
        if len(pair) == 2 and tokens[at : at + 2] == pair
    ]
