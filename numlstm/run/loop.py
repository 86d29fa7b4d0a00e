"""Streams in an event loop of asyncio: iterators that let others run, and a way off the loop.

A step takes microseconds, less than a hop to a thread and back: it belongs on the loop. What takes
a millisecond or more, a long `run` or a whole text, belongs in a thread.
"""

from collections.abc import AsyncIterator, Callable, Generator, Iterator
from typing import ParamSpec, Self, TypeVar

Item = TypeVar("Item", covariant=True)
Asked = ParamSpec("Asked")
Found = TypeVar("Found")


class Both(Iterator[Item], AsyncIterator[Item]):
    """An iterator of ``for`` and of ``async for``, which lets other tasks run before each item."""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Item:
        import asyncio  # 30 ms, which those without a loop do not wait for

        await asyncio.sleep(0)
        try:
            return next(self)
        except StopIteration:
            raise StopAsyncIteration from None


class Pieces(Both[Item]):
    """What a generator yields, for ``for`` and ``async for``; it is closed as a generator is."""

    def __init__(self, generator: Generator[Item, None, None]) -> None:
        self._generator = generator

    def __next__(self) -> Item:
        return next(self._generator)

    def close(self) -> None:
        """End it."""
        self._generator.close()

    async def aclose(self) -> None:
        """End it; `contextlib.aclosing` calls this."""
        self._generator.close()


async def off_loop(
    function: Callable[Asked, Found], *args: Asked.args, **options: Asked.kwargs
) -> Found:
    """Return what a function returns, called in a thread, while other tasks of the loop run.

    A task that is cancelled meanwhile waits for the call to end, so that a stream is never in use
    by a thread that nobody knows of: it is as after the call then, or as before if that raised.

    Parameters
    ----------
    function : callable
        ``stream.run`` or ``pipe``, for example.
    *args, **options
        What it is called with.

    Raises
    ------
    Exception
        Whatever it raises.

    Examples
    --------
    >>> ys = await numlstm.off_loop(stream.run, xs)
    """
    import asyncio

    call = asyncio.ensure_future(asyncio.to_thread(function, *args, **options))
    try:
        return await asyncio.shield(call)
    except asyncio.CancelledError:
        while not call.done():
            try:
                await asyncio.wait({call})
            except asyncio.CancelledError:
                continue  # cancelled again: the call goes on all the same
        if not call.cancelled():
            call.exception()  # looked at: the task ends by its cancellation
        raise
