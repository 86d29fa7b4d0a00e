"""``numlstm trace``: what the gates of a layer do, token by token."""

from typing import TYPE_CHECKING, Annotated

import typer
from rich.cells import cell_len, set_cell_size
from rich.color import Color
from rich.style import Style
from rich.text import Text

from numlstm.cli import terminal
from numlstm.cli.options import JsonOption, ModelArgument, PartOption, PlotOption
from numlstm.cli.texts import encode, write_json

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_TOKEN_WIDTH = 16


def trace(
    model: ModelArgument,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="The text that the model reads.")],
    layer: Annotated[
        str | None,
        typer.Option("--layer", "-l", help='A recurrent layer, "layers.0"; the last if not given.'),
    ] = None,
    part: PartOption = None,
    plot: PlotOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what the gates of a layer do, token by token.

    A number is the mean over the units: of the gates i, f, o, r and z as they are, from 0, shut, to
    1, open; of g, n, c and h without their signs. A picture shows every unit.

    [bold]Examples[/bold]

        numlstm trace sentiment "The film begins slowly, but then it becomes a great story."

        numlstm trace sentiment "Not bad at all." --plot trace.png
    """
    import numpy as np

    from numlstm import plots

    loaded = terminal.load(model, part)
    ids, tokens = encode(loaded, text)
    with terminal.waiting("reading"):
        traced = loaded.stream().trace(ids)
    if plot is not None:
        traced.plot(plot, tokens, layer)
    rows = traced.of_layer(layer)
    means = {
        name: (values if name in plots.GATES else np.abs(values)).mean(1)
        for name, values in rows.items()
    }
    if as_json:
        for t, token in enumerate(tokens):
            # A NaN, of a token that is masked, is no JSON.
            numbers = {
                name: round(float(m[t]), 6) if np.isfinite(m[t]) else None
                for name, m in means.items()
            }
            write_json(token=token, **numbers)
    elif plot is None:
        _show_trace(tokens, means)


def _show_trace(tokens: list[str], means: "dict[str, NDArray[np.float32]]") -> None:
    """Write a row per token, a coloured cell per gate, from 0 to the largest."""
    import numpy as np

    from numlstm import plots

    header = Text(" " * (_TOKEN_WIDTH + 1))
    for name in means:
        header.append(f"{name:^7}", style="bold")
    terminal.console.print(header)
    # The gates share the scale 0 to 1; what has no sign here has its own.
    largest = {
        name: 1.0 if name in plots.GATES else float(np.nanmax(values, initial=1e-6))
        for name, values in means.items()
    }
    for t, token in enumerate(tokens):
        shown = plots.printable(token)
        if cell_len(shown) > _TOKEN_WIDTH:
            shown = set_cell_size(shown, _TOKEN_WIDTH - 1) + "…"
        line = Text(set_cell_size(shown, _TOKEN_WIDTH) + " ")
        for name, values in means.items():
            if np.isnan(values[t]):
                line.append(f"{'-':^7}", style="dim")
            else:
                line.append(f"{values[t]:^7.2f}", style=_heat(float(values[t]) / largest[name]))
        terminal.console.print(line)


def _heat(share: float) -> Style:
    """Return a background from violet (0) over green to yellow (1), with letters to be read."""
    stops = ((68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37))  # viridis
    at = min(max(share, 0.0), 1.0) * (len(stops) - 1)
    low = min(int(at), len(stops) - 2)
    rgb = [a + (b - a) * (at - low) for a, b in zip(stops[low], stops[low + 1], strict=True)]
    letters = "#000000" if share > 0.6 else "#ffffff"
    return Style(color=letters, bgcolor=Color.from_rgb(*rgb))
