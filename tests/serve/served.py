"""Servers for tests, in a thread or in a process of their own."""

import contextlib
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

from tests.conftest import PATIENCE


@contextlib.contextmanager
def server(*arguments: str, environment: dict[str, str] | None = None) -> Iterator[tuple[Any, str]]:
    """Run ``numlstm serve``: the process, and its address without http."""
    command = [sys.executable, "-m", "numlstm", "serve", *arguments, "--port", "0"]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | (environment or {}),
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.fullmatch(r"numlstm: http://(.*)/\n", line)
        if found is None:
            process.kill()
            raise AssertionError(line + process.communicate()[1])
        yield process, found[1]
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


def wait_until(condition: Any) -> None:
    """Wait for something that a server does in a moment."""
    until = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < until
        threading.Event().wait(0.01)
