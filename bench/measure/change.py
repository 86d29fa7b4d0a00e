"""``python -m bench change``: two checkouts side by side, before a change and after it."""

import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import track

from bench import report
from bench.measure import machine
from bench.measure.change_worker import DTYPES, TIMED
from bench.measure.compare import Quick
from bench.measure.process import ROOT, Process, last_core

_TURNS = 5  # of each version at each call, in a round
_WORKER = "bench.measure.change_worker"
_COMMANDS = {
    "import numlstm": ["-c", "import numlstm"],
    "numlstm --help": ["-m", "numlstm", "--help"],
    "pytest --collect-only tests": [
        "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", "tests",
    ],
}  # fmt: skip

# By what is measured and its unit: what was found before, and after.
Found = dict[tuple[str, str], dict[str, list[float]]]


def change(
    before: Annotated[Path, typer.Option(help="A checkout of the version before the change.")],
    after: Annotated[Path, typer.Option(help="And after it.", show_default="this one")] = ROOT,
    quick: Quick = False,
    json_path: Annotated[
        Path | None, typer.Option("--json", help="Where to write [default: nowhere].")
    ] = None,
    core: Annotated[
        int | None, typer.Option(help="The core to pin to [default: the last].")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Of processes of each version.")] = 3,
) -> None:
    """Measure two versions of numlstm: calls from Python, loading, start-up and memory."""
    sides = {"before": before.resolve(), "after": after.resolve()}
    for side, checkout in sides.items():
        if not (checkout / "numlstm").is_dir():
            raise typer.BadParameter(f"--{side}: there is no numlstm in {checkout}")
    core = last_core() if core is None else core
    if core is not None:
        os.sched_setaffinity(0, {core})  # the commands inherit it
    rounds, seconds = (1, 0.01) if quick else (rounds, 0.1)
    commits = {side: _commit(checkout) for side, checkout in sides.items()}
    results: dict[str, Any] = {
        "benchmark": "change",
        **machine.describe(),
        "command": f"python -m bench change --before {commits['before']}",  # no path of a machine
        "settings": {"core": core, "rounds": rounds, "turns": _TURNS, "seconds": seconds},
        "commits": commits,
    }
    found: Found = {}
    todo = track(range(rounds), "rounds", console=Console(stderr=True), transient=True)
    for n in todo:
        turn = dict(reversed(sides.items()) if n % 2 else sides.items())
        for what, unit, side, value in _round(turn, [] if core is None else [core], quick, seconds):
            found.setdefault((what, unit), {side: [] for side in sides})[side].append(value)
    results["found"] = [
        {"what": what, "unit": unit, **values} for (what, unit), values in found.items()
    ]
    report.finish(results, json_path)


def _commit(checkout: Path) -> str:
    command = ["git", "-C", str(checkout), "describe", "--always", "--dirty"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return found.stdout.strip() or checkout.name


def _round(
    sides: dict[str, Path], cores: list[int], quick: bool, seconds: float
) -> Iterator[tuple[str, str, str, float]]:
    """Yield what is measured, its unit, the side and the value; the sides take turns."""
    with tempfile.TemporaryDirectory() as folder:
        with ExitStack() as stack:
            processes = {
                side: stack.enter_context(Process(str(checkout), _WORKER, cores))
                for side, checkout in sides.items()
            }
            for name in list(TIMED)[:: 5 if quick else 1]:
                for side, process in [*processes.items()] * _TURNS:
                    yield name, "us", side, process.ask(time=name, seconds=seconds)
            for side, process in processes.items():
                process.ask(save=f"{folder}/{side}.safetensors")
        for dtype in DTYPES[-1:] if quick else DTYPES:
            for side, checkout in sides.items():
                with Process(str(checkout), _WORKER, cores) as process:
                    taken = process.ask(load=f"{folder}/{side}.safetensors", dtype=dtype)
                if taken["model"] is not None:
                    yield "memory of the import", "MB", side, taken["import"] / 1e6
                    yield f"memory of LSTM 2 x 1024 {dtype}", "MB", side, taken["model"] / 1e6
    for name in list(_COMMANDS)[: 1 if quick else None]:
        for side, checkout in sides.items():
            yield name, "s of CPU", side, _cpu_seconds(_COMMANDS[name], checkout)


def _cpu_seconds(command: list[str], checkout: Path) -> float:
    """Return the time that Python with these arguments spends on the CPU, its children's too."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, *command],
        cwd=checkout,
        env=os.environ | {"PYTHONPATH": str(checkout)},
        stdout=subprocess.DEVNULL,
        check=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 6)
