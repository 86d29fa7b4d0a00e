"""``numlstm info``: what a model is."""

from rich.markup import escape

from numlstm.cli import terminal
from numlstm.cli.options import ModelArgument


def info(model: ModelArgument) -> None:
    """Describe a model: its layers, sizes, labels, and how exact it is.

    [bold]Examples[/bold]

        numlstm info sentiment

        numlstm info model.safetensors
    """
    for part, loaded in terminal.load_parts(model).items():
        if part:
            terminal.console.print(f"[bold]{escape(part)}[/bold]")
        terminal.console.print(loaded.info(), markup=False)
