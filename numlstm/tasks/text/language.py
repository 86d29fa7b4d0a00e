"""Language modelling: how surprised a network is by each token of a text."""

import math
from dataclasses import dataclass
from typing import overload

import numpy as np
from numpy.typing import NDArray

from numlstm.errors import WeightsError
from numlstm.model import Model
from numlstm.spec import Softmax
from numlstm.tasks.checks import check_scores_tokens, check_text
from numlstm.tasks.pipelines import Pipeline, PipelineStream, answers
from numlstm.tasks.text.encoding import Encoder

_START = "\n"  # what a text is taken to follow
_BLOCK = 500  # steps whose scores are in memory at once


@dataclass(frozen=True, eq=False)
class Score:
    """How surprised a network is by a text.

    nats         minus the natural logarithm of the text's probability
    num_tokens   how many tokens it has
    perplexity   exp(nats / num_tokens)
    per_token    (num_tokens,) nats of each token after those before it
    tokens       the tokens
    """

    nats: float
    num_tokens: int
    perplexity: float
    per_token: NDArray[np.float32]
    tokens: tuple[str, ...]


class LanguageModel(Pipeline):
    """Scores texts. Threads may share it.

    Attributes
    ----------
    model : Model
        The model: reads tokens, has their tokenizer, and answers a number for each; logits, or
        what a softmax or log-softmax makes of them.
    """

    def __init__(self, model: Model) -> None:
        check_scores_tokens(model, "score text")
        self.model = model
        self.encoder = Encoder(model, spaces=True)
        last = model.network.layers[-1]
        self._are_probabilities = isinstance(last, Softmax)
        self._start = self.encoder(_START)
        if not self._start:
            raise WeightsError("the model cannot score text: it has no token for a new line")

    @overload
    def __call__(self, text: str) -> Score: ...
    @overload
    def __call__(self, text: list[str] | tuple[str, ...]) -> list[Score]: ...
    def __call__(self, text: str | list[str] | tuple[str, ...]) -> Score | list[Score]:
        """Score a text, or each of a list, as it would follow the end of a line.

        Raises
        ------
        TypeError, ValueError
            If a text is not a string of characters, or has no tokens.
        """
        found: Score | list[Score] = answers(text, self._score, (list, tuple), self._item)
        return found

    score = __call__

    def stream(self) -> "ScoreStream":
        """Return a stream that takes a text as it arrives."""
        return ScoreStream(self)

    def _score(self, text: str) -> Score:
        stream = self.stream()
        stream.feed(text)
        return stream.finish()

    def log_p(self, ys: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the logarithms of the probabilities that answers are: (T, V)."""
        exact = ys.astype(np.float64)
        if self._are_probabilities:
            return np.log(np.maximum(exact, np.finfo(np.float32).tiny))
        highest = exact.max(axis=1, keepdims=True)
        normalised: NDArray[np.float64]
        normalised = exact - highest - np.log(np.exp(exact - highest).sum(axis=1, keepdims=True))
        return normalised


class ScoreStream(PipelineStream):
    """A text in progress. Belongs to one thread at a time.

    A word is read when white space follows it. If a call raises, the stream is as it was before.
    """

    def __init__(self, pipe: LanguageModel) -> None:
        self._pipe = pipe
        self._stream = pipe.model.stream()
        self.reset()

    def reset(self) -> None:
        """Begin a new text."""
        self._stream.reset()
        self._rest = ""
        self._ids = [np.zeros(0, np.int32)]
        self._nats = [np.zeros(0, np.float32)]
        self._next = self._pipe.log_p(self._stream.run(self._pipe._start)[-1:])
        self._finished = False

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

    def finish(self) -> Score:
        """Take the text as complete and return the score of all of it.

        Raises
        ------
        ValueError
            If the text has no tokens, or was finished before.
        """
        self._check_open()
        if self._rest:
            self._read([self._rest])
            self._rest = ""
        ids = np.concatenate(self._ids)
        if not len(ids):
            raise ValueError("the text is empty: it has no tokens to score")
        self._finished = True
        return self._score(ids, np.concatenate(self._nats))

    def _read(self, pieces: list[str]) -> Score:
        pipe = self._pipe
        ids = np.array(pipe.encoder.ids(pieces), np.int32)
        kept, expected = self._stream.kept, self._next
        parts = []
        try:
            for at in range(0, len(ids), _BLOCK):
                block = ids[at : at + _BLOCK]
                log_p = np.concatenate([expected, pipe.log_p(self._stream.run(block))])
                parts.append(-log_p[np.arange(len(block)), block].astype(np.float32))
                expected = log_p[-1:]
        except BaseException:
            self._stream.kept = kept
            raise
        self._next = expected
        self._ids.append(ids)
        self._nats.append(np.concatenate([np.zeros(0, np.float32), *parts]))
        return self._score(ids, self._nats[-1])

    def _score(self, ids: NDArray[np.int32], per_token: NDArray[np.float32]) -> Score:
        nats = float(per_token.sum(dtype=np.float64))
        try:
            perplexity = math.exp(nats / max(len(ids), 1))
        except OverflowError:
            perplexity = math.inf
        tokens = tuple(map(self._pipe.encoder.token, ids.tolist()))
        return Score(nats, len(ids), perplexity, per_token, tokens)
