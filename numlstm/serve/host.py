"""What a server has: its models, who is connected to which session, and the way out."""

import asyncio
import contextlib
import secrets
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import prod
from typing import Any

from numlstm.model import Model
from numlstm.serve.gather import Gatherer
from numlstm.serve.metrics import Metrics
from numlstm.serve.refusals import GOING_AWAY, POLICY, TRY_LATER, RefusalError
from numlstm.serve.settings import Settings
from numlstm.serve.talks import Opens, Pooled, talk_of
from numlstm.sessions import Sessions, open_store

_PATIENCE = 5.0  # seconds for what is in progress when the server ends
_LONGEST_TOKEN = 64

Parts = Mapping[str, Model]


@dataclass(frozen=True)
class Served:
    """A model that is served: by sessions that step together, or each alone."""

    name: str
    parts: Parts
    talk: Pooled | Opens
    gatherer: Gatherer | None


class Connection:
    """A client in a session. Its task may be told to end between two messages."""

    def __init__(self) -> None:
        self.task = asyncio.current_task()
        self.stopped: RefusalError | None = None
        self.is_waiting = False
        self.gone = asyncio.Event()

    def stop(self, reason: RefusalError) -> None:
        """End after the message that is in progress, if one is."""
        self.stopped = self.stopped or reason
        if self.is_waiting and self.task is not None:
            self.task.cancel()


class Host:
    """The models of a server and its sessions.

    Attributes
    ----------
    settings : Settings
        What the server was told.
    models : dict of Served
        By their names.
    metrics : Metrics
        What it counts.
    is_closing : bool
        Whether it takes nobody any more.
    """

    def __init__(self, models: Mapping[str, Parts], settings: Settings) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.store = open_store(settings.store, settings.time_to_live)
        # One thread for steps that take long, so that no session is stepped twice at a time.
        self._steps = ThreadPoolExecutor(1, "numlstm-steps")
        self.thread = ThreadPoolExecutor(2, "numlstm-items")
        self.models = {name: self._served(name, parts) for name, parts in models.items()}
        self.connections: dict[str, Connection] = {}
        self.is_closing = False

    def _served(self, name: str, parts: Parts) -> Served:
        talk = talk_of(parts)
        gatherer = None
        if not hasattr(talk, "open"):
            sessions = Sessions(talk.model, self.store, self.settings.capacity)
            gatherer = Gatherer(name, talk, sessions, self.settings, self.metrics, self._steps)
        return Served(name, parts, talk, gatherer)

    def model(self, name: str) -> Served:
        """Return a model by its name, or raise a RefusalError."""
        served = self.models.get(name)
        if served is None:
            known = ", ".join(self.models)
            raise RefusalError("no_model", f"there is no such model; there are: {known}", POLICY)
        return served

    async def key_of(self, served: Served, token: str | None) -> tuple[str, str]:
        """Return the key of a session, and the token by which a client comes back to it.

        Raises
        ------
        RefusalError
            If the token is of no session of the model.
        """
        if token is None:
            token = secrets.token_urlsafe(24)
            return f"{served.name}/{token}", token
        key = f"{served.name}/{token}"
        if len(token) > _LONGEST_TOKEN or not await self._is_known(served, key):
            raise RefusalError(
                "no_session", "there is no such session, or it has ended: begin a new one", POLICY
            )
        return key, token

    async def _is_known(self, served: Served, key: str) -> bool:
        if key in self.connections:
            return True
        if served.gatherer is not None:
            return await served.gatherer.ask(served.gatherer.sessions.__contains__, key)
        return self.store.get_many([key])[0] is not None

    @contextlib.asynccontextmanager
    async def connected(self, served: Served, key: str) -> Any:
        """Be the connection of a session; whoever was before ends first."""
        if self.is_closing:
            raise RefusalError("closing", "the server ends", GOING_AWAY)
        if len(self.connections) >= self.settings.max_sessions and key not in self.connections:
            raise RefusalError(
                "full", f"{self.settings.max_sessions} sessions are open: try later", TRY_LATER
            )
        while (before := self.connections.get(key)) is not None:
            before.stop(RefusalError("resumed", "the session was resumed elsewhere", POLICY))
            await before.gone.wait()
        connection = self.connections[key] = Connection()
        gauge = self.metrics.open.labels(served.name)
        gauge.inc()
        if served.gatherer is not None:
            served.gatherer.num_open += 1
        try:
            yield connection
        finally:
            del self.connections[key]
            gauge.dec()
            if served.gatherer is not None:
                served.gatherer.num_open -= 1
            connection.gone.set()

    async def drain(self) -> None:
        """Take nobody any more, and end the connections between two messages."""
        self.is_closing = True
        for connection in list(self.connections.values()):
            connection.stop(RefusalError("closing", "the server ends; resume later", GOING_AWAY))
        gone = [connection.gone.wait() for connection in list(self.connections.values())]
        if gone:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_PATIENCE):
                    await asyncio.gather(*gone)

    def close(self) -> None:
        """Save every session that is in a pool, and let go of the store."""
        self._steps.shutdown()
        self.thread.shutdown()
        for served in self.models.values():
            if served.gatherer is not None:
                served.gatherer.sessions.close()
        self.store.close()


def describe(host: Host) -> Iterator[dict[str, Any]]:
    """Yield what clients are told of each model."""
    for served in host.models.values():
        model = served.talk.model
        yield {
            "name": served.name,
            "task": served.talk.task,
            "input": served.talk.input,
            "input_size": model.input_size,
            "output_size": model.output_size,
            "vocab_size": model.vocab_size,
            "labels": list(model.labels),
            "is_pooled": served.gatherer is not None,
            "parts": {name: _layers(part) for name, part in served.parts.items()},
        }


def _layers(model: Model) -> list[dict[str, Any]]:
    """Return the layers of a network with their sizes."""
    network = model.network
    shapes = network.tensor_shapes()
    return [
        {
            "name": name,
            "kind": type(layer).__name__,
            "input_size": layer.input_size,
            "output_size": layer.output_size,
            "dtype": getattr(layer, "dtype", None),
            "num_weights": sum(
                prod(shape) for key, shape in shapes.items() if key.startswith(f"{name}.")
            ),
        }
        for name, layer in network.named_layers()
    ]
