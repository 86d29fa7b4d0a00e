"""The levels, and what this CPU is found to have."""

import os
from pathlib import Path

import pytest

from numlstm.kernels import cpu
from numlstm.kernels.instructions import found, machine

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


def test_the_best_level_that_fits_is_chosen():
    fitting = [level for level in cpu.LEVELS if cpu.fits(level)]
    assert fitting[0] == cpu.LEVEL or "NUMLSTM_LEVEL" in os.environ
    for name in ("x86_64", "aarch64"):
        needs = [level.needs for level in cpu.LEVELS if level.machine == name]
        assert needs[-1] == frozenset()
        assert all(not a <= b for n, b in enumerate(needs) for a in needs[:n])
