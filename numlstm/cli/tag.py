"""``numlstm tag``: words and their parts of speech."""

from collections.abc import Iterable
from typing import Annotated, Any

import typer
from rich.text import Text

import numlstm
from numlstm.cli import terminal
from numlstm.cli.options import FileOption, JsonOption, TextArgument, model_option
from numlstm.cli.texts import NOTHING, answer_each, printable, write_json
from numlstm.tasks import TASKS

_STYLES = {
    "NOUN": "cyan",
    "PROPN": "bold cyan",
    "VERB": "green",
    "AUX": "green",
    "ADJ": "yellow",
    "ADV": "magenta",
    "NUM": "blue",
    "INTJ": "red",
}


def tag(
    text: TextArgument = None,
    file: FileOption = None,
    model: Annotated[str, model_option("pos")] = TASKS["pos"].model,
    lookahead: Annotated[
        int | None,
        typer.Option(help="Tag as a stream, so many words late; without it whole sentences."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Tag the words of a text, or of every line of a file or of stdin.

    The tags are those of Universal Dependencies: universaldependencies.org/u/pos

    [bold]Examples[/bold]

        numlstm tag "She didn't like it."

        numlstm tag --file sentences.txt --json > tags.jsonl

        numlstm tag --lookahead 1 "The old man the boat."
    """
    pipe: Any = terminal.pipeline("pos", model)

    def answer(line: str) -> None:
        if lookahead is None:
            tags = pipe(line)
        else:
            stream = pipe.stream(lookahead)
            tags = stream.feed(line) + stream.finish()
        if as_json:
            write_json(text=line, tags=tags)
        else:
            terminal.console.print(_line(tags) if tags else NOTHING)

    answer_each(text, file, answer)


def _line(tags: "Iterable[numlstm.Tag]") -> Text:
    line = Text()
    for tag in tags:
        line.append(" " if line else "")
        line.append(printable(tag.word))
        line.append(f"/{tag.tag}", style=_STYLES.get(tag.tag, "dim"))
    return line
