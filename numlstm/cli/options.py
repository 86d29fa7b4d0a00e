"""Arguments and options that several commands have."""

from pathlib import Path
from typing import Annotated, Any

import typer

from numlstm.tasks import TASKS

TextArgument = Annotated[str | None, typer.Argument(help="A text.")]
ModelArgument = Annotated[
    str, typer.Argument(metavar="MODEL", help="A bundled model, or a .safetensors file.")
]

FileOption = Annotated[
    Path | None, typer.Option("--file", "-f", help="Every line of a file is a text; - is stdin.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Write a JSON object a line.")]
PartOption = Annotated[
    str | None, typer.Option("--part", help="Of a model of several networks, the one to look at.")
]
PlotOption = Annotated[
    Path | None,
    typer.Option("--plot", help="Draw a .png, .svg or .pdf file in place of a table."),
]

TemperatureOption = Annotated[float, typer.Option(help="0 takes the likeliest token, always.")]
TopPOption = Annotated[float, typer.Option(help="Only tokens of that probability together.")]
SeedOption = Annotated[int | None, typer.Option(help="The same seed, the same text.")]


def model_option(*tasks: str) -> Any:
    """Return the option that chooses a model for one of several tasks."""
    names = dict.fromkeys(name for task in tasks for name in TASKS[task].models)
    return typer.Option("--model", "-m", help=f"{', '.join(names)}, or a .safetensors file.")
