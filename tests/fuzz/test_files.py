"""The campaign of files itself: cases come back, a process may die, every seed is valid."""

import json
import os
import signal

import pytest

from tests.conftest import Python, output_of
from tests.fuzz.files import _Worker
from tests.fuzz.readers import case

READ_SEEDS = """
import json, tempfile
from pathlib import Path
from random import Random
from tests.fuzz.readers import READERS, reader, seeds

with tempfile.TemporaryDirectory() as folder:
    found = {
        f"{name} {n}": reader(name).read(data, Path(folder), Random(1))
        for name in READERS
        if name != "command"  # whose words name a file that is made with each case
        for n, data in enumerate(seeds(name))
    }
print(json.dumps(found))
"""


@pytest.mark.parametrize("name", ["model", "network", "function", "image"])
def test_a_seed_and_an_index_give_a_case_again(name):
    for index in range(20):
        (data, random), (again, same) = case(name, 7, index), case(name, 7, index)
        assert data == again
        assert random.random() == same.random()


@pytest.mark.long
def test_a_process_that_dies_is_a_find_and_another_one_goes_on(tmp_path):
    worker = _Worker(1, tmp_path)
    try:
        assert sum(worker.read("function", 0, 5)["outcomes"].values()) == 5
        assert worker._process is not None
        os.kill(worker._process.pid, signal.SIGSEGV)
        found = worker.read("function", 5, 6)
        assert found["found"] == "died of SIGSEGV"
        assert sum(worker.read("function", 5, 9)["outcomes"].values()) == 4
    finally:
        worker.close()


@pytest.mark.long
def test_what_all_cases_are_made_of_can_be_read(python: Python):
    """Or changes of it would be refused for another reason than the change."""
    found = json.loads(output_of(python("-W", "ignore", "-c", READ_SEEDS)).splitlines()[-1])
    assert len(found) > 75
    assert [name for name, outcome in found.items() if outcome == "refused"] == []
