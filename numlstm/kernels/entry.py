"""The walker of this process: compiled ahead, found in a cache, or compiled now.

The package carries an image for each level of CPUs, and that is what runs: nothing is compiled,
nothing is written, Numba is not imported. Where there is none, because the sources were edited, the
CPU has no level or NUMLSTM_JIT=1 asks for it, the walker is compiled for exactly this CPU, once
(`cache.py`).
"""

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from numlstm.kernels import cpu
from numlstm.kernels.addresses import COMPILED
from numlstm.kernels.sources import IMAGES, hash_sources, image_name
from numlstm.machine.executable import executable
from numlstm.machine.image import Image, ImageError
from numlstm.machine.instructions import found, machine


@dataclass(frozen=True)
class Kernels:
    """What is known of the kernels of this process before any of them runs.

    image    None where they must be compiled
    origin   a line for whoever asks where they come from
    reason   why they are not those that were compiled ahead; "" if they are
    path     the file
    """

    image: Image | None
    origin: str
    reason: str
    path: Path | None


def _shipped_path() -> Path:
    return IMAGES / image_name(cpu.LEVEL.name)


def _shipped() -> Image:
    """Return the image that came with the package; raise ImageError, with the reason, if none."""
    if os.environ.get("NUMLSTM_JIT", "0") not in ("", "0"):
        raise ImageError("NUMLSTM_JIT is set")
    path = _shipped_path()
    # By the loader, which reads from a zip too.
    read: Any = getattr(__spec__.loader, "get_data", None)
    try:
        image = Image.from_bytes(read(str(path)))
    except (PermissionError, ImageError) as error:
        raise ImageError(f"{path} is not used: {error}") from error
    except (OSError, TypeError) as error:
        raise ImageError(f"none for {cpu.LEVEL.name} came with this installation") from error
    if image.level != cpu.LEVEL.name:
        raise ImageError(f"{path} is not used: it is for {image.level}")
    if hash_sources() not in ("", image.sources):
        raise ImageError("the kernels' sources were edited since they were compiled ahead")
    return image


def find() -> Kernels:
    """Return the kernels of this process, found but not compiled.

    Raises RuntimeError where NUMLSTM_LEVEL asks for what the CPU lacks.
    """
    level = cpu.LEVEL
    if not cpu.fits(level):
        missing = sorted(level.needs - found())
        raise RuntimeError(
            f"NUMLSTM_LEVEL={level.name}: this CPU ({machine()}) does not have "
            f"{', '.join(missing) or 'that architecture'}; unset it"
        )
    try:
        return Kernels(_shipped(), f"compiled ahead for {level.name}", "", _shipped_path())
    except ImageError as error:
        reason = str(error)
    from numlstm.kernels.cache import kept

    if known := kept():
        image, path = known
        target = image.target.partition(" ")[0]  # without its features, a hundred
        return Kernels(image, f"compiled on this machine for {target}", reason, path)
    return Kernels(None, "not compiled yet", reason, None)


_once = threading.Lock()


@cache
def _function() -> Callable[..., int]:
    if not COMPILED:
        from numlstm.kernels.walker import run

        return run
    kernels = find()
    if kernels.image:
        return kernels.image.function()
    from numlstm.kernels.cache import compile_and_keep

    executable(b"\0")  # where that is refused, it is not said after half a minute
    return compile_and_keep(kernels.reason).function()


def walker() -> Callable[..., int]:
    """Return the walker, (plan, params, state, xs, ys) -> status: see `walker.run`.

    Compiled, the first three are addresses. Raises RuntimeError where it can neither be found nor
    compiled, OSError where the system lets no compiled code run.
    """
    with _once:
        return _function()


def _unlock() -> None:
    global _once
    _once = threading.Lock()


if hasattr(os, "register_at_fork"):  # a thread that compiles is not in the child
    os.register_at_fork(after_in_child=_unlock)
