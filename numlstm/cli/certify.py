"""``numlstm certify``: the same bits, whichever way a model is asked, on one page."""

from pathlib import Path
from typing import Annotated

import typer

from numlstm.cli import terminal
from numlstm.cli.options import ModelArgument, PartOption


def certify(
    model: ModelArgument,
    part: PartOption = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write a .md or .json file.")
    ] = None,
    digest: Annotated[
        str | None, typer.Option(help="What another machine found; anything else fails.")
    ] = None,
) -> None:
    """Hold step, run, pool and saved state against each other, bit by bit, on this CPU.

    Writes a page to attach to a release, with a digest that every other CPU must find too. Exits
    with 1 if a check fails.

    [bold]Examples[/bold]

        numlstm certify model.safetensors --output certificate.md

        numlstm certify model.safetensors --digest 6d9c...
    """
    if output is not None and output.suffix not in (".md", ".json"):
        raise ValueError(f"{output} does not end in .md or .json")
    loaded = terminal.load(model, part)
    from numlstm.measure import certify as certified
    from numlstm.saving import saving

    with terminal.waiting(f"certifying {model}"):
        found = certified(loaded, Path(model).name, digest=digest)
    text = found.to_json() if output and output.suffix == ".json" else found.to_markdown()
    if output is None:
        typer.echo(text)
    else:
        with saving(output) as file:
            file.write(text.encode())
        for check in found.checks:
            state = "ok" if check.passed else "FAILED"
            terminal.console.print(f"{state}: {check.name}: {check.found}", markup=False)
    if not found.passed:
        raise typer.Exit(1)
