"""``numlstm chat``: a dialogue."""

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from numlstm.cli import terminal
from numlstm.cli.options import (
    FileOption,
    JsonOption,
    SeedOption,
    TemperatureOption,
    TopPOption,
    model_option,
)
from numlstm.cli.texts import answer_each, write_json, write_pieces
from numlstm.tasks import DEFAULTS, TASKS

if TYPE_CHECKING:
    from numlstm import SamplingOptions

_RESET = "/reset"


def chat(
    text: Annotated[str | None, typer.Argument(help="What you say.")] = None,
    file: FileOption = None,
    model: Annotated[str, model_option("chat")] = TASKS["chat"].model,
    beam_size: Annotated[
        int | None, typer.Option(min=1, help="Search for the likeliest answer; else it is drawn.")
    ] = None,
    temperature: TemperatureOption = DEFAULTS["chat"]["temperature"],
    top_p: TopPOption = DEFAULTS["chat"]["top_p"],
    seed: SeedOption = None,
    as_json: JsonOption = False,
) -> None:
    """Chat about things to book, or small talk: lines in, answers out, one dialogue.

    On a terminal Ctrl-D ends it, and /reset begins a new dialogue.

    [bold]Examples[/bold]

        numlstm chat

        numlstm chat "Hi, I want to book a hotel in London."

        printf 'Hi, I want to book a hotel.\\nIn London.\\n' | numlstm chat --json
    """
    pipe: Any = terminal.pipeline("chat", model)
    session = pipe.session()
    options: SamplingOptions = {"temperature": temperature, "top_p": top_p, "seed": seed}

    def answer(line: str) -> None:
        if line == _RESET:
            session.reset()
        elif as_json:
            write_json(text=line, answer=session.say(line, beam_size=beam_size, **options))
        elif beam_size:
            write_pieces([session.say(line, beam_size=beam_size, **options)])
        else:
            write_pieces(session.stream(line, **options))

    if text is None and file is None and sys.stdin is not None and sys.stdin.isatty():
        _converse(answer)
    else:
        answer_each(text, file, answer)


def _converse(answer: Any) -> None:
    """Ask for lines until there are no more."""
    terminal.messages.print("Ctrl-D ends, /reset begins a new dialogue.", style="dim")
    while True:
        try:
            line = terminal.console.input("[bold]> [/bold]")
        except EOFError:
            terminal.console.print()
            return
        if line.strip():
            try:
                answer(line.strip())
            except ValueError as error:
                terminal.messages.print(f"numlstm: {error}", markup=False)
