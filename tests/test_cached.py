"""Properties that are found once, by processes that fork and threads that wait for nobody."""

import os
import threading

import pytest

from numlstm.cached import cached_property
from tests.conftest import ROOT, Python, output_of


class Slow:
    def __init__(self) -> None:
        self.found = 0
        self.is_in, self.goes_on = threading.Event(), threading.Event()

    @cached_property
    def answer(self) -> int:
        """What is asked for."""
        self.found += 1
        self.is_in.set()
        self.goes_on.wait(60)
        return 42


def test_a_property_is_found_once_and_kept():
    slow = Slow()
    slow.goes_on.set()
    assert (slow.answer, slow.answer, slow.found) == (42, 42, 1)
    assert Slow.answer.__doc__ == "What is asked for."


FORK = """
import os, signal, threading
from tests.test_cached import Slow
slow, other = Slow(), Slow()
other.goes_on.set()
thread = threading.Thread(target=lambda: slow.answer)
thread.start()
slow.is_in.wait()
child = os.fork()
if child == 0:
    signal.alarm(30)
    os._exit(0 if other.answer == 42 else 1)
slow.goes_on.set()
thread.join()
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no process is forked here")
def test_a_process_forked_while_a_thread_finds_one_does_not_wait_for_it(python: Python):
    """The lock of Python 3.11's own would be held in the child for ever."""
    assert output_of(python("-W", "ignore", "-c", FORK)) == "0\n"


def test_the_package_has_no_other():
    files = [path for path in (ROOT / "numlstm").rglob("*.py") if path.name != "cached.py"]
    assert not [path for path in files if "from functools import cached_prop" in path.read_text()]
