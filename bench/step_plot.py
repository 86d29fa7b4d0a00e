"""The plots of ``python -m bench step``, from its JSON alone."""

from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator, PercentFormatter

from bench.engines import PEERS
from bench.step_results import Results, gb_per_s, read_gb_per_s

# One colour per library, one line style per way of calling it.
_OWN = "#0b62d6"
_OWN_LIGHT = "#7db4f5"
_GREY = "#5f6368"
_LINES: dict[str, dict[str, Any]] = {
    "numlstm": {"color": _OWN, "linewidth": 2.6, "marker": "o", "zorder": 3},
    "onnxruntime_binding": {"color": "#c2410c", "marker": "s"},
    "onnxruntime_run": {"color": "#c2410c", "marker": "s", "linestyle": "--", "fillstyle": "none"},
    "torch_module": {"color": "#7b2d8e", "marker": "^"},
    "torch_cell": {"color": "#7b2d8e", "marker": "^", "linestyle": "--", "fillstyle": "none"},
    "numpy": {"color": "#8a8f98", "marker": "D"},
}
_LEFT = 0.09  # of the latency plot
_BOTTOM_US = 0.2
_STYLE: Any = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": _GREY,
    "axes.grid": True,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.axisbelow": True,
    "grid.color": "#e3e5e8",
    "grid.linewidth": 0.7,
    "xtick.color": _GREY,
    "ytick.color": _GREY,
    "xtick.labelcolor": "black",
    "ytick.labelcolor": "black",
    "lines.linewidth": 1.5,
    "lines.markersize": 5,
    "legend.edgecolor": "none",
    "legend.framealpha": 1,
}


def write(results: Results, path: Path) -> list[Path]:
    """Write the plots beside the JSON; return their paths."""
    plots = {
        path.with_suffix(".png"): _latency,
        path.with_name(f"{path.stem}_bandwidth.png"): _bandwidth,
    }
    for target, draw in plots.items():
        with plt.rc_context(_STYLE):
            figure = draw(results)
            figure.savefig(target, dpi=150)
            plt.close(figure)
    return list(plots)


def _latency(results: Results) -> Figure:
    """Median latency against hidden_size, a panel for each cell and depth."""
    panels: dict[tuple[str, int], list[Results]] = {}
    for case in results["cases"]:
        panels.setdefault((case["cell"], case["num_layers"]), []).append(case)
    cells = list(dict.fromkeys(cell for cell, _ in panels))
    depths = list(dict.fromkeys(depth for _, depth in panels))
    figure, axes = plt.subplots(
        len(cells), len(depths), figsize=(10, 8.6), sharex=True, sharey=True, squeeze=False
    )
    for (cell, num_layers), cases in panels.items():
        ax = axes[cells.index(cell)][depths.index(num_layers)]
        _latency_panel(ax, cases, results)
        ax.set_title(f"{cell}, {num_layers} layer{'s' if num_layers > 1 else ''}")
    axes[0][0].set_ylim(bottom=_BOTTOM_US)  # the read of a tiny network would take half the plot
    for ax in axes[-1]:
        ax.set_xlabel("hidden_size = input_size")
    for ax in axes[:, 0]:
        ax.set_ylabel("median of a step")
    figure.suptitle(
        "One step, batch 1, float32, one core", x=_LEFT, y=0.985, ha="left", fontsize=13,
        weight="bold",
    )  # fmt: skip
    figure.text(_LEFT, 0.942, results["cpu"], color=_GREY, ha="left")
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=4, bbox_to_anchor=(0.5, 0.005))
    figure.subplots_adjust(_LEFT, 0.135, 0.985, 0.895, wspace=0.06, hspace=0.14)
    return figure


def _latency_panel(ax: Axes, cases: list[Results], results: Results) -> None:
    sizes = [case["hidden_size"] for case in cases]
    for name, line in _LINES.items():
        if name not in results["skipped"]:
            times = [case["engines"][name]["step"]["p50_us"] for case in cases]
            ax.plot(sizes, times, label=PEERS[name].label.format(cell="*"), **line)
    roof = [
        case["engines"]["numlstm"]["weight_bytes"] / read_gb_per_s(case)[0] / 1e3 for case in cases
    ]
    ax.plot(sizes, roof, ":", color="black", linewidth=1.2, label="reading the weights once")
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xticks(sizes, [str(size) for size in sizes])
    ax.yaxis.set_major_formatter(FuncFormatter(_duration))
    ax.yaxis.set_minor_formatter(NullFormatter())


def _bandwidth(results: Results) -> Figure:
    """Weight bytes per second against the bytes of the weights, and the share of a pure read."""
    cases = sorted(results["cases"], key=_weight_bytes)
    sizes = [_weight_bytes(case) for case in cases]
    reads = [read_gb_per_s(case)[0] for case in cases]
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.8), sharex=True)
    left.plot(sizes, reads, ":", color="black", marker="_", label="read, nothing else")
    for call, colour, label in (
        ("one_row", _OWN_LIGHT, "steps in one compiled call"),
        ("step", _OWN, "step, called from Python"),
    ):
        rates = [gb_per_s(case, call) for case in cases]
        left.plot(sizes, rates, color=colour, label=label, marker="o")
        shares = [rate / read for rate, read in zip(rates, reads, strict=True)]
        right.plot(sizes, shares, color=colour, label=label, marker="o")
    for ax in (left, right):
        ax.set_xscale("log", base=2)
        ax.xaxis.set_major_formatter(FuncFormatter(_bytes))
        ax.xaxis.set_minor_locator(NullLocator())
        ax.set_xlabel("weights of the network")
        ax.set_ylim(bottom=0)
        _mark_caches(ax, results, sizes)
    left.set_title("Weights read per second, GB/s", pad=18)
    right.set_title("numlstm's share of the read", pad=18)
    right.axhline(1, color="black", linestyle=":")
    right.set_ylim(0, 1.1)
    right.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    left.legend(loc="upper right")
    right.legend(loc="lower right")
    figure.subplots_adjust(0.06, 0.12, 0.985, 0.87, wspace=0.14)
    return figure


def _weight_bytes(case: Results) -> int:
    size: int = case["engines"]["numlstm"]["weight_bytes"]
    return size


def _mark_caches(ax: Axes, results: Results, sizes: list[int]) -> None:
    for name, size in results["cache_bytes"].items():
        if sizes[0] < size < sizes[-1]:
            ax.axvline(size, color=_GREY, linewidth=0.8)
            ax.annotate(
                name, (size, 1), (0, 3), xycoords=("data", "axes fraction"),
                textcoords="offset points", ha="center", color=_GREY,
            )  # fmt: skip


def _duration(us: float, _: object) -> str:
    return f"{us:g} µs" if us < 1000 else f"{us / 1000:g} ms"


def _bytes(size: float, _: object) -> str:
    return f"{size / 2**20:g} MiB" if size >= 2**20 else f"{size / 2**10:g} KiB"
