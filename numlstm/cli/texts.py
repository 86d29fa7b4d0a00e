"""Texts in, answers out: arguments, files, stdin; lines for people, JSON for programs."""

import dataclasses
import io
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, TypeVar

import numpy as np
import typer
from rich.markup import escape
from rich.progress import Progress

from numlstm.cli import terminal

Item = TypeVar("Item")

TextArgument = Annotated[str | None, typer.Argument(help="A text.")]
FileOption = Annotated[
    Path | None, typer.Option("--file", "-f", help="Every line of a file is a text; - is stdin.")
]
ModelOption = Annotated[
    str, typer.Option("--model", "-m", help="A bundled model, or a .safetensors file.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Write a JSON object a line.")]
TemperatureOption = Annotated[float, typer.Option(help="0 takes the likeliest token, always.")]
TopPOption = Annotated[float, typer.Option(help="Only tokens of that probability together.")]
SeedOption = Annotated[int | None, typer.Option(help="The same seed, the same text.")]

LINES = "\n\t"  # what a text of several lines may hold


def answer_each(
    text: str | None, file: Path | None, answer: Callable[[str], None], *, whole: bool = False
) -> None:
    """Answer a text, or every line of a file or of stdin, or all of it as one text.

    Blank lines are skipped. A line that cannot be answered is named on stderr, and the exit code
    is 1 at the end.
    """
    check_source(text, file)
    name = str(file or "stdin")
    if text is not None:
        answer(text)
    elif whole:
        answer_all([(name, read_text(file))], answer)
    else:
        answer_all(((f"{name}, line {n}", line) for n, line in _lines(file)), answer)


def answer_all(
    named: Iterable[tuple[str, Item]],
    answer: Callable[[Item], None],
    errors: tuple[type[Exception], ...] = (ValueError,),
) -> None:
    """Answer items; one that cannot be is named on stderr, and the exit code is 1 at the end."""
    failed = False
    for name, item in named:
        try:
            answer(item)
        except errors as error:
            failed = True
            typer.echo(f"numlstm: {name}: {error}", err=True)
    if failed:
        raise typer.Exit(1)


def check_source(text: str | None, file: Path | None) -> None:
    """Raise if there is not one source of texts."""
    if text is not None and file is not None:
        raise typer.BadParameter("give a text or --file, not both")
    if text is None and file is None and (sys.stdin is None or sys.stdin.isatty()):
        raise typer.BadParameter("give a text, --file FILE, or lines on stdin")


def _stdin() -> Any:
    if isinstance(sys.stdin, io.TextIOWrapper):
        # Any bytes are a text; what is not UTF-8 becomes U+FFFD.
        sys.stdin.reconfigure(encoding="utf-8", errors="replace")
    return sys.stdin


def read_text(file: Path | None) -> str:
    """Return all of a file, or of stdin."""
    if file is None or str(file) == "-":
        return str(_stdin().read())
    return file.read_text(encoding="utf-8", errors="replace")


def _lines(file: Path | None) -> Iterator[tuple[int, str]]:
    """Yield the lines that are not blank with their numbers, and show progress to a person."""
    if file is None or str(file) == "-":
        for n, line in enumerate(_stdin(), 1):
            if line.strip():
                yield n, line.strip()
        return
    with file.open(encoding="utf-8", errors="replace") as lines:
        # A bar on a terminal, unless the answers scroll by on it.
        show = terminal.messages.is_terminal and not terminal.console.is_terminal
        with Progress(console=terminal.messages, transient=True, disable=not show) as progress:
            task = progress.add_task(escape(f"reading {file}"), total=file.stat().st_size)
            for n, line in enumerate(lines, 1):
                if line.strip():
                    yield n, line.strip()
                progress.advance(task, len(line.encode()))


def write_json(**fields: Any) -> None:
    """Write a JSON object as a line."""
    is_utf8 = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    sys.stdout.write(json.dumps(fields, ensure_ascii=not is_utf8, default=_plain) + "\n")
    sys.stdout.flush()


def _plain(value: Any) -> Any:
    """Return what JSON has no type for as what it has one for."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return dataclasses.asdict(value)


def printable(text: str, keep: str = "") -> str:
    """Return a text for a terminal, which it may hold commands for; in one line, but for `keep`."""
    return "".join(c if c.isprintable() or c in keep else "\ufffd" for c in text)


def write_pieces(pieces: Iterable[str]) -> None:
    """Write a text as it comes."""
    for piece in pieces:
        sys.stdout.write(printable(piece, keep=LINES))
        sys.stdout.flush()
    sys.stdout.write("\n")
    sys.stdout.flush()
