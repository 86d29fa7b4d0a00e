"""Text to token ids in whatever pieces it arrives, and ids to text without half a character."""

import re
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache, partial
from typing import Any

from numlstm.errors import WeightsError
from numlstm.model import Model

# What a text is taken to follow.
START = "\n"
# A run of characters without white space is cut at this length.
MAX_WORD = 512

_WORD = re.compile(r"\S+")
_SEGMENT = re.compile(rf"\s*\S{{1,{MAX_WORD}}}|\s+")
_SAMPLE = "Half a word,  isn't\n\none."


class Encoder:
    """Turns pieces of text into token ids, each piece alone and the frequent ones once.

    Pieces are the words between white space; or, where ``spaces`` are part of the tokens, words
    with the white space before them. So a text gives the same ids in whatever chunks it arrives.

    Raises
    ------
    WeightsError
        If the model has no tokenizer, or one that gives a text other ids than its pieces.
    """

    def __init__(self, model: Model, *, spaces: bool = False) -> None:
        self._model = model
        tokenizer = model.load_tokenizer()
        tokenizer.no_padding()
        tokenizer.no_truncation()
        tokenizer.encode_special_tokens = True  # a mark that someone writes is plain text
        self.tokenizer = tokenizer
        self.joins_words = tokenizer.decoder is None  # its tokens have no white space
        self.split: Callable[[str], Iterator[str]] = split_segments if spaces else split_words
        self._encode_once = lru_cache(2**14)(self._encode)
        try:
            pieces = self.ids(self.split(_SAMPLE))
            whole = self._encode(_SAMPLE)
        except ValueError as error:
            raise WeightsError(str(error)) from error
        if list(whole) != pieces:
            raise WeightsError("the tokenizer does not split at white space")

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(Encoder, spaces=self.split is split_segments), (self._model,)

    def __call__(self, text: str) -> list[int]:
        """Return the ids of a whole text."""
        return self.ids(self.split(text))

    def ids(self, pieces: Iterable[str]) -> list[int]:
        """Return the ids of pieces."""
        return [token for piece in pieces for token in self._encode_once(piece)]

    def token(self, token: int) -> str:
        """Return a token as the vocabulary writes it."""
        return self.tokenizer.id_to_token(token) or ""

    def complete(self, text: str) -> tuple[list[str], str]:
        """Return the pieces of a text that nothing to come can change, and the rest of it."""
        pieces = list(self.split(text))
        if not pieces or (text[-1].isspace() and self.split is split_words):
            return pieces, ""
        # The last one may go on; what was cut from it before it will not change.
        return (pieces, "") if len(pieces[-1].lstrip()) >= MAX_WORD else (pieces[:-1], pieces[-1])

    def _encode(self, text: str) -> tuple[int, ...]:
        return encode(self.tokenizer, text)


def encode(tokenizer: Any, text: str) -> tuple[int, ...]:
    """Return the ids of a text, or raise a ValueError where the library fails on it."""
    try:
        return tuple(tokenizer.encode(text, add_special_tokens=False).ids)
    except BaseException as error:
        if _is_of_library(error):
            raise ValueError(f"the tokenizer fails on {text[:40]!r}: {error}") from error
        raise


def _is_of_library(error: BaseException) -> bool:
    """Whether the library failed; a panic of it is no Exception."""
    return isinstance(error, Exception) or type(error).__name__ == "PanicException"


def decode_each(
    tokenizer: Any, tokens: Iterable[int], skip_special_tokens: bool = False
) -> Iterator[str]:
    """Yield text as tokens come, whole characters only: other bytes are left out.

    Raises
    ------
    ValueError
        Where the library fails on a token.
    """
    from tokenizers.decoders import DecodeStream

    decoder = DecodeStream(skip_special_tokens=skip_special_tokens)
    for token in tokens:
        try:
            text = decoder.step(tokenizer, token)
        except BaseException as error:
            if _is_of_library(error):
                raise ValueError(f"the tokenizer fails on token {token}: {error}") from error
            raise
        if text and (whole := text.replace("\ufffd", "")):
            yield whole


def split_words(text: str) -> Iterator[str]:
    """Yield the runs of a text without white space, cut after every MAX_WORD characters."""
    for match in _WORD.finditer(text):
        word = match.group()
        for at in range(0, len(word), MAX_WORD):
            yield word[at : at + MAX_WORD]


def split_segments(text: str) -> Iterator[str]:
    """Yield words with the white space before them, cut as `split_words` does."""
    for match in _SEGMENT.finditer(text):
        yield match.group()
