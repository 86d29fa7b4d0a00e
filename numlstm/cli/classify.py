"""``numlstm classify``: text in, labels out."""

import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.progress import Progress
from rich.text import Text

import numlstm
from numlstm.cli import terminal

_BAR_WIDTH = 20


def classify(
    text: Annotated[str | None, typer.Argument(help="The text to classify.")] = None,
    file: Annotated[
        Path | None,
        typer.Option("--file", "-f", help="Classify every line of a file; - is stdin."),
    ] = None,
    model: Annotated[
        str, typer.Option("--model", "-m", help="A bundled model, or a .safetensors file.")
    ] = "sentiment",
    stream: Annotated[
        bool, typer.Option("--stream", help="Show the label after every token of a text.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Write a JSON object a line.")] = False,
) -> None:
    """Classify a text, or every line of a file or of stdin. Blank lines are skipped.

    A line that cannot be classified is named on stderr, and the exit code is 1 at the end.

    [bold]Examples[/bold]

        numlstm classify "The movie was not good."

        numlstm classify --stream "The movie was not good, it was superb."

        numlstm classify --file reviews.txt --json > labels.jsonl

        cat reviews.txt | numlstm classify
    """
    if text is not None and file is not None:
        raise typer.BadParameter("give a text or --file, not both")
    if text is None and file is None and (sys.stdin is None or sys.stdin.isatty()):
        raise typer.BadParameter("give a text, --file FILE, or lines on stdin")
    pipe = numlstm.pipeline("sentiment", terminal.load(model))
    if text is not None:
        _answer(pipe, text, stream, as_json)
        return
    failed = False
    for number, line in _lines(file):
        try:
            _answer(pipe, line, stream, as_json)
        except ValueError as error:
            failed = True
            typer.echo(f"numlstm: {file or 'stdin'}, line {number}: {error}", err=True)
    if failed:
        raise typer.Exit(1)


def _answer(pipe: Any, text: str, stream: bool, as_json: bool) -> None:
    """Write the prediction for a text, or those after each of its tokens."""
    if stream:
        for token, prediction in pipe.steps(text):
            _show(prediction, {"token": token}, as_json)
    else:
        _show(pipe(text), {"text": text}, as_json)


def _lines(file: Path | None) -> Iterator[tuple[int, str]]:
    """Yield the lines that are not blank with their numbers, and show progress to a person."""
    if file is None or str(file) == "-":
        if isinstance(sys.stdin, io.TextIOWrapper):
            # Any bytes are a text; what is not UTF-8 becomes U+FFFD.
            sys.stdin.reconfigure(encoding="utf-8", errors="replace")
        yield from ((n, line.strip()) for n, line in enumerate(sys.stdin, 1) if line.strip())
        return
    with file.open(encoding="utf-8", errors="replace") as lines:
        # A bar on a terminal, unless the answers scroll by on it.
        show = terminal.messages.is_terminal and not terminal.console.is_terminal
        with Progress(console=terminal.messages, transient=True, disable=not show) as progress:
            task = progress.add_task(escape(f"reading {file}"), total=file.stat().st_size)
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield number, line.strip()
                progress.advance(task, len(line.encode()))


def _show(prediction: numlstm.Prediction, what: dict[str, Any], as_json: bool) -> None:
    if as_json:
        answer = what | {"label": prediction.label, "score": round(prediction.score, 6)}
        is_utf8 = sys.stdout.encoding.lower().replace("-", "") == "utf8"
        sys.stdout.write(json.dumps(answer, ensure_ascii=not is_utf8) + "\n")
        sys.stdout.flush()
        return
    filled = round(prediction.score * _BAR_WIDTH)
    line = Text()
    line.append(f"{prediction.label:<10}", style="bold")
    line.append(f"{prediction.score:7.1%}  ")
    line.append("█" * filled, style="cyan")
    line.append("░" * (_BAR_WIDTH - filled) + "  ", style="dim")
    # A text may hold commands for the terminal.
    line.append("".join(c if c.isprintable() else "\ufffd" for c in next(iter(what.values()))))
    terminal.console.print(line)
