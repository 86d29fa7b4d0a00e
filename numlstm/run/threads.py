"""Work shared between threads, and what belongs to one of them at a time.

A thread begins with each piece of work and ends with it: none waits, or spins, in between, and
after a fork there is none to miss. The kernels run without the GIL.
"""

import threading
import time
from _thread import start_new_thread
from collections.abc import Callable, Sequence
from functools import wraps
from queue import SimpleQueue
from typing import Any, NoReturn, TypeVar, cast


class Turn:
    """What one thread at a time may do: a second one is refused at once, and neither is harmed.

    Between the look at `taken` and its change no other thread of CPython runs.
    """

    __slots__ = ("taken",)

    def __init__(self) -> None:
        self.taken = False

    def refuse(self) -> NoReturn:
        raise RuntimeError(
            "it is in use by another thread, and was left alone: give each thread a stream or a "
            "pool of its own, or take turns with a lock"
        )


Method = TypeVar("Method", bound=Callable[..., Any])


def in_turn(method: Method) -> Method:
    """Make a method of what has a ``_turn`` one thread's at a time.

    No context manager does it: Ctrl-C at the first instruction of its ``__exit__`` would leave the
    turn taken for ever. Here none comes between a try or a finally and the assignment beside it.
    """

    @wraps(method)
    def alone(self: Any, *args: Any, **options: Any) -> Any:
        turn = self._turn
        if turn.taken:
            turn.refuse()
        turn.taken = True
        try:
            return method(self, *args, **options)
        finally:
            turn.taken = False

    return cast(Method, alone)


class _Group:
    """Threads that share some work.

    running   what they have begun and not ended
    failed    the first error of one of them, or an interruption
    """

    __slots__ = ("failed", "running")

    def __init__(self) -> None:
        self.failed: BaseException | None = None
        self.running: list[Callable[[], Any]] = []


class _Stopped(Exception):  # noqa: N818 - no error, but its consequence
    """Another thread of the group has failed."""


_own = threading.local()  # .group: that of the thread, if it shares its work


def go_on() -> None:
    """Raise if another thread that shares the work has failed; called between slices of work."""
    group = getattr(_own, "group", None)
    if group is not None and group.failed is not None:
        raise _Stopped


def run_together(work: Sequence[Callable[[], Any]]) -> None:
    """Run functions at the same time, the first one in this thread; raise what one of them raises.

    If one fails, or Ctrl-C comes, the others end where they next ask whether to `go_on`. All have
    ended when this returns or raises, so that nobody works in arrays that the next call takes; and
    if Ctrl-C comes again meanwhile, that is so all the same.
    """
    if len(work) == 1:
        work[0]()
        return
    group = _Group()
    ended: SimpleQueue[None] = SimpleQueue()

    def run(function: Callable[[], Any]) -> None:
        group.running.append(function)  # before it looks: whoever waits has set `failed` before
        try:
            if group.failed is None:
                _own.group = group
                function()
        except BaseException as error:
            group.failed = group.failed or error
        finally:
            group.running.remove(function)
            ended.put(None)

    try:
        for function in work[1:]:  # a `threading.Thread` whose start is interrupted is never let go
            start_new_thread(run, (function,))
        _own.group = group
        work[0]()
        for _ in work[1:]:
            ended.get()
    except BaseException as error:
        group.failed = group.failed or error
    # Whoever has not begun will find that it need not.
    waits = True
    while waits:
        try:
            while group.running:
                time.sleep(0.001)
            _own.group = None
            waits = False
        except BaseException as error:  # nothing is called here, so nothing can interrupt it
            group.failed = group.failed or error
    if group.failed is not None:
        raise group.failed
