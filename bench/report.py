"""``python -m bench report``: tables and plots from the JSON, from nothing else."""

import json
import re
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from bench import step_report

RESULTS = Path(__file__).parent / "results"
README = Path(__file__).parent.parent / "README.md"

# By the "benchmark" of a JSON file: writes a table and plots beside it, returns their paths.
_WRITERS = {"step": step_report.write}
# Likewise: returns the table that stands in the README.
_SUMMARIES = {"step": step_report.summary}


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
        for written in [path, *_WRITERS[results["benchmark"]](results, path)]:
            console.print(f"{written.parent.name}/{written.name}", highlight=False)
        if path.parent == RESULTS:
            _write_readme(results["benchmark"], _SUMMARIES[results["benchmark"]](results))


def _write_readme(benchmark: str, text: str) -> None:
    """Put a table between the README's markers of a benchmark."""
    begin, end = f"<!-- bench: {benchmark} -->", f"<!-- /bench: {benchmark} -->"
    pattern = f"{re.escape(begin)}.*?{re.escape(end)}"
    readme, count = re.subn(
        pattern, lambda _: f"{begin}\n{text}\n{end}", README.read_text(), flags=re.S
    )
    if count != 1:
        raise ValueError(f"the README has no place for the table of {benchmark}")
    README.write_text(readme)
