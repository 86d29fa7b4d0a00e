"""Engines side by side on the same weights: outputs checked first, then timed in turns."""

import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bench import report
from bench.engines import PEERS
from bench.engines.cases import Case, make_inputs, make_tensors
from bench.engines.numlstm import network
from bench.measure import machine
from bench.measure.clock import clock_cost
from bench.measure.process import EngineProcess, last_cores
from numlstm import reference

NUM_CHECKED = 64  # calls; in a pool, streams times calls
_OTHER_CALLS = 0.4  # of the seconds: what explains a time needs less precision in its tail
_console = Console(stderr=True)

Quick = Annotated[bool, typer.Option(help="A smoke run: few sizes, short rounds.")]
Json = Annotated[
    Path | None,
    typer.Option("--json", help="Where to write [default: results/CPU/LEVEL/, nowhere if quick]."),
]
Cores = Annotated[
    list[int] | None, typer.Option("--core", help="Cores to pin to [default: the last].")
]
Threads = Annotated[int, typer.Option("--threads", min=1, help="Threads of each engine.")]
Engines = Annotated[
    list[str] | None, typer.Option("--engine", help="What to measure [default: all engines].")
]


@dataclass(frozen=True)
class Settings:
    """How a benchmark is run.

    benchmark   its name, that of its JSON
    seconds     of each of the rounds, of each engine
    path        where to write, or None to print
    """

    benchmark: str
    quick: bool
    path: Path | None
    cores: list[int]
    num_threads: int
    names: list[str]
    skipped: dict[str, str]
    rounds: int
    seconds: float


def settings(
    benchmark: str,
    quick: bool,
    path: Path | None,
    cores: list[int] | None,
    engines: list[str] | None,
    num_threads: int = 1,
    seconds: float = 0.15,
) -> Settings:
    """Return the settings of a command line, or raise what is wrong with it."""
    unknown = set(engines or ()) - PEERS.keys()
    if unknown:
        known = ", ".join(PEERS)
        raise typer.BadParameter(f"{', '.join(sorted(unknown))}: expected some of {known}")
    if cores and len(cores) < num_threads:
        raise typer.BadParameter(f"{len(cores)} cores, expected one for each of the threads")
    if path is None and not quick:
        suffix = f"_{num_threads}threads" if num_threads > 1 else ""
        path = report.RESULTS / machine.folder() / f"{benchmark}{suffix}.json"
    wanted = [name for name in PEERS if not engines or name in engines]
    skipped = {name: reason for name in wanted if (reason := PEERS[name].missing())}
    for name, reason in skipped.items():
        _console.print(f"skipped {name}: {reason}")
    return Settings(
        benchmark=benchmark,
        quick=quick,
        path=path,
        cores=cores or last_cores(num_threads),
        num_threads=num_threads,
        names=[name for name in wanted if name not in skipped],
        skipped=skipped,
        rounds=1 if quick else 3,
        seconds=0.05 if quick else seconds,
    )


def describe(how: Settings) -> dict[str, Any]:
    """Return how results were made: all of the JSON but the results."""
    return {
        "benchmark": how.benchmark,
        **machine.describe(),
        "settings": {
            "rounds": how.rounds,
            "seconds": how.seconds,
            "cores": how.cores,
            "num_threads": how.num_threads,
        },
        "clock_us": clock_cost(),
        "skipped": how.skipped,
        "left_out": [],
    }


def compare(cases: Sequence[Case], how: Settings) -> None:
    """Measure all engines on all cases and write the results.

    The engines' processes live side by side, one of them working at a time, and take turns in
    every round of a case: if the machine slows down, it does so for all.
    """
    results = describe(how)
    takers = {case: [name for name in how.names if PEERS[name].takes(case)] for case in cases}
    total = sum(map(len, takers.values())) * (1 + how.rounds)
    with ExitStack() as stack, _progress() as progress:
        task = progress.add_task("", total=total)
        processes: dict[str, EngineProcess] = {}

        def advance(description: str, by: int = 0) -> None:
            progress.update(task, description=description, advance=by)

        for names in takers.values():
            for name in names:
                if name not in processes:
                    advance(f"starting {name}")
                    process = EngineProcess(name, how.cores, how.num_threads)
                    processes[name] = stack.enter_context(process)
        results["cases"] = [
            _measure(
                case, {name: processes[name] for name in names}, how, advance, results["left_out"]
            )
            for case, names in takers.items()
        ]
    report.finish(results, how.path)


def _progress() -> Progress:
    columns = (TextColumn("{task.description:<44}"), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, TimeElapsedColumn(), console=_console)


def _measure(
    case: Case,
    processes: dict[str, EngineProcess],
    how: Settings,
    advance: Callable[..., None],
    left_out: list[str],
) -> dict[str, Any]:
    """Return the results of all engines on one case, of those whose numbers are right."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        advance(f"{case}: writing files")
        if not _console.is_terminal:  # where there is no bar
            _console.print(str(case))
        write_files(case, list(processes), folder)
        right = {}
        for name, process in processes.items():
            advance(f"{case}: loading {name}")
            if loads(process, case, folder, left_out):
                right[name] = process
            advance(f"{case}: loading {name}", 1)
    for _ in range(how.rounds):
        for name, process in right.items():
            advance(f"{case}: timing {name}")
            for call in process.calls:
                process.time(call, how.seconds * (1 if call == case.task else _OTHER_CALLS))
            advance(f"{case}: timing {name}", 1)
    engines = {
        name: process.facts | {call: process.summary(call) for call in process.calls}
        for name, process in right.items()
    }
    return asdict(case) | {"flops": case.flops, "engines": engines}


def loads(process: EngineProcess, case: Case, folder: Path, left_out: list[str]) -> bool:
    """Load a case; return whether it is to be measured, and say in ``left_out`` why it is not."""
    wrong = process.load(case, folder)
    if wrong:
        _console.print(f"left out: {wrong}")
        left_out.append(wrong)
    return not wrong


def write_files(case: Case, names: list[str], folder: Path) -> None:
    """Write the weights for each engine, and inputs with the outputs that all must give."""
    tensors = make_tensors(case)
    num_calls = 1 if case.is_anew else max(NUM_CHECKED // case.num_streams, 4)
    xs = make_inputs(case, num_calls)
    ys = np.zeros((num_calls, *case.output_shape))
    for stream in range(case.num_streams):
        # The steps of all calls, one after the other: (N * T, I), or ids (N * T,).
        rows = xs[:, :, stream].reshape(-1, *xs.shape[3:])
        answers, _ = reference.run(network(case), tensors, rows)
        ys[:, :, stream] = answers.reshape(num_calls, case.num_steps, -1)
    np.savez(folder / "check.npz", xs=xs, ys=ys)
    for peer in {PEERS[name].module: PEERS[name] for name in names}.values():
        peer.save(case, tensors, folder)
