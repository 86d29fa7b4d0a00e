"""The walker for this CPU, compiled or from the cache; imported by what is about to run."""

import hashlib
import logging
import time
from collections.abc import Callable
from pathlib import Path

import llvmlite.binding as llvm
import numba
from numba import njit, types
from numba.core import event

from numlstm.kernels.addresses import COMPILED
from numlstm.kernels.arrays import object_pointer
from numlstm.kernels.cpu import LEVEL
from numlstm.kernels.walker import make_run

if bool(numba.config.DISABLE_JIT) == COMPILED:
    raise ImportError(
        "Numba and numlstm disagree on whether to compile: set NUMBA_DISABLE_JIT in the "
        "environment, before numlstm is imported, or nowhere"
    )

# Numba's code is that of the level.
numba.config.CPU_NAME, numba.config.CPU_FEATURES = LEVEL.cpu, LEVEL.features

# plan, params and state, which a stream owns, as addresses; xs and ys as they are.
SIGNATURE = types.int64(types.int64, types.int64, types.int64, object_pointer, object_pointer)


def _hash_sources() -> int:
    """Return a number that changes with any edit of the kernels."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return int.from_bytes(digest.digest()[:6])


def _jit_run():
    """Return the walker for Numba to compile, cached where a folder can be written.

    Numba's cache looks at the walker's file only. The hash is a closure variable, which is part of
    the cache's key, so an edit of any kernel recompiles and stale code never runs.
    """
    function = make_run(_hash_sources())
    options = {"nogil": True, "error_model": "numpy", "boundscheck": False}
    try:
        return njit(**options, cache=True)(function)
    except RuntimeError:  # no folder can be written: every process compiles for itself
        return njit(**options)(function)


run = _jit_run()

_log = logging.getLogger("numlstm")


class _Announcer(event.Listener):
    """Logs that a compilation has begun; a load from the cache compiles nothing."""

    started = False

    def on_start(self, event):
        if event.data["dispatcher"] is run:
            self.started = True
            _log.info("compiling the kernels for this CPU, once (15 to 30 seconds)")

    def on_end(self, event):
        pass


def compile_run() -> Callable[..., int]:
    """Return `run` for this CPU, from the cache or compiled anew, as a plain callable.

    It skips Numba's dispatcher, which costs as much as a small step: the arguments must be three
    addresses and two objects.
    """
    if not COMPILED:
        return run
    if not run.overloads:
        announcer = _Announcer()
        began = time.perf_counter()
        with event.install_listener("numba:compile", announcer):
            run.compile(SIGNATURE)
        if announcer.started:
            _log.info("compiled the kernels in %.1f s", time.perf_counter() - began)
    return next(iter(run.overloads.values())).entry_point


def cache_state() -> tuple[str, bool]:
    """Return the folder of the compiled kernels, and whether those for this CPU are in it.

    The folder is "" where there is none: nothing is compiled, or nothing can be written.
    """
    cache = getattr(run, "_cache", None)
    if not getattr(cache, "cache_path", None):
        return "", False
    # Numba tells of its cache nowhere else.
    key = cache._index_key(SIGNATURE, run.targetctx.codegen())  # noqa: SLF001
    index = cache._cache_file._load_index()  # noqa: SLF001
    return cache.cache_path, key in index


def versions() -> dict[str, str]:
    """Return the versions of what compiles."""
    llvm_version = ".".join(str(part) for part in llvm.llvm_version_info)
    return {"numba": numba.__version__, "llvm": llvm_version}
