"""What pipelines of text are given, checked once, with errors that say what is wrong."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from numlstm.errors import WeightsError
from numlstm.model import Model


def check_text(text: str) -> str:
    """Return a text of characters, or raise a TypeError or ValueError."""
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


def check_words(words: Sequence[str]) -> list[str]:
    """Return a list of words, none of them empty, or raise a TypeError or ValueError."""
    if isinstance(words, str) or not isinstance(words, list | tuple):
        raise TypeError(f"words is {type(words).__name__}, expected a list of str")
    for n, word in enumerate(words):
        try:
            if not check_text(word):
                raise ValueError("it is empty")
        except (TypeError, ValueError) as error:
            raise type(error)(f"word {n}: {error}") from None
    return list(words)


def check_count(name: str, value: Any, least: int = 1) -> None:
    """Raise a ValueError unless a value is a whole number, and not too small."""
    is_whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not is_whole or value < least:
        raise ValueError(f"{name} is {value!r}, expected {least} or more")
    if value > sys.maxsize:
        raise ValueError(f"{name} is {value!r}, expected {least} to {sys.maxsize}")


def check_parts(parts: Mapping[str, Model], expected: Sequence[str], what: str) -> None:
    """Raise a WeightsError if there are other networks than expected."""
    if set(parts) != set(expected):
        found = ", ".join(parts) if set(parts) != {""} else "one network without a name"
        raise WeightsError(
            f"the model cannot {what}: expected the networks {', '.join(expected)}, found {found}"
        )


def check_marks(tokenizer: Any, marks: Sequence[str], what: str) -> None:
    """Raise a WeightsError if the first tokens are not the marks."""
    if [tokenizer.id_to_token(n) for n in range(len(marks))] != list(marks):
        raise WeightsError(f"the model cannot {what}: its first tokens are not {marks}")


def check_scores_tokens(model: Model, what: str) -> None:
    """Raise a WeightsError if a model does not score the tokens that it reads, step by step."""
    problems = []
    if model.tokenizer is None or model.vocab_size is None:
        problems.append("it has no tokenizer")
    elif model.output_size != model.vocab_size:
        problems.append(f"it answers {model.output_size} numbers for {model.vocab_size} tokens")
    if not model.network.is_causal:
        problems.append("it reads later tokens")
    if problems:
        raise WeightsError(f"the model cannot {what}: {', '.join(problems)}")
