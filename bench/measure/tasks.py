"""``python -m bench tasks``: the eight tasks, from what a person has to what a person wants.

Every engine runs the same networks under the same pipelines: tokenizers, features, search and
sampling are the same Python code. Its answers are held against numlstm's before it is timed.
"""

import math
from contextlib import ExitStack
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track

from bench import report
from bench.measure.compare import Cores, Json, Quick, describe, settings
from bench.measure.process import Process
from bench.measure.task_worker import NUM_TOKENS, TASKS

# By the names that `PEERS` has for them; their names in `task_worker`.
ENGINES = {
    "numlstm": "numlstm",
    "numlstm float32": "numlstm_float32",
    "PyTorch": "torch",
    "ONNX Runtime": "onnxruntime",
}
_TOLERANCE = 1e-4


def tasks(
    quick: Quick = False,
    json_path: Json = None,
    core: Cores = None,
) -> None:
    """Measure every task, from text or sound to the answer, beside the same networks elsewhere."""
    how = settings("tasks", quick, json_path, core, None)
    results = describe(how) | {"num_tokens": NUM_TOKENS}
    names = list(TASKS)[:: 4 if quick else 1]
    with ExitStack() as stack:
        processes = {
            label: stack.enter_context(Process(engine, "bench.measure.task_worker", how.cores))
            for label, engine in ENGINES.items()
        }
        todo = track(names, "tasks", console=Console(stderr=True), transient=True)
        results["tasks"] = {
            name: _measure(name, processes, how.rounds, how.seconds) for name in todo
        }
    report.finish(results, how.path)


def _measure(
    name: str, processes: dict[str, Process], rounds: int, seconds: float
) -> dict[str, Any]:
    """Return the medians of milliseconds per item by engine; they take turns in every round."""
    answers = {label: process.ask(task=name) for label, process in processes.items()}
    for label in list(ENGINES)[2:]:
        check(f"{label} on {name}", answers[label], answers["numlstm float32"])
    times: dict[str, list[float]] = {label: [] for label in processes}
    for _ in range(rounds):
        for label, process in processes.items():
            times[label] += process.ask(task=name, seconds=seconds)
    found: dict[str, Any] = {"ms": {label: float(np.median(t)) for label, t in times.items()}}
    if name.startswith("generate"):
        found["num_characters"] = {label: len(texts[0]) for label, texts in answers.items()}
    return found


def check(what: str, found: Any, expected: Any) -> None:
    """Raise if an answer is not the expected one: the same texts, numbers as near as float32 is."""
    if isinstance(expected, list) and isinstance(found, list) and len(found) == len(expected):
        for one, other in zip(found, expected, strict=True):
            check(what, one, other)
    elif isinstance(expected, float):
        if not math.isclose(found, expected, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE):
            raise ValueError(f"{what} answers {found}, expected {expected}")
    elif found != expected:
        raise ValueError(f"{what} answers {found!r}, expected {expected!r}")
