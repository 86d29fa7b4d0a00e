"""Files of others that were made to do harm: what converts them, each in a process of its own.

Each kind is a function that writes its files into a folder, a few MB at most, and returns the
arguments of `numlstm.from_keras`, `from_onnx` or `from_torch`. ``python -m tests.convert.hostile
keras`` converts all kinds of a module and prints a line for each:

    bomb_in_the_config: refused, 0.1 s, 31 MB: the config takes ...

The process has imported all before it forks: what is counted is what the file takes.
"""

import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numlstm
from numlstm.spec import WeightsError

Kind = Callable[[Path], Any]

SECONDS = 20  # of CPU
MEMORY = 5 * 2**28  # bytes beyond what the process has before it converts


def kinds_of(module: str) -> dict[str, Kind]:
    """Return the kinds of a module of this folder, ``hostile_keras`` and so on, by their names."""
    own = import_module(f"tests.convert.hostile_{module}")
    return {
        name: kind
        for name, kind in vars(own).items()
        if getattr(kind, "__module__", "") == own.__name__ and name.islower() and name[0] != "_"
    }


def outcome(convert: Callable[[Any], Any], given: Any) -> str:
    """Return what a conversion came to, as the first word of a sentence."""
    try:
        convert(given)
    except (WeightsError, OSError) as error:
        text = str(error)
        if len(text) > 20_000:
            return f"LONG {len(text)} characters"
        return f"refused: {text.splitlines()[0][:150]} .. {text.splitlines()[-1][-100:]}"
    except BaseException as error:  # this is what the test looks for
        return f"WRONG {type(error).__name__}: {str(error)[:200]}"
    return "converted"


def run(convert: Callable[[Any], Any], kind: Kind, folder: Path) -> str:
    """Convert a kind in a fork, within limits; return what came of it, in seconds and MB."""
    given = kind(folder)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + 3 * MEMORY, taken + 3 * MEMORY))
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS + 5, SECONDS + 6))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.alarm(6 * SECONDS)  # what waits takes no CPU
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        began = time.process_time()
        said = outcome(convert, given)
        seconds = time.process_time() - began
        peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        word, _, rest = said.partition(":")
        if seconds > SECONDS or peak > MEMORY / 2**20:
            word = "COSTS"
        os.write(write, f"{word}, {seconds:.1f} s, {peak:.0f} MB:{rest}".encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        said = pipe.read().decode()
    status = os.waitpid(child, 0)[1]
    return said or f"DIED with status {status}"


def report(module: str, only: list[str]) -> Iterator[str]:
    """Yield a line for each kind of a module."""
    convert = getattr(numlstm, f"from_{module}")
    kinds = kinds_of(module)
    for name in only or kinds:
        with tempfile.TemporaryDirectory() as folder:
            yield f"{name}: {run(lambda given: _call(convert, given), kinds[name], Path(folder))}"


def _call(convert: Callable[..., Any], given: Any) -> Any:
    source, options = given if isinstance(given, tuple) else (given, {})
    return convert(source, **options)


if __name__ == "__main__":
    for line in report(sys.argv[1], sys.argv[2:]):
        print(line, flush=True)
