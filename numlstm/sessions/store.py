"""Where sessions lie that are in no pool: bytes by key."""

import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

SWEEP_SECONDS = 60.0  # between two looks for what has outlived its time


@runtime_checkable
class Store(Protocol):
    """Bytes by key. Threads may share it.

    What was written `time_to_live` seconds ago and not since is gone. `durable` asks for more than
    that other processes see it: what is written is there after the machine lost its power, as far
    as the store can say so.
    """

    def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        """Return what is stored by each key; None where nothing is."""

    def set_many(self, records: Mapping[str, bytes], *, durable: bool = False) -> None:
        """Store all of them, or raise."""

    def delete_many(self, keys: Sequence[str]) -> None:
        """Forget what is stored by the keys; it is no error that nothing is."""

    def close(self) -> None:
        """Let go of what the store holds open."""


def name_of(key: str) -> bytes:
    """Return the bytes by which a store knows a key; half a surrogate pair is a key too."""
    return key.encode("utf-8", "surrogatepass")


def checked_time_to_live(seconds: float | None) -> float | None:
    """Return a time to live, or raise a ValueError."""
    if seconds is not None and not seconds > 0:
        raise ValueError(f"time_to_live is {seconds!r}, expected seconds, or None for no end")
    return seconds


class MemoryStore:
    """A store in the memory of this process: as durable as that.

    Parameters
    ----------
    time_to_live : float, optional
        Seconds after which what was written is gone; it stays if not given.
    """

    def __init__(self, time_to_live: float | None = None) -> None:
        self.time_to_live = checked_time_to_live(time_to_live)
        self._lock = threading.Lock()
        self._records: dict[str, tuple[float, bytes]] = {}  # the oldest first

    def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        """Return what is stored by each key; None where nothing is."""
        with self._lock:
            self._drop()
            return [self._records.get(key, (0.0, None))[1] for key in keys]

    def set_many(self, records: Mapping[str, bytes], *, durable: bool = False) -> None:
        """Store all of them; nothing here outlives the process, durable or not."""
        now = time.monotonic()
        with self._lock:
            self._drop()
            for key, record in records.items():
                self._records.pop(key, None)
                self._records[key] = now, record

    def delete_many(self, keys: Sequence[str]) -> None:
        """Forget what is stored by the keys."""
        with self._lock:
            for key in keys:
                self._records.pop(key, None)

    def close(self) -> None:
        """Forget everything."""
        with self._lock:
            self._records.clear()

    def __len__(self) -> int:
        """How many records there are."""
        with self._lock:
            self._drop()
            return len(self._records)

    def _drop(self) -> None:
        """Forget what has outlived its time."""
        if self.time_to_live is None:
            return
        least = time.monotonic() - self.time_to_live
        while self._records:
            key, (written, _) = next(iter(self._records.items()))
            if written >= least:
                return
            del self._records[key]


def open_store(address: str, time_to_live: float | None = None) -> Store:
    """Return the store of an address.

    Parameters
    ----------
    address : str
        "memory", "folder:PATH", "sqlite:PATH", or the address of a server of Redis or Valkey,
        "redis://HOST:PORT/DB", "rediss://..." or "unix:///PATH".
    time_to_live : float, optional
        Seconds after which what was written is gone.

    Raises
    ------
    ValueError
        If it is none of these.
    """
    kind, _, place = address.partition(":")
    if address == "memory":
        return MemoryStore(time_to_live)
    if kind == "folder" and place:
        from numlstm.sessions.stores.folder import FolderStore

        return FolderStore(Path(place), time_to_live)
    if kind == "sqlite" and place:
        from numlstm.sessions.stores.sqlite import SQLiteStore

        return SQLiteStore(Path(place), time_to_live)
    if kind in ("redis", "rediss", "unix"):
        from numlstm.sessions.stores.redis import RedisStore

        return RedisStore(address, time_to_live)
    raise ValueError(
        f"the store is {address!r}, expected memory, folder:PATH, sqlite:PATH or redis://HOST:PORT"
    )
