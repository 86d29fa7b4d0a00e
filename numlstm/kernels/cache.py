"""Kernels that are compiled on this machine, kept in a file and found again.

Imported only where none that came with the package fit: see `entry.py`. What a folder holds is run
if it is whole and nobody else could have written it; whatever else is found costs a compilation,
never a wrong answer. Processes that start at once compile once: one does, the others wait.
"""

import errno
import logging
import os
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import BinaryIO

from numlstm.kernels import cpu
from numlstm.kernels.compilation import ROOM, CompilationError, compile_image, replacing
from numlstm.kernels.sources import IMAGES, hash_sources
from numlstm.machine.image import Image, ImageError
from numlstm.machine.instructions import identity

_LOCK_NAME = "compiling.lock"
_MODE = 0o755  # of a new folder, whatever the umask is: what the group can write is refused
# Seconds. Whoever compiles may have been stopped: then each process compiles for itself.
_LONGEST_WAIT = 300.0
_LARGEST = 2**24  # bytes; what is more is no image

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


def _refuse_others(found: os.stat_result) -> None:
    """Raise ImageError where others than this user, root and who owns this package can write."""
    if sys.platform == "win32":
        return
    if stat.S_ISDIR(found.st_mode):
        # What is in a sticky folder, as /tmp is, only its owner can replace.
        is_open = found.st_mode & 0o022 and not found.st_mode & stat.S_ISVTX
    else:
        owners = {0, os.getuid(), Path(__file__).stat().st_uid}
        if found.st_uid not in owners:
            raise ImageError(f"another user wrote it (uid {found.st_uid})")
        is_open = found.st_mode & 0o022
    if is_open:
        mode = stat.S_IMODE(found.st_mode)
        raise ImageError(f"others can write to it (mode {mode:o}): chmod go-w")


def _open_at_once(path: str, flags: int) -> int:
    """Open what may be a pipe, which would be waited for."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0), 0o644)


def _read(path: Path) -> Image | None:
    """Return the image in a file, None if there is no file.

    Raises ImageError or OSError, with the reason, if it is not to be run.
    """
    try:
        _refuse_others(path.parent.stat())
        with open(path, "rb", opener=_open_at_once) as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode) or found.st_size > _LARGEST:
                raise ImageError("it is no file of kernels")
            _refuse_others(found)
            image = Image.from_bytes(file.read())
    except FileNotFoundError:
        return None
    if (image.level, image.sources) != (cpu.LEVEL.name, hash_sources()):
        raise ImageError("it is of another version of numlstm, or for another CPU")
    if image.cpu not in ("", identity()):
        raise ImageError("it is for another CPU")
    return image


def kept() -> tuple[Image, Path] | None:
    """Return the image for this CPU that was compiled before, if it is whole and to be trusted."""
    for folder in folders() if hash_sources() else []:
        path = folder / file_name()
        try:
            if image := _read(path):
                return image, path
        except (OSError, ImageError) as error:
            _log.warning("%s is not used: %s", path, error)
    return None


def _lock(file: BinaryIO) -> bool:
    """Take a file for this process, until it closes it or ends; False while another has it.

    A process that is forked meanwhile has no part in it, so that nobody waits for that one.
    """
    try:
        if sys.platform == "win32":
            import msvcrt

            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        # Else a file system without locks: several may compile, and each writes a whole file.
        return error.errno not in (errno.EACCES, errno.EAGAIN)
    return True


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Wait until no other process compiles into a folder.

    Raises OSError if it cannot be written, ImageError if others can write to it.
    """
    folder.mkdir(_MODE, parents=True, exist_ok=True)
    _refuse_others(folder.stat())
    with open(folder / _LOCK_NAME, "ab", opener=_open_at_once) as file:
        until, waits = time.monotonic() + _LONGEST_WAIT, False
        while not _lock(file):
            if not waits:
                _log.info("waiting for another process, which compiles the kernels")
            waits = True
            if time.monotonic() > until:
                _log.warning("waited %.0f s for another process to compile", _LONGEST_WAIT)
                break
            time.sleep(0.05)
        yield


def _sweep(folder: Path) -> None:
    """Remove what processes that were killed as they wrote have left."""
    for left in folder.glob(".new-*"):
        with suppress(OSError):
            if time.time() - left.stat().st_mtime > 3600:
                left.unlink()


@contextmanager
def _place(folder: Path) -> Iterator[BinaryIO]:
    """Make room for an image in a folder, before it is compiled; OSError if there is none.

    What had its name could not be used.
    """
    _sweep(folder)
    path = folder / file_name()
    path.unlink(missing_ok=True)
    with replacing(path) as file:
        yield file


def state() -> str:
    """Say what a process that needs compiled kernels finds, and how to mend it."""
    if not hash_sources():
        return "none: the package has no sources here, so every process compiles"
    remarks = []
    for folder in folders():
        try:
            if _read(folder / file_name()):
                return "ready"
        except (OSError, ImageError) as error:
            remarks.append(f"{folder / file_name()} is not used: {error}")
    for folder in folders():
        try:
            folder.mkdir(_MODE, parents=True, exist_ok=True)
            _refuse_others(folder.stat())
            with tempfile.TemporaryFile(dir=folder) as file:
                file.write(bytes(ROOM))
        except (OSError, ImageError) as error:
            remarks.append(f"nothing can be kept in {folder}: {error}")
        else:
            return "; ".join((*remarks, "empty: numlstm warmup fills it"))
    return "; ".join((*remarks, "every process compiles: set NUMBA_CACHE_DIR to a folder"))


def compile_and_keep(reason: str) -> Image:
    """Compile for this CPU, or wait for another process that does, and keep it.

    Where nothing can be kept, as on a full disk, each process compiles for itself, none after the
    other.
    """
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

    remarks = []
    for folder in folders() if hash_sources() else []:
        image = None
        try:
            with _alone(folder):
                if known := kept():
                    return known[0]
                with _place(folder) as file:
                    image = compile_now()
                    file.write(image.to_bytes())
                return image
        except (OSError, ImageError) as error:
            if image:  # the disk was filled meanwhile
                _log.warning("the kernels could not be kept in %s: %s", folder, error)
                return image
            remarks.append(f"{folder}: {error}")
    if remarks:
        _log.warning(
            "the kernels cannot be kept, so every process compiles: set NUMBA_CACHE_DIR to a "
            "folder (%s)", "; ".join(remarks),
        )  # fmt: skip
    else:
        _log.warning("the package has no sources here, so every process compiles")
    return compile_now()
