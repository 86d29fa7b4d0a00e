"""``python -m bench vad``: the CPU that a second of sound costs, of a file, a call, 100 calls."""

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from bench import report
from bench.engines.detectors import ENGINES
from bench.measure.compare import Cores, Json, Quick, describe, settings
from bench.measure.process import ROOT, Process

_TOLERANCE = 1e-4
# What is said of a case, what an engine is asked, and of how many calls.
CASES = {
    "a file": ("whole", 1),
    "a call, 20 ms at a time": ("live", 1),
    "100 calls, 20 ms at a time": ("live", 100),
}
_REAL = ROOT.parent / "shared" / "real" / "silero_vad_6"


def vad(
    quick: Quick = False,
    json_path: Json = None,
    core: Cores = None,
    folder: Annotated[
        Path,
        typer.Option(help="Of the authors' files.", show_default="shared/real, beside this"),
    ] = _REAL,
) -> None:
    """Measure voice detectors beside ONNX Runtime, with the same weights."""
    how = settings("vad", quick, json_path, core, None, seconds=0.5)
    results = describe(how) | {"sounds": {}}
    with ExitStack() as stack:
        processes = {
            label: stack.enter_context(Process(label, "bench.measure.vad_worker", how.cores))
            for label in ENGINES
        }
        for name, (case, num_calls) in CASES.items():
            what = {"case": case, "num_calls": 3 if quick and num_calls > 1 else num_calls}
            what["folder"] = str(folder)
            results["sounds"][name] = _measure(what, processes, how.rounds, how.seconds)
    report.finish(results, how.path)


def _measure(
    what: dict[str, Any], processes: dict[str, Process], rounds: int, seconds: float
) -> dict[str, float]:
    """Return the medians of milliseconds of CPU per second of sound of a call, by engine."""
    answers = {label: np.array(process.ask(**what)) for label, process in processes.items()}
    for label, found in answers.items():
        if not np.allclose(found, answers["numlstm"], 0, _TOLERANCE):
            raise ValueError(f"{label} hears otherwise than numlstm: {what['case']}")
    times: dict[str, list[float]] = {label: [] for label in processes}
    for _ in range(rounds):
        for label, process in processes.items():
            times[label] += process.ask(**what, seconds=seconds)
    return {label: float(np.median(own)) for label, own in times.items()}
