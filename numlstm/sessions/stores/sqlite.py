"""A file of SQLite."""

import os
import sqlite3
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from numlstm.sessions.store import SWEEP_SECONDS, checked_time_to_live, name_of

_TOGETHER = 500  # keys in one query
_PATIENCE = 30.0  # seconds to wait for another process that writes

# What is written to a file in this mode is seen by all at once, or by nobody.
_SETTINGS = "PRAGMA journal_mode = WAL", "PRAGMA synchronous = NORMAL"
_TABLE = (
    "CREATE TABLE IF NOT EXISTS sessions"
    " (key BLOB PRIMARY KEY, written REAL NOT NULL, record BLOB NOT NULL) WITHOUT ROWID"
)


class SQLiteStore:
    """A store in one file: any number of processes of a machine may share it.

    All of one `set_many` is written, or nothing. It survives a process that is killed; with
    ``durable`` it is on the disk before the call returns (``synchronous = FULL``), and survives a
    machine that loses its power.

    Parameters
    ----------
    path : path
        The file, made if it is not there.
    time_to_live : float, optional
        Seconds after which what was written is gone.

    Raises
    ------
    ValueError
        If the file is not one of SQLite.
    """

    def __init__(self, path: str | os.PathLike[str], time_to_live: float | None = None) -> None:
        self.path = Path(path)
        self.time_to_live = checked_time_to_live(time_to_live)
        self._lock = threading.Lock()
        self._swept = time.time()
        self._is_durable = False
        self._connection = sqlite3.connect(
            self.path, timeout=_PATIENCE, isolation_level=None, check_same_thread=False
        )
        try:
            for setting in _SETTINGS:
                self._connection.execute(setting)
            self._connection.execute(_TABLE)
        except sqlite3.DatabaseError as error:
            self._connection.close()
            raise ValueError(f"{self.path}: {error}; give a new file for sessions") from error

    def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        """Return what is stored by each key; None where nothing is."""
        found: dict[bytes, bytes] = {}
        names = list(map(name_of, keys))
        with self._lock:
            for at in range(0, len(names), _TOGETHER):
                some = names[at : at + _TOGETHER]
                marks = ",".join("?" * len(some))
                query = f"SELECT key, record FROM sessions WHERE key IN ({marks}) AND written >= ?"
                found.update(self._connection.execute(query, [*some, self._least()]))
        return [found.get(name) for name in names]

    def set_many(self, records: Mapping[str, bytes], *, durable: bool = False) -> None:
        """Store all of them in one transaction."""
        now = time.time()
        rows = [(name_of(key), now, record) for key, record in records.items()]
        with self._lock:
            self._be_durable(durable)
            with _transaction(self._connection) as run:
                run.executemany("INSERT OR REPLACE INTO sessions VALUES (?, ?, ?)", rows)
                if self.time_to_live is not None and now - self._swept > SWEEP_SECONDS:
                    run.execute("DELETE FROM sessions WHERE written < ?", [self._least()])
                    self._swept = now

    def delete_many(self, keys: Sequence[str]) -> None:
        """Forget what is stored by the keys."""
        with self._lock, _transaction(self._connection) as run:
            run.executemany("DELETE FROM sessions WHERE key = ?", [[name_of(key)] for key in keys])

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def _least(self) -> float:
        """Return when what is not yet gone was written, at the earliest."""
        return 0.0 if self.time_to_live is None else time.time() - self.time_to_live

    def _be_durable(self, durable: bool) -> None:
        if durable != self._is_durable:
            level = "FULL" if durable else "NORMAL"
            self._connection.execute(f"PRAGMA synchronous = {level}")
            self._is_durable = durable


class _transaction:  # noqa: N801 - reads as a word
    """All of the block is written, or nothing."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def __enter__(self) -> sqlite3.Connection:
        self._connection.execute("BEGIN IMMEDIATE")
        return self._connection

    def __exit__(self, kind: object, *_: object) -> None:
        self._connection.execute("COMMIT" if kind is None else "ROLLBACK")
