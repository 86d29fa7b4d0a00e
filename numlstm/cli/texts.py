"""Texts in, answers out: from arguments, files, stdin; lines for people, JSON for programs."""

import dataclasses
import io
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import typer
from rich.markup import escape

import numlstm
from numlstm.cli import terminal

Item = TypeVar("Item")

NOTHING = "(no words)"  # for people, where an answer has none to show
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
    from rich.progress import Progress  # not for all commands, and slow to import

    with file.open(encoding="utf-8", errors="replace") as lines:
        # A bar on a terminal, unless the answers scroll by on it.
        show = terminal.messages.is_terminal and not terminal.console.is_terminal
        with Progress(console=terminal.messages, transient=True, disable=not show) as progress:
            task = progress.add_task(escape(f"reading {file}"), total=file.stat().st_size)
            for n, line in enumerate(lines, 1):
                if line.strip():
                    yield n, line.strip()
                progress.advance(task, len(line.encode()))


def encode(model: "numlstm.Model", text: str) -> tuple[list[int], list[str]]:
    """Return the ids of a text, and the part of the text that each one stands for."""
    if model.tokenizer is None or model.vocab_size is None:
        raise numlstm.WeightsError("the model has no tokenizer, so it reads no text")
    tokenizer = model.load_tokenizer()
    tokenizer.no_padding()
    tokenizer.no_truncation()
    # What a terminal passes on may be half a character.
    text = text.encode("utf-8", "replace").decode("utf-8")
    encoding = tokenizer.encode(text, add_special_tokens=False)
    if not encoding.ids:
        raise ValueError("the text is empty: the tokenizer makes no tokens of it")
    return encoding.ids, [text[start:end] for start, end in encoding.offsets]


def write_json(**fields: Any) -> None:
    """Write a JSON object as a line."""
    is_utf8 = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    sys.stdout.write(json.dumps(fields, ensure_ascii=not is_utf8, default=_plain) + "\n")
    sys.stdout.flush()


def _plain(value: Any) -> Any:
    """Return what JSON has no type for as what it has one for."""
    return value.tolist() if hasattr(value, "tolist") else dataclasses.asdict(value)


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
