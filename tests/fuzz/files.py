"""Mutated valid files of every kind, each read as a user would read it.

    python -m tests.fuzz files --minutes 40 [--seed N]
    python -m tests.fuzz.files READER SEED INDEX      one case again, here: with its traceback
    python -m tests.fuzz.files READER FILE            a file that was kept

The readers are the modules of `readers`, their valid files are in ``corpus``. Cases are read in a
process that may die of one, or be killed for it (`_worker`): a case may take 10 s of CPU, and 2 GB.
One campaign is one process at work, and one that waits for it.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

from tests.conftest import ROOT
from tests.fuzz import Clock, Figures, Found
from tests.fuzz.readers import READERS, case, reader

# Seconds that a reader has before it is the next one's turn.
_TURNS = dict.fromkeys(READERS, 1.0) | {"model": 4.0, "onnx": 2.0}
_MOST_CASES = 1000  # of a turn: the shortest texts are no better for being read more often
_LIFE = 200_000  # cases until a process gives way to a new one
_MOST_FINDS = 40


def run(clock: Clock, seed: int) -> Figures:
    """Read cases of every reader in turn; all kinds of finds are told at the end."""
    figures = Figures()
    kept = Path(tempfile.mkdtemp(prefix="numlstm-finds-"))
    work = kept / "work"
    work.mkdir()
    finds, worker = _Finds(seed, kept), _Worker(seed, work)
    at, size = dict.fromkeys(READERS, 0), dict.fromkeys(READERS, 8)
    try:
        while not clock.is_over():
            for name in READERS:
                count = sum(clock.ticks() for _ in range(size[name]))
                if not count:
                    break
                start = time.monotonic()
                answer = worker.read(name, at[name], at[name] + count)
                done = answer.get("index", at[name] + count - 1) + 1 - at[name]
                at[name] += done
                for outcome, number in answer["outcomes"].items():
                    figures[f"{name} {outcome}"] += number
                if "found" in answer:
                    figures[f"{name} FOUND"] += 1
                    finds.add(name, answer)
                rate = done / max(time.monotonic() - start, 1e-3)
                size[name] = int(min(max(_TURNS[name] * rate, 1), 4 * size[name], _MOST_CASES))
    finally:
        worker.close()
    finds.tell(figures)
    return figures


class _Worker:
    """The process that reads cases; another one after it died."""

    def __init__(self, seed: int, folder: Path) -> None:
        self._seed, self._folder = seed, folder
        self._process: subprocess.Popen[str] | None = None
        self._read = 0
        for name in ("at", "case"):  # of a process that dies before its first case
            (folder / name).write_bytes(b"")

    def read(self, name: str, start: int, stop: int) -> dict[str, Any]:
        """Read cases; return how many came to what, and the first find."""
        if self._read > _LIFE:
            self.close()
        process = self._process or self._start()
        self._read += stop - start
        assert process.stdin is not None
        assert process.stdout is not None
        with suppress(BrokenPipeError):
            process.stdin.write(f"{name} {start} {stop}\n")
            process.stdin.flush()
        if line := process.stdout.readline():
            answer: dict[str, Any] = json.loads(line)
            return answer
        index = int.from_bytes((self._folder / "at").read_bytes(), "little")
        died = self.close()
        log = (self._folder / "log").read_text(errors="replace")[-3000:]
        return {"outcomes": {}, "index": max(index, start), "found": died, "traceback": log}

    def _start(self) -> "subprocess.Popen[str]":
        self._read = 0
        with (self._folder / "log").open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-W", "ignore", "-m", "tests.fuzz._worker", str(self._seed),
                 str(self._folder)],
                cwd=ROOT,
                env=os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
            )  # fmt: skip
        return self._process

    def close(self) -> str:
        """End the process, and return what it died of."""
        if self._process is None:
            return "nothing"
        process, self._process = self._process, None
        process.communicate()
        code = process.returncode
        if -code in (signal.SIGPROF, signal.SIGALRM):
            return "took too long"
        return f"died of {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


class _Finds:
    """The first case of every kind of find, kept as a file with its traceback beside it."""

    def __init__(self, seed: int, folder: Path) -> None:
        self._seed, self._folder = seed, folder
        self._found: dict[str, str] = {}

    def add(self, name: str, answer: dict[str, Any]) -> None:
        kind = f"{name}: {answer['found']}"
        if kind in self._found or len(self._found) >= _MOST_FINDS:
            return
        path = self._folder / f"{name}-{len(self._found)}"
        shutil.copy(self._folder / "work" / "case", path)
        again = f"python -m tests.fuzz.files {name} {self._seed} {answer['index']}"
        self._found[kind] = f"{kind}; again with: {again}; kept as {path}"
        path.with_suffix(".txt").write_text(f"{self._found[kind]}\n\n{answer['traceback']}")

    def tell(self, figures: Figures) -> None:
        """Raise a `Found` if there are any; else leave nothing behind."""
        if self._found:
            what = f"{figures}; finds, in {self._folder}:"
            raise Found("\n".join([what, *self._found.values()]))
        shutil.rmtree(self._folder)


def main() -> None:
    name, *rest = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        if len(rest) == 1:
            data, random = Path(rest[0]).read_bytes(), Random(0)
        else:
            data, random = case(name, *map(int, rest))
        print(reader(name).read(data, Path(folder), random))


if __name__ == "__main__":
    main()
