"""The plots of the benchmarks, from their JSON alone."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator, PercentFormatter

from bench.engines import PEERS, label_of
from bench.report.page import Results, engines_of, error, value
from bench.report.speed_pages import gflops, peak_gflops
from bench.report.step_page import gb_per_s, read_gb_per_s

# One colour and marker per library, one line style per dtype or way of calling it.
_OWN, _OWN_LIGHT, _OWN_DARK = "#0b62d6", "#4fa3ff", "#062c66"
_GREY = "#5f6368"
_ORT, _OPENVINO, _TORCH = "#c2410c", "#15803d", "#7b2d8e"
_LITERT, _MNN, _NCNN = "#ca8a04", "#0e7490", "#be185d"
_OPEN: dict[str, Any] = {"linestyle": "--", "markerfacecolor": "white"}
_HALF: dict[str, Any] = {"linestyle": "-.", "fillstyle": "bottom", "markerfacecoloralt": "white"}
_LINES: dict[str, dict[str, Any]] = {
    "numlstm": {"color": _OWN, "linewidth": 2.4, "marker": "o", "zorder": 3},
    "numlstm_bfloat16": {
        "color": _OWN_LIGHT,
        "linewidth": 2.4,
        "marker": "o",
        "zorder": 3,
        **_HALF,
    },
    "numlstm_int8": {"color": _OWN_DARK, "linewidth": 2.4, "marker": "o", "zorder": 3, **_OPEN},
    "numlstm_int8_int8": {
        "color": _OWN_DARK,
        "linewidth": 2.4,
        "marker": "s",
        "zorder": 3,
        **_OPEN,
    },
    "onnxruntime_binding": {"color": _ORT, "marker": "s"},
    "onnxruntime_run": {"color": _ORT, "marker": "s", **_OPEN},
    "onnxruntime_int8": {"color": _ORT, "marker": "s", **_OPEN},
    "openvino": {"color": _OPENVINO, "marker": "v"},
    "openvino_bfloat16": {"color": _OPENVINO, "marker": "v", **_HALF},
    "litert": {"color": _LITERT, "marker": "P"},
    "litert_int8": {"color": _LITERT, "marker": "P", **_OPEN},
    "mnn": {"color": _MNN, "marker": "X"},
    "mnn_int8": {"color": _MNN, "marker": "X", **_OPEN},
    "ncnn": {"color": _NCNN, "marker": "h"},
    "ncnn_int8": {"color": _NCNN, "marker": "h", **_OPEN},
    "torch_module": {"color": _TORCH, "marker": "^"},
    "torch_cell": {"color": _TORCH, "marker": "^", **_OPEN},
    "torch_int8": {"color": _TORCH, "marker": "^", **_OPEN},
    "numpy": {"color": "#8a8f98", "marker": "D"},
    "cpp": {"color": "black", "marker": "."},
}
_LEFT = 0.09  # of the latency plots
_BOTTOM_US = 0.1
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
    "legend.handlelength": 3,
}


def write(results: Results, path: Path) -> list[Path]:
    """Write the plots of a benchmark beside its JSON; return their paths."""
    if "numlstm" not in engines_of(results.get("cases", [])):
        return []
    plots = _PLOTS.get(results["benchmark"], {})
    targets = []
    for suffix, draw in plots.items():
        target = path.with_name(f"{path.stem}{suffix}.png")
        with plt.rc_context(_STYLE):
            figure = draw(results)
            figure.savefig(target, dpi=150)
            plt.close(figure)
        targets.append(target)
    return targets


def _vectors(results: Results) -> list[Results]:
    return [case for case in results["cases"] if not case.get("vocab_size")]


# Latency against size -----------------------------------------------------------------------------


def _float32(results: Results) -> Figure:
    names = engines_of(_vectors(results), ("float32",))
    return _latency(results, "One step, batch 1, float32", [n for n in names if n in _LINES])


def _fewer_bits(results: Results) -> Figure:
    names = ["numlstm", *engines_of(_vectors(results), ("bfloat16", "int8"))]
    return _latency(results, "One step, batch 1, weights of fewer bits", names)


def _latency(results: Results, title: str, names: Sequence[str]) -> Figure:
    """Median latency against hidden_size, a panel for each cell and depth."""
    panels: dict[tuple[str, int], list[Results]] = {}
    for case in _vectors(results):
        panels.setdefault((case["cell"], case["num_layers"]), []).append(case)
    cells = list(dict.fromkeys(cell for cell, _ in panels))
    depths = list(dict.fromkeys(depth for _, depth in panels))
    figure, axes = plt.subplots(
        len(cells), len(depths), figsize=(10, 8.6), sharex=True, sharey=True, squeeze=False
    )
    for (cell, num_layers), cases in panels.items():
        ax = axes[cells.index(cell)][depths.index(num_layers)]
        _latency_panel(ax, cases, names)
        ax.set_title(f"{cell}, {num_layers} layer{'s' if num_layers > 1 else ''}")
    axes[0][0].set_ylim(bottom=_BOTTOM_US)  # the read of a tiny network would take half the plot
    for ax in axes[-1]:
        ax.set_xlabel("hidden_size = input_size")
    for ax in axes[:, 0]:
        ax.set_ylabel("median of a step")
    _head(figure, f"{title}, {_on(results)}", results)
    # No cell has every engine.
    entries: dict[str, Any] = {}
    for ax in axes.flat:
        handles, labels = ax.get_legend_handles_labels()
        entries |= dict(zip(labels, handles, strict=True))
    figure.legend(
        list(entries.values()),
        list(entries),
        loc="lower center",
        ncols=4,
        bbox_to_anchor=(0.5, 0.005),
    )
    figure.subplots_adjust(_LEFT, 0.145, 0.985, 0.895, wspace=0.06, hspace=0.14)
    return figure


def _latency_panel(ax: Axes, cases: list[Results], names: Sequence[str]) -> None:
    sizes = [case["hidden_size"] for case in cases]
    for name in names:
        times = [value(case, name, "step") for case in cases]
        if any(times):
            line = [float("nan") if time is None else time for time in times]
            ax.plot(sizes, line, label=label_of(name, "*"), **_LINES[name])
    roof = [_weight_bytes(case) / read_gb_per_s(case, "numlstm")[0] / 1e3 for case in cases]
    ax.plot(sizes, roof, ":", color="black", linewidth=1.2, label="reading float32 weights once")
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xticks(sizes, [str(size) for size in sizes])
    ax.yaxis.set_major_formatter(FuncFormatter(_duration))
    ax.yaxis.set_minor_formatter(NullFormatter())


def _head(figure: Figure, title: str, results: Results, left: float = _LEFT) -> None:
    height = figure.get_figheight()
    top = 1 - 0.14 / height
    figure.suptitle(title, x=left, y=top, ha="left", va="top", fontsize=13, weight="bold")
    figure.text(left, 1 - 0.5 / height, results["cpu"], color=_GREY, ha="left")


def _on(results: Results) -> str:
    threads = results["settings"].get("num_threads", 1)
    return "one core" if threads == 1 else f"{threads} threads"


# The share of the roof ----------------------------------------------------------------------------


def _roof(results: Results) -> Figure:
    """Weight bytes per second against the bytes of the weights, and the share of a pure read."""
    cases = _vectors(results)
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 5), sharex=True)
    ends: list[int] = []
    for name in engines_of(cases):
        if not PEERS[name].is_own:
            continue
        own = sorted(cases, key=lambda case: _weight_bytes(case, name))
        sizes = [_weight_bytes(case, name) for case in own]
        ends += [sizes[0], sizes[-1]]
        reads = [read_gb_per_s(case, name)[0] for case in own]
        if name == "numlstm":
            left.plot(sizes, reads, ":", color="black", label="read, nothing else")
        rates = [gb_per_s(case, name, "step") for case in own]
        shares = [rate / read for rate, read in zip(rates, reads, strict=True)]
        line = _LINES[name] | {"linewidth": 1.5}
        left.plot(sizes, rates, label=label_of(name, ""), **line)
        right.plot(sizes, shares, label=label_of(name, ""), **line)
    for ax in (left, right):
        ax.set_xscale("log", base=2)
        ax.xaxis.set_major_formatter(FuncFormatter(_bytes))
        ax.xaxis.set_minor_locator(NullLocator())
        ax.set_xlabel("weights of the network in its dtype")
        ax.set_ylim(bottom=0)
        _mark_caches(ax, results, min(ends), max(ends))
    left.set_title("Weights read per second by step, GB/s", pad=18)
    right.set_title("Share of a read of the same bytes", pad=18)
    right.axhline(1, color="black", linestyle=":")
    right.set_ylim(0, max(1.1, right.get_ylim()[1]))
    right.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    left.legend(loc="upper right")
    figure.subplots_adjust(0.06, 0.12, 0.985, 0.87, wspace=0.14)
    return figure


def _weight_bytes(case: Results, name: str = "numlstm") -> int:
    size: int = case["engines"][name]["weight_bytes"]
    return size


def _mark_caches(ax: Axes, results: Results, smallest: int, largest: int) -> None:
    for name, size in results["cache_bytes"].items():
        if smallest < size < largest:
            ax.axvline(size, color=_GREY, linewidth=0.8)
            ax.annotate(
                name, (size, 1), (0, 3), xycoords=("data", "axes fraction"),
                textcoords="offset points", ha="center", color=_GREY,
            )  # fmt: skip


# Error against dtype ------------------------------------------------------------------------------


def _errors(results: Results) -> Figure:
    """The largest difference to float64 of each engine, a mark for each network."""
    cases = _vectors(results)
    dtypes = ("float32", "bfloat16", "int8")
    names = [name for dtype in dtypes for name in engines_of(cases, (dtype,)) if name in _LINES]
    figure, ax = plt.subplots(figsize=(10, 1.6 + 0.34 * len(names)))
    for y, name in enumerate(names):
        found = [error(case, name) for case in cases]
        errors = [one for one in found if one]
        line = _LINES[name] | {"linestyle": "none", "zorder": 3}
        ax.plot([min(errors), max(errors)], [y, y], color=line["color"], linewidth=4, alpha=0.2)
        ax.plot(errors, [y] * len(errors), **line)
        if y and PEERS[name].dtype != PEERS[names[y - 1]].dtype:
            ax.axhline(y - 0.5, color=_GREY, linewidth=0.8)
    ax.set_xscale("log")
    ax.set_yticks(range(len(names)), [label_of(name, "*") for name in names])
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.grid(axis="y", visible=False)
    ax.set_xlabel("largest |y - float64| over 64 steps, a mark for each network; y is in -1 .. 1")
    _head(figure, "Error of each engine and dtype", results, 0.25)
    height = figure.get_figheight()
    figure.subplots_adjust(0.25, 0.55 / height, 0.985, 1 - 0.65 / height)
    return figure


# Throughput against streams -----------------------------------------------------------------------


def _throughput(results: Results) -> Figure:
    """Floating-point operations and steps per second against the streams of a call."""
    panels: dict[int, list[Results]] = {}
    for case in results["cases"]:
        panels.setdefault(case["hidden_size"], []).append(case)
    names = engines_of(results["cases"])
    figure, axes = plt.subplots(
        1, len(panels), figsize=(5.5 * len(panels), 5.6), sharey=True, squeeze=False
    )
    for ax, (size, cases) in zip(axes[0], panels.items(), strict=True):
        counts = [case["num_streams"] for case in cases]
        for name in names:
            rates = [gflops(case, name) or float("nan") for case in cases]
            ax.plot(counts, rates, label=label_of(name, "LSTM"), **_LINES[name])
        peaks = [peak_gflops(case) for case in cases]
        ax.plot(counts, peaks, ":", color="black", linewidth=1.2, label="peak of float32")
        ax.set_xscale("log", base=2)
        ax.set_xticks(counts, [str(count) for count in counts])
        ax.xaxis.set_minor_locator(NullLocator())
        ax.set_xlabel("streams in one call")
        ax.set_title(f"LSTM 1 x {size}")
        _right_axis(ax, cases[0]["flops"] / cases[0]["num_streams"])
    axes[0][0].set_ylim(bottom=0)
    axes[0][0].set_ylabel("GFLOP/s")
    _head(figure, f"One step of many streams, {_on(results)}", results, 0.06)
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=4, bbox_to_anchor=(0.5, 0.005))
    figure.subplots_adjust(0.06, 0.26, 0.94, 0.83, wspace=0.24)
    return figure


def _right_axis(ax: Axes, flops: float) -> None:
    """Show the same in steps of streams: flops are those of one."""

    def steps_of(gflops: Any) -> Any:
        return gflops * 1e6 / flops

    def gflops_of(steps: Any) -> Any:
        return steps * flops / 1e6

    right = ax.secondary_yaxis("right", functions=(steps_of, gflops_of))
    right.set_ylabel("thousand steps per second")
    right.spines["right"].set_visible(False)


def _duration(us: float, _: object) -> str:
    return f"{us:g} µs" if us < 1000 else f"{us / 1000:g} ms"


def _bytes(size: float, _: object) -> str:
    return f"{size / 2**20:g} MiB" if size >= 2**20 else f"{size / 2**10:g} KiB"


# By the benchmark: what is added to the name of the JSON, and who draws.
_PLOTS: dict[str, dict[str, Callable[[Results], Figure]]] = {
    "step": {"": _float32, "_dtypes": _fewer_bits, "_bandwidth": _roof, "_errors": _errors},
    "pool": {"": _throughput},
}
