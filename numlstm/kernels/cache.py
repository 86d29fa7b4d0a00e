"""Kernels that are compiled on this machine, kept in a file and found again.

Imported only where none that came with the package fit: see `entry.py`.
"""

import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from numlstm.kernels import cpu
from numlstm.kernels.compilation import CompilationError, compile_image, write
from numlstm.kernels.sources import IMAGES, hash_sources
from numlstm.machine.image import Image, ImageError
from numlstm.machine.instructions import identity

_LOCK_NAME = "compiling.lock"

_log = logging.getLogger("numlstm")


def _user_cache() -> Path | None:
    if sys.platform == "win32":
        root = os.environ.get("LOCALAPPDATA", "")
    elif sys.platform == "darwin":
        root = os.path.expanduser("~/Library/Caches")  # noqa: PTH111  raises nothing
    else:
        root = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # noqa: PTH111
    return Path(root) / "numlstm" if Path(root).is_absolute() else None


def folders() -> list[Path]:
    """Return the folders where kernels compiled on this machine are kept, the first choice first.

    Beside the package comes first, so that an image that is warmed by one user serves all.
    """
    if told := os.environ.get("NUMBA_CACHE_DIR"):
        return [Path(told)]
    return [folder for folder in (IMAGES, _user_cache()) if folder is not None]


def _is_exact() -> bool:
    """Whether the kernels are compiled for exactly this CPU, and not for a level that was told."""
    return not os.environ.get("NUMLSTM_LEVEL")


def file_name() -> str:
    """Return the name of the image for this CPU, of these sources."""
    whom = identity() if _is_exact() else "any"
    return f"{cpu.LEVEL.name}-{whom}-{hash_sources()}.image"


def _is_ours(found: os.stat_result) -> bool:
    """Whether nobody but this user, root and who owns this package could have written a file."""
    if sys.platform == "win32":
        return True
    owners = {0, os.getuid(), Path(__file__).stat().st_uid}
    return found.st_uid in owners and not found.st_mode & 0o002


def kept() -> tuple[Image, Path] | None:
    """Return the image for this CPU that was compiled before, if it is whole and to be trusted."""
    if not hash_sources():
        return None
    for folder in folders():
        path = folder / file_name()
        try:
            if not path.is_file():
                continue
            with path.open("rb") as file:
                if not _is_ours(os.fstat(file.fileno())):
                    raise ImageError("another user could have written it")
                image = Image.from_bytes(file.read())
        except (OSError, ImageError) as error:
            _log.warning("%s is not used: %s", path, error)
            continue
        if image.level == cpu.LEVEL.name and image.sources == hash_sources():
            return image, path
    return None


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Wait until no other process compiles into a folder; OSError if it cannot be written."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / _LOCK_NAME).open("a+b") as file:
        if sys.platform == "win32":
            import msvcrt

            file.seek(0)
            while True:
                try:
                    msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)
                    break
                except OSError:  # after 10 seconds
                    continue
        else:
            import fcntl

            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                _log.info("waiting for another process, which compiles the kernels")
                fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            if sys.platform != "win32":  # a process forked meanwhile has the file open too
                fcntl.flock(file, fcntl.LOCK_UN)


def compile_and_keep(reason: str) -> Image:
    """Compile for this CPU, or wait for another process that does, and keep it."""
    if find_spec("numba") is None:
        raise RuntimeError(
            f"the kernels must be compiled ({reason}), which takes Numba: pip install numba"
        )

    def compile_now() -> Image:
        _log.info("compiling the kernels for this CPU, once (10 to 30 seconds): %s", reason)
        began = time.perf_counter()
        try:
            image = compile_image(cpu.LEVEL, _is_exact())
        except CompilationError as error:
            raise RuntimeError(f"the kernels could not be compiled: {error}") from error
        _log.info("compiled the kernels in %.1f s", time.perf_counter() - began)
        return image

    for folder in folders() if hash_sources() else []:
        try:
            with _alone(folder):
                if found := kept():
                    return found[0]
                image = compile_now()
                try:
                    write(folder / file_name(), image.to_bytes())
                except OSError as error:
                    _log.warning("the kernels could not be kept in %s: %s", folder, error)
                return image
        except OSError:
            continue
    if hash_sources():
        names = " nor ".join(map(str, folders()))
        _log.warning(
            "%s cannot be written, so every process compiles: set NUMBA_CACHE_DIR to a folder",
            names,
        )
    else:
        _log.warning("the package has no sources here, so every process compiles")
    return compile_now()
