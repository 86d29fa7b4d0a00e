"""A small file takes little of the machine: it is refused before it takes more, or it is fast."""

import json
import subprocess
import sys

import pytest

from tests.bombs import BOMBS, MEMORY, SECONDS
from tests.conftest import PATIENCE, ROOT


@pytest.mark.long
def test_small_files_take_seconds_and_little_memory_and_say_what_is_too_much() -> None:
    command = [sys.executable, "-m", "tests.bombs"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, (lines[-1:], done.stderr[-2000:])
    wrong = []
    for begun, ended in zip(lines[::2], lines[1::2], strict=True):
        said, expected = ended["said"], BOMBS[begun["name"]][1]
        as_expected = said is None if expected is None else expected in (said or "")
        as_expected &= len(said or "") < 50_000
        if not as_expected or ended["seconds"] > SECONDS or ended["memory"] > MEMORY:
            wrong.append(f"{begun['name']}: {str(ended)[:300]}, expected {expected!r}")
    assert not wrong, "\n".join(wrong)
    assert len(lines) == 2 * len(BOMBS)
