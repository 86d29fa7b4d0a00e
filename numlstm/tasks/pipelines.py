"""What all pipelines share: one item or many, and a bar while many are answered."""

import operator
import sys
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Sequence
from importlib.util import find_spec
from typing import Any, Generic, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from numlstm.model import Model
from numlstm.run.threads import Turn, in_turn

Item = TypeVar("Item")
Answer = TypeVar("Answer")

_MIN_TOGETHER = 32  # sequences
_MAX_TOGETHER = 2**22  # numbers of their answers, 16 MB


class Pipeline(Generic[Item, Answer]):
    """Something a person has in, something a person wants out. Threads may share it.

    A pipeline is called with one item for one answer, or with a list for a list of the same
    answers. An item that there is nothing to say about, an empty text for example, is no error: its
    answer says so, as `answer` describes it.
    """

    _item = "text"  # what it takes
    _lists: tuple[type, ...] = (list, tuple)  # what holds many of them

    @overload
    def __call__(
        self, item: list[Item] | tuple[Item, ...], /, *args: Any, **options: Any
    ) -> list[Answer]: ...
    @overload
    def __call__(self, item: Item, /, *args: Any, **options: Any) -> Answer: ...
    def __call__(self, item: Any, /, *args: Any, **options: Any) -> Any:
        """Answer an item, or each of a list, together where that is faster.

        Options and errors are those of `answer`. One about an item of a list names it by its
        number.
        """
        are_many: bool = isinstance(item, self._lists)
        answer = self._answer_all if are_many else self.answer
        return answer(item, *args, **options)

    def answer(self, item: Item, /, *args: Any, **options: Any) -> Answer:
        """Answer one item."""
        raise NotImplementedError

    def each(
        self, items: Iterable[Item], *, progress: bool | None = None, **options: Any
    ) -> Iterator[Answer]:
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
        answers = named(items, lambda item: self.answer(item, **options), self._item)
        if progress is None:
            is_seen = sys.stderr is not None and sys.stderr.isatty()
            progress = is_seen and find_spec("rich") is not None
        return _with_bar(answers, operator.length_hint(items) or None) if progress else answers

    def _answer_all(self, items: Sequence[Item], *args: Any, **options: Any) -> list[Answer]:
        return list(named(items, lambda item: self.answer(item, *args, **options), self._item))


class PipelineStream(Generic[Answer]):
    """An item in progress, taken as it arrives.

    It belongs to one thread at a time: whichever method a second one calls meanwhile raises a
    RuntimeError. If a call raises, the stream is as it was before.
    """

    _item = "text"
    _finished = False

    def __init__(self) -> None:
        self._turn = Turn()

    @in_turn
    def finish(self) -> Answer:
        """Take the item as complete and return its answer, the one that a call gives.

        Raises
        ------
        ValueError, RuntimeError
            If it was finished before, or another thread is in it.
        """
        self._check_open()
        answer = self._end()
        self._finished = True
        return answer

    async def over(self, chunks: AsyncIterable[Any]) -> AsyncIterator[Any]:
        """Feed what arrives, and yield what each chunk is answered; then finish, and yield that.

        A chunk is answered on the loop; of what takes a millisecond or more, a minute of sound for
        example, call ``await numlstm.off_loop(live.feed, chunk)``.

        Parameters
        ----------
        chunks : async iterable
            Pieces of the item, as `feed` takes them.
        """
        feed: Any = self.feed  # type: ignore[attr-defined]
        async for chunk in chunks:
            yield feed(chunk)
        yield self.finish()

    def _end(self) -> Answer:
        raise NotImplementedError

    def _check_open(self) -> None:
        if self._finished:
            raise ValueError(f"the {self._item} was finished; begin a new one with reset")


def named(items: Iterable[Item], one: Callable[[Item], Answer], name: str) -> Iterator[Answer]:
    """Yield an answer to each; an error says which item it is about."""
    for n, item in enumerate(items):
        try:
            answer = one(item)
        except (TypeError, ValueError) as error:
            raise type(error)(f"{name} {n}: {error}") from error
        yield answer


def run_all(model: Model, xss: Sequence[NDArray[Any]]) -> Iterator[NDArray[np.float32]]:
    """Yield what a network answers to each sequence: the bits of `Model.run`, sooner if it can.

    They share every read of the weights if there are 32 or more, the network is causal and none of
    its matrices is int8. 64 sequences of 14 to 80 steps took 1.0 to 5.7 times as long one by one.
    Of int8, whose rows cost less than arranging them, they took 0.8 to 1.2 times as long; in two
    directions 0.7 to 1.5; 16 sequences 0.5 to 4.1.
    """
    dtypes = model.network.matrix_dtypes().values()
    pays = model.network.is_causal and "int8" not in dtypes
    for some in _groups(xss, _MAX_TOGETHER // model.output_size):
        if pays and len(some) >= _MIN_TOGETHER:
            try:
                yield from model.run_batch(some)
                continue
            except ValueError:  # one of them overflows: `run` is asked which one
                pass
        yield from map(model.run, some)


def _groups(xss: Sequence[NDArray[Any]], most: int) -> Iterator[list[NDArray[Any]]]:
    """Yield sequences, in order, with at most so many steps together; a longer one is alone."""
    some: list[NDArray[Any]] = []
    num_steps = 0
    for xs in xss:
        num_steps += len(xs)
        if some and num_steps > most:
            yield some
            some, num_steps = [], len(xs)
        some.append(xs)
    if some:
        yield some


def _with_bar(found: Iterator[Answer], total: int | None) -> Iterator[Answer]:
    try:
        from rich.console import Console
        from rich.progress import track
    except ImportError as error:
        raise ImportError(f"a bar needs rich: pip install rich ({error})") from error

    console = Console(stderr=True, force_terminal=True)
    yield from track(found, "answering", total=total, console=console, transient=True)
