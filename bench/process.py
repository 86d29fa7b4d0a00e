"""Processes of engines, seen from the parent."""

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

from bench.cases import Case

_ONE_THREAD = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMBA_NUM_THREADS",
)


def last_core() -> int | None:
    """Return a core to pin the engines to, or None where that is not possible."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    return max(os.sched_getaffinity(0))


class EngineProcess:
    """One engine with one case in a process of its own, on one core, with one thread.

    facts   what is known of the engine before anything is timed: times of the start in seconds,
            peak memory, the largest difference to the reference
    calls   names of what it can time
    """

    def __init__(self, engine: str, case: Case, folder: Path, core: int | None) -> None:
        self.name = f"{engine} on {case}"
        request = {
            "engine": engine,
            "case": asdict(case),
            "folder": str(folder),
            "core": core,
        }
        began = time.perf_counter()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.worker", json.dumps(request)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[1],
            env=os.environ | dict.fromkeys(_ONE_THREAD, "1"),
        )
        self.facts = self._reply()
        self.facts["first_output_s"] = time.perf_counter() - began
        self.facts |= self._reply()
        self.calls: list[str] = self.facts.pop("calls")

    def time(self, call: str, seconds: float) -> None:
        """Time one round of a call."""
        self._ask(call=call, seconds=seconds)

    def summary(self, call: str) -> dict[str, Any]:
        """Return percentiles over all rounds of a call."""
        return self._ask(call=call)

    def _ask(self, **request: Any) -> dict[str, Any]:
        assert self._process.stdin
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return self._reply()

    def _reply(self) -> dict[str, Any]:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            status = self._process.wait()
            raise RuntimeError(f"the process of {self.name} ended with {status}; see above")
        reply: dict[str, Any] = json.loads(line)
        return reply

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()
