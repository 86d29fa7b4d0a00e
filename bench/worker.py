"""The process of one engine: ``python -m bench.worker JSON``, started by `process.py`.

It answers each line of JSON on its standard input with one on its standard output.
"""

import json
import os
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

# Pinned before NumPy and the engine count the cores.
if __name__ == "__main__":
    _request = json.loads(sys.argv[1])
    if _request["core"] is not None:
        os.sched_setaffinity(0, {_request["core"]})

import numpy as np

from bench.cases import Case, Floats
from bench.engines import PEERS, Engine

# Outputs are float32, of sums of up to 2 * 1024 products in any order.
TOLERANCE = 2e-5


def peak_memory() -> int | None:
    """Return the most memory this process has held, in bytes; None where that is not known."""
    # Not ru_maxrss, if possible: on Linux it begins with that of the parent.
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    try:
        import resource
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
        1 if sys.platform == "darwin" else 1024  # bytes there, kilobytes elsewhere
    )


def difference(what: str, ys: Floats, expected: np.ndarray[Any, Any]) -> float:
    """Return max |y - expected|, or raise if it is more than rounding explains."""
    largest = float(np.abs(ys - expected).max())
    if not largest <= TOLERANCE:
        raise ValueError(
            f"{what} differs from the reference by {largest:.1e}, expected at most {TOLERANCE:.0e}"
        )
    return largest


def _serve(name: str, case: Case, folder: Path) -> None:
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is not an answer

    def reply(**values: Any) -> None:
        print(json.dumps(values), file=replies, flush=True)

    with np.load(folder / "check.npz") as check:
        xs, expected = check["xs"], check["ys"]
    peer = PEERS[name]
    began = time.perf_counter()
    import_module(peer.module)
    imported = time.perf_counter()
    engine = peer.load(case, folder)
    loaded = time.perf_counter()
    first = _run(engine, xs[:1])
    reply(import_s=imported - began, load_s=loaded - imported)

    ys = np.concatenate([first, _run(engine, xs[1:])])
    largest = difference(f"{name} on {case}", ys, expected)
    memory = peak_memory()
    calls = engine.calls(xs)
    for call_name, call in calls.items():
        if call.answers:
            call.function(call.x, call.out)
            difference(f"{name} {call_name} on {case}", call.out, expected)
    reply(
        calls=list(calls),
        peak_memory_bytes=memory,
        largest_difference=largest,
        **engine.facts(),
    )

    rows = list(xs)
    for line in sys.stdin:
        request = json.loads(line)
        call = calls[request["call"]]
        if "seconds" in request:
            call.time(request["seconds"], engine.input, rows)
            reply()
        else:
            reply(**call.summary())


def _run(engine: Engine, xs: Floats) -> Floats:
    ys = np.empty((len(xs), len(engine.out)), np.float32)
    for x, y in zip(xs, ys, strict=True):
        engine.input[:] = x
        engine.step(engine.x, engine.out)
        y[:] = engine.output()
    return ys


if __name__ == "__main__":
    _serve(_request["engine"], Case(**_request["case"]), Path(_request["folder"]))
