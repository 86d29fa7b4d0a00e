"""Pictures, with matplotlib, which is imported where a picture is drawn."""

import os
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numlstm.saving import saving

# Colours that people of any colour vision tell apart: Okabe, Ito 2008.
COLORS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")

# What is in [0, 1], and what a unit's gate does.
GATES = {
    "i": "input gate i",
    "f": "forget gate f",
    "o": "output gate o",
    "r": "reset gate r",
    "z": "update gate z",
}
SIGNED = {"g": "candidate g", "n": "candidate n", "c": "cell state c", "h": "hidden state h"}

_FLOOR = 1e-8  # a norm below it is not drawn


def figure(width: float, height: float, rows: int = 1) -> tuple[Any, Any]:
    """Return a figure of inches, and its axes: one, or an array of rows that share the x axis.

    No window and no global state of matplotlib is touched.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "drawing needs matplotlib, which is not installed: pip install 'numlstm[plot]'"
        ) from error
    drawn = Figure(figsize=(width, height), dpi=150, layout="constrained")
    return drawn, drawn.subplots(rows, sharex=True)


def save(drawn: Any, path: str | os.PathLike[str]) -> None:
    """Write a figure, without the date and version that would make each file another."""
    suffix = os.fspath(path).rpartition(".")[2].lower()
    unset = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}
    if suffix not in unset:
        raise ValueError(f"{os.fspath(path)} does not end in .png, .svg or .pdf")
    with saving(path) as file:
        drawn.savefig(file, format=suffix, metadata=unset[suffix])


def plain(axes: Any) -> None:
    """Take away what says nothing."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="0.92")
    axes.set_axisbelow(True)


def draw_horizons(
    norms: Mapping[str, ArrayLike],
    path: str | os.PathLike[str],
    before: Mapping[str, ArrayLike] | None = None,
) -> None:
    """Draw norms (K + 1,) of Jacobians against the distance, by name of the curve.

    before   of the same names, dashed: the same networks before training
    """
    drawn, axes = figure(6.4, 3.9)
    for n, (name, values) in enumerate(norms.items()):
        color = COLORS[n % len(COLORS)]
        axes.plot(_above_floor(values), color=color, label=name, linewidth=1.8)
        if before is not None:
            axes.plot(_above_floor(before[name]), color=color, linewidth=1.0, linestyle=(0, (3, 2)))
    if before is not None:
        axes.plot([], [], color="0.4", linewidth=1.0, linestyle=(0, (3, 2)), label="untrained")
    axes.axhline(1.0, color="0.6", linewidth=0.8)
    axes.set_yscale("log")
    axes.set_xlabel("distance k in steps")
    axes.set_ylabel(r"$\|\,\partial s_T \,/\, \partial s_{T-k}\|$")
    axes.margins(x=0)
    axes.legend(frameon=False)
    plain(axes)
    save(drawn, path)


def _above_floor(values: ArrayLike) -> NDArray[np.float64]:
    values = np.asarray(values, np.float64)
    return np.where(values >= _FLOOR, values, np.nan)


def draw_trace(
    rows: Mapping[str, NDArray[np.float32]],
    path: str | os.PathLike[str],
    tokens: Sequence[str] | None = None,
) -> None:
    """Draw gates and states of a layer, (T, hidden_size) by name, as heat maps of units by steps.

    The units are in the order of the steps at which their h (c, where h is projected) is largest,
    those with a positive one first. The colours of what has no bound, c above all, end at what 98
    of 100 stay within.
    """
    num_steps = len(rows["h"])
    if not num_steps:
        raise ValueError("the trace has no steps to draw")
    if tokens is not None and len(tokens) != num_steps:
        raise ValueError(f"{len(tokens)} tokens were given for {num_steps} steps")
    sizes = {values.shape[1] for values in rows.values()}
    width = min(max(4.0, 1.6 + 0.3 * num_steps), 24.0)
    drawn, many = figure(width, 1.25 * len(rows) + 0.9, len(rows))
    leading = rows["c"] if len(sizes) > 1 else rows["h"]
    peak = np.abs(leading).argmax(0)
    order = np.lexsort((-np.take_along_axis(leading, peak[None], 0)[0], peak))
    for axes, (name, values) in zip(np.atleast_1d(many), rows.items(), strict=True):
        shown = values[:, order] if values.shape[1] == len(order) else values
        if name in GATES:
            low, high, colors = 0.0, 1.0, "viridis"
        else:
            magnitudes = np.abs(values)
            bounded = name != "c" and not (magnitudes > 1).any()
            high = 1.0 if bounded else float(np.nanpercentile(magnitudes, 98)) or 1.0
            low, colors = -high, "RdBu_r"
        image = axes.imshow(
            shown.T, aspect="auto", interpolation="nearest", vmin=low, vmax=high, cmap=colors
        )
        label, _, letter = (GATES | SIGNED)[name].rpartition(" ")
        axes.set_ylabel(f"{label}  $\\mathbf{{{letter}}}$", rotation=0, ha="right", va="center")
        axes.set_yticks([])
        axes.tick_params(axis="x", length=0)
        bar = drawn.colorbar(image, ax=axes, aspect=10, pad=0.01)
        bar.set_ticks([low, (low + high) / 2, high], labels=[f"{low:.3g}", "", f"{high:.3g}"])
    if tokens is None:
        axes.set_xlabel("step")
    else:
        words = [printable(token) for token in tokens]
        axes.set_xticks(range(num_steps), words, rotation=60, ha="right", rotation_mode="anchor")
    # What a font cannot show is an empty box in the picture, not a warning.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing", category=UserWarning)
        save(drawn, path)


def printable(token: str) -> str:
    """Return a token as people can read it: a space is seen, nothing is a command or formula."""
    shown = "".join(c if c.isprintable() else "\ufffd" for c in token.replace("\n", "⏎"))
    return shown if shown.strip() else "␣" * max(len(shown), 1)


def percentiles(shares: Sequence[str], rows: Mapping[str, Sequence[float]]) -> Any:
    """Draw times by what share of them is shorter, a line for each row, microseconds.

    Parameters
    ----------
    shares : sequence of str
        "p50", "p99", ...
    rows : mapping of sequences of float
        As many times each, by what was timed.
    """
    drawn, axes = figure(7, 4.2)
    for n, (name, times) in enumerate(rows.items()):
        axes.plot(shares, times, marker="o", color=COLORS[n % len(COLORS)], label=name)
    axes.set_yscale("log")
    axes.set_ylabel("microseconds")
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    plain(axes)
    return drawn
