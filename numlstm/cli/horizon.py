"""``numlstm horizon``: how far back a network remembers."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Column, Table
from rich.text import Text

import numlstm
from numlstm.cli import terminal
from numlstm.cli.options import JsonOption, ModelArgument, PartOption, PlotOption
from numlstm.cli.texts import encode, read_text, write_json

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_BARS = "▁▂▃▄▅▆▇█"
_DECADES = 4  # of the norms that the bars tell apart, below 1
_NUM_BARS = 15
_FURTHEST = 1_000_000  # steps


def horizon(
    model: ModelArgument,
    text: Annotated[
        str | None, typer.Option("--text", "-t", help="What the model reads; random if not given.")
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            "--file",
            "-f",
            help="A text file, - for stdin, or a .npy file: token ids (T,) or numbers (T, inputs).",
        ),
    ] = None,
    max_distance: Annotated[
        int,
        typer.Option(
            "--max-distance", "-k", min=1, max=_FURTHEST, help="How many steps to look back."
        ),
    ] = 100,
    part: PartOption = None,
    plot: PlotOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show how far back a model remembers.

    That is the norm of the Jacobian of a layer's state by its state k steps before: what a small
    change has become after k steps. Where it has shrunk to nothing, so has every gradient.

    Of a long text or recording, the first 2 * max-distance steps are read.

    [bold]Examples[/bold]

        numlstm horizon sentiment --text "The film begins slowly, then it becomes a great story."

        numlstm horizon sentiment --plot horizon.png

        numlstm horizon sensor.safetensors --file recording.npy --json
    """
    if text is not None and file is not None:
        raise typer.BadParameter("give --text or --file, not both")
    loaded = terminal.load(model, part)
    # As many windows as there are steps to look back; more of a book would say no more.
    seq_len = 2 * max_distance
    is_random = text is None and file is None
    xs = _random(loaded, seq_len) if is_random else _read(loaded, text, file)[:seq_len]
    with terminal.waiting("multiplying Jacobians"):
        found = numlstm.analysis.horizon(loaded, xs, max_distance)
    if plot is not None:
        found.plot(plot)
    lives = found.half_life
    if as_json:
        for name, norms in found.norms.items():
            write_json(layer=name, half_life=lives[name], norms=norms)
    elif plot is None:
        _show_horizon(found, lives)


def _random(model: "numlstm.Model", seq_len: int) -> "NDArray[Any]":
    """Return token ids, or normally distributed numbers: always the same."""
    import numpy as np

    generator = np.random.default_rng(0)
    if model.vocab_size is not None:
        return generator.integers(0, model.vocab_size, seq_len)
    return generator.standard_normal((seq_len, model.input_size), np.float32)


def _read(model: "numlstm.Model", text: str | None, file: Path | None) -> "NDArray[Any]":
    import numpy as np

    if file is not None and file.suffix == ".npy":
        return _rows_of(file)
    return np.array(encode(model, read_text(file) if text is None else text)[0])


def _rows_of(file: Path) -> "NDArray[Any]":
    """Return the array of a .npy file, of which no more is read than there is."""
    import tokenize  # by which NumPy reads what an array is

    import numpy as np

    try:
        return np.array(np.lib.format.open_memmap(file, mode="r"))
    except (ValueError, TypeError, OverflowError, tokenize.TokenError, SyntaxError) as error:
        raise numlstm.WeightsError(f"{file}: is not an array of numbers: {error}") from error


def _show_horizon(found: "numlstm.analysis.Horizon", lives: dict[str, int | None]) -> None:
    last = int(found.distances[-1])
    shown = sorted({min(k, last) for k in (1, 10, last)})
    headers = ("layer", "half-life", *(f"k = {k}" for k in shown), f"k = 0 to {last}")
    table = Table(*(Column(header, no_wrap=True) for header in headers), box=SIMPLE_HEAD)
    for name, norms in found.norms.items():
        life = f"over {len(norms) - 1}" if lives[name] is None else str(lives[name])
        numbers = (f"{norms[k]:.2g}" if k < len(norms) else "" for k in shown)
        table.add_row(name, life, *numbers, Text(_bars(norms), style="cyan"))
    terminal.console.print(table)
    terminal.console.print(
        "What a change of the state has become k steps later, on a logarithmic scale "
        f"(█ 1 or more, ▁ 1e-{_DECADES} or less). Half-life: from where on it is below a half.",
        style="dim",
    )


def _bars(norms: "NDArray[np.float64]") -> str:
    """Return norms as bars, on a logarithmic scale of _DECADES below 1."""
    import numpy as np

    at = np.unique(np.linspace(0, len(norms) - 1, _NUM_BARS).round().astype(int))
    decades = np.log10(np.clip(norms[at], 10.0**-_DECADES, 1.0))
    levels = ((1 + decades / _DECADES) * (len(_BARS) - 1)).round().astype(int)
    return "".join(_BARS[level] for level in levels)
