"""``numlstm classify``: text in, labels out."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

import numlstm
from numlstm.cli import terminal
from numlstm.cli.options import JsonOption, TextArgument, model_option
from numlstm.cli.texts import NOTHING, answer_all, answer_each, printable, write_json
from numlstm.tasks import TASKS

_BAR_WIDTH = 20
_MAIL = (".eml", ".mbox")


def classify(
    text: TextArgument = None,
    file: Annotated[
        Path | None,
        typer.Option(
            "--file",
            "-f",
            help="Classify every line of a file, or every message of an .eml or .mbox file; - is "
            "stdin.",
        ),
    ] = None,
    model: Annotated[str, model_option("sentiment", "email")] = TASKS["sentiment"].model,
    stream: Annotated[
        bool, typer.Option("--stream", help="Show the label after every token of a text.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Classify a text, or every line of a file or of stdin. Blank lines are skipped.

    A line that cannot be classified is named on stderr, and the exit code is 1 at the end.

    [bold]Examples[/bold]

        numlstm classify "The movie was not good."

        numlstm classify --stream "The movie was not good, it was superb."

        numlstm classify --file reviews.txt --json > labels.jsonl

        cat reviews.txt | numlstm classify

        numlstm classify --model email --file inbox.mbox
    """
    if text is None and file is not None and file.suffix.lower() in _MAIL:
        mail: Any = terminal.pipeline("email", model)
        _classify_mail(mail, file, as_json)
        return

    def answer(line: str) -> None:
        if stream:
            for token, prediction in pipe.steps(line):
                _show(prediction, {"token": token}, as_json)
        else:
            _show(pipe(line), {"text": line}, as_json)

    pipe: Any = terminal.pipeline("sentiment", model)
    answer_each(text, file, answer)


def _classify_mail(pipe: Any, file: Path, as_json: bool) -> None:
    def answer(message: Any) -> None:
        _show(pipe(message.text), {"text": message.subject or message.body}, as_json)

    named = ((f"{file}, message {n}", message) for n, message in enumerate(pipe.read(file), 1))
    answer_all(named, answer)


def _show(prediction: "numlstm.Prediction", what: dict[str, Any], as_json: bool) -> None:
    if as_json:
        write_json(**what, label=prediction.label, score=round(prediction.score, 6))
        return
    filled = round(prediction.score * _BAR_WIDTH)
    line = Text()
    line.append(f"{prediction.label or NOTHING:<10}", style="bold")
    line.append(f"{prediction.score:7.1%}  ")
    line.append("█" * filled, style="cyan")
    line.append("░" * (_BAR_WIDTH - filled) + "  ", style="dim")
    line.append(printable(next(iter(what.values()))))
    terminal.console.print(line)
