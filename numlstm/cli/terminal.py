"""What the user sees while waiting."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
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
        with messages.status(escape(what)):
            yield
    finally:
        log.setLevel(level)
        log.removeHandler(handler)


def pipeline(task: str, model: str | os.PathLike[str], **options: Any) -> Any:
    """Load the pipeline of a task with `waiting`."""
    with waiting(f"loading {os.fspath(model)}"):
        return numlstm.pipeline(task, model, **options)


def load(name: str | os.PathLike[str]) -> numlstm.Model:
    """Load a model with `waiting`."""
    with waiting(f"loading {os.fspath(name)}"):
        return numlstm.load(name)


def load_parts(name: str | os.PathLike[str]) -> dict[str, numlstm.Model]:
    """Load the networks of a file with `waiting`."""
    with waiting(f"loading {os.fspath(name)}"):
        return numlstm.load_parts(name)
