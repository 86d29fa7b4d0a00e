"""Language modelling: how surprised a network is by each token of a text."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from numlstm.errors import WeightsError
from numlstm.model import Model
from numlstm.run.threads import in_turn
from numlstm.spec import Softmax
from numlstm.tasks.checks import check_scores_tokens, check_text
from numlstm.tasks.pipelines import Pipeline, PipelineStream, named, run_all
from numlstm.tasks.text.encoding import START, Encoder

Ids = NDArray[np.int32]
Floats = NDArray[np.float32]

_BLOCK = 500  # steps whose scores are there at once


@dataclass(frozen=True, eq=False)
class Score:
    """How surprised a network is by a text; by one without tokens not at all: 0 nats.

    nats         minus the natural logarithm of the text's probability
    num_tokens   how many tokens it has
    perplexity   exp(nats / num_tokens), 1 if there are none
    per_token    (num_tokens,) nats of each token after those before it
    tokens       the tokens
    """

    nats: float
    num_tokens: int
    perplexity: float
    per_token: NDArray[np.float32]
    tokens: tuple[str, ...]


class LanguageModel(Pipeline[str, Score]):
    """Scores texts. Threads may share it.

    Attributes
    ----------
    model : Model
        The model: reads tokens, has their tokenizer, and answers a number for each; logits, or
        what a softmax or log-softmax makes of them.
    start : array
        The tokens of the end of a line, which a text is taken to follow.
    """

    def __init__(self, model: Model) -> None:
        check_scores_tokens(model, "score text")
        self.model = model
        self.encoder = Encoder(model, spaces=True)
        last = model.network.layers[-1]
        self._are_probabilities = isinstance(last, Softmax)
        self.start = self._ids(START)
        if not len(self.start):
            raise WeightsError("the model cannot score text: it has no token for a new line")

    def answer(self, text: str) -> Score:
        """Score a text as it would follow the end of a line; one without tokens has 0 nats.

        Raises
        ------
        TypeError, ValueError
            If the text is not a string of characters.
        """
        ids = self._ids(text)
        if len(ids) > _BLOCK:
            stream = self.stream()
            stream.feed(text)
            return stream.finish()
        return self._score(ids, self.model.run(self._before(ids)))

    score = Pipeline.__call__

    def stream(self) -> "ScoreStream":
        """Return a stream that takes a text as it arrives."""
        return ScoreStream(self)

    def _answer_all(self, texts: Sequence[str]) -> list[Score]:
        all_ids = list(named(texts, self._ids, self._item))
        short = [self._before(ids) for ids in all_ids if len(ids) <= _BLOCK]
        answers = run_all(self.model, short)

        def score(pair: tuple[str, Ids]) -> Score:
            text, ids = pair
            return self.answer(text) if len(ids) > _BLOCK else self._score(ids, next(answers))

        return list(named(zip(texts, all_ids, strict=True), score, self._item))

    def _ids(self, text: str) -> Ids:
        return np.array(self.encoder(check_text(text)), np.int32)

    def _before(self, ids: Ids) -> Ids:
        """Return what is read before the last of tokens."""
        return np.concatenate([self.start, ids])[:-1]

    def _score(self, ids: Ids, ys: Floats) -> Score:
        """Return the score of tokens by the answers to all that is read before the last."""
        return self.scored(ids, self.nats(ids, ys[len(self.start) - 1 :]))

    def scored(self, ids: Ids, nats: Floats) -> Score:
        """Return the score of tokens (T,), of which each has so many nats (T,)."""
        total = float(nats.sum(dtype=np.float64))
        try:
            perplexity = math.exp(total / max(len(ids), 1))
        except OverflowError:
            perplexity = math.inf
        tokens = tuple(map(self.encoder.token, ids.tolist()))
        return Score(total, len(ids), perplexity, nats, tokens)

    def nats(self, ids: Ids, ys: Floats) -> Floats:
        """Return minus log p of tokens (T,), each by the answer before it: (T, V)."""
        return -self.log_p(ys)[np.arange(len(ids)), ids].astype(np.float32)

    def log_p(self, ys: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the logarithms of the probabilities that answers are: (T, V)."""
        exact = ys.astype(np.float64)
        if self._are_probabilities:
            return np.log(np.maximum(exact, np.finfo(np.float32).tiny))
        highest = exact.max(axis=1, keepdims=True)
        normalised: NDArray[np.float64]
        normalised = exact - highest - np.log(np.exp(exact - highest).sum(axis=1, keepdims=True))
        return normalised


class ScoreStream(PipelineStream[Score]):
    """A text in progress. Belongs to one thread at a time.

    A word is read when white space follows it. If a call raises, the stream is as it was before.
    """

    def __init__(self, pipe: LanguageModel) -> None:
        super().__init__()
        self._pipe = pipe
        self._stream = pipe.model.stream()
        self.reset()

    @in_turn
    def reset(self) -> None:
        """Begin a new text."""
        self._stream.reset()
        self._rest = ""
        self._ids = [np.zeros(0, np.int32)]
        self._nats = [np.zeros(0, np.float32)]
        self._last = self._stream.run(self._pipe.start)[-1:]  # what is answered before a token
        self._finished = False

    @in_turn
    def feed(self, text: str) -> Score:
        """Take more of the text, cut anywhere, and return the score of what this completes.

        Raises
        ------
        TypeError, ValueError
            If text is not a string of characters, or the text was finished before.
        """
        self._check_open()
        pieces, rest = self._pipe.encoder.complete(self._rest + check_text(text))
        found = self._read(pieces)
        self._rest = rest
        return found

    def _end(self) -> Score:
        if self._rest:
            self._read([self._rest])
            self._rest = ""
        return self._pipe.scored(np.concatenate(self._ids), np.concatenate(self._nats))

    def _read(self, pieces: list[str]) -> Score:
        pipe, stream = self._pipe, self._stream
        ids = np.array(pipe.encoder.ids(pieces), np.int32)
        kept, last = stream.kept, self._last
        parts = [np.zeros(0, np.float32)]
        try:
            for at in range(0, len(ids), _BLOCK):
                block = ids[at : at + _BLOCK]
                ys = np.concatenate([last, stream.run(block)])
                parts.append(pipe.nats(block, ys[:-1]))
                last = ys[-1:]
        except BaseException:
            stream.kept = kept
            raise
        self._last = last
        self._ids.append(ids)
        self._nats.append(np.concatenate(parts))
        return pipe.scored(ids, self._nats[-1])
