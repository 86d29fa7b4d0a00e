"""The times of single calls: their percentiles, right after each other or now and then."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

# By their names in results: microseconds.
_SHARES = {"p50_us": 50.0, "p90_us": 90.0, "p99_us": 99.0, "p999_us": 99.9, "max_us": 100.0}

# What something else reads and writes between two steps: as much as a third of the time allows, or
# what empties all caches but the largest ones.
_BYTES_PER_MS, _MOST_BYTES = 4 * 2**20, 64 * 2**20

_FEWEST, _MOST = 100, 200_000  # calls


def percentiles(times: ArrayLike) -> dict[str, Any]:
    """Return how many times there are, and p50, p90, p99, p99.9 and the largest, in microseconds.

    Parameters
    ----------
    times : array of shape (n,)
        Microseconds, at least one.
    """
    values = np.asarray(times, np.float64)
    found = np.percentile(values, list(_SHARES.values())).round(6).tolist()
    return {"num_calls": values.size, **dict(zip(_SHARES, found, strict=True))}


def timed(call: Callable[[int], object], seconds: float) -> NDArray[np.float64]:
    """Return the microseconds of each call, right after each other, after some that warm up.

    Parameters
    ----------
    call : callable
        Called with 0, 1, 2, ...; what it does before its work is part of the time.
    seconds : float
        How long, for 100 calls at least and 200,000 at most.
    """
    clock = time.perf_counter_ns
    for n in range(_FEWEST // 10):
        call(n)
    times: list[int] = []
    deadline = clock() + int(seconds * 1e9)
    while len(times) < _MOST and (clock() < deadline or len(times) < _FEWEST):
        n = len(times)
        began = clock()
        call(n)
        times.append(clock() - began)
    return np.array(times) / 1e3


def paced(
    call: Callable[[int], object],
    before: Callable[[int], object],
    interval_ms: float,
    num_steps: int,
) -> NDArray[np.float64]:
    """Return the microseconds of calls that come now and then, as those of a live stream do.

    Before each, other memory is read and written, and the process sleeps until it is due; with an
    interval of 0 neither.

    Parameters
    ----------
    call, before : callable
        Called with 0, 1, 2, ...; what `before` does, gives an input for example, is not timed.
    interval_ms : float
        From one call to the next.
    num_steps : int
        How many.
    """
    clock = time.perf_counter_ns
    others = np.zeros(min(int(interval_ms * _BYTES_PER_MS), _MOST_BYTES), np.uint8)
    times = np.zeros(num_steps)
    due = clock()
    for n in range(num_steps):
        if interval_ms:
            np.add(others, 1, out=others)
            due = max(due + int(interval_ms * 1_000_000), clock())
            time.sleep(max(0.0, (due - clock()) / 1e9))
        before(n)
        began = clock()
        call(n)
        times[n] = clock() - began
    return times / 1e3
