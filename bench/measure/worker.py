"""The process of one engine: ``python -m bench.measure.worker JSON``, started by `process.py`.

It answers each line of JSON on its standard input with one on its standard output; what loads a
case with two, the first as soon as there is a first output. A peer whose outputs are wrong says so
in the second; numlstm's would end the benchmark.
"""

import json
import os
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

from bench.measure import level

# Before NumPy and the engine count the cores and ask for their instructions.
if __name__ == "__main__":
    _request = json.loads(sys.argv[1])
    if _request["cores"]:
        os.sched_setaffinity(0, _request["cores"])
    level.hide(_request["hidden"])

import numpy as np

from bench.engines import PEERS, Engine
from bench.engines.cases import Case, Floats, Inputs
from bench.measure.clock import Clock
from bench.measure.probes import PROBES, memory

# Outputs of float32 are sums of up to 2 * 1024 products in any order; the others' errors are
# results, and what is beyond these is not rounding.
TOLERANCES = {"float32": 2e-5, "bfloat16": 0.1, "int8": 0.2}


class WrongAnswerError(Exception):
    """An engine's outputs are not those of the reference."""


def difference(what: str, dtype: str, ys: Floats, expected: np.ndarray[Any, Any]) -> float:
    """Return max |y - expected|, or raise if it is more than rounding explains."""
    largest = float(np.abs(ys.reshape(expected.shape) - expected).max())
    if not largest <= TOLERANCES[dtype]:
        raise WrongAnswerError(
            f"{what} differs from the reference by {largest:.1e}, "
            f"expected at most {TOLERANCES[dtype]:.0e}"
        )
    return largest


def _reply(**values: Any) -> None:
    print(json.dumps(values), file=_replies, flush=True)


def _load(name: str, case: Case, folder: Path) -> tuple[Engine, dict[str, Clock], Inputs]:
    """Load and check an engine; return it with clocks of its calls and the inputs for them."""
    peer = PEERS[name]
    with np.load(folder / "check.npz") as check:
        xs, expected = check["xs"], check["ys"]
    began = time.perf_counter()
    engine = peer.load(case, folder)
    loaded = time.perf_counter()
    first = _run(engine, xs[:1])
    _reply(load_s=loaded - began, first_output_cpu_s=time.process_time())
    ys = np.concatenate([first, _run(engine, xs[1:])])
    largest = difference(f"{name} on {case}", peer.dtype, ys, expected)
    at_work = memory()
    calls = engine.calls(xs)
    for call_name, call in calls.items():
        if call.answers:
            call.function(call.x, call.out)
            difference(f"{name} {call_name} on {case}", peer.dtype, call.out, expected)
    _reply(calls=list(calls), memory_bytes=at_work, largest_difference=largest, **engine.facts())
    return engine, {name: Clock(call) for name, call in calls.items()}, xs


def _run(engine: Engine, xs: Inputs) -> Floats:
    ys = np.empty((len(xs), *engine.case.output_shape), np.float32)
    for x, y in zip(xs, ys, strict=True):
        engine.input[...] = x
        engine.step(engine.x, engine.out)
        y[...] = engine.output().reshape(y.shape)
    return ys


def _serve(name: str) -> None:
    bare, began = memory(), time.perf_counter()
    # numlstm's names are imported when they are first used: its module here uses them.
    import_module(PEERS[name].module if PEERS[name].is_own else PEERS[name].packages[0])
    _reply(import_s=time.perf_counter() - began, bare_bytes=bare, imported_bytes=memory())
    engine: Engine | None = None
    clocks: dict[str, Clock] = {}
    rows: list[Any] = []
    for line in sys.stdin:
        request = json.loads(line)
        if "case" in request:
            engine, clocks = None, {}  # makes room
            case, folder = Case(**request["case"]), Path(request["folder"])
            try:
                engine, clocks, xs = _load(name, case, folder)
            except WrongAnswerError as error:
                if PEERS[name].is_own:
                    raise
                _reply(wrong=str(error))
                continue
            rows = list(xs)
        elif "probe" in request:
            _reply(**PROBES[request["probe"]](engine, **request["arguments"]))
        elif "seconds" in request:
            assert engine
            clocks[request["call"]].time(request["seconds"], engine.input, rows)
            _reply()
        else:
            _reply(**clocks[request["call"]].summary())


if __name__ == "__main__":
    _replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is not an answer
    _serve(_request["name"])
