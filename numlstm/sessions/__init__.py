"""Streams by key: more than fit into a pool, and longer than a process.

`Sessions` steps streams by their keys. Those that were used last are in a pool; the others lie in a
store, from which they come back to the same bits, in this process or in another.
"""

from numlstm.sessions.keyed import Sessions, StepError
from numlstm.sessions.record import Record
from numlstm.sessions.store import MemoryStore, Store, open_store
from numlstm.sessions.stores.folder import FolderStore
from numlstm.sessions.stores.redis import RedisStore
from numlstm.sessions.stores.sqlite import SQLiteStore

__all__ = [
    "FolderStore",
    "MemoryStore",
    "Record",
    "RedisStore",
    "SQLiteStore",
    "Sessions",
    "StepError",
    "Store",
    "open_store",
]
