"""Images of kernels: whole or refused, called with what they do not take, one per level."""

import ctypes
import hashlib
import json
import threading

import numpy as np
import pytest

from numlstm.kernels import cpu, entry
from numlstm.kernels.addresses import COMPILED
from numlstm.kernels.plan import NUM_COLUMNS, WRONG_ARRAY
from numlstm.machine.executable import executable
from numlstm.machine.image import Image, ImageError
from tests.conftest import Python, output_of

pytestmark = pytest.mark.skipif(not COMPILED, reason="the kernels run as Python")


@pytest.fixture(scope="module")
def image() -> Image:
    entry.walker()
    found = entry.find().image
    assert found is not None
    return found


def test_a_file_is_read_as_it_was_written(image):
    assert Image.from_bytes(image.to_bytes()) == image
    assert cpu.LEVEL.name == image.level


@pytest.mark.parametrize("at", [0, 20, 60, 100, -1])
def test_a_changed_byte_is_found(image, at):
    data = bytearray(image.to_bytes())
    data[at] ^= 1
    with pytest.raises(ImageError, match="no file of kernels" if at == 0 else "damaged"):
        Image.from_bytes(bytes(data))


@pytest.mark.parametrize("size", [0, 10, 47, 52, 500])
def test_a_file_cut_short_is_found(image, size):
    with pytest.raises(ImageError):
        Image.from_bytes(image.to_bytes()[:size])


@pytest.mark.parametrize("head", [b"{}", b"[]", b"7", b"{", b"\xff", b'{"kernels": 3}'])
def test_a_file_of_another_version_is_found(head):
    body = len(head).to_bytes(4, "little") + head + b"code"
    with pytest.raises(ImageError, match="another version"):
        Image.from_bytes(b"numlstm kernels\0" + hashlib.sha256(body).digest() + body)


HEAD = {
    "level": "x86-64-v3", "target": "", "sources": "", "entries": {"": 0}, "imports": {"f": 8},
}  # fmt: skip


@pytest.mark.parametrize(
    "changed",
    [
        {"level": 3}, {"entries": []}, {"entries": {}}, {"entries": {"": 16}},
        {"entries": {"": -1}}, {"entries": {"": "0"}}, {"imports": None}, {"imports": {"f": 9}},
        {"imports": {"f": 1.0}},
    ],
)  # fmt: skip
def test_a_place_outside_of_the_code_is_found(changed):
    """Whoever makes a file can make its checksum: only its own code is called, or written to."""
    assert image_of(json.dumps(HEAD)).imports == {"f": 8}
    with pytest.raises(ImageError, match="a place is not in its code"):
        image_of(json.dumps(HEAD | changed))


def test_a_head_of_lists_in_lists_is_refused():
    with pytest.raises(ImageError, match="another version"):
        image_of("[" * 10**5)


def image_of(head: str) -> Image:
    body = len(head).to_bytes(4, "little") + head.encode() + bytes(16)
    return Image.from_bytes(b"numlstm kernels\0" + hashlib.sha256(body).digest() + body)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ((), TypeError),
        ((1, 2, 3, 4), TypeError),
        ((1, 2, 3, 4, 5, 6), TypeError),
        (("1", 2, 3, 4, 5), TypeError),
        ((1, None, 3, 4, 5), TypeError),
        ((1, 2, 3.0, 4, 5), TypeError),
        ((2**63, 2, 3, 4, 5), OverflowError),
    ],
)
def test_what_the_walker_does_not_take_is_an_error(arguments, error):
    with pytest.raises(error):
        entry.walker()(*arguments)


def test_minus_one_is_an_integer_like_others():
    """The C API answers -1 for an error too: it must be told apart from the number."""
    plan = np.zeros(2 * NUM_COLUMNS, np.int64)
    assert entry.walker()(plan.ctypes.data, -1, -1, None, None) == WRONG_ARRAY


def test_the_walker_lets_other_threads_run(float_model):
    """A second thread counts on while the first is in the kernel."""
    xs = np.zeros((200_000, float_model.network.input_size), np.float32)
    counted, done = 0, threading.Event()

    def count() -> None:
        nonlocal counted
        while not done.is_set():
            counted += 1

    thread = threading.Thread(target=count)
    thread.start()
    before = counted
    float_model.run(xs)
    after = counted
    done.set()
    thread.join()
    assert after > before


def test_memory_is_executable_and_not_writable():
    code = bytes.fromhex("b82a000000c3" if cpu.LEVEL.machine == "x86_64" else "40058052c0035fd6")
    at = executable(code)
    assert at % 4096 == 0
    assert ctypes.CFUNCTYPE(ctypes.c_int)(at)() == 42
    try:
        with open("/proc/self/maps") as file:  # noqa: PTH123
            lines = file.read().splitlines()
    except OSError:
        pytest.skip("only Linux tells how memory is mapped")
    spans = [line.split()[:2] for line in lines]
    rights = [
        right
        for span, right in spans
        if int(span.split("-")[0], 16) <= at < int(span.split("-")[1], 16)
    ]
    assert rights == ["r-xp"]


def test_the_code_outlives_the_modules(python: Python):
    """A thread may be in it as the interpreter ends, and objects that end may call it."""
    code = """
import os, sys
from numlstm.kernels import entry
from numlstm.machine import executable
class Last:
    def __del__(self, run=entry.walker(), write=os.write):
        try:
            run()
        except TypeError:
            write(1, b"refused")
sys.last = Last()
"""
    assert output_of(python("-c", code)) == "refused"
