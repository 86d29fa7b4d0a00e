"""``python -m bench long``: the tail of a million steps, their allocations, streams that fade."""

import tempfile
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
    describe,
    loads,
    settings,
    write_files,
)
from bench.measure.process import EngineProcess

_CASE = Case("step", "LSTM", 128)
_FADING = Case("step", "LSTM", 128, fades=True)
_ROUNDS = 5  # of at most 200,000 calls, see `clock.py`
_NUM_ALLOCATING = 10_000
_NUM_FADING = 100_000


def long(
    quick: Quick = False, json_path: Json = None, core: Cores = None, engine: Engines = None
) -> None:
    """Measure numlstm over a million steps, and every engine while its state decays to zero."""
    how = settings("long", quick, json_path, core, engine, seconds=60)
    names = [name for name in how.names if PEERS[name].takes(_CASE)]
    own = [name for name in names if PEERS[name].is_own]
    results: dict[str, Any] = describe(how) | {"case": str(_CASE), "tails": {}, "allocations": {}}
    with tempfile.TemporaryDirectory() as folder:
        write_files(_CASE, own, Path(folder))
        for name in own:
            with EngineProcess(name, how.cores) as process:
                process.load(_CASE, Path(folder))
                for _ in range(1 if quick else _ROUNDS):
                    process.time("step", how.seconds)
                results["tails"][name] = process.summary("step")
                found = process.probe("allocations", num_steps=_NUM_ALLOCATING)
                results["allocations"][name] = found
    num_steps, window = (5000, 200) if quick else (_NUM_FADING, 1000)
    with tempfile.TemporaryDirectory() as folder:
        write_files(_FADING, names, Path(folder))
        results["decays"] = {}
        for name in names:
            with EngineProcess(name, how.cores) as process:
                if loads(process, _FADING, Path(folder), results["left_out"]):
                    found = process.probe("decay", num_steps=num_steps, window=window)
                    results["decays"][name] = found
    report.finish(results, how.path)
