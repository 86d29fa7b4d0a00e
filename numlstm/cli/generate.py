"""``numlstm generate``: text that is written as one looks on."""

import sys
from typing import Annotated, Any

import typer

from numlstm.cli import terminal
from numlstm.cli.options import JsonOption, SeedOption, TemperatureOption, TopPOption, model_option
from numlstm.cli.texts import LINES, printable, read_text, write_json, write_pieces
from numlstm.tasks import DEFAULTS, TASKS


def generate(
    prompt: Annotated[str, typer.Argument(help="What comes before; - reads it from stdin.")] = "",
    model: Annotated[str, model_option("generate")] = TASKS["generate"].model,
    max_tokens: Annotated[int, typer.Option(min=0, help="How many tokens to write.")] = 500,
    temperature: TemperatureOption = DEFAULTS["generate"]["temperature"],
    top_k: Annotated[int | None, typer.Option(help="Only so many likeliest tokens.")] = None,
    top_p: TopPOption = 1.0,
    min_p: Annotated[float, typer.Option(help="Only tokens that likely, beside the first.")] = 0.0,
    repetition_penalty: Annotated[float, typer.Option(help="Above 1, less is repeated.")] = 1.0,
    seed: SeedOption = None,
    as_json: JsonOption = False,
) -> None:
    """Continue a text, as it is written. Ctrl-C ends it.

    [bold]Examples[/bold]

        numlstm generate "ROMEO:"

        numlstm generate "ROMEO:" --model subword --seed 1 --temperature 0.7

        cat beginning.txt | numlstm generate - --max-tokens 2000 > rest.txt
    """
    pipe: Any = terminal.pipeline("generate", model)
    if prompt == "-":
        prompt = read_text(None)
    pieces = pipe.stream(
        prompt,
        max_tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        seed=seed,
    )
    if as_json:
        write_json(prompt=prompt, text="".join(pieces))
        return
    if sys.stdout.isatty():
        terminal.console.print(printable(prompt, keep=LINES), style="bold", end="", markup=False)
    else:
        sys.stdout.write(prompt)
    write_pieces(pieces)
