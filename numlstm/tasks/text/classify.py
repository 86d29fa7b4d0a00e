"""Text classification, whole or as the text arrives."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from numlstm.errors import WeightsError
from numlstm.model import Model
from numlstm.run.threads import in_turn
from numlstm.spec import Softmax
from numlstm.tasks.checks import check_text
from numlstm.tasks.pipelines import Pipeline, PipelineStream, named, run_all
from numlstm.tasks.text.encoding import Encoder

Ids = NDArray[np.int32]

MAX_TOKENS = 2**18  # of a text that is read from both ends, all at once: in up to 1 GB

if TYPE_CHECKING:
    from numlstm.tasks.text.mail import Message


@dataclass(frozen=True)
class Prediction:
    """A label and its probability; of a text without words the label is "" and the score 0."""

    label: str
    score: float


_NOTHING = Prediction("", 0.0)


class Classifier(Pipeline[str, Prediction]):
    """Gives a text one of the model's labels. Threads may share it.

    Attributes
    ----------
    model : Model
        The model, which has a tokenizer and labels and ends in a softmax.
    """

    def __init__(self, model: Model) -> None:
        problems = []
        if model.tokenizer is None or model.vocab_size is None:
            problems.append("it has no tokenizer")
        if not model.labels:
            problems.append("it has no labels")
        if not isinstance(model.network.layers[-1], Softmax):
            problems.append("it does not end in a softmax")
        if problems:
            raise WeightsError(f"the model cannot classify text: {', '.join(problems)}")
        self.model = model
        self.encoder = Encoder(model)

    def answer(self, text: str) -> Prediction:
        """Classify a text; one without words gets the label "" and the score 0.

        Raises
        ------
        TypeError, ValueError
            If the text is not a string of characters, or is too long for a network that reads from
            both ends.
        """
        return self.prediction(self.model.run(self._ids(text)))

    def _answer_all(self, texts: Sequence[str]) -> list[Prediction]:
        ids = list(named(texts, self._ids, self._item))
        answers = run_all(self.model, ids)
        return list(named(ids, lambda _: self.prediction(next(answers)), self._item))

    def _ids(self, text: str) -> Ids:
        ids = self.encoder(check_text(text))
        self.check_length(len(ids))
        return np.array(ids, np.int32)

    def stream(self) -> "TextStream":
        """Return a stream that takes a text as it arrives."""
        return TextStream(self)

    def steps(self, text: str) -> Iterator[tuple[str, Prediction]]:
        """Yield each token of a text with the prediction after it.

        Raises
        ------
        TypeError, ValueError
            As a call does, and if the network reads the text from both ends.
        """
        tokens = self.encoder(check_text(text))
        if not self.model.network.is_causal:
            raise ValueError("the model reads a text from both ends: it has no answer on the way")
        stream = self.model.stream()
        for token in tokens:
            yield self.encoder.token(token), self.prediction(stream.step(token)[None])

    def prediction(self, ys: NDArray[np.float32]) -> Prediction:
        """Return the label of the largest score of the last row."""
        if not len(ys):
            return _NOTHING
        best = int(ys[-1].argmax())
        return Prediction(self.model.labels[best], float(ys[-1, best]))

    def check_length(self, num_tokens: int) -> None:
        """Raise a ValueError if a text of so many tokens is too long to be read from both ends."""
        if num_tokens > MAX_TOKENS and not self.model.network.is_causal:
            raise ValueError(
                f"the text has more than {MAX_TOKENS:,} tokens, too many for a network that reads "
                "from both ends; classify parts of it, or use one that does not"
            )


class TextStream(PipelineStream[Prediction]):
    """A text in progress. Belongs to one thread at a time.

    A word is read when it is complete: when white space follows it, or the text is finished. If a
    call raises, the stream is as it was before.
    """

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self._classifier = classifier
        model = classifier.model
        self._stream = model.stream() if model.network.is_causal else None
        self.reset()

    @in_turn
    def reset(self) -> None:
        """Begin a new text."""
        if self._stream is not None:
            self._stream.reset()
        self._ids: list[int] = []  # of all words, for a network that reads from both ends
        self._rest = ""  # the word that is not complete yet
        self._prediction: Prediction | None = None
        self._finished = False

    @in_turn
    def feed(self, text: str) -> Prediction | None:
        """Take more of the text, cut anywhere.

        Returns
        -------
        Prediction or None
            The prediction for the complete words so far; None while there is none, and always if
            the network reads from both ends.

        Raises
        ------
        TypeError, ValueError
            If text is not a string of characters, too long for a network that reads from both
            ends, or the text was finished before.
        """
        self._check_open()
        words, rest = self._classifier.encoder.complete(self._rest + check_text(text))
        self._read(words)
        self._rest = rest
        return self._prediction

    def _end(self) -> Prediction:
        if self._rest:
            self._read([self._rest])
            self._rest = ""
        if self._ids:
            ys = self._classifier.model.run(np.array(self._ids, np.int32))
            self._prediction = self._classifier.prediction(ys)
        return self._prediction or _NOTHING

    def _read(self, words: list[str]) -> None:
        ids = self._classifier.encoder.ids(words)
        if self._stream is None:
            self._classifier.check_length(len(self._ids) + len(ids))
            self._ids += ids
        elif ids:
            ys = self._stream.run(np.array(ids, np.int32))
            self._prediction = self._classifier.prediction(ys)


class MailClassifier(Classifier):
    """Gives messages one of the model's labels: texts, or files of emails."""

    @overload
    def __call__(
        self, item: list[str] | tuple[str, ...] | os.PathLike[str], /
    ) -> list[Prediction]: ...
    @overload
    def __call__(self, item: str, /) -> Prediction: ...
    def __call__(self, item: Any, /) -> Any:
        """Classify a message, each of a list, or all of a file, an .eml or an mbox.

        A string is the text of a message, whatever it looks like; a file is a `Path`.

        Raises
        ------
        OSError
            If there is no such file.
        TypeError, ValueError
            As `answer`; or if a file holds no messages.
        """
        if isinstance(item, os.PathLike):
            item = [message.text for message in self.read(item)]
        return super().__call__(item)

    def read(self, path: str | os.PathLike[str]) -> Iterator["Message"]:
        """Yield the messages of an .eml or mbox file; errors are those of a call."""
        from numlstm.tasks.text.mail import (
            read_messages,  # the parsers of mail are not loaded by all
        )

        return read_messages(path)
