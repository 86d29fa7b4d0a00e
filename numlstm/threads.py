"""Work shared between threads.

A thread begins with each piece of work and ends with it: none waits, or spins, in between, and
after a fork there is none to miss. The kernels run without the GIL.
"""

import threading
from collections.abc import Callable, Sequence
from typing import Any


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
