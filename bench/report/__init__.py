"""``python -m bench report``: tables and plots from the JSON, from nothing else."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from bench.report import (
    accuracy_page,
    change_page,
    lookahead_table,
    paced_page,
    policy_page,
    process_pages,
    side_by_side,
    speed_pages,
    step_page,
    tasks_page,
    vad_page,
)
from bench.report.page import Results

RESULTS = Path(__file__).parents[1] / "results"
_ROOT = Path(__file__).parents[2]

# By the "benchmark" of a JSON file: its page.
_PAGES: dict[str, Callable[[Results], str]] = {
    "step": step_page.report,
    "sequence": speed_pages.sequence,
    "pool": speed_pages.pool,
    "generate": speed_pages.generate,
    "paced": paced_page.paced,
    "policy": policy_page.policy,
    "cold": process_pages.cold,
    "memory": process_pages.memory,
    "long": process_pages.long,
    "accuracy": accuracy_page.accuracy,
    "tasks": tasks_page.tasks,
    "vad": vad_page.vad,
    "change": change_page.change,
}


def report(
    paths: Annotated[
        list[Path] | None, typer.Argument(help="JSON of the benchmarks [default: all results].")
    ] = None,
) -> None:
    """Write the tables and the plots of results, beside their JSON."""
    console = Console()
    paths = paths or sorted(RESULTS.glob("*/*/*.json"))
    if not paths:
        console.print("there are no results yet; python -m bench step writes some")
    for path in paths:
        results = json.loads(path.read_text())
        for written in [path, *_write(results, path)]:
            console.print(f"{written.parent.name}/{written.name}", highlight=False)
    if any(path.is_relative_to(RESULTS) for path in paths):
        _write_summaries()


def read_all() -> side_by_side.AllResults:
    """Return the results of all CPUs, without those of two threads, which have pages alone."""
    found: side_by_side.AllResults = {}
    for path in sorted(RESULTS.glob("*/*/*.json")):
        results = json.loads(path.read_text())
        if results["benchmark"] == path.stem:
            folder = path.parent.relative_to(RESULTS)
            found.setdefault(path.stem, {})[folder] = results
    return found


def _write_summaries() -> None:
    """Write what tells of all CPUs: the page beside their folders, the tables of the documents."""
    found = read_all()
    (RESULTS / "README.md").write_text(side_by_side.page(found))
    if "step" in found:
        _write_table(_ROOT / "README.md", "step", side_by_side.summary(found["step"]))
    for benchmark, document, summary in (
        ("lookahead", "docs/layers.md", lookahead_table.summary),
        ("policy", "docs/policies.md", policy_page.summary),
        ("vad", "docs/tasks.md", vad_page.summary),
    ):
        if benchmark in found:
            latest = max(found[benchmark].values(), key=lambda results: str(results["date"]))
            _write_table(_ROOT / document, benchmark, summary(latest))


def finish(results: Results, path: Path | None) -> None:
    """Write the JSON of a benchmark with its page and its plots, or print the page."""
    if path is None:
        print(_page(results))
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1) + "\n")
    report([path])


def _page(results: Results) -> str:
    return _PAGES[results["benchmark"]](results)


def _write(results: Results, path: Path) -> list[Path]:
    """Write the page and the plots of a benchmark beside its JSON; return their paths."""
    if results["benchmark"] not in _PAGES:
        return []
    from bench.report import plots  # matplotlib is for those who write plots

    markdown = path.with_suffix(".md")
    markdown.write_text(_page(results))
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
