"""What clients send: read strictly, before anything is made of it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numlstm.serve.refusals import TOO_BIG, RefusalError
from numlstm.strict_json import read_json

_FLOATS = np.dtype("<f4")
_IDS = np.dtype("<i4")
_COUNTER = np.dtype("<i8")

_FIELDS = {"text", "xs", "ids", "at", "finish", "reset", "end", "options"}


@dataclass(frozen=True)
class Message:
    """A message of a client.

    text, xs, ids    what it brings, at most one of them: text, rows or token ids
    at               how many steps the session has taken before it, if it says
    finish           whether the item is complete
    reset, end       whether the session begins anew, or is over
    options          of tasks that have some
    is_binary        whether rows came as bytes, and are answered so
    """

    text: str | None = None
    xs: NDArray[np.float32] | None = None
    ids: NDArray[np.int32] | None = None
    at: int | None = None
    finish: bool = False
    reset: bool = False
    end: bool = False
    options: dict[str, Any] | None = None
    is_binary: bool = False


def read_text(text: str) -> Message:
    """Return the message of a JSON text.

    Raises
    ------
    RefusalError
        If it is none.
    """
    try:
        fields = read_json(text)
    except ValueError as error:
        raise bad(f"the message is not JSON: {error}") from error
    if not isinstance(fields, dict):
        raise bad("the message is no JSON object")
    if unknown := fields.keys() - _FIELDS:
        raise bad(f"unknown fields: {', '.join(sorted(unknown))[:100]}")
    if len(fields.keys() & {"text", "xs", "ids"}) > 1:
        raise bad("a message brings text, xs or ids, one of them")
    given = fields.get("text")
    if given is not None and not isinstance(given, str):
        raise bad("text is no string")
    at = fields.get("at")
    if at is not None and (isinstance(at, bool) or not isinstance(at, int) or not 0 <= at < 2**62):
        raise bad("at is no number of steps")
    options = fields.get("options")
    if options is not None and not isinstance(options, dict):
        raise bad("options is no object")
    flags = {}
    for name in ("finish", "reset", "end"):
        flags[name] = fields.get(name, False)
        if not isinstance(flags[name], bool):
            raise bad(f"{name} is neither true nor false")
    xs = _numbers("xs", fields["xs"], np.float32) if "xs" in fields else None
    ids = _numbers("ids", fields["ids"], np.int32) if "ids" in fields else None
    return Message(given, xs, ids, at, **flags, options=options)


def _numbers(name: str, values: Any, dtype: type) -> NDArray[Any]:
    """Return numbers of JSON as an array; NumPy sees nothing that is no number."""
    kinds = (int,) if dtype is np.int32 else (int, float)
    if not isinstance(values, list):
        raise bad(f"{name} is no list")
    are_rows = dtype is np.float32 and bool(values) and isinstance(values[0], list)
    if are_rows and not all(isinstance(row, list) for row in values):
        raise bad(f"{name} holds something else than rows")
    if are_rows and len({len(row) for row in values}) > 1:
        raise bad(f"the rows of {name} have different lengths")
    flat = [number for row in values for number in row] if are_rows else values
    if not all(type(number) in kinds for number in flat):
        raise bad(f"{name} holds something else than numbers")
    if dtype is np.int32 and not all(-(2**31) <= number < 2**31 for number in flat):
        raise bad(f"{name} holds a number that is no token id")
    try:
        with np.errstate(over="ignore"):
            return np.array(values, np.float64).astype(dtype)
    except OverflowError:
        raise bad(f"{name} holds a number that is not finite") from None


def read_bytes(body: bytes, input_size: int | None, numbered: bool = False) -> Message:
    """Return the message of bytes: little-endian float32 rows, or int32 token ids.

    Parameters
    ----------
    body : bytes
        The rows, end to end.
    input_size : int or None
        Of a row; None for token ids.
    numbered : bool
        Whether an int64 stands before them: how many steps were taken before.

    Raises
    ------
    RefusalError
        If they are not rows.
    """
    at = None
    if numbered:
        if len(body) < _COUNTER.itemsize:
            raise bad("the message does not begin with the number of steps, an int64")
        at = int(np.frombuffer(body, _COUNTER, 1)[0])
        if at < 0:
            raise bad(f"at is {at}, no number of steps")
        body = body[_COUNTER.itemsize :]
    size = 4 * (input_size or 1)
    if len(body) % size:
        raise bad(f"the message has {len(body)} bytes, expected rows of {size}")
    if input_size is None:
        return Message(ids=np.frombuffer(body, _IDS).astype(np.int32), at=at, is_binary=True)
    xs = np.frombuffer(body, _FLOATS).astype(np.float32).reshape(-1, input_size)
    return Message(xs=xs, at=at, is_binary=True)


def write_bytes(ys: NDArray[np.float32], num_steps: int | None = None) -> bytes:
    """Return rows as bytes, behind how many steps were taken if that is given."""
    body = ys.astype(_FLOATS, copy=False).tobytes()
    return body if num_steps is None else np.array(num_steps, _COUNTER).tobytes() + body


def check_size(size: int, most: int) -> None:
    """Raise a RefusalError if a message has too many bytes."""
    if size > most:
        raise RefusalError("too_big", f"the message has {size} bytes, at most {most}", TOO_BIG)


def bad(message: str) -> RefusalError:
    """Return what says that a message makes no sense; the session is as it was."""
    return RefusalError("bad_message", message)
