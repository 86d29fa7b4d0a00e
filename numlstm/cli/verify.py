"""``numlstm verify``: whether this CPU answers what the source framework did."""

import typer

import numlstm
from numlstm.cli import terminal
from numlstm.cli.options import ModelArgument


def verify(model: ModelArgument) -> None:
    """Run a model's probes: inputs with the outputs that its source framework gave.

    Exits with 1 if this engine on this CPU answers anything else.

    [bold]Example[/bold]

        numlstm verify sentiment
    """
    parts = terminal.load_parts(model)
    results = {part: loaded.verify() for part, loaded in parts.items()}
    if not any(result.num_probes for result in results.values()):
        raise numlstm.WeightsError(f"{model} holds no probes, so nothing can be verified")
    for part, result in results.items():
        if result.num_probes:
            terminal.console.print(
                f"{part}{': ' if part else ''}"
                f"{'ok' if result.ok else 'FAILED'}: {result.num_probes} probes, "
                f"{result.num_outputs} outputs, "
                f"largest difference {result.largest_difference:.1e}",
                markup=False,
            )
        else:
            terminal.console.print(f"{part}: holds no probes", markup=False)
    if not all(result.ok for result in results.values()):
        raise typer.Exit(1)
