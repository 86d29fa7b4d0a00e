"""``python -m bench step``: one step of a stream, beside other engines on the same weights."""

import json
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bench import machine, report, step_report
from bench.cases import SIZES, Case, make_inputs, make_tensors
from bench.clock import clock_cost
from bench.engines import PEERS
from bench.engines.numlstm import network
from bench.process import EngineProcess, last_core
from numlstm import reference

NUM_STEPS = 64  # that are checked, and that one call of `run` takes
_QUICK_SIZES = (16, 128)

_console = Console(stderr=True)


def step(
    quick: Annotated[bool, typer.Option(help="A smoke run: two sizes, short rounds.")] = False,
    json_path: Annotated[
        Path | None,
        typer.Option("--json", help="Where to write [default: results/step.json, none if quick]."),
    ] = None,
    core: Annotated[
        int | None, typer.Option(help="The core to pin the engines to [default: the last].")
    ] = None,
) -> None:
    """Compare one step of a stream with PyTorch, ONNX Runtime and NumPy."""
    if json_path is None and not quick:
        json_path = report.RESULTS / "step.json"
    settings: dict[str, Any] = {
        "rounds": 1 if quick else 3,
        "seconds": 0.05 if quick else 0.5,
        "core": last_core() if core is None else core,
    }
    results = {"benchmark": "step", **machine.describe(), "settings": settings}
    results["clock_us"] = clock_cost()
    results["skipped"] = skipped = {
        name: reason for name, peer in PEERS.items() if (reason := peer.missing())
    }
    for name, reason in skipped.items():
        _console.print(f"skipped {name}: {reason}")
    names = [name for name in PEERS if name not in skipped]
    sizes = _QUICK_SIZES if quick else SIZES
    cases = [Case(cell, size, n) for cell, n, size in product(("LSTM", "GRU"), (1, 2), sizes)]
    columns = (TextColumn("{task.description:<44}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=_console) as progress:
        task = progress.add_task("", total=len(cases) * len(names) * (1 + settings["rounds"]))

        def advance(description: str, by: int = 0) -> None:
            progress.update(task, description=description, advance=by)

        results["cases"] = [_measure(case, names, settings, advance) for case in cases]
    if json_path is None:
        print(step_report.report(results))
        return
    json_path.parent.mkdir(parents=True, exist_ok=True)
    json_path.write_text(json.dumps(results, indent=1) + "\n")
    report.report([json_path])


def _measure(
    case: Case, names: list[str], settings: dict[str, Any], advance: Callable[..., None]
) -> dict[str, Any]:
    """Return the results of all engines on one case.

    The engines' processes live side by side, one of them working at a time, and take turns in
    every round: if the machine slows down, it does so for all.
    """
    result: dict[str, Any] = asdict(case)
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        _write_files(case, names, folder)
        processes = {}
        for name in names:
            advance(f"{case}: starting {name}")
            process = EngineProcess(name, case, folder, settings["core"])
            processes[name] = stack.enter_context(process)
            advance(f"{case}: starting {name}", 1)
        for _ in range(settings["rounds"]):
            for name, process in processes.items():
                advance(f"{case}: timing {name}")
                for call in process.calls:
                    # Beside a step, what explains it needs less precision in its tail.
                    seconds = settings["seconds"] * (1 if call == "step" else 0.4)
                    process.time(call, seconds)
                advance(f"{case}: timing {name}", 1)
        result["engines"] = {
            name: process.facts | {call: process.summary(call) for call in process.calls}
            for name, process in processes.items()
        }
    return result


def _write_files(case: Case, names: list[str], folder: Path) -> None:
    """Write the weights for each engine, and inputs with the outputs that all must give."""
    tensors = make_tensors(case)
    xs = make_inputs(case, NUM_STEPS)
    ys, _ = reference.run(network(case), tensors, xs)
    np.savez(folder / "check.npz", xs=xs, ys=ys)
    for peer in {PEERS[name].module: PEERS[name] for name in names}.values():
        peer.save(case, tensors, folder)
