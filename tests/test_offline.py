"""Nothing is asked of a network: not by the package, nor by what it calls, down to the system."""

import pytest

import numlstm
from tests.conftest import Python, output_of

# Python tells a hook of each use of a socket; below it the system ends a process that opens one to
# anywhere (socket(2) of AF_INET or AF_INET6): libraries written in C are not told of in Python.
FORBID = """
import ctypes, platform, struct, sys

def forbid(event, arguments):
    if event.startswith("socket."):
        raise AssertionError(f"{event}{arguments}")
sys.addaudithook(forbid)

def only_local_sockets():
    call = {"x86_64": 41, "aarch64": 198}[platform.machine()]
    load, equal, answer = 0x20, 0x15, 0x06
    program = b"".join(struct.pack("HBBI", *line) for line in (
        (load, 0, 0, 0), (equal, 0, 4, call),           # another call: allowed
        (load, 0, 0, 16), (equal, 1, 0, 2), (equal, 0, 1, 10),
        (answer, 0, 0, 0x80000000), (answer, 0, 0, 0x7FFF0000),  # kill, allow
    ))
    code = ctypes.create_string_buffer(program)
    head = struct.pack("HxxxxxxQ", len(program) // 8, ctypes.addressof(code))
    libc = ctypes.CDLL(None)
    return libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, head, 0, 0) == 0

if sys.platform == "linux" and platform.machine() in ("x86_64", "aarch64"):
    print("enforced" if only_local_sockets() else "refused")
else:
    print("elsewhere")
"""

EACH_MODEL = """
import numlstm
for name in sorted(numlstm.bundled()):
    print(name, len(numlstm.load_parts(name)))
print(numlstm.load("sentiment").verify())
numlstm.load("sentiment").save(sys.argv[1])
numlstm.load(sys.argv[1])
print(numlstm.pipeline("sentiment")("The movie was not good.").label)
numlstm.diagnose()
"""

COMMAND = """
import sys
sys.argv[0] = "numlstm"
from numlstm.cli import main
main()
"""


def test_what_is_forbidden_is_noticed(python: Python):
    """Else the tests below show nothing."""
    open_one = "import _socket; _socket.socket(2, 1, 0)"
    process = python("-c", f"{FORBID}\n{open_one}")
    assert "socket.__new__" in process.communicate()[1]
    assert process.returncode == 1
    in_c = "sys.stdout.flush(); ctypes.CDLL(None).socket(2, 1, 0); print('opened')"
    process = python("-c", f"{FORBID}\n{in_c}")
    said = process.communicate()[0].split()
    if said[0] != "enforced":
        pytest.skip("this system takes no filter of calls")
    assert "opened" not in said
    assert process.returncode < 0


def test_loading_and_running_every_bundled_model_asks_no_network(python: Python, tmp_path):
    out = output_of(python("-c", FORBID + EACH_MODEL, str(tmp_path / "x.safetensors")))
    assert out.splitlines()[-1] == "negative"
    assert len(out.splitlines()) == 3 + len(numlstm.bundled())


@pytest.mark.parametrize(
    "arguments",
    [
        ("list",), ("doctor",), ("info", "sentiment"), ("verify", "sentiment"),
        ("classify", "Good."), ("generate", "The", "--max-tokens", "3"), ("score", "A sentence."),
    ],
    ids=lambda arguments: arguments[0],
)  # fmt: skip
def test_commands_ask_no_network(python: Python, arguments):
    out = output_of(python("-c", FORBID + COMMAND, *arguments))
    assert len(out.splitlines()) > 1


@pytest.mark.parametrize("module", ["torch", "keras", "onnx"])
def test_what_reads_foreign_files_asks_no_network(python: Python, module):
    """The frameworks are not imported for it: what they ask is their own."""
    assert output_of(python("-c", f"{FORBID}\nimport numlstm.convert.{module}"))
