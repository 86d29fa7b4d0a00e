"""The levels, in their order."""

import os

import pytest

from numlstm.kernels import cpu


def test_the_best_level_that_fits_is_chosen():
    fitting = [level for level in cpu.LEVELS if cpu.fits(level)]
    assert fitting[0] == cpu.LEVEL or os.environ.get("NUMLSTM_LEVEL")
    assert not [level for level in cpu.better_levels() if level in fitting]


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_levels_stand_in_an_order_in_which_the_first_that_fits_is_the_best(machine):
    needs = [level.needs for level in cpu.LEVELS if level.machine == machine]
    assert needs[-1] == frozenset()
    assert all(not a <= b for n, b in enumerate(needs) for a in needs[:n])
