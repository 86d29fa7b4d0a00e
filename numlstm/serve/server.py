"""uvicorn, told how: it drains before it closes."""

import contextlib
import signal
import socket
from collections.abc import Iterator
from typing import Any

import uvicorn
from starlette.applications import Starlette

_BACKLOG = 4096  # who connects at once
_PATIENCE = 10  # seconds for what is in progress


class _Server(uvicorn.Server):
    """Ends connections between two messages, where uvicorn would cut them off."""

    def __init__(self, config: uvicorn.Config, host: Any) -> None:
        super().__init__(config)
        self._host = host

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """End in order on a signal, and do not raise it once more afterwards."""
        before = {
            number: signal.signal(number, self.handle_exit)
            for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await self._host.drain()
        await super().shutdown(sockets)


def serve(application: Starlette, host: str, port: int) -> None:
    """Serve an application until a signal ends it."""
    settings = application.state.host.settings
    config = uvicorn.Config(
        application,
        host=host,
        port=port,
        backlog=_BACKLOG,
        log_level="warning",
        ws="websockets-sansio",
        ws_max_size=settings.max_message + 1024,
        ws_per_message_deflate=False,
        timeout_graceful_shutdown=_PATIENCE,
        server_header=False,
    )
    listening = config.bind_socket()
    listening.listen(_BACKLOG)  # who reads the line may connect
    where = listening.getsockname()
    print(f"numlstm: http://{where[0]}:{where[1]}/", flush=True)
    _Server(config, application.state.host).run(sockets=[listening])
