"""Work shared between threads, and what belongs to one of them at a time.

A thread begins with each piece of work and ends with it: none waits, or spins, in between, and
after a fork there is none to miss. The kernels run without the GIL.
"""

import threading
from collections.abc import Callable, Sequence
from functools import wraps
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


def run_together(work: Sequence[Callable[[], Any]]) -> None:
    """Run functions at the same time, the first one in this thread; raise what one of them raises.

    All have ended when this returns or raises.
    """
    errors: list[BaseException] = []

    def run(function: Callable[[], Any]) -> None:
        try:
            function()
        except BaseException as error:
            errors.append(error)

    others = [threading.Thread(target=run, args=(function,)) for function in work[1:]]
    for thread in others:
        thread.start()
    try:
        work[0]()
    finally:
        for thread in others:
            thread.join()
    if errors:
        raise errors[0]
