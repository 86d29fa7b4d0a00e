"""A folder with a file for each session."""

import hashlib
import os
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from numlstm.saving import sync_names
from numlstm.sessions.store import SWEEP_SECONDS, checked_time_to_live, name_of


class FolderStore:
    """A store of files, whole or not there: any number of processes may share the folder.

    A file is named after the SHA-256 of its key, in one of 256 folders, so that no key is a path.
    It is written beside its place and then moved there.

    Parameters
    ----------
    path : path
        The folder, made if it is not there.
    time_to_live : float, optional
        Seconds after which what was written is gone, by the clock of the file system; files are
        removed within a minute of it, while the store is in use.
    """

    def __init__(self, path: str | os.PathLike[str], time_to_live: float | None = None) -> None:
        self.path = Path(path)
        self.time_to_live = checked_time_to_live(time_to_live)
        self.path.mkdir(parents=True, exist_ok=True)
        for n in range(256):
            (self.path / f"{n:02x}").mkdir(exist_ok=True)
        self._lock = threading.Lock()
        self._swept = time.time()

    def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        """Return what is stored by each key; None where nothing is."""
        return [self._read(self._place(key)) for key in keys]

    def set_many(self, records: Mapping[str, bytes], *, durable: bool = False) -> None:
        """Store all of them, each on the disk; if durable, their names are there too."""
        folders = set()
        for key, record in records.items():
            place = self._place(key)
            # The name is this thread's alone; what a killed process left is written over.
            beside = place.with_name(f"{place.name}.{os.getpid()}-{threading.get_ident()}")
            try:
                with beside.open("wb") as file:
                    file.write(record)
                    file.flush()
                    os.fsync(file.fileno())  # it takes the place of one that is on the disk
                beside.replace(place)
            except BaseException:
                beside.unlink(missing_ok=True)
                raise
            folders.add(place.parent)
        if durable:
            for folder in folders:
                sync_names(folder)
        self._sweep()

    def delete_many(self, keys: Sequence[str]) -> None:
        """Forget what is stored by the keys."""
        for key in keys:
            self._place(key).unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of nothing: no file is held open."""

    def _place(self, key: str) -> Path:
        name = hashlib.sha256(name_of(key)).hexdigest()
        return self.path / name[:2] / name[2:]

    def _read(self, place: Path) -> bytes | None:
        try:
            with place.open("rb") as file:
                if self._is_over(os.fstat(file.fileno()).st_mtime):
                    return None
                return file.read()
        except FileNotFoundError:
            return None

    def _is_over(self, written: float) -> bool:
        return self.time_to_live is not None and written < time.time() - self.time_to_live

    def _sweep(self) -> None:
        """Remove what has outlived its time, now and then; half-written files among it."""
        now = time.time()
        with self._lock:
            if self.time_to_live is None or now - self._swept < SWEEP_SECONDS:
                return
            self._swept = now
        for place in self.path.glob("??/*"):
            with suppress(FileNotFoundError):  # another process was faster
                if self._is_over(place.stat().st_mtime):
                    place.unlink()
