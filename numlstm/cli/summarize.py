"""``numlstm summarize``: a text in, a sentence out."""

from pathlib import Path
from typing import Annotated, Any

import typer

from numlstm.cli import terminal
from numlstm.cli.options import JsonOption, TextArgument, model_option
from numlstm.cli.texts import NOTHING, answer_each, printable, write_json
from numlstm.tasks import TASKS


def summarize(
    text: TextArgument = None,
    file: Annotated[
        Path | None, typer.Option("--file", "-f", help="A file with one text; - is stdin.")
    ] = None,
    model: Annotated[str, model_option("summarize")] = TASKS["summarize"].model,
    title: Annotated[bool, typer.Option("--title", help="Write a title.")] = False,
    sentences: Annotated[
        int | None, typer.Option(min=1, help="How many sentences extract picks; 1 if not given.")
    ] = None,
    lines: Annotated[bool, typer.Option("--lines", help="Every line is a text.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Summarize a text, a file or stdin: abstracts of papers are what the models know.

    The model summarize writes a sentence, extract picks some.

    [bold]Examples[/bold]

        numlstm summarize --file abstract.txt

        numlstm summarize --file abstract.txt --title

        numlstm summarize --model extract --sentences 3 --file article.txt

        cat abstracts.txt | numlstm summarize --lines --json
    """
    pipe: Any = terminal.pipeline("summarize", model)
    options: dict[str, Any] = {"title": True} if title else {}
    if sentences is not None:
        options["num_sentences"] = sentences

    def answer(given: str) -> None:
        summary = pipe(given, **options)
        if as_json:
            write_json(text=given, summary=summary)
        else:
            terminal.console.print(printable(" ".join(summary.split())) or NOTHING, markup=False)

    answer_each(text, file, answer, whole=not lines)
