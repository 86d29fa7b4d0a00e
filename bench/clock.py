"""Timing of single calls."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.cases import Floats

# Part of the time of a round that is spent before the clock starts, to refill the caches that the
# other engines emptied.
_WARM_UP = 0.2
_MAX_CALLS = 200_000


@dataclass
class Call:
    """Something to time: ``function(x, out)``.

    count     how often one call does what it is named after; times are divided by it
    answers   whether ``out`` then holds the outputs of the whole input, to be checked
    times     nanoseconds of each call so far
    rounds    where in `times` each round ends
    """

    function: Callable[[Any, Any], Any]
    x: Any
    out: Any
    count: int = 1
    answers: bool = False
    times: list[int] = field(default_factory=list)
    rounds: list[int] = field(default_factory=list)

    def time(self, seconds: float, buffer: Floats, rows: list[Floats]) -> None:
        """Add a round of calls, each with the next row in the input buffer.

        Garbage collection stays on, as it is where the calls are made from.
        """
        min_calls = 100 if self.count == 1 else 10
        warm_up: list[int] = []
        self._fill(warm_up, _WARM_UP * seconds, min_calls // 10, buffer, rows)
        self._fill(self.times, seconds, min_calls, buffer, rows)
        self.rounds.append(len(self.times))

    def _fill(
        self,
        times: list[int],
        seconds: float,
        min_calls: int,
        buffer: Floats,
        rows: list[Floats],
    ) -> None:
        clock = time.perf_counter_ns
        function, x, out = self.function, self.x, self.out
        enough, most = len(times) + min_calls, len(times) + _MAX_CALLS
        deadline = clock() + int(seconds * 1e9)
        while clock() < deadline or len(times) < enough:
            for row in rows:
                buffer[:] = row
                began = clock()
                function(x, out)
                times.append(clock() - began)
                if began > deadline and len(times) >= enough:
                    return
            if len(times) >= most:
                return

    def summary(self) -> dict[str, Any]:
        """Return percentiles over all calls, in microseconds."""
        times = np.array(self.times) / (1e3 * self.count)
        p50, p90, p99, p999, largest = _rounded(np.percentile(times, [50, 90, 99, 99.9, 100]))
        rounds = np.split(times, self.rounds[:-1])
        return {
            "count": self.count,
            "num_calls": len(times),
            "p50_us": p50,
            "p90_us": p90,
            "p99_us": p99,
            "p999_us": p999,
            "max_us": largest,
            "round_p50_us": _rounded(np.array([np.median(part) for part in rounds])),
        }


def _rounded(times: NDArray[np.float64]) -> list[float]:
    return [round(time, 6) for time in times.tolist()]


def clock_cost() -> float:
    """Return what reading the clock adds to every time, in microseconds."""
    call = Call(_nothing, None, None)
    call.time(0.05, np.zeros(1, np.float32), [np.zeros(1, np.float32)] * 64)
    return float(call.summary()["p50_us"])


def _nothing(x: None, out: None) -> None:
    pass
