"""Writing a file: it is there as a whole, or what was there before is.

The new file is written beside the old one under a name of its own, and takes its place when all of
it is on the disk. A process that is killed meanwhile leaves this partial file, and the next save in
the folder removes it: whoever writes one holds a lock on it, which ends with the process.
"""

import errno
import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

try:
    import fcntl
except ImportError:  # Windows, where a file that is open is not removed
    fcntl = None  # type: ignore[assignment]

_PIECE = 2**24  # bytes

# Short, so that a file may have the longest name that the file system allows.
_PARTIAL = ".numlstm-{}.partial"


@contextmanager
def saving(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a file to write; it takes the place of what is at the path when the block ends.

    The new file has the mode of the old one, and its owner where this user may give it; one that
    replaces none follows the umask. A symbolic link stays, and what it names is replaced. Other
    hard links keep the old file. What is no file, a pipe or a device, is written as it comes.

    Raises
    ------
    OSError
        If it cannot be written, naming the path. The old file is there then, and no other.
    """
    try:
        target = Path(os.path.realpath(path))
        if target.is_symlink():
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        found = target.stat() if target.exists() else None
        if found is not None and not stat.S_ISREG(found.st_mode):
            with target.open("wb") as file:
                yield file
            return
        if found is not None and not os.access(target, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        _remove_abandoned(target.parent)
        with _partial(target.parent, found) as (file, name):
            yield file
            file.flush()
            os.fsync(file.fileno())
            if fcntl is None:
                file.close()  # Windows moves nothing that is open
            Path(name).replace(target)
        sync_names(target.parent)
    except OSError as error:
        raise _about(error, path) from error


class _Steady(io.FileIO):
    """A new file that goes to the disk as it is written: little is left to wait for at the end."""

    def __init__(self, name: str, mode: int) -> None:
        super().__init__(name, "xb", opener=lambda n, flags: os.open(n, flags, mode))
        self._left = 0

    def write(self, data: Any) -> int:
        written = super().write(data)
        self._left += written
        if self._left >= _PIECE:
            os.fsync(self.fileno())
            self._left = 0
        return written


@contextmanager
def _partial(folder: Path, found: os.stat_result | None) -> Iterator[tuple[BinaryIO, str]]:
    """Open a new file, locked, with the mode and owner of the one it replaces; then remove it."""
    name = ""
    try:
        while True:
            name = str(folder / _PARTIAL.format(os.urandom(4).hex()))
            # Nobody may read it until it has the mode that is wanted.
            mode = 0o666 if found is None else 0o600
            with io.BufferedWriter(_Steady(name, mode)) as file:
                if _lock(file, waits=True) and not os.fstat(file.fileno()).st_nlink:
                    continue  # it was taken for abandoned before it was locked
                if found is not None:
                    _take_after(file, name, found)
                yield file, name
                return
    finally:
        Path(name).unlink(missing_ok=True)


def _take_after(file: BinaryIO, name: str, found: os.stat_result) -> None:
    """Give a file the mode and, where that is possible, the owner of another one."""
    own = os.fstat(file.fileno())
    if hasattr(os, "fchown") and (own.st_uid, own.st_gid) != (found.st_uid, found.st_gid):
        with suppress(PermissionError):
            os.fchown(file.fileno(), found.st_uid, found.st_gid)
    Path(name).chmod(stat.S_IMODE(found.st_mode))


def _remove_abandoned(folder: Path) -> None:
    """Remove partial files whose writers have ended without doing so."""
    for partial in folder.glob(_PARTIAL.format("*")):
        # Another one may remove it first, or only its owner may.
        with suppress(OSError):
            if fcntl is None:
                partial.unlink()
                continue
            with partial.open("r+b") as file:
                if _lock(file, waits=False):
                    partial.unlink()


def _lock(file: Any, waits: bool) -> bool:
    """Lock a file until it is closed; return whether it is, now that nobody else has locked it."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX if waits else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # by another one, or the file system has no locks
        return False
    return True


def sync_names(folder: Path) -> None:
    """Bring the names of a folder to the disk, where the system can."""
    if os.name == "nt":
        return
    try:
        handle = os.open(folder, os.O_RDONLY)
    except PermissionError:  # it may be written and not read
        return
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # no folder of that system is synced
            raise
    finally:
        os.close(handle)


def _about(error: OSError, path: str | os.PathLike[str]) -> OSError:
    """Return the error with the path that was asked for, in place of the partial file's."""
    if error.errno is None:
        return error
    return type(error)(error.errno, error.strerror, os.fspath(path))
