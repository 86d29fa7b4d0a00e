"""An encoder and a decoder with attention: what they write, by beam search or by chance."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numlstm.errors import WeightsError
from numlstm.model import Model
from numlstm.run.stream import Stream
from numlstm.tasks.checks import check_marks, check_parts
from numlstm.tasks.text.encoding import decode_each, encode

PARTS = ("encoder", "decoder")

Floats = NDArray[np.float32]


class EncoderDecoder:
    """Two networks over one vocabulary. Threads may share it.

    The encoder's answers are the memory that the decoder attends to, and may copy tokens from;
    where its directions ended is the decoder's first h. The decoder answers log p of every token.
    """

    def __init__(self, parts: Mapping[str, Model], marks: Sequence[str], what: str) -> None:
        check_parts(parts, PARTS, what)
        self.encoder, self.decoder = (parts[name] for name in PARTS)
        vocab_size = self.decoder.vocab_size
        if vocab_size is None or self.decoder.output_size != vocab_size:
            raise WeightsError(
                f"the model cannot {what}: its decoder answers {self.decoder.output_size} numbers "
                f"for {vocab_size} tokens"
            )
        self.tokenizer: Any = self.encoder.load_tokenizer()
        self.tokenizer.encode_special_tokens = True  # a mark that someone writes is plain text
        check_marks(self.tokenizer, marks, what)

    def encode(self, text: str) -> tuple[int, ...]:
        """Return the ids of a text."""
        return encode(self.tokenizer, text)

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of tokens, without marks."""
        return "".join(decode_each(self.tokenizer, tokens, skip_special_tokens=True)).strip()

    def read(self, source: Sequence[int] | NDArray[np.int32]) -> Stream:
        """Return a decoder that has written nothing yet."""
        ids = np.array(source, np.int32)
        rows = self.encoder.run(ids)
        copies = self.decoder.network.memory_vocab_size is not None
        stream = self.decoder.stream(memory=rows, memory_ids=ids if copies else None)
        stream.state = {"layers.0.h": self.last_of(rows)}
        return stream

    def last_of(self, rows: Floats) -> Floats:
        """Return where the encoder's directions ended; the one from the right ends at the left."""
        if self.encoder.network.is_causal:
            last: Floats = rows[-1]
            return last
        half = rows.shape[1] // 2
        return np.concatenate([rows[-1, :half], rows[0, half:]])


def beam_search(
    stream: Stream,
    first: int,
    end: int,
    *,
    width: int,
    max_tokens: int,
    min_tokens: int = 0,
    forbidden: Sequence[int] = (),
) -> list[int]:
    """Return the tokens with the best mean log p; none of them has the same trigram twice.

    Paulus, Xiong, Socher 2017, for the trigrams; lengths are normalised as in Wu et al. 2016 with
    an exponent of 1.
    """
    beams = [(0.0, [first], stream)]
    done: list[tuple[float, list[int]]] = []
    for length in range(1, max_tokens + 1):
        candidates = []
        for n, (total, tokens, decoder) in enumerate(beams):
            log_p = decoder.step(tokens[-1])
            log_p[list(forbidden)] = -np.inf
            if length <= min_tokens:
                log_p[end] = -np.inf
            log_p[_repeating(tokens)] = -np.inf
            best = np.argpartition(-log_p, min(2 * width, len(log_p)) - 1)[: 2 * width]
            for token in best:
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


def until(tokens: Iterator[int], end: int) -> Iterator[int]:
    """Yield tokens up to one that ends them."""
    for token in tokens:
        if token == end:
            return
        yield token
