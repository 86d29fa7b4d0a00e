"""The routes of a server, and its beginning and end."""

import contextlib
from collections.abc import AsyncIterator, Mapping

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute

from numlstm.serve import items, sockets
from numlstm.serve.guard import check_caller
from numlstm.serve.host import Host, Parts, describe
from numlstm.serve.refusals import RefusalError
from numlstm.serve.settings import Settings


def app(models: Mapping[str, Parts], settings: Settings | None = None) -> Starlette:
    """Return a server of models; see `numlstm.serve.app`."""
    host = Host(models, settings or Settings())

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        await host.drain()
        host.close()

    routes: list[BaseRoute] = [
        Route("/healthz", _health),
        Route("/metrics", _metrics),
        Route("/v1/models", _models),
        Route("/v1/models/{name}/run", items.run, methods=["POST"]),
        WebSocketRoute("/v1/models/{name}/stream", sockets.stream),
    ]
    errors = {RefusalError: _refused, TypeError: _wrong, ValueError: _wrong}
    application = Starlette(routes=routes, exception_handlers=errors, lifespan=lifespan)  # type: ignore[arg-type]
    application.state.host = host
    return application


async def _health(request: Request) -> Response:
    host: Host = request.app.state.host
    status = "closing" if host.is_closing else "ok"
    return JSONResponse({"status": status}, 503 if host.is_closing else 200)


async def _metrics(request: Request) -> Response:
    host: Host = request.app.state.host
    check_caller(host.settings, request.headers)
    return Response(host.metrics.text(), media_type=host.metrics.content_type)


async def _models(request: Request) -> Response:
    host: Host = request.app.state.host
    check_caller(host.settings, request.headers)
    return JSONResponse(list(describe(host)))


async def _refused(request: Request, refusal: RefusalError) -> Response:
    host: Host = request.app.state.host
    host.metrics.refusals.labels(refusal.code).inc()
    headers = {"www-authenticate": "Bearer"} if refusal.code == "no_token" else None
    status = {"no_token": 401, "no_model": 404}.get(refusal.code, refusal.status)
    return JSONResponse(refusal.as_json(), status, headers)


async def _wrong(request: Request, error: Exception) -> Response:
    return await _refused(request, RefusalError("bad_message", str(error)))
