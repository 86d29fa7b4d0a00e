"""Sessions over websockets."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from numlstm.serve.guard import PROTOCOL, check_caller
from numlstm.serve.host import Connection, Host, Served
from numlstm.serve.messages import Message, check_size, read_bytes, read_text
from numlstm.serve.refusals import FAILED, GOING_AWAY, RefusalError
from numlstm.serve.talks import Alone

_END = object()


async def stream(websocket: WebSocket) -> None:
    """Serve a session: its messages one after another, until either side ends it."""
    host: Host = websocket.app.state.host
    try:
        check_caller(host.settings, websocket.headers)
    except RefusalError as refusal:
        host.metrics.refusals.labels(refusal.code).inc()
        await websocket.close(1008, refusal.message)  # before it is accepted: status 403
        return
    protocols = websocket.scope.get("subprotocols", [])
    await websocket.accept(subprotocol=PROTOCOL if PROTOCOL in protocols else None)
    try:
        served = host.model(websocket.path_params["name"])
        key, token = await host.key_of(served, websocket.query_params.get("resume"))
        async with host.connected(served, key) as connection:
            serve = _pooled if served.gatherer is not None else _alone
            await serve(host, served, websocket, connection, key, token)
    except RefusalError as refusal:
        await _refuse(host, websocket, refusal)
        await _close(websocket, refusal.close or GOING_AWAY, refusal.message)
    except (WebSocketDisconnect, OSError):
        pass  # the client has gone; its session stays


async def _pooled(
    host: Host, served: Served, websocket: WebSocket, connection: Connection, key: str, token: str
) -> None:
    """Serve a session whose steps are taken with those of others."""
    gatherer = served.gatherer
    assert gatherer is not None
    is_numbered = websocket.query_params.get("numbered") == "1"
    num_steps = await gatherer.ask(gatherer.sessions.num_steps, key)
    await _send(websocket, {"session": token, "num_steps": num_steps, "is_resumable": True})
    model = served.talk.model
    input_size = None if model.vocab_size is not None else model.input_size
    try:
        async for event in _messages(host, websocket, connection):
            try:
                message = _read(event, host, input_size, is_numbered, served.talk.input)
                if message.end:
                    await gatherer.ask(gatherer.sessions.end, key)
                    await _close(websocket, 1000, "")
                    return
                answer = await gatherer.take(key, message)
            except (RefusalError, TypeError, ValueError) as error:
                await _refuse(host, websocket, error)
                continue
            except Exception as error:  # of the store, mostly
                what = f"the steps could not be taken: {type(error).__name__}; resume later"
                raise RefusalError("failed", what, FAILED) from error
            if isinstance(answer, bytes):
                await websocket.send({"type": "websocket.send", "bytes": answer})
            else:
                await _send(websocket, answer)
    finally:
        if not host.is_closing:  # all are saved then
            await gatherer.ask(gatherer.sessions.save, [key])


async def _alone(
    host: Host, served: Served, websocket: WebSocket, connection: Connection, key: str, token: str
) -> None:
    """Serve a session that is an object of its own, in threads."""
    loop = asyncio.get_running_loop()
    talk: Any = served.talk
    session: Alone = talk.open()
    (blob,) = await loop.run_in_executor(host.thread, host.store.get_many, [key])
    if blob is not None:
        session.load(blob)
    is_resumable = session.save() is not None
    await _send(websocket, {"session": token, "num_steps": 0, "is_resumable": is_resumable})
    messages = host.metrics.messages.labels(served.name)
    seconds = host.metrics.seconds.labels(served.name)
    async for event in _messages(host, websocket, connection):
        since = time.perf_counter()
        try:
            message = _read(event, host, 1, False, served.talk.input)
            if message.end:
                await loop.run_in_executor(host.thread, host.store.delete_many, [key])
                await _close(websocket, 1000, "")
                return
            answers = session.feed(message)
            while (answer := await loop.run_in_executor(host.thread, _next, answers)) is not _END:
                if answer.get("done") and (saved := session.save()) is not None:
                    await loop.run_in_executor(host.thread, host.store.set_many, {key: saved})
                await _send(websocket, answer)
        except (RefusalError, TypeError, ValueError) as error:
            await _refuse(host, websocket, error)
            continue
        messages.inc()
        seconds.observe(time.perf_counter() - since)


def _next(answers: Iterator[dict[str, Any]]) -> Any:
    return next(answers, _END)


async def _messages(
    host: Host, websocket: WebSocket, connection: Connection
) -> AsyncIterator[str | bytes]:
    """Yield messages until the client goes, is idle too long, or the connection is stopped."""
    while True:
        if connection.stopped is not None:
            raise connection.stopped
        connection.is_waiting = True
        try:
            async with asyncio.timeout(host.settings.idle_timeout):
                event = await websocket.receive()
        except TimeoutError:
            raise RefusalError(
                "idle", "the session was idle for too long; resume it", GOING_AWAY
            ) from None
        except asyncio.CancelledError:
            if connection.stopped is None or connection.task is None:
                raise
            connection.task.uncancel()
            continue
        finally:
            connection.is_waiting = False
        if event["type"] == "websocket.disconnect":
            return
        body = event.get("text")
        yield event["bytes"] if body is None else body


def _read(
    event: str | bytes, host: Host, input_size: int | None, is_numbered: bool, takes: str
) -> Message:
    """Return the message of what was received, or raise a RefusalError."""
    check_size(len(event), host.settings.max_message)
    if isinstance(event, str):
        return read_text(event)
    if takes == "text":
        raise RefusalError("bad_message", "the model takes text: a JSON object, not bytes")
    return read_bytes(event, input_size, is_numbered)


async def _send(websocket: WebSocket, answer: dict[str, Any]) -> None:
    await websocket.send({"type": "websocket.send", "text": json.dumps(answer)})


async def _refuse(host: Host, websocket: WebSocket, error: Exception) -> None:
    """Tell the client what was refused; the session is as it was."""
    if not isinstance(error, RefusalError):
        error = RefusalError("bad_message", str(error))
    host.metrics.refusals.labels(error.code).inc()
    with contextlib.suppress(WebSocketDisconnect, RuntimeError, OSError):
        await _send(websocket, error.as_json())


async def _close(websocket: WebSocket, code: int, reason: str) -> None:
    with contextlib.suppress(WebSocketDisconnect, RuntimeError, OSError):
        await websocket.close(code, reason[:120])
