"""``python -m bench memory``: resident memory of a model, and of many open streams."""

import tempfile
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
    describe,
    loads,
    settings,
    write_files,
)
from bench.measure.process import EngineProcess

_CASES = [Case("step", "LSTM", 128), Case("step", "LSTM", 512), Case("step", "LSTM", 1024, 2)]
_NUM_STREAMS = 10_000


def memory(
    quick: Quick = False, json_path: Json = None, core: Cores = None, engine: Engines = None
) -> None:
    """Read the resident memory of processes with one model each, and with 10,000 streams."""
    how = settings("memory", quick, json_path, core, engine)
    results = describe(how) | {"cases": [], "streams": []}
    for case in _CASES[:1] if quick else _CASES:
        names = [name for name in how.names if PEERS[name].takes(case)]
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write_files(case, names, folder)
            found = {
                name: _of_model(name, case, folder, how.cores, results["left_out"])
                for name in names
            }
            engines = {name: bytes_ for name, bytes_ in found.items() if bytes_}
            results["cases"].append(asdict(case) | {"engines": engines})
            if case == _CASES[0]:
                count = 100 if quick else _NUM_STREAMS
                results["streams"] = [
                    _of_streams(name, case, folder, how.cores, kind, count)
                    for name in names
                    if PEERS[name].is_own
                    for kind in ("stream", "slot")
                ]
    report.finish(results, how.path)


def _of_model(
    name: str, case: Case, folder: Path, cores: list[int], left_out: list[str]
) -> dict[str, Any]:
    with EngineProcess(name, cores) as process:
        if not loads(process, case, folder, left_out):
            return {}
        return {key: process.facts[key] for key in ("bare_bytes", "imported_bytes", "memory_bytes")}


def _of_streams(
    name: str, case: Case, folder: Path, cores: list[int], kind: str, count: int
) -> dict[str, Any]:
    with EngineProcess(name, cores) as process:
        process.load(case, folder)
        return {"engine": name, **process.probe("streams", kind=kind, count=count)}
