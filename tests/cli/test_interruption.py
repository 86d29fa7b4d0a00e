"""Ctrl-C ends a command at once, with exit code 130 and without a traceback."""

import signal
import subprocess
import sys

import pytest

from tests.conftest import PATIENCE

MAIN = """
import signal
signal.signal(signal.SIGINT, signal.{handler})  # as in a terminal, or in the background
from numlstm.cli import main
main()
"""


def begun(handler: str, folder) -> subprocess.Popen[str]:
    """Return a command that has answered the first of many lines."""
    texts = folder / "texts"
    texts.write_text("The movie was not good at all.\n" * 200_000)
    command = [sys.executable, "-c", MAIN.format(handler=handler)]
    process = subprocess.Popen(
        [*command, "classify", "--file", str(texts)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert "negative" in process.stdout.readline()
    return process


@pytest.mark.long
@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends Ctrl-C to a console")
@pytest.mark.parametrize("count", [1, 3])
def test_an_interrupted_command_ends_quietly(tmp_path, count):
    with begun("default_int_handler", tmp_path) as process:
        for _ in range(count):
            process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert errors == ""


@pytest.mark.long
@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends Ctrl-C to a console")
def test_a_command_in_the_background_ignores_it(tmp_path):
    with begun("SIG_IGN", tmp_path) as process:
        process.send_signal(signal.SIGINT)
        assert process.stdout is not None
        assert "negative" in process.stdout.readline()
        assert process.poll() is None
        process.kill()
        process.communicate(timeout=PATIENCE)
