"""What this process holds: memory, what calls allocate, threads."""

import sys
import threading
import tracemalloc
from collections.abc import Callable
from itertools import repeat
from pathlib import Path


def memory() -> int | None:
    """Return the memory of this process that is resident, in bytes; None where it is not known."""
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024


def allocations(call: Callable[[], object], count: int) -> dict[str, int]:
    """Return the bytes that Python's and NumPy's allocators gave at most during calls.

    Returns
    -------
    dict of int
        ``num_calls``; ``peak_bytes`` at most at a time; ``kept_bytes`` and ``kept_blocks`` that are
        still there after all of them.
    """
    call()
    tracemalloc.start()
    calls = repeat(None, count)
    before, _ = tracemalloc.get_traced_memory()
    tracemalloc.reset_peak()
    for _ in calls:
        call()
    after, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return {
        "num_calls": count,
        "peak_bytes": peak - before,
        "kept_bytes": after - before,
        # Looking takes blocks itself.
        "kept_blocks": max(_kept_blocks(call, count) - _kept_blocks(lambda: None, count), 0),
    }


def _kept_blocks(call: Callable[[], object], count: int) -> int:
    """Return how many more blocks of memory Python's objects take after calls."""
    calls = repeat(None, count)
    before = sys.getallocatedblocks()
    for _ in calls:
        call()
    return sys.getallocatedblocks() - before


def num_threads() -> int:
    """Return how many threads this process has: those of the system, where it tells."""
    tasks = Path("/proc/self/task")
    return len(list(tasks.iterdir())) if tasks.exists() else threading.active_count()
