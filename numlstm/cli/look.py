"""``numlstm memory`` and ``numlstm trace``: what a network remembers, and what its gates do."""

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.box import SIMPLE_HEAD
from rich.cells import cell_len, set_cell_size
from rich.color import Color
from rich.style import Style
from rich.table import Column, Table
from rich.text import Text

import numlstm
from numlstm import analysis, plots
from numlstm.cli import terminal
from numlstm.cli.models import ModelArgument
from numlstm.cli.texts import JsonOption, read_text, write_json

_BARS = "▁▂▃▄▅▆▇█"
_DECADES = 4  # of the norms that the bars tell apart, below 1
_NUM_BARS = 15
_TOKEN_WIDTH = 16

PlotOption = Annotated[
    Path | None,
    typer.Option("--plot", help="Draw a .png, .svg or .pdf file in place of a table."),
]
PartOption = Annotated[
    str | None, typer.Option("--part", help="Of a model of several networks, the one to look at.")
]


def memory(
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
        int, typer.Option("--max-distance", "-k", min=1, help="How many steps to look back.")
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

        numlstm memory sentiment --text "The film begins slowly, but then it becomes a great story."

        numlstm memory sentiment --plot memory.png

        numlstm memory sensor.safetensors --file recording.npy --json
    """
    if text is not None and file is not None:
        raise typer.BadParameter("give --text or --file, not both")
    loaded = terminal.load(model, part)
    # As many windows as there are steps to look back; more of a book would say no more.
    seq_len = 2 * max_distance
    is_random = text is None and file is None
    xs = _random(loaded, seq_len) if is_random else _read(loaded, text, file)[:seq_len]
    with terminal.waiting("multiplying Jacobians"):
        found = analysis.memory(loaded, xs, max_distance)
    if plot is not None:
        found.plot(plot)
    lives = found.half_life
    if as_json:
        for name, norms in found.norms.items():
            write_json(layer=name, half_life=lives[name], norms=norms)
    elif plot is None:
        _show_memory(found, lives)


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
    loaded = terminal.load(model, part)
    ids, tokens = _encode(loaded, text)
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


# What a model reads -------------------------------------------------------------------------------


def _random(model: numlstm.Model, seq_len: int) -> NDArray[Any]:
    """Return token ids, or normally distributed numbers: always the same."""
    generator = np.random.default_rng(0)
    if model.vocab_size is not None:
        return generator.integers(0, model.vocab_size, seq_len)
    return generator.standard_normal((seq_len, model.input_size), np.float32)


def _read(model: numlstm.Model, text: str | None, file: Path | None) -> NDArray[Any]:
    if file is not None and file.suffix == ".npy":
        return np.asarray(np.load(file, allow_pickle=False))
    return np.array(_encode(model, read_text(file) if text is None else text)[0])


def _encode(model: numlstm.Model, text: str) -> tuple[list[int], list[str]]:
    """Return the ids of a text, and the part of the text that each one stands for."""
    if model.tokenizer is None or model.vocab_size is None:
        raise numlstm.WeightsError("the model has no tokenizer, so it reads no text")
    tokenizer = model.load_tokenizer()
    tokenizer.no_padding()
    tokenizer.no_truncation()
    # What a terminal passes on may be half a character.
    text = text.encode("utf-8", "replace").decode("utf-8")
    encoding = tokenizer.encode(text, add_special_tokens=False)
    if not encoding.ids:
        raise ValueError("the text is empty: the tokenizer makes no tokens of it")
    return encoding.ids, [text[start:end] for start, end in encoding.offsets]


# What people see ----------------------------------------------------------------------------------


def _show_memory(found: analysis.Memory, lives: dict[str, int | None]) -> None:
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


def _bars(norms: NDArray[np.float64]) -> str:
    """Return norms as bars, on a logarithmic scale of _DECADES below 1."""
    at = np.unique(np.linspace(0, len(norms) - 1, _NUM_BARS).round().astype(int))
    decades = np.log10(np.clip(norms[at], 10.0**-_DECADES, 1.0))
    levels = ((1 + decades / _DECADES) * (len(_BARS) - 1)).round().astype(int)
    return "".join(_BARS[level] for level in levels)


def _show_trace(tokens: list[str], means: dict[str, NDArray[np.float32]]) -> None:
    """Write a row per token, a coloured cell per gate, from 0 to the largest."""
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
