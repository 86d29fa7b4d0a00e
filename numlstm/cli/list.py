"""``numlstm list``: the bundled models."""

import re
from pathlib import Path

from rich.box import SIMPLE
from rich.markup import escape
from rich.table import Table

import numlstm
from numlstm.cli import terminal
from numlstm.tasks import TASKS


def list_models() -> None:
    """List the bundled models, and the commands that use them.

    [bold]Example[/bold]

        numlstm list
    """
    table = Table(box=SIMPLE)
    for column in ("model", "what it does", "score", "size", "dtype"):
        table.add_column(column, no_wrap=column in ("model", "size"))
    for name, path in numlstm.bundled().items():
        what, score, dtypes = _card(path.with_suffix(".md"))
        size = f"{path.stat().st_size / 1e6:.1f} MB"
        commands = ", ".join(task.command for task in TASKS.values() if name in task.models)
        table.add_row(
            f"{name}\n[dim]{commands}[/dim]", escape(what), escape(score), size, escape(dtypes)
        )
    terminal.console.print(table)


def _card(path: Path) -> tuple[str, str, str]:
    """Return what the card of a model says it does, its score, and its dtypes, "" if nothing.

    The file itself would have to be loaded, and the kernels compiled, to be asked.
    """
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    what = re.search(r"^# .*\n\n((?:.+\n)+)", text)
    score = re.search(r"<!-- summary -->\n(.*)\n<!-- /summary -->", text)
    networks = re.search(r"<!-- model -->\n((?:\|.*\|\n)+)", text)
    rows = networks[1].splitlines()[2:] if networks else []
    dtypes = {dtype for row in rows for dtype in row.split("|")[-2].strip().split(" and ")}
    summary = " ".join(what[1].split()) if what else ""
    return summary, score[1] if score else "", ", ".join(sorted(dtypes))
