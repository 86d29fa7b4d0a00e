"""What the engine found on this machine, and its compilation ahead of time."""

import os
import threading
import time

from numlstm.kernels.addresses import COMPILED


def warmup() -> float:
    """Compile the kernels for this CPU, or load them from the cache; return the seconds it took."""
    began = time.perf_counter()
    from numlstm.kernels.compilation import compile_run

    compile_run()
    return time.perf_counter() - began


def diagnose() -> dict[str, str]:
    """Return what matters for speed and for a bug report: versions, CPU, cache, threads."""
    import platform  # these two take 100 ms to import
    from importlib.metadata import version

    from numlstm.kernels import cpu
    from numlstm.kernels.compilation import cache_state, versions

    level = cpu.LEVEL
    folder, is_cached = cache_state()
    if not COMPILED:
        state = "none: NUMBA_DISABLE_JIT is set, the kernels run as Python, very slowly"
    elif not folder:
        state = "none: no folder can be written, so every process compiles; set NUMBA_CACHE_DIR"
    else:
        state = "ready" if is_cached else "empty: numlstm warmup fills it"
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        **versions(),
        **{name: version(name) for name in ("numpy", "tokenizers", "safetensors")},
        "CPU level": level.name,
        "registers": level.vectors,
        "tile": f"{level.floats[0]} vectors x {level.floats[1]} rows",
        "kernel cache": folder or "-",
        "cache state": state,
        "threads": f"{threading.active_count()} in this process, which the engine adds none to; "
        f"{len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()} "
        "cores to run on",
    }
