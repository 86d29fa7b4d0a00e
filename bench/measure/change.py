"""``python -m bench change``: two checkouts side by side, before a change and after it."""

import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Side:
    """A checkout, and what its processes find in their environment beside the rest."""

    checkout: Path
    environment: dict[str, str]

    def __str__(self) -> str:
        """Return the commit and the variables."""
        command = ["git", "-C", str(self.checkout), "describe", "--always", "--dirty"]
        found = subprocess.run(command, capture_output=True, text=True, check=False)
        variables = [f"{name}={value}" for name, value in self.environment.items()]
        return ", ".join([found.stdout.strip() or self.checkout.name, *variables])


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
    before_env: Annotated[
        list[str] | None,
        typer.Option(help="NAME=VALUE, a variable of the environment before, any number of times."),
    ] = None,
    after_env: Annotated[list[str] | None, typer.Option(help="And after it.")] = None,
) -> None:
    """Measure two versions of numlstm: calls from Python, loading, start-up and memory."""
    sides = {
        "before": Side(before.resolve(), _variables("--before-env", before_env)),
        "after": Side(after.resolve(), _variables("--after-env", after_env)),
    }
    for name, side in sides.items():
        if not (side.checkout / "numlstm").is_dir():
            raise typer.BadParameter(f"--{name}: there is no numlstm in {side.checkout}")
    core = last_core() if core is None else core
    if core is not None:
        os.sched_setaffinity(0, {core})  # the commands inherit it
    rounds, seconds = (1, 0.01) if quick else (rounds, 0.1)
    versions = {name: str(side) for name, side in sides.items()}
    results: dict[str, Any] = {
        "benchmark": "change",
        **machine.describe(),
        # No path of a machine.
        "command": f"python -m bench change --before {versions['before']}",
        "settings": {"core": core, "rounds": rounds, "turns": _TURNS, "seconds": seconds},
        "commits": versions,
    }
    found: Found = {}
    todo = track(range(rounds), "rounds", console=Console(stderr=True), transient=True)
    for n in todo:
        turn = dict(reversed(sides.items()) if n % 2 else sides.items())
        for what, unit, name, value in _round(turn, [] if core is None else [core], quick, seconds):
            found.setdefault((what, unit), {side: [] for side in sides})[name].append(value)
    results["found"] = [
        {"what": what, "unit": unit, **values} for (what, unit), values in found.items()
    ]
    report.finish(results, json_path)


def _variables(option: str, given: list[str] | None) -> dict[str, str]:
    pairs = [text.partition("=") for text in given or ()]
    for name, equals, _ in pairs:
        if not name or not equals:
            raise typer.BadParameter(f"{option}: {name}{equals} is not NAME=VALUE")
    return {name: value for name, _, value in pairs}


def _process(side: Side, cores: list[int]) -> Process:
    return Process(str(side.checkout), _WORKER, cores, environment=side.environment)


def _round(
    sides: dict[str, Side], cores: list[int], quick: bool, seconds: float
) -> Iterator[tuple[str, str, str, float]]:
    """Yield what is measured, its unit, the side and the value; the sides take turns."""
    with tempfile.TemporaryDirectory() as folder:
        with ExitStack() as stack:
            processes = {
                name: stack.enter_context(_process(side, cores)) for name, side in sides.items()
            }
            for what in list(TIMED)[:: 8 if quick else 1]:
                for name, process in [*processes.items()] * _TURNS:
                    yield what, "us", name, process.ask(time=what, seconds=seconds)
            for name, process in processes.items():
                process.ask(save=f"{folder}/{name}.safetensors")
        for dtype in DTYPES[-1:] if quick else DTYPES:
            for name, side in sides.items():
                with _process(side, cores) as process:
                    taken = process.ask(load=f"{folder}/{name}.safetensors", dtype=dtype)
                if taken["model"] is not None:
                    yield "memory of the import", "MB", name, taken["import"] / 1e6
                    yield f"memory of LSTM 2 x 1024 {dtype}", "MB", name, taken["model"] / 1e6
    for what in list(_COMMANDS)[: 1 if quick else None]:
        for name, side in sides.items():
            yield what, "s of CPU", name, _cpu_seconds(_COMMANDS[what], side)


def _cpu_seconds(command: list[str], side: Side) -> float:
    """Return the time that Python with these arguments spends on the CPU, its children's too."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, *command],
        cwd=side.checkout,
        env=os.environ | {"PYTHONPATH": str(side.checkout)} | side.environment,
        stdout=subprocess.DEVNULL,
        check=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 6)
