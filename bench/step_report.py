"""The tables and plots of ``python -m bench step``, from its JSON alone."""

from pathlib import Path

from bench import step_plot
from bench.engines import PEERS
from bench.markdown import number, table
from bench.step_results import Results, gb_per_s, read_gb_per_s

_NEEDED_FOR_P999 = 1000  # calls; with fewer it is the maximum


def write(results: Results, path: Path) -> list[Path]:
    """Write the Markdown and the plots beside the JSON; return their paths."""
    markdown = path.with_suffix(".md")
    markdown.write_text(report(results))
    return [markdown, *step_plot.write(results, path)]


def report(results: Results) -> str:
    """Return all tables as Markdown."""
    parts = [
        "# One step of a stream",
        f"Generated from the JSON beside it by `python -m bench report`.\n\n{_machine(results)}",
        *(_times(results, cell, "p50_us", "median") for cell in _cells(results)),
        _ratios(results),
        _tails(results),
        *(_times(results, cell, "p99_us", "99th percentile") for cell in _cells(results)),
        _bandwidth(results),
        _dispatch(results),
        _starts(results),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def summary(results: Results) -> str:
    """Return the table of the README: LSTM with one layer."""
    names = _engines(results)
    peers = [name for name in ("onnxruntime_binding", "torch_module") if name in names]
    header = [
        "units",
        *(_label(name, "LSTM") for name in names),
        *(f"{_label(name, 'LSTM')} / numlstm" for name in peers),
    ]
    rows = []
    for case in results["cases"]:
        if case["cell"] != "LSTM" or case["num_layers"] != 1:
            continue
        times = {name: case["engines"][name]["step"]["p50_us"] for name in names}
        ratios = (f"{times[name] / times['numlstm']:.1f}x" for name in peers)
        rows.append([str(case["hidden_size"]), *(number(us) for us in times.values()), *ratios])
    return f"{table(header, rows)}\n\n{results['cpu']}, {results['date']}."


def _label(name: str, cell: str) -> str:
    """Return what tables and plots call an engine."""
    return PEERS[name].label.format(cell=cell)


def _cells(results: Results) -> list[str]:
    return list(dict.fromkeys(case["cell"] for case in results["cases"]))


def _engines(results: Results) -> list[str]:
    return [name for name in PEERS if name not in results["skipped"]]


def _network(case: Results) -> str:
    return f"{case['cell']} {case['num_layers']} x {case['hidden_size']}"


def _machine(results: Results) -> str:
    caches = ", ".join(
        f"{level} {size / 2**20:g} MiB" if size >= 2**20 else f"{level} {size // 1024} KiB"
        for level, size in results["cache_bytes"].items()
    )
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    settings = results["settings"]
    lines = [
        f"- {results['cpu']}, {results['num_cores']} cores, {caches}; {results['system']}",
        f"- {versions}",
        f"- {results['date']}, `{results['command']}`",
        f"- one process per engine, one thread, core {settings['core']}; "
        f"{settings['rounds']} rounds of {settings['seconds']} s per engine, in turns",
        f"- every time includes {results['clock_us'] * 1e3:.0f} ns for reading the clock",
    ]
    lines += [f"- not measured: {name}, {why}" for name, why in results["skipped"].items()]
    return "\n".join(lines)


def _times(results: Results, cell: str, percentile: str, title: str) -> str:
    """Return a percentile of a step of every engine, for all networks of a cell."""
    names = _engines(results)
    header = [f"{cell}, layers x units", *(_label(name, cell) for name in names)]
    rows = [
        [_network(case), *(number(case["engines"][name]["step"][percentile]) for name in names)]
        for case in results["cases"]
        if case["cell"] == cell
    ]
    return f"## {cell}: {title} of a step, us\n\n{table(header, rows)}"


def _ratios(results: Results) -> str:
    peers = _engines(results)[1:]
    header = ["layers x units", *(_label(name, "*") for name in peers)]
    rows = []
    for case in results["cases"]:
        engines = case["engines"]
        own = engines["numlstm"]["step"]["p50_us"]
        ratios = [engines[name]["step"]["p50_us"] / own for name in peers]
        rows.append(
            [
                _network(case),
                *(f"{ratio:.2f}" if ratio >= 1 else f"**{ratio:.2f}**" for ratio in ratios),
            ]
        )
    return (
        "## Median of each engine / median of numlstm\n\nAbove 1 numlstm is faster; where it "
        f"loses, the ratio is bold. `*` is LSTM or GRU.\n\n{table(header, rows)}"
    )


def _tails(results: Results) -> str:
    header = ["numlstm, us", "p50", "p90", "p99", "p99.9", "max", "p99 / p50", "run/64, per step"]
    rows = []
    for case in results["cases"]:
        engine = case["engines"]["numlstm"]
        step = engine["step"]
        enough = step["num_calls"] >= _NEEDED_FOR_P999
        rows.append(
            [
                _network(case),
                *(number(step[f"{name}_us"]) for name in ("p50", "p90", "p99")),
                number(step["p999_us"] if enough else None),
                number(step["max_us"]),
                f"{step['p99_us'] / step['p50_us']:.2f}",
                number(engine["run"]["p50_us"]),
            ]
        )
    return (
        "## numlstm: the tail, and many steps in one call\n\n"
        "`run/64` is `Stream.run` with 64 steps: the input half of a layer reads its weights once "
        f"for several steps.\n\n{table(header, rows)}"
    )


def _bandwidth(results: Results) -> str:
    header = [
        "layers x units",
        "weights, KB",
        "read, GB/s",
        "fastest read",
        "`step`, GB/s",
        "share of read",
        "compiled steps, GB/s",
        "share of read",
        "`run`, GB/s",
        "share of read",
    ]
    rows = []
    for case in results["cases"]:
        read, which = read_gb_per_s(case)
        row = [
            _network(case),
            number(case["engines"]["numlstm"]["weight_bytes"] / 1e3),
            number(read),
            which,
        ]
        for call in ("step", "one_row", "run"):
            rate = gb_per_s(case, call)
            row += [number(rate), f"{rate / read:.0%}"]
        rows.append(row)
    return (
        "## Weights read per second\n\n"
        "A step reads every weight once. `read` is a compiled loop that does nothing else with the "
        "same bytes, in the same process and rounds; `step` is called from Python for each step; "
        "`compiled steps` are 64 steps in one compiled call that reads the weights for each of "
        "them, the kernels alone; `run` is `Stream.run` of 64 steps, which reads the input half "
        "of the weights once for several steps and so may pass the roof."
        f"\n\n{table(header, rows)}"
    )


def _dispatch(results: Results) -> str:
    rows = []
    for case in results["cases"]:
        engine = case["engines"]["numlstm"]
        if "empty" in engine:
            step, empty, entry = (engine[name]["p50_us"] for name in ("steps", "empty", "entry"))
            rows.append(
                [
                    _network(case),
                    *(f"{us * 1e3:.0f}" for us in (step, empty, entry)),
                    f"{step / empty:.2f}",
                    f"{step / entry:.2f}",
                ]
            )
    if not rows:
        return ""
    header = ["layers x units", "`step`, ns", "empty, ns", "entry, ns", "step / empty"]
    header.append("step / entry")
    return (
        "## A small step beside an empty call\n\n"
        "`empty` is a call of a compiled function that does nothing, with the five arrays of a "
        "step; `entry` is a call of one that does nothing either, made as numlstm calls its "
        f"kernels: past Numba's dispatcher, with addresses for arrays. Timed by the thousand, "
        f"without the clock.\n\n{table(header, rows)}"
    )


def _starts(results: Results) -> str:
    names = _engines(results)
    cases = [case for case in results["cases"] if case["num_layers"] == 1]
    cases = [case for case in cases if case["cell"] == "LSTM"]
    header = ["layers x units", *(_label(name, "LSTM") for name in names)]
    parts = [
        "## From the start of the process\n\n"
        "Loading is from the engine's own file of the weights to being ready; the first output "
        "counts from the start of the Python process, the imports included. numlstm's kernels were "
        "compiled before, and come from the cache. Memory is the peak of the process."
    ]
    for title, key, unit in (
        ("Import, s", "import_s", 1.0),
        ("Load, ms", "load_s", 1e3),
        ("First output, s", "first_output_s", 1.0),
        ("Peak memory, MB", "peak_memory_bytes", 1e-6),
    ):
        rows = []
        for case in cases:
            values = [case["engines"][name][key] for name in names]
            rows.append(
                [
                    _network(case),
                    *(number(None if value is None else value * unit) for value in values),
                ]
            )
        parts.append(f"### {title}\n\n{table(header, rows)}")
    return "\n\n".join(parts)
