"""Text classification, whole or as the text arrives."""

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import overload

import numpy as np
from numpy.typing import NDArray

import numlstm

# Text is cut into words at white space, and every word is encoded alone, so that a text gives the
# same tokens in whatever pieces it arrives. A run without white space is cut at this length.
MAX_WORD = 512

_WORD = re.compile(r"\S+")
_EMPTY = "the text is empty: it has no words to classify"


@dataclass(frozen=True)
class Prediction:
    """A label and its probability."""

    label: str
    score: float


class Classifier:
    """Gives a text one of the model's labels. Threads may share it.

    Attributes
    ----------
    model : Model
        The model, which has a tokenizer and labels and ends in a softmax.
    """

    def __init__(self, model: "numlstm.Model") -> None:
        problems = []
        if model.tokenizer is None or model.vocab_size is None:
            problems.append("it has no tokenizer")
        if not model.labels:
            problems.append("it has no labels")
        if not isinstance(model.network.layers[-1], numlstm.Softmax):
            problems.append("it does not end in a softmax")
        if problems:
            raise numlstm.WeightsError(f"the model cannot classify text: {', '.join(problems)}")
        tokenizer = model.load_tokenizer()
        tokenizer.no_padding()
        tokenizer.no_truncation()
        self.model = model
        self._tokenizer = tokenizer
        self._encode_word_once = lru_cache(2**14)(self._encode_word)
        sample = "Half a word, isn't one."
        try:
            words = self.encode(sample.split())
            whole = self._encode_word(sample)
        except ValueError as error:
            raise numlstm.WeightsError(str(error)) from error
        if list(whole) != words:
            raise numlstm.WeightsError("the tokenizer does not split at white space")

    @overload
    def __call__(self, text: str) -> Prediction: ...
    @overload
    def __call__(self, text: list[str] | tuple[str, ...]) -> list[Prediction]: ...
    def __call__(self, text: str | list[str] | tuple[str, ...]) -> Prediction | list[Prediction]:
        """Classify a text, or each of a list.

        Raises
        ------
        TypeError, ValueError
            If a text is not a string, or has nothing but white space in it.
        """
        if isinstance(text, str):
            stream = self.stream()
            stream.feed(text)
            return stream.finish()
        if not isinstance(text, list | tuple):
            raise TypeError(f"text is {type(text).__name__}, expected str or a list of str")
        predictions = []
        for n, item in enumerate(text):
            try:
                predictions.append(self(_check_text(item)))
            except (TypeError, ValueError) as error:
                raise type(error)(f"text {n}: {error}") from error
        return predictions

    def stream(self) -> "TextStream":
        """Return a stream that takes a text as it arrives."""
        return TextStream(self)

    def steps(self, text: str) -> Iterator[tuple[str, Prediction]]:
        """Yield each token of a text with the prediction after it."""
        stream = self.model.stream()
        tokens = self.encode(split_words(_check_text(text)))
        if not tokens:
            raise ValueError(_EMPTY)
        for token in tokens:
            yield self._tokenizer.id_to_token(token) or "", self.prediction(stream.step(token))

    def prediction(self, scores: NDArray[np.float32]) -> Prediction:
        """Return the label of the largest score."""
        best = int(scores.argmax())
        return Prediction(self.model.labels[best], float(scores[best]))

    def encode(self, words: Iterable[str]) -> list[int]:
        """Return the token ids of words, each encoded alone."""
        return [token for word in words for token in self._encode_word_once(word)]

    def _encode_word(self, word: str) -> tuple[int, ...]:
        try:
            return tuple(self._tokenizer.encode(word, add_special_tokens=False).ids)
        except BaseException as error:
            # A panic of the tokenizers library is no Exception.
            if isinstance(error, Exception) or type(error).__name__ == "PanicException":
                raise ValueError(f"the tokenizer fails on {word[:40]!r}: {error}") from error
            raise


class TextStream:
    """A text in progress. Belongs to one thread at a time.

    A word is read when it is complete: when white space follows it, or the text is finished. If a
    call raises, the stream is as it was before.
    """

    def __init__(self, classifier: Classifier) -> None:
        self._classifier = classifier
        self._stream = classifier.model.stream()
        self.reset()

    def reset(self) -> None:
        """Begin a new text."""
        self._stream.reset()
        self._rest = ""  # the word that is not complete yet
        self._prediction: Prediction | None = None
        self._finished = False

    def feed(self, text: str) -> Prediction | None:
        """Take more of the text, cut anywhere.

        Returns
        -------
        Prediction or None
            The prediction for the complete words so far; None while there is none.

        Raises
        ------
        TypeError, ValueError
            If text is not a string of characters, or the text was finished before.
        """
        self._check_open()
        text = self._rest + _check_text(text)
        words = list(split_words(text))
        rest = ""
        if words and not text[-1].isspace() and len(words[-1]) < MAX_WORD:
            rest = words.pop()
        self._read(words)
        self._rest = rest
        return self._prediction

    def finish(self) -> Prediction:
        """Take the text as complete and return its prediction.

        Raises
        ------
        ValueError
            If the text has nothing but white space in it, or was finished before.
        """
        self._check_open()
        if self._rest:
            self._read([self._rest])
            self._rest = ""
        if self._prediction is None:
            raise ValueError(_EMPTY)
        self._finished = True
        return self._prediction

    def _check_open(self) -> None:
        if self._finished:
            raise ValueError("the text was finished; begin a new one with reset")

    def _read(self, words: list[str]) -> None:
        ids = self._classifier.encode(words)
        if ids:
            ys = self._stream.run(np.array(ids, np.int32))
            self._prediction = self._classifier.prediction(ys[-1])


def split_words(text: str) -> Iterator[str]:
    """Yield the runs of a text without white space, cut after every MAX_WORD characters."""
    for match in _WORD.finditer(text):
        word = match.group()
        for at in range(0, len(word), MAX_WORD):
            yield word[at : at + MAX_WORD]


def _check_text(text: str) -> str:
    if not isinstance(text, str):
        raise TypeError(f"text is {type(text).__name__}, expected str")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"text[{error.start}] is half of a surrogate pair, not a character; "
            "decode the bytes with errors='replace'"
        ) from None
    return text


_TASKS = {"sentiment": Classifier}


def pipeline(
    task: str, model: "str | os.PathLike[str] | numlstm.Model | None" = None
) -> Classifier:
    """Return what does a task with text.

    Parameters
    ----------
    task : str
        "sentiment": a text gets a label, `Classifier`.
    model : str, path or Model, optional
        The bundled model of the task's name if not given.

    Examples
    --------
    >>> pipe = numlstm.pipeline("sentiment")
    >>> pipe("The movie was good.").label
    'positive'
    """
    if task not in _TASKS:
        raise ValueError(f"task is {task!r}, expected one of: {', '.join(_TASKS)}")
    if model is None:
        model = task
    if not isinstance(model, numlstm.Model):
        model = numlstm.load(model)
    return _TASKS[task](model)
