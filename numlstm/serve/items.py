"""Whole items over HTTP."""

import asyncio
import dataclasses
import io
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from numlstm.serve.guard import check_caller
from numlstm.serve.host import Host, Served
from numlstm.serve.messages import Message, bad, check_size, read_bytes, read_text, write_bytes
from numlstm.serve.refusals import GOING_AWAY, RefusalError
from numlstm.serve.talks.sound import RATE

_BYTES = "application/octet-stream"
_SOUNDS = {"audio/wav", "audio/x-wav", "audio/flac", "audio/ogg"}


async def run(request: Request) -> Response:
    """Answer an item: a JSON object with text, xs or ids; rows as bytes; or a sound file."""
    host: Host = request.app.state.host
    check_caller(host.settings, request.headers)
    if host.is_closing:
        raise RefusalError("closing", "the server ends", GOING_AWAY)
    served = host.model(request.path_params["name"])
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    body = await _body(request, host.settings.max_message)
    loop = asyncio.get_running_loop()
    answer = await loop.run_in_executor(host.thread, _answer, served, kind, body)
    if isinstance(answer, np.ndarray):
        if _BYTES in request.headers.get("accept", ""):
            return Response(write_bytes(answer), media_type=_BYTES)
        answer = {"ys": answer.tolist()}
    return JSONResponse({"answer": answer} if isinstance(answer, str) else _plain(answer))


async def _body(request: Request, most: int) -> bytes:
    """Return the body of a request, or raise a RefusalError as soon as it is too long."""
    parts = bytearray()
    async for part in request.stream():
        parts += part
        check_size(len(parts), most)
    return bytes(parts)


def _answer(served: Served, kind: str, body: bytes) -> Any:
    """Return what the pipeline answers, or the rows of the last layer."""
    talk: Any = served.talk
    model = talk.model
    if talk.input == "sound":
        if kind in _SOUNDS:
            return talk.pipe(io.BytesIO(body))
        message = _message(kind, body, 1)
        return talk.pipe((_rows(message.xs, "xs").ravel(), RATE))
    input_size = None if model.vocab_size is not None else model.input_size
    message = _message(kind, body, input_size)
    if talk.input == "text":
        if message.text is None:
            raise bad("the model takes text")
        return talk.pipe(message.text)
    if input_size is None:
        return model.run(_rows(message.ids, "ids"))
    return model.run(_rows(message.xs, "xs"))


def _message(kind: str, body: bytes, input_size: int | None) -> Message:
    if kind == _BYTES:
        return read_bytes(body, input_size)
    try:
        return read_text(body.decode())
    except UnicodeDecodeError as error:
        raise bad(f"the body is neither UTF-8 nor said to be bytes: {error}") from error


def _rows(rows: Any, name: str) -> Any:
    if rows is None:
        raise bad(f"the model takes {name}")
    return rows


def _plain(answer: Any) -> Any:
    """Return an answer of a pipeline as JSON has it."""
    if dataclasses.is_dataclass(answer) and not isinstance(answer, type):
        fields = dataclasses.fields(answer)
        return {field.name: _plain(getattr(answer, field.name)) for field in fields}
    if isinstance(answer, np.ndarray):
        return answer.tolist()
    if isinstance(answer, list | tuple):
        return [_plain(each) for each in answer]
    return answer
