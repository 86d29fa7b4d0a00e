"""``python -m bench policy``: a loop of 500 Hz, from the observation to the action."""

from contextlib import ExitStack
from typing import Any

import numpy as np

from bench import report
from bench.engines.policies import CASES, ENGINES
from bench.measure.compare import Cores, Json, Quick, describe, settings
from bench.measure.process import Process

_INTERVAL_MS = 2
_NUM_STEPS = 2500  # of each of three rounds: the slowest thousandth is seven of them
_NUM_ENVS = (1, 64)
_TOLERANCE = 1e-4


def policy(quick: Quick = False, json_path: Json = None, core: Cores = None) -> None:
    """Time recurrent policies as a robot asks them: every 2 ms, other data in the caches."""
    how = settings("policy", quick, json_path, core, None)
    results = describe(how) | {"interval_ms": _INTERVAL_MS, "cases": []}
    with ExitStack() as stack:
        processes = {
            label: stack.enter_context(Process(label, "bench.measure.policy_worker", how.cores))
            for label in ENGINES
        }
        for name, case in list(CASES.items())[: 1 if quick else None]:
            for num_envs in _NUM_ENVS[: 1 if quick else None]:
                engines = _measure(
                    name, num_envs, processes, how.rounds, 50 if quick else _NUM_STEPS
                )
                found = {"name": name, "what": str(case), "num_envs": num_envs, "engines": engines}
                results["cases"].append(found)
    report.finish(results, how.path)


def _measure(
    case: str, num_envs: int, processes: dict[str, Process], rounds: int, num_steps: int
) -> dict[str, dict[str, float]]:
    """Return percentiles of each engine in us; they take turns in every round."""
    what = {"case": case, "num_envs": num_envs}
    answers = {label: np.array(process.ask(**what)) for label, process in processes.items()}
    for label, actions in answers.items():
        if not np.allclose(actions, answers["numlstm"], _TOLERANCE, _TOLERANCE):
            raise ValueError(f"{label} acts otherwise than numlstm in {case}")
    times: dict[str, list[float]] = {label: [] for label in processes}
    for _ in range(rounds):
        for label, process in processes.items():
            times[label] += process.ask(**what, num_steps=num_steps, interval_ms=_INTERVAL_MS)
    return {label: _summary(own) for label, own in times.items()}


def _summary(times: list[float]) -> dict[str, Any]:
    p50, p99, p999, largest = np.percentile(times, [50, 99, 99.9, 100]).round(3).tolist()
    return {
        "num_calls": len(times), "p50_us": p50, "p99_us": p99, "p999_us": p999, "max_us": largest,
    }  # fmt: skip
