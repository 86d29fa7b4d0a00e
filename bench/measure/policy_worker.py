"""The process of one engine that acts: ``python -m bench.measure.policy_worker JSON``.

It answers each line on its standard input, the JSON of a request, with one on its standard output:
``{"case": NAME, "num_envs": N}`` with the actions of the first steps, and with ``"num_steps"`` and
``"interval_ms"`` the microseconds of each step of a loop.
"""

import json
import os
import sys
import time
from functools import cache
from typing import Any

from bench.measure import level

# Before NumPy and the engine count the cores and ask for their instructions.
if __name__ == "__main__":
    _request = json.loads(sys.argv[1])
    if _request["cores"]:
        os.sched_setaffinity(0, _request["cores"])
    level.hide(_request["hidden"])

import numpy as np

from bench.engines.policies import CASES, ENGINES, Predict

NUM_CHECKED = 64
_RESETS = 0.02  # the share of steps that begin an episode
_OTHERS = 4 * 2**20  # bytes that something else reads and writes between two steps


def inputs(case: str, num_envs: int, num_steps: int) -> tuple[Any, Any]:
    """Return observations (T, N, I), and which environments begin (T, N)."""
    generator = np.random.default_rng(0)
    size = CASES[case].observation_size
    observations = generator.standard_normal((num_steps, num_envs, size), np.float32)
    return observations, generator.random((num_steps, num_envs)) < _RESETS


def loop(predict: Predict, case: str, num_envs: int, num_steps: int, interval_ms: float) -> Any:
    """Return the microseconds of each step of a loop: from the observation to the action."""
    clock = time.perf_counter_ns
    observations, starts = inputs(case, num_envs, 256)
    others = np.zeros(_OTHERS, np.uint8)
    times = []
    due = clock()
    for n in range(num_steps):
        np.add(others, 1, out=others)
        due = max(due + int(interval_ms * 1e6), clock())
        time.sleep(max(0.0, (due - clock()) / 1e9))
        x, start = observations[n % 256], starts[n % 256]
        began = clock()
        predict(x, start)
        times.append((clock() - began) / 1e3)
    return times


def main() -> None:
    """Answer requests until there are no more."""
    make = cache(lambda name, _: ENGINES[engine](CASES[name]))
    engine = json.loads(sys.argv[1])["name"]
    for line in sys.stdin:
        request = json.loads(line)
        predict = make(request["case"], request["num_envs"])
        if "num_steps" in request:
            found = loop(predict, **request)
        else:
            steps = zip(*inputs(**request, num_steps=NUM_CHECKED), strict=True)
            found = [predict(*step).tolist() for step in steps]
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
