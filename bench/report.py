"""``python -m bench report``: tables and plots from the JSON, from nothing else."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from bench import (
    accuracy_report,
    lookahead_report,
    process_report,
    speed_report,
    step_report,
    tasks_report,
)
from bench.tables import Results

RESULTS = Path(__file__).parent / "results"
_ROOT = Path(__file__).parent.parent

# By the "benchmark" of a JSON file: its page.
_PAGES: dict[str, Callable[[Results], str]] = {
    "step": step_report.report,
    "sequence": speed_report.sequence,
    "pool": speed_report.pool,
    "generate": speed_report.generate,
    "cold": process_report.cold,
    "memory": process_report.memory,
    "long": process_report.long,
    "accuracy": accuracy_report.accuracy,
    "tasks": tasks_report.tasks,
}
# Likewise: the document with the markers of a table, and who writes that table.
_SUMMARIES = {
    "step": ("README.md", step_report.summary),
    "lookahead": ("docs/layers.md", lookahead_report.summary),
}


def report(
    paths: Annotated[
        list[Path] | None, typer.Argument(help="JSON of the benchmarks [default: all results].")
    ] = None,
) -> None:
    """Write the tables and the plots of results, beside their JSON."""
    console = Console()
    paths = paths or sorted(RESULTS.glob("*.json"))
    if not paths:
        console.print("there are no results yet; python -m bench step writes some")
    for path in paths:
        results = json.loads(path.read_text())
        benchmark = results["benchmark"]
        for written in [path, *_write(results, path)]:
            console.print(f"{written.parent.name}/{written.name}", highlight=False)
        if path.parent == RESULTS and path.stem in _SUMMARIES:
            document, summary = _SUMMARIES[benchmark]
            _write_table(_ROOT / document, benchmark, summary(results))


def tables(results: Results) -> str:
    """Return the page of a benchmark."""
    return _PAGES[results["benchmark"]](results)


def _write(results: Results, path: Path) -> list[Path]:
    """Write the page and the plots of a benchmark beside its JSON; return their paths."""
    if results["benchmark"] not in _PAGES:
        return []
    from bench import plots  # matplotlib is for those who write plots

    markdown = path.with_suffix(".md")
    markdown.write_text(tables(results))
    return [markdown, *plots.write(results, path)]


def _write_table(document: Path, benchmark: str, text: str) -> None:
    """Put a table between a document's markers of a benchmark."""
    begin, end = f"<!-- bench: {benchmark} -->", f"<!-- /bench: {benchmark} -->"
    pattern = f"{re.escape(begin)}.*?{re.escape(end)}"
    written, count = re.subn(
        pattern, lambda _: f"{begin}\n{text}\n{end}", document.read_text(), flags=re.S
    )
    if count != 1:
        raise ValueError(f"{document.name} has no place for the table of {benchmark}")
    document.write_text(written)
