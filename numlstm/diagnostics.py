"""What the engine found on this machine, and its compilation ahead of time."""

import os
import threading
import time

from numlstm.kernels.addresses import COMPILED


def warmup() -> float:
    """Make the kernels ready, compiling them if none came with the package; return the seconds."""
    began = time.perf_counter()
    from numlstm.kernels.entry import walker

    walker()
    return time.perf_counter() - began


def version(name: str) -> str:
    """Return the version of a package that is installed, or that it is not."""
    from importlib import metadata

    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def diagnose() -> dict[str, str]:
    """Return what matters for speed and for a bug report: versions, CPU, kernels, threads."""
    import platform

    from numlstm.kernels import cache, cpu, entry
    from numlstm.machine.executable import executable
    from numlstm.machine.instructions import found

    level = cpu.LEVEL
    if COMPILED:
        kernels = entry.find()
        origin, reason, path = kernels.origin, kernels.reason or "-", kernels.path
        state = "ready" if kernels.image else cache.state()
        try:
            executable(b"\0")
        except OSError as error:
            state = f"of no use: {error}"
    else:
        origin, reason, path = "none: the kernels run as Python, very slowly", "-", None
        state = "none: NUMBA_DISABLE_JIT is set"
    better = [
        f"{other.name} needs {', '.join(sorted(other.needs - found()))}"
        for other in cpu.better_levels()
    ]
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        **{name: version(name) for name in ("numpy", "numba", "tokenizers")},
        "CPU level": level.name + (f" ({'; '.join(better)})" if better else ""),
        "registers": level.vectors,
        "tile": f"{level.floats.tile[0]} vectors x {level.floats.tile[1]} rows",
        "kernels": origin,
        "not compiled ahead because": reason,
        "kernel cache": str(path or cache.folders()[0]),
        "cache state": state,
        "threads": f"{threading.active_count()} in this process, which the engine adds none to; "
        f"{len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()} "
        "cores to run on",
    }
