"""Where sentences end: a rule for English, whole or word by word."""

import re

_ABBREVIATIONS = (r"e\.g", r"i\.e", "al", "vs", "cf", "Fig", "Eq", "Mr", "Mrs", "Ms", "Dr", "St")
_END = re.compile(
    r"(?:(?<=[.!?])|(?<=[.!?][\"')\]]))"
    + "".join(rf"(?<!\b{word}\.)" for word in (*_ABBREVIATIONS, "[A-Z]"))
    + r"\s+(?=[\"'(\[]*[A-Z0-9])"
)


def split_sentences(text: str) -> list[str]:
    """Return the sentences of a text, at least one."""
    return _END.split(text)


def is_end(word: str, following: str) -> bool:
    """Return whether a sentence ends between two words, which white space is between."""
    return _END.search(f"{word} {following}") is not None
