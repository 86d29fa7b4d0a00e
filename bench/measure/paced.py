"""``python -m bench paced``: a step now and then, as a live stream takes it.

Between two steps the process sleeps, and the caches hold what something else has read and written.
"""

import tempfile
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench import report
from bench.engines import PEERS
from bench.engines.cases import Case
from bench.measure.compare import (
    Cores,
    Engines,
    Json,
    Quick,
    Settings,
    describe,
    loads,
    settings,
    write_files,
)
from bench.measure.process import EngineProcess
from numlstm.measure.times import percentiles

_CASES = [Case("paced", "LSTM", size) for size in (128, 512)]
# Milliseconds from step to step, and how many steps in each round; 0: one right after the other.
_NUM_STEPS = {0: 1000, 1: 500, 10: 100, 100: 20}


def paced(
    quick: Quick = False, json_path: Json = None, core: Cores = None, engine: Engines = None
) -> None:
    """Compare steps every 1, 10 and 100 ms, other data in the caches in between."""
    how = settings("paced", quick, json_path, core, engine)
    paces = {0: 20, 1: 20} if quick else _NUM_STEPS
    results = describe(how) | {"cases": []}
    for case in _CASES[:1] if quick else _CASES:
        engines = _measure(case, how, paces, results["left_out"])
        results["cases"].append(asdict(case) | {"engines": engines})
    report.finish(results, how.path)


def _measure(
    case: Case, how: Settings, paces: dict[int, int], left_out: list[str]
) -> dict[str, dict[str, Any]]:
    """Return the times of each engine by its paces; they take turns in every round."""
    names = [name for name in how.names if PEERS[name].takes(case)]
    times: dict[str, dict[int, list[float]]] = {}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        write_files(case, names, Path(folder))
        processes = {}
        for name in names:
            process = stack.enter_context(EngineProcess(name, how.cores))
            if loads(process, case, Path(folder), left_out):
                processes[name] = process
                times[name] = {ms: [] for ms in paces}
        for _ in range(how.rounds):
            for name, process in processes.items():
                for ms, count in paces.items():
                    found = process.probe("paced", interval_ms=ms, num_steps=count)
                    times[name][ms] += found["times_us"]
        return {
            name: process.facts | {f"every_{ms}_ms": percentiles(times[name][ms]) for ms in paces}
            for name, process in processes.items()
        }
