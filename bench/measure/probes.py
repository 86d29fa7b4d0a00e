"""What is asked of an engine beside its speed: memory, allocations, streams that fade or wait."""

import gc
import time
import tracemalloc
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np

from bench.engines.cases import make_inputs


def memory() -> int | None:
    """Return the memory of this process that is resident, in bytes; None where it is not known."""
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024


def streams(engine: Any, kind: str, count: int) -> dict[str, Any]:
    """Open streams, each with a step taken; return what they hold beyond the model.

    kind   "stream" for objects, "slot" for those of a pool
    """
    gc.collect()
    before = memory()
    held = engine.open_streams(kind, count)
    gc.collect()
    after = memory()
    del held
    beyond = None if before is None or after is None else after - before
    return {"kind": kind, "count": count, "bytes": beyond}


def allocations(engine: Any, num_steps: int) -> dict[str, Any]:
    """Return the bytes that Python's and NumPy's allocators gave at most during steps."""
    step, x, out = engine.step, engine.x, engine.out
    step(x, out)
    tracemalloc.start()
    steps = repeat(None, num_steps)
    before, _ = tracemalloc.get_traced_memory()
    tracemalloc.reset_peak()
    for _ in steps:
        step(x, out)
    after, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return {"num_steps": num_steps, "kept_bytes": after - before, "peak_bytes": peak - before}


def decay(engine: Any, num_steps: int, window: int) -> dict[str, Any]:
    """Feed a stream zeros; return the median time of its first and of its last steps in us."""
    clock = time.perf_counter_ns
    engine.input[...] = 0
    step, x, out = engine.step, engine.x, engine.out
    times = np.zeros(num_steps)
    for n in range(num_steps):
        began = clock()
        step(x, out)
        times[n] = clock() - began
    first, last = (float(np.median(part)) / 1e3 for part in (times[:window], times[-window:]))
    return {
        "num_steps": num_steps,
        "window": window,
        "first_us": first,
        "last_us": last,
        "largest_output": float(np.abs(engine.output()).max()),
    }


# What something else reads and writes between two steps: as much as a third of the time allows, or
# what empties all caches but the largest ones.
_BYTES_PER_MS, _MOST_BYTES = 4 * 2**20, 64 * 2**20


def paced(engine: Any, interval_ms: int, num_steps: int) -> dict[str, Any]:
    """Take a step every so often, each with a new input; return their times in us.

    Before each step other memory is read and written, and the process sleeps; with an interval of 0
    neither.
    """
    clock = time.perf_counter_ns
    others = np.zeros(min(interval_ms * _BYTES_PER_MS, _MOST_BYTES), np.uint8)
    inputs = make_inputs(engine.case, min(num_steps, 64))
    times = np.zeros(num_steps)
    due = clock()
    for n in range(num_steps):
        if interval_ms:
            np.add(others, 1, out=others)
            due = max(due + interval_ms * 1_000_000, clock())
            time.sleep(max(0.0, (due - clock()) / 1e9))
        engine.input[...] = inputs[n % len(inputs)]
        began = clock()
        engine.step(engine.x, engine.out)
        times[n] = clock() - began
    return {"times_us": (times / 1e3).tolist()}


PROBES: dict[str, Any] = {
    "streams": streams,
    "allocations": allocations,
    "decay": decay,
    "paced": paced,
}
