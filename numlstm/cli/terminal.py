"""What the user sees while waiting."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from rich.console import Console
from rich.markup import escape

import numlstm

console = Console(highlight=False, soft_wrap=True)
messages = Console(stderr=True, highlight=False, soft_wrap=True)


class _Messages(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        messages.print(f"numlstm: {record.getMessage()}", style="dim", markup=False)


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Show a spinner on a terminal, and what the engine says: that it compiles, and how long."""
    log = logging.getLogger("numlstm")
    handler = _Messages()
    log.addHandler(handler)
    level = log.level
    log.setLevel(logging.INFO)
    try:
        # A spinner takes 15 ms to import.
        with messages.status(escape(what)) if messages.is_terminal else nullcontext():
            yield
    finally:
        log.setLevel(level)
        log.removeHandler(handler)


def pipeline(task: str, model: str | os.PathLike[str], **options: Any) -> Any:
    """Load the pipeline of a task with `waiting`."""
    # Threads of NumPy take 70 ms of CPU to begin, on two cores, and no task has work for them.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    with waiting(f"loading {os.fspath(model)}"):
        return numlstm.pipeline(task, model, **options)


def load_parts(name: str | os.PathLike[str]) -> "dict[str, numlstm.Model]":
    """Load the networks of a file with `waiting`."""
    with waiting(f"loading {os.fspath(name)}"):
        return numlstm.load_parts(name)


def load(name: str | os.PathLike[str], part: str | None = None) -> "numlstm.Model":
    """Load a network of a file, the only one if none is named, with `waiting`."""
    parts = load_parts(name)
    if part is None and len(parts) == 1:
        return next(iter(parts.values()))
    if set(parts) == {""}:
        raise ValueError(f"{os.fspath(name)} has one network, without a name: leave --part out")
    if part not in parts:
        what = "several networks" if part is None else f"no network {part!r}"
        raise ValueError(f"{os.fspath(name)} has {what}: choose one by --part, {', '.join(parts)}")
    return parts[part]
