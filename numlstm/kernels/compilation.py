"""Compiles the walker to images: ``python -m numlstm.kernels.compilation FOLDER [LEVEL ...]``.

Each image is made in a process of its own, since compiling takes Numba over (`codegen.py`): that of
a level, which the wheel carries, or that of exactly this CPU, which `entry.py` asks for at run time
where the wheel has none.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from numlstm.kernels import cpu
from numlstm.kernels.sources import hash_sources, image_name
from numlstm.machine.image import Image, ImageError
from numlstm.machine.instructions import identity, machine

# Those that no CPU needs compiled for itself. What is older than x86-64-v3 differs too much.
SHIPPED = tuple(level for level in cpu.LEVELS if level.name != "x86-64")

ROOM = 2**18  # bytes, of which an image takes a third


class CompilationError(RuntimeError):
    """The kernels could not be compiled on this machine."""


# Collecting garbage takes a sixth of the time, and the process ends before it matters.
# Its output is the image alone, whatever Numba is told to print.
# Its input ends when who started it does, killed or not: then nobody waits for it.
_CHILD = """
import gc, os, sys, threading
gc.disable()
threading.Thread(target=lambda: (os.read(0, 1), os._exit(1)), daemon=True).start()
out = os.fdopen(os.dup(1), "wb")
os.dup2(2, 1)
sys.path[:] = {path!r}
from numlstm.kernels import compilation
out.write(compilation.compile_here({exact!r}).to_bytes())
out.close()
"""


def compile_here(exact: bool) -> Image:
    """Return the image of this process's level; ``exact``: for the CPU that it has, whichever."""
    import llvmlite.binding as llvm
    from numba import types

    from numlstm.kernels.codegen import Compiler

    level = cpu.LEVEL
    name, features = level.cpu, level.features
    if exact:
        has = llvm.get_host_cpu_features().flatten()
        name, features = llvm.get_host_cpu_name(), ",".join(filter(None, (has, level.features)))
    compiler = Compiler(level, name, features)
    from numlstm.kernels.arrays import object_pointer
    from numlstm.kernels.walker import run

    # plan, params and state, which a stream owns, as addresses; xs and ys as they are.
    signature = types.int64(*[types.int64] * 3, object_pointer, object_pointer)
    linked = compiler.walker(run, signature)
    return Image(
        level.name, f"{name} {features}".strip(), hash_sources(),
        linked.symbols, linked.imports, linked.code, identity() if exact else "",
    )  # fmt: skip


def _run_while_this_lives(
    command: list[str], environment: dict[str, str]
) -> "subprocess.CompletedProcess[bytes]":
    """Run a process whose input ends when this one does."""
    lives, ends = os.pipe()
    try:
        return subprocess.run(
            command, env=environment, stdin=lives, capture_output=True, check=False, timeout=1800
        )
    finally:
        os.close(lives)
        os.close(ends)


def compile_image(level: cpu.Level, exact: bool = False) -> Image:
    """Return the walker compiled for a level, by a process of its own: 10 seconds of CPU or so.

    Raises CompilationError where Numba is not installed or fails, or this Python starts no other.
    """
    if not sys.executable or getattr(sys, "frozen", False):
        raise CompilationError("this program is not a Python that could start another")
    child = _CHILD.format(path=sys.path, exact=exact)
    # Nothing that is said to Numba is said of this: with NUMBA_DEBUGINFO=1 the code is another.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("NUMBA_")}
    environment |= {"NUMLSTM_LEVEL": level.name, "NUMBA_DISABLE_JIT": "0"}
    isolated = ["-I"] if sys.flags.isolated else []
    command = [sys.executable, *isolated, "-c", child]
    try:
        done = _run_while_this_lives(command, environment)
    except OSError as error:
        raise CompilationError(str(error)) from error
    except subprocess.TimeoutExpired as error:
        raise CompilationError(f"it was not done in {error.timeout} s") from error
    if done.returncode < 0:
        raise CompilationError(f"signal {-done.returncode} ended it; is memory short?")
    if done.returncode:
        errors = done.stderr.decode(errors="replace").strip().splitlines()
        raise CompilationError(errors[-1] if errors else f"it ended with {done.returncode}")
    try:
        return Image.from_bytes(done.stdout)
    except ImageError as error:
        raise CompilationError(str(error)) from error


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a file, with room for an image, that takes the place of another when it is written.

    Others see it whole or not at all. Raises OSError at once where there is no room.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".new-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(bytes(ROOM))
            file.flush()
            file.seek(0)
            yield file
            file.truncate()
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _is_current(path: Path) -> bool:
    """Whether a file holds an image of the sources as they are."""
    try:
        return Image.from_bytes(path.read_bytes()).sources == hash_sources()
    except (OSError, ImageError):
        return False


def main() -> None:
    """Compile levels, those of this machine where none is named, into a folder."""
    parser = argparse.ArgumentParser(prog="python -m numlstm.kernels.compilation")
    parser.add_argument("folder", type=Path)
    names = [level.name for level in SHIPPED]
    parser.add_argument("level", nargs="*", metavar="LEVEL", help=", ".join((*names, "all")))
    options = parser.parse_args()
    unknown = set(options.level) - {*names, "all"}
    if unknown:
        parser.error(f"no such level: {', '.join(sorted(unknown))}")
    chosen = [
        level
        for level in SHIPPED
        if "all" in options.level
        or level.name in options.level
        or (not options.level and level.machine == machine())
    ]
    reasons: dict[str, list[str]] = {}

    def make(level: cpu.Level) -> None:
        path = options.folder / image_name(level.name)
        try:
            if not _is_current(path):
                with replacing(path) as file:
                    file.write(compile_image(level).to_bytes())
            print(f"{path.name}: {path.stat().st_size // 1024} KB\n", end="", flush=True)
        except (CompilationError, OSError) as error:
            reasons.setdefault(str(error), []).append(level.name)

    with ThreadPoolExecutor(os.cpu_count()) as threads:
        list(threads.map(make, chosen))
    if reasons:
        sys.exit("; ".join(f"{', '.join(names)}: {reason}" for reason, names in reasons.items()))


if __name__ == "__main__":
    main()
