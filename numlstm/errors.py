"""What numlstm raises of its own, and how it lists what is wrong."""

from collections.abc import Iterable


class WeightsError(ValueError):
    """A file, a conversion or a set of tensors that cannot become a model."""


# A small file can be wrong in a million places, or have a million names, each of any length.
_MOST_LINES = 100
_MOST_NAMES = 20
_MOST_SAID = 1000  # characters


def listed(problems: Iterable[str]) -> str:
    """Return problems as lines of an error, indented; of very many the first ones."""
    return "".join(f"\n  {problem}" for problem in _first(problems, _MOST_LINES))


def first_of(names: Iterable[str]) -> str:
    """Return names in a sentence; of very many the first ones."""
    return ", ".join(_first(names, _MOST_NAMES))


def _first(texts: Iterable[str], most: int) -> list[str]:
    every = list(texts)
    more = [f"and {len(every) - most:,} more"] if len(every) > most else []
    return [*map(shortened, every[:most]), *more]


def shortened(text: str, most: int = _MOST_SAID) -> str:
    """Return a text without the middle of a very long one: what to do is said at its end."""
    half = most // 2
    return text if len(text) <= most else f"{text[:half]} ... {text[-half:]}"
