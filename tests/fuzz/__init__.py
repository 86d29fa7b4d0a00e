"""What tries to break the package, for as long as it is let: ``python -m tests.fuzz``.

A campaign is a module of this folder with one function:

    run(clock, seed) -> Figures    tries cases while ``clock.ticks()``, raises a `Found` on a find

A short run of each is part of the suite: `test_fuzz.py`. A long one, of some or all:

    python -m tests.fuzz files --minutes 40
    python -m tests.fuzz --minutes 600

A find ends with how to repeat it. What it takes to add a reader of files is a module in `readers`,
and valid files in ``corpus``, which ``corpus/make.py`` writes.
"""

import time
from collections import Counter


class Found(AssertionError):  # noqa: N818 - what a campaign looks for
    """A case that broke a promise, with how to repeat it."""


class Missing(ImportError):  # noqa: N818
    """What a campaign needs is not installed."""


class Figures(Counter[str]):
    """What was tried, by a word each: ``Figures(loads=1200, refused=1100)``."""

    def __str__(self) -> str:
        return ", ".join(f"{self[word]:,} {word}" for word in self)


class Clock:
    """Lets a campaign go on for so many seconds, or for so many cases.

    Of several processes each has a clock of its own.
    """

    def __init__(self, seconds: float = float("inf"), cases: float = float("inf")) -> None:
        self.seconds, self.cases = seconds, cases
        self._until = time.monotonic() + seconds
        self._taken = 0

    def is_over(self) -> bool:
        """Whether there is no time for another case."""
        return self._taken >= self.cases or time.monotonic() >= self._until

    def ticks(self) -> bool:
        """Whether there is time for one more case, which counts as taken."""
        if self.is_over():
            return False
        self._taken += 1
        return True
