"""``numlstm bench``: what a model costs on this machine."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE
from rich.table import Table

from numlstm.cli import terminal
from numlstm.cli.options import ModelArgument, PartOption, PlotOption

if TYPE_CHECKING:
    from numlstm.measure import Measurement

_SHARES = {"p50": "p50_us", "p90": "p90_us", "p99": "p99_us", "p99.9": "p999_us", "max": "max_us"}


def bench(
    model: ModelArgument,
    part: PartOption = None,
    pace: Annotated[
        bool, typer.Option("--pace", help="Also a step every 1, 10 and 100 ms, as streams come.")
    ] = False,
    against: Annotated[
        list[str] | None,
        typer.Option(help="torch, or onnx=FILE, the graph that it was: the same steps by them."),
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.01, help="How long each is timed.")] = 1.0,
    core: Annotated[int | None, typer.Option(min=0, help="Run on this core alone.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write a JSON object.")] = False,
    plot: PlotOption = None,
) -> None:
    """Measure a model on this machine: steps, pools, sequences, memory, the roof.

    [bold]Examples[/bold]

        numlstm bench model.safetensors --pace

        numlstm bench model.safetensors --against onnx=model.onnx --json
    """
    # Before NumPy is imported: no threads of others, on one core.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if core is not None:
        if not hasattr(os, "sched_setaffinity"):
            raise ValueError("this system binds no process to a core: leave --core out")
        os.sched_setaffinity(0, {core})
    for other in against or ():
        name, _, path = other.partition("=")
        if (name, bool(path)) not in (("torch", False), ("onnx", True)):
            raise ValueError(f"--against is {other!r}, expected torch or onnx=FILE")
    if plot is not None and plot.suffix not in (".png", ".svg", ".pdf"):
        raise ValueError(f"{plot} does not end in .png, .svg or .pdf")
    if not seconds <= 3600:
        raise ValueError(f"--seconds is {seconds}, expected up to 3600")
    from numlstm.measure import measure

    loaded: list[Any] = []

    def load() -> Any:
        loaded.append(terminal.load(model, part))
        return loaded[0]

    paces = (1, 10, 100) if pace else ()
    with terminal.waiting(f"measuring {model}"):
        found = measure(load, seconds=seconds, pace=paces)
        for other in against or ():
            found.peers[other.partition("=")[0]] = _peer(loaded[0], other, seconds)
    if plot is not None:
        _draw(found, plot)
    if as_json:
        typer.echo(found.to_json())
    elif plot is None:
        _show(found)


def _peer(model: Any, other: str, seconds: float) -> dict[str, Any]:
    from numlstm.measure.against import against_onnx, against_torch

    path = other.partition("=")[2]
    return against_onnx(model, Path(path), seconds) if path else against_torch(model, seconds)


def _rows(found: "Measurement") -> list[tuple[str, dict[str, Any]]]:
    """Return what has percentiles, by what it is called."""
    rows = [("a step", found.step)] if found.step else []
    rows += [(f"a step every {ms} ms", times) for ms, times in found.paced.items()]
    rows += [(f"a step of {n} in a pool", times) for n, times in found.pool.items()]
    if found.lookahead:
        rows += [(f"a step, {found.lookahead['lookahead']} ahead", found.lookahead)]
    names = {"onnx": "ONNX Runtime", "torch": "PyTorch"}
    return rows + [(f"a step of {names[name]}", times) for name, times in found.peers.items()]


def _show(found: "Measurement") -> None:
    machine = found.machine
    terminal.console.print(f"{machine['CPU']}, {machine['CPU level']}", markup=False)
    table = Table("us", *_SHARES, box=SIMPLE)
    for column in table.columns[1:]:
        column.justify = "right"
    for name, times in _rows(found):
        table.add_row(name, *(f"{times[key]:,.2f}" for key in _SHARES.values()))
    terminal.console.print(table)
    facts = Table.grid(padding=(0, 2))
    for n, times in found.pool.items():
        facts.add_row(f"steps per second, {n} in a pool", f"{times['steps_per_s']:,.0f}")
    if "steps_per_s" in found.sequence:
        facts.add_row("steps per second, one call", f"{found.sequence['steps_per_s']:,.0f}")
    if "tokens_per_s" in found.sequence:
        facts.add_row("tokens per second, sampled", f"{found.sequence['tokens_per_s']:,.0f}")
    if found.allocations:
        kept, count = found.allocations["kept_blocks"], found.allocations["num_calls"]
        facts.add_row(f"blocks allocated in {count:,} steps", f"{kept:,}")
    for name, size in found.memory.items():
        facts.add_row(f"bytes of a {name.removesuffix('_bytes')}", f"{size:,}")
    if "share" in found.roof:
        share, rate = found.roof["share"], found.roof["gb_per_s"]
        facts.add_row("share of the roof", f"{share:.0%} of {rate:.0f} GB/s")
    terminal.console.print(facts)


def _draw(found: "Measurement", path: Path) -> None:
    from numlstm import plots

    rows = {name: [times[key] for key in _SHARES.values()] for name, times in _rows(found)}
    plots.save(plots.percentiles(list(_SHARES), rows), path)
