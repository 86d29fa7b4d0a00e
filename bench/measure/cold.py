"""``python -m bench cold``: from the start of a process to its first output."""

import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from bench import report
from bench.engines import PEERS
from bench.engines.cases import Case
from bench.measure.compare import Cores, Engines, Json, Quick, describe, settings, write_files
from bench.measure.process import EngineProcess

_KEYS = ("import_s", "load_s", "first_output_s")
_CASE = Case("step", "LSTM", 256)
_NUM_STARTS = 7


def cold(
    quick: Quick = False, json_path: Json = None, core: Cores = None, engine: Engines = None
) -> None:
    """Time the import, the loading and the first output, each in fresh processes."""
    how = settings("cold", quick, json_path, core, engine)
    names = [name for name in how.names if PEERS[name].takes(_CASE)]
    starts: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    uncached = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_files(_CASE, names, folder)
        for name in names:  # the files of every engine are in the system's cache then
            _start(name, folder, how.cores)
        for _ in range(1 if quick else _NUM_STARTS):
            for name in names:
                starts[name].append(_start(name, folder, how.cores))
        for name in names if not quick else ():
            if PEERS[name].is_own:
                with tempfile.TemporaryDirectory() as cache:
                    uncached[name] = _start(name, folder, how.cores, {"NUMBA_CACHE_DIR": cache})
    results = describe(how) | {"case": str(_CASE), "num_starts": 1 if quick else _NUM_STARTS}
    results["engines"] = {
        name: {key: median(start[key] for start in own) for key in _KEYS}
        | {"slowest_first_output_s": max(start["first_output_s"] for start in own)}
        for name, own in starts.items()
    }
    results["uncached"] = uncached
    report.finish(results, how.path)


def _start(
    name: str, folder: Path, cores: list[int], environment: dict[str, str] | None = None
) -> dict[str, Any]:
    with EngineProcess(name, cores, environment=environment) as process:
        process.load(_CASE, folder)
        return {key: process.facts[key] for key in _KEYS}
