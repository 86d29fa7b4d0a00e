"""What no mutated file has reached: libFuzzer sees which lines a case runs, and goes on from it.

    python -m tests.fuzz guided --minutes 60
    python -m tests.fuzz.files READER FILE            a find again: the file that was kept

It takes atheris (``pip install atheris``, or the extra ``fuzz``), and where that is not installed
the campaign says so. Readers, seeds and promises are those of `files`; a case may take 60 s, and
2 GB. A process at a time has a reader for a minute, and leaves what led on for its next turn.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

from tests.conftest import ROOT
from tests.fuzz import Clock, Figures, Found, Missing
from tests.fuzz.readers import READERS, seeds

_GUIDED = [name for name in READERS if name != "command"]  # most of it is the code of others
_TURN = 60.0  # seconds; a shorter campaign gives each reader its share
_SHORTEST = 4.0
_RUNS = 10_000
_LARGEST = 100_000  # bytes of a case


def run(clock: Clock, seed: int) -> Figures:
    """Lead every reader in turn; one with a find is left alone, and told at the end."""
    if find_spec("atheris") is None:
        raise Missing("it takes atheris: pip install atheris")
    figures, finds = Figures(), {}
    kept = Path(tempfile.mkdtemp(prefix="numlstm-finds-"))
    seconds = min(_TURN, max(clock.seconds / len(_GUIDED), _SHORTEST))
    for name in _GUIDED:
        (kept / name).mkdir()
        for n, data in enumerate(seeds(name)):
            (kept / name / f"seed{n}").write_bytes(data)
    turn = seed
    while not clock.is_over() and len(finds) < len(_GUIDED):
        name, turn = _GUIDED[turn % len(_GUIDED)], turn + 1
        if name in finds:
            continue
        count = sum(clock.ticks() for _ in range(_RUNS))
        done, found = _lead(name, kept, count, seconds, seed + turn)
        figures[name] += done
        if found:
            finds[name] = found
    if finds:
        told = [f"{name}: {found}" for name, found in finds.items()]
        raise Found("\n".join([f"{figures}; finds, in {kept}:", *told]))
    shutil.rmtree(kept)
    return figures


def _lead(name: str, kept: Path, count: int, seconds: float, seed: int) -> tuple[int, str]:
    """Return how many cases a reader was given, and what the last one was if it is a find."""
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.fuzz._guide", name, f"-runs={count}",
         f"-max_total_time={seconds:.0f}", f"-seed={seed % 2**31 + 1}", "-timeout=60",
         "-rss_limit_mb=0", f"-max_len={_LARGEST}", "-print_final_stats=1", "-verbosity=0",
         f"-artifact_prefix={kept}/{name}-", str(kept / name)],
        cwd=ROOT,
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1", "TMPDIR": str(kept)},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
    )  # fmt: skip
    stated = re.findall(r"number_of_executed_units: (\d+)", ended.stdout)
    told = [line for line in ended.stdout.splitlines() if not line.startswith(("INFO", "WARN"))]
    found = "\n".join(told[-60:]) if ended.returncode else ""
    return int(stated[-1]) if stated else 0, found
