"""``numlstm classify``: text in, labels out."""

import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
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
        bool, typer.Option("--stream", help="Show the label after every token.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Write a JSON object a line.")] = False,
) -> None:
    """Classify a text, or every line of a file or of stdin. Blank lines are skipped.

    [bold]Examples[/bold]

        numlstm classify "The movie was not good."

        numlstm classify --stream "The movie was not good, it was superb."

        numlstm classify --file reviews.txt --json > labels.jsonl

        cat reviews.txt | numlstm classify
    """
    if text is not None and file is not None:
        raise typer.BadParameter("give a text or --file, not both")
    if text is None and file is None and sys.stdin.isatty():
        raise typer.BadParameter("give a text, --file FILE, or lines on stdin")
    pipe = numlstm.pipeline("sentiment", terminal.load(model))
    texts = iter([text]) if text is not None else _lines(file)
    for item in texts:
        if stream:
            for token, prediction in pipe.steps(item):
                _show(prediction, {"token": token}, as_json)
        if not stream or text is None:
            _show(pipe(item), {"text": item}, as_json)


def _lines(file: Path | None) -> Iterator[str]:
    """Yield the lines that are not blank, with a progress bar where it can be seen."""
    if file is None or str(file) == "-":
        if isinstance(sys.stdin, io.TextIOWrapper):
            # Any bytes are a text; what is not UTF-8 becomes U+FFFD.
            sys.stdin.reconfigure(encoding="utf-8", errors="replace")
        yield from (line.strip() for line in sys.stdin if line.strip())
        return
    with file.open(encoding="utf-8", errors="replace") as lines:
        show = not terminal.console.is_terminal
        with Progress(console=terminal.messages, transient=True, disable=not show) as progress:
            task = progress.add_task(f"reading {file}", total=file.stat().st_size)
            for line in lines:
                if line.strip():
                    yield line.strip()
                progress.advance(task, len(line.encode()))


def _show(prediction: numlstm.Prediction, what: dict[str, Any], as_json: bool) -> None:
    if as_json:
        answer = what | {"label": prediction.label, "score": round(prediction.score, 6)}
        sys.stdout.write(json.dumps(answer, ensure_ascii=False) + "\n")
        sys.stdout.flush()
        return
    filled = round(prediction.score * _BAR_WIDTH)
    line = Text()
    line.append(f"{prediction.label:<10}", style="bold")
    line.append(f"{prediction.score:7.1%}  ")
    line.append("█" * filled, style="cyan")
    line.append("░" * (_BAR_WIDTH - filled) + "  ", style="dim")
    line.append(next(iter(what.values())))
    terminal.console.print(line)
