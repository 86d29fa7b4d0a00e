"""A server of Redis, or of Valkey, which speaks the same protocol."""

from collections.abc import Mapping, Sequence
from typing import Any

from numlstm.sessions.store import checked_time_to_live, name_of


class RedisStore:
    """A store on a server: any number of machines may share it.

    What is written is seen by all at once. Whether it survives the server is the server's to say:
    with ``appendonly yes`` and ``appendfsync always`` it is on its disk before `set_many` returns,
    durable or not; with ``everysec``, the last second may be lost.

    Parameters
    ----------
    url : str
        "redis://HOST:PORT/DB", "rediss://..." or "unix:///PATH".
    time_to_live : float, optional
        Seconds after which what was written is gone.
    prefix : str
        Of the keys on the server.

    Raises
    ------
    ImportError
        Without the extra ``redis``.
    ConnectionError
        If no server answers there.
    """

    def __init__(
        self, url: str, time_to_live: float | None = None, prefix: str = "numlstm:"
    ) -> None:
        try:
            import redis
        except ImportError as error:
            raise ImportError(
                f'a store on Redis needs redis: pip install "numlstm[redis]" ({error})'
            ) from error
        self.url = url
        self.prefix = prefix
        self.time_to_live = checked_time_to_live(time_to_live)
        self._life = None if time_to_live is None else max(int(1000 * time_to_live), 1)
        self._client: Any = redis.Redis.from_url(url)
        try:
            self._client.ping()
        except redis.ConnectionError as error:
            self.close()
            raise ConnectionError(f"{url}: no server of Redis answers: {error}") from error

    def __reduce__(self) -> tuple[Any, ...]:
        return RedisStore, (self.url, self.time_to_live, self.prefix)

    def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        """Return what is stored by each key; None where nothing is."""
        found: list[bytes | None] = self._client.mget(list(map(self._name, keys))) if keys else []
        return found

    def set_many(self, records: Mapping[str, bytes], *, durable: bool = False) -> None:
        """Store all of them in one transaction."""
        if not records:
            return
        with self._client.pipeline(transaction=True) as pipe:
            for key, record in records.items():
                pipe.set(self._name(key), record, px=self._life)
            pipe.execute()

    def delete_many(self, keys: Sequence[str]) -> None:
        """Forget what is stored by the keys."""
        if keys:
            self._client.delete(*map(self._name, keys))

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _name(self, key: str) -> bytes:
        return name_of(self.prefix + key)
