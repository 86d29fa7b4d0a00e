"""A property that is found once."""

import functools
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, TypeVar

T = TypeVar("T")


class cached_property(functools.cached_property[T]):  # noqa: N801  it takes the other's place
    """`functools.cached_property` as it is from Python 3.12 on: without a lock.

    That of 3.11 is one for all instances. Of a process that is forked while a thread is in it, the
    child would wait for that thread, which it does not have, for ever.
    """

    def __init__(self, function: Callable[[Any], T]) -> None:
        super().__init__(function)
        self.lock = nullcontext()
