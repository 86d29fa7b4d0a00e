"""What this CPU is found to have."""

from pathlib import Path

import pytest

from numlstm.kernels import cpu
from numlstm.machine import instructions
from numlstm.machine.instructions import found, identity, machine

# As Linux names them; the others are named alike.
LINUX_NAMES = {"bmi": "bmi1", "lzcnt": "abm", "avx512vnni": "avx512_vnni", "avxvnni": "avx_vnni"}


@pytest.mark.skipif(machine() != "x86_64", reason="asks an x86-64")
def test_the_cpu_is_found_to_have_what_linux_says_it_has():
    info = Path("/proc/cpuinfo")
    if not info.exists():
        pytest.skip("only Linux lists what a CPU has")
    flags = next(line for line in info.read_text().splitlines() if line.startswith("flags"))
    told = set(flags.split())
    asked = set().union(*(level.needs for level in cpu.LEVELS if level.machine == "x86_64"))
    assert found() == {name for name in asked if LINUX_NAMES.get(name, name) in told}


def test_the_identity_of_a_cpu_is_the_same_on_all_its_cores():
    assert identity() == identity.__wrapped__()
    assert len(identity()) == 12


@pytest.mark.skipif(machine() != "x86_64", reason="asks an x86-64")
def test_where_no_memory_may_be_executable_nothing_is_found(monkeypatch):
    def refused():
        raise OSError("this system refuses to make memory executable")

    monkeypatch.setattr(instructions, "_page", refused)
    assert found.__wrapped__() == frozenset()
