"""What is asked of an engine beside its speed: memory, allocations, streams that fade or wait."""

import gc
import time
from pathlib import Path
from typing import Any

import numpy as np

from bench.engines.cases import make_inputs


def memory() -> int | None:
    """As `numlstm.measure.process.memory`, in processes that have not imported numlstm."""
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
    from numlstm.measure import process

    found = process.allocations(lambda: engine.step(engine.x, engine.out), num_steps)
    return {"num_steps": num_steps} | {key: found[key] for key in ("kept_bytes", "peak_bytes")}


def decay(engine: Any, num_steps: int, window: int) -> dict[str, Any]:
    """Feed a stream zeros; return the median time of its first and of its last steps in us."""
    clock = time.perf_counter_ns
    engine.input[...] = 0
    step, x, out = engine.step, engine.x, engine.out
    taken = np.zeros(num_steps)
    for n in range(num_steps):
        began = clock()
        step(x, out)
        taken[n] = clock() - began
    first, last = (float(np.median(part)) / 1e3 for part in (taken[:window], taken[-window:]))
    return {
        "num_steps": num_steps,
        "window": window,
        "first_us": first,
        "last_us": last,
        "largest_output": float(np.abs(engine.output()).max()),
    }


def paced(engine: Any, interval_ms: int, num_steps: int) -> dict[str, Any]:
    """Take a step every so often, each with a new input; return their times in us."""
    from numlstm.measure import times

    inputs = make_inputs(engine.case, min(num_steps, 64))

    def give(n: int) -> None:
        engine.input[...] = inputs[n % len(inputs)]

    found = times.paced(lambda n: engine.step(engine.x, engine.out), give, interval_ms, num_steps)
    return {"times_us": found.tolist()}


PROBES: dict[str, Any] = {
    "streams": streams,
    "allocations": allocations,
    "decay": decay,
    "paced": paced,
}
