"""Timing of single calls: by the thousand with a new input each, or a few long ones."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.engines import Call
from bench.engines.cases import Floats

# Part of the time of a round that is spent before the clock starts, to refill the caches that the
# other engines emptied.
_WARM_UP = 0.2
_MAX_CALLS = 200_000
_LATE = 3  # times as long a round may last until it has enough calls


class Clock:
    """The times of a call, round by round.

    times     nanoseconds of each call so far
    rounds    where in `times` each round ends
    """

    def __init__(self, call: Call) -> None:
        self.call = call
        self.times: list[int] = []
        self.rounds: list[int] = []

    def time(self, seconds: float, buffer: Floats, rows: list[Floats]) -> None:
        """Add a round of calls, each with the next row in the input buffer.

        Garbage collection stays on, as it is where the calls are made from. Long calls are as many
        as percentiles need, or as fit into a few times the seconds.
        """
        min_calls = 100 if self.call.count == 1 else 10
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
        function, x, out = self.call.function, self.call.x, self.call.out
        fewest, enough, most = (len(times) + n for n in (min_calls // 10, min_calls, _MAX_CALLS))
        deadline = clock() + int(seconds * 1e9)
        latest = deadline + int(_LATE * seconds * 1e9)
        while True:
            for row in rows:
                buffer[:] = row
                began = clock()
                function(x, out)
                times.append(clock() - began)
                if began > deadline and len(times) >= (enough if began < latest else fewest):
                    return
            if len(times) >= most:
                return

    def summary(self) -> dict[str, Any]:
        """Return percentiles over all calls, in microseconds."""
        from numlstm.measure.times import percentiles  # peers' processes weigh what they import

        times = np.array(self.times) / (1e3 * self.call.count)
        rounds = np.split(times, self.rounds[:-1])
        return {
            "count": self.call.count,
            **percentiles(times),
            "round_p50_us": _rounded(np.array([np.median(part) for part in rounds])),
        }


def _rounded(times: NDArray[np.float64]) -> list[float]:
    return [round(time, 6) for time in times.tolist()]


def clock_cost() -> float:
    """Return what reading the clock adds to every time, in microseconds."""
    clock = Clock(Call(_nothing, None, None))
    clock.time(0.05, np.zeros(1, np.float32), [np.zeros(1, np.float32)] * 64)
    return float(clock.summary()["p50_us"])


def _nothing(x: None, out: None) -> None:
    pass


def times_us(call: Callable[[], object], seconds: float) -> list[float]:
    """Return the microseconds of each of three calls or more, after one that warms up."""
    clock = time.perf_counter_ns
    call()
    times: list[float] = []
    deadline = clock() + int(seconds * 1e9)
    while clock() < deadline or len(times) < 3:
        began = clock()
        call()
        times.append((clock() - began) / 1e3)
    return times
