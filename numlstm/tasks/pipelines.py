"""What all pipelines share: one item or many, and a bar while many are answered."""

import operator
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class Pipeline:
    """Something a person has in, something a person wants out. Threads may share it.

    Every pipeline is called with one item for one answer, or with a list for a list.
    """

    _item = "text"  # what it takes

    def __call__(self, *args: Any, **options: Any) -> Any:
        """Answer an item, or each of a list."""
        raise NotImplementedError

    def each(
        self, items: Iterable[Any], *, progress: bool | None = None, **options: Any
    ) -> Iterator[Any]:
        """Yield the answer to each item as it comes.

        Parameters
        ----------
        items : iterable
            Texts, or whatever the pipeline takes: a list, an open file, a generator.
        progress : bool, optional
            Show a bar on stderr; without it only where that is a terminal.
        **options
            Go to each call.

        Raises
        ------
        TypeError, ValueError
            If an item cannot be answered; it is named by its number. Begin anew behind it.
        """
        named = _named(items, lambda item: self(item, **options), self._item)
        if progress is None:
            progress = sys.stderr is not None and sys.stderr.isatty()
        return _with_bar(named, operator.length_hint(items) or None) if progress else named


class PipelineStream:
    """An item in progress, taken as it arrives. Belongs to one thread at a time.

    If a call raises, the stream is as it was before.
    """

    _item = "text"
    _finished = False

    def _check_open(self) -> None:
        if self._finished:
            raise ValueError(f"the {self._item} was finished; begin a new one with reset")


def answers(
    items: Any, one: Callable[[Any], Answer], many: type | tuple[type, ...], name: str
) -> Any:
    """Return the answer to an item, or a list of those to each where ``items`` is of ``many``."""
    are_many: bool = isinstance(items, many)
    return list(_named(items, one, name)) if are_many else one(items)


def _named(items: Iterable[Item], one: Callable[[Item], Answer], name: str) -> Iterator[Answer]:
    """Yield an answer to each; an error says which item it is about."""
    for n, item in enumerate(items):
        try:
            answer = one(item)
        except (TypeError, ValueError) as error:
            raise type(error)(f"{name} {n}: {error}") from error
        yield answer


def _with_bar(found: Iterator[Answer], total: int | None) -> Iterator[Answer]:
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True, force_terminal=True)
    yield from track(found, "answering", total=total, console=console, transient=True)
