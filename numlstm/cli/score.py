"""``numlstm score``: how surprising a text is to a language model."""

from typing import Annotated, Any

import typer
from rich.text import Text

import numlstm
from numlstm.cli import terminal
from numlstm.cli.options import FileOption, JsonOption, TextArgument, model_option
from numlstm.cli.texts import answer_each, printable, write_json
from numlstm.tasks import TASKS

# Below so many nats, in so bright a colour.
_SURPRISE = ((1, "color(22)"), (3, "color(28)"), (5, "color(136)"), (7, "color(166)"))
_MOST = "color(160)"
_MAX_TOKENS = 400  # that are shown


def score(
    text: TextArgument = None,
    file: FileOption = None,
    model: Annotated[str, model_option("language-model")] = TASKS["language-model"].model,
    whole: Annotated[bool, typer.Option("--whole", help="The file is one text.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Score a text, every line of a file or of stdin, or a whole file.

    Nats are minus the natural logarithm of the text's probability; perplexity is exp of their mean
    over its tokens. On a terminal every token has the colour of its surprise.

    [bold]Examples[/bold]

        numlstm score "The war ended in the spring."

        numlstm score --model character --whole --file play.txt

        numlstm score --file lines.txt --json > scores.jsonl
    """
    pipe: Any = terminal.pipeline("language-model", model)

    def answer(line: str) -> None:
        found = pipe.score(line)
        if as_json:
            write_json(
                text=line,
                nats=found.nats,
                num_tokens=found.num_tokens,
                perplexity=found.perplexity,
                per_token=found.per_token.round(4),
                tokens=found.tokens,
            )
            return
        terminal.console.print(_line(found, " " if pipe.encoder.joins_words else ""))

    answer_each(text, file, answer, whole=whole)


def _line(found: "numlstm.Score", between: str) -> Text:
    line = Text()
    line.append(f"perplexity {found.perplexity:.2f}", style="bold")
    line.append(f"  {found.nats:.1f} nats, {found.num_tokens:,} tokens  ")
    for token, nats in zip(found.tokens[:_MAX_TOKENS], found.per_token.tolist(), strict=False):
        style = next((style for most, style in _SURPRISE if nats < most), _MOST)
        line.append(printable(token) + between, style=style)
    return line
