"""Servers of others that tests need: each started once, and ended with the tests."""

import atexit
import os
import shutil
import subprocess
import tempfile
import time
from functools import cache
from pathlib import Path

import pytest

from tests.conftest import PATIENCE


def program(*names: str) -> str:
    """Return the first of some programs that is installed; skip the test if none is.

    Where NUMLSTM_SERVICES is "required", as in the gate, the test fails instead.
    """
    for name in names:
        if found := shutil.which(name):
            return found
    reason = f"{names[0]} is not installed"
    if os.environ.get("NUMLSTM_SERVICES") == "required":
        pytest.fail(reason)
    pytest.skip(reason)


@cache
def redis_server() -> str:
    """Return the address of a server that writes each command to the disk before it answers."""
    pytest.importorskip("redis")
    command = program("redis-server", "valkey-server")
    folder = Path(tempfile.mkdtemp(prefix="numlstm-redis-"))
    socket = folder / "socket"
    options = {
        "port": "0",
        "unixsocket": str(socket),
        "dir": str(folder),
        "save": "",
        "appendonly": "yes",
        "appendfsync": "always",
    }
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    process = subprocess.Popen([command, *words], stdout=subprocess.DEVNULL)

    def end() -> None:
        process.kill()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)

    atexit.register(end)
    until = time.monotonic() + PATIENCE
    while not socket.exists():
        assert process.poll() is None, "redis-server ended at once"
        assert time.monotonic() < until
        time.sleep(0.01)
    return f"unix://{socket}"
