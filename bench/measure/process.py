"""Processes of engines, seen from the parent."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

from bench.engines.cases import Case
from bench.measure import level

ROOT = Path(__file__).parents[2]
NUM_THREADS = (
    "OMPNUM_THREADS",
    "MKLNUM_THREADS",
    "OPENBLASNUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMBANUM_THREADS",
)


def last_core() -> int | None:
    """Return a core to pin the engines to, or None where that is not possible."""
    cores = last_cores(1)
    return cores[0] if cores else None


def last_cores(count: int) -> list[int]:
    """Return the cores to pin the engines to; none where that is not possible."""
    if not hasattr(os, "sched_setaffinity"):
        return []
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < count:
        raise ValueError(f"there are {len(cores)} cores, expected at least {count} for the threads")
    return cores[-count:]


class Process:
    """``python -m MODULE JSON`` on the given cores: lines of JSON in, lines of JSON out."""

    def __init__(
        self,
        name: str,
        module: str,
        cores: list[int],
        num_threads: int = 1,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        request = {"name": name, "cores": cores, "hidden": level.hidden()}
        threads = dict.fromkeys(NUM_THREADS, str(num_threads))
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, json.dumps(request)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=os.environ | threads | level.environment() | dict(environment or {}),
        )

    def ask(self, **request: Any) -> Any:
        """Return the answer to a request."""
        assert self._process.stdin
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return self._reply()

    def _reply(self) -> Any:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            status = self._process.wait()
            raise RuntimeError(f"the process of {self.name} ended with {status}; see above")
        return json.loads(line)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()


class EngineProcess(Process):
    """One engine in a process of its own, on the given cores, for one case after the other.

    facts   what is known of the engine and the case before anything is timed: times of the start
            in seconds, memory in bytes, the largest difference to the reference
    calls   names of what it can time
    """

    def __init__(
        self,
        engine: str,
        cores: list[int],
        num_threads: int = 1,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._began = time.perf_counter()
        super().__init__(engine, "bench.measure.worker", cores, num_threads, environment)
        self.facts = self._of_start = self._reply()
        self.calls: list[str] = []

    def load(self, case: Case, folder: Path) -> str:
        """Load a case, in place of the one before, and hold its outputs against the reference.

        Returns what is wrong with those of a peer, or nothing.
        """
        first = self.ask(case=asdict(case), folder=str(folder))
        first["first_output_s"] = time.perf_counter() - self._began
        checked = self._reply()
        if "wrong" in checked:
            return str(checked["wrong"])
        self.facts = self._of_start | first | checked
        self.calls = self.facts.pop("calls")
        return ""

    def time(self, call: str, seconds: float) -> None:
        """Time one round of a call."""
        self.ask(call=call, seconds=seconds)

    def summary(self, call: str) -> dict[str, Any]:
        """Return percentiles over all rounds of a call."""
        found: dict[str, Any] = self.ask(call=call)
        return found

    def probe(self, name: str, **arguments: Any) -> dict[str, Any]:
        """Return what a function of `probes.py` finds."""
        found: dict[str, Any] = self.ask(probe=name, arguments=arguments)
        return found
