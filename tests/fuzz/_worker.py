"""A process that reads cases, and may die of one: python -m tests.fuzz._worker SEED FOLDER.

A line "READER START STOP" on stdin is answered by a line of JSON when these cases have been read,
or one of them broke a promise. The folder has the case that is read at the moment in "case", and
which one it is in "at": of a process that dies, or is killed for taking too long, that is left.
"""

import json
import os
import resource
import signal
import sys
import traceback
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

from tests.fuzz.readers import case, reader

CPU_SECONDS, SECONDS = 10, 120  # of a case: its work, and the time where it may wait
MEMORY = 2 * 2**30  # bytes that cases may take on top of what was taken before the first


def main() -> None:
    seed, folder = int(sys.argv[1]), Path(sys.argv[2])
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for line in sys.stdin:
        name, start, stop = line.split()
        _begin(name, folder)
        answers.write(json.dumps(_read(name, seed, int(start), int(stop), folder)) + "\n")


@cache
def _begin(name: str, folder: Path) -> None:
    """Read some cases, so that what they import is there; then set the limit of memory."""
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    for index in range(5):
        data, random = case(name, -1, index)
        try:
            reader(name).read(data, folder, random)
        except Exception:  # it is found again, and told, as soon as cases count
            continue
    limit_memory()


def limit_memory() -> None:
    """Let this process take no more than `MEMORY` on top of what it has."""
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY, resource.RLIM_INFINITY))


def _read(name: str, seed: int, start: int, stop: int, folder: Path) -> dict[str, Any]:
    outcomes: Counter[str] = Counter()
    for index in range(start, stop):
        data, random = case(name, seed, index)
        (folder / "case").write_bytes(data)
        (folder / "at").write_bytes(index.to_bytes(8, "little"))
        signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
        signal.setitimer(signal.ITIMER_REAL, SECONDS)
        try:
            outcomes[reader(name).read(data, folder, random)] += 1
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # also a panic of Rust, an exit, a MemoryError
            lines = "".join(traceback.format_exception(error))
            found = {"index": index, "found": _kind(error), "traceback": lines[-5000:]}
            return {"outcomes": outcomes, **found}
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.setitimer(signal.ITIMER_REAL, 0)
    return {"outcomes": outcomes}


def _kind(error: BaseException) -> str:
    """Return what finds of one kind have in common: the error, and where it was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if "numlstm/" in f.filename or "tests/fuzz" in f.filename]
    where = own[-1] if own else frames[-1]
    return f"{type(error).__name__} in {where.name}, {Path(where.filename).name}:{where.lineno}"


if __name__ == "__main__":
    main()
