"""The CPUs side by side, ratios first, from the JSON of all of them: a page and README's table."""

from collections.abc import Callable, Sequence
from pathlib import Path

from bench.engines import PEERS, label_of
from bench.report.page import Results, engines_of, number, table, value
from bench.report.speed_pages import gflops, network_of, peak_gflops
from bench.report.step_page import gb_per_s, read_gb_per_s

# By benchmark, then by the folder of a CPU and its level.
AllResults = dict[str, dict[Path, Results]]

# numlstm's, and those of its peers, by dtype.
_OWN = {"float32": "numlstm", "int8": "numlstm_int8"}
_FLOOR = "cpp"
_NUM_STREAMS = (8, 32, 128)  # of the pools whose share of the peak is told
PACES = {f"every_{ms}_ms": f"every {ms} ms" for ms in (1, 10, 100)}


def page(of: AllResults) -> str:
    """Return the page."""
    folders = sorted({folder for results in of.values() for folder in results})
    parts = [
        "# The CPUs side by side",
        "Generated from the JSON in the folders by `python -m bench report`.",
        "Ratios are the time of the fastest peer over numlstm's in the same dtype, from one run, "
        "outputs checked: above 1 numlstm is faster, where it loses the ratio is bold. A level "
        "below that of the CPU was forced on all engines, which then see a CPU of that level.",
        "\n".join(_head(folder, of) for folder in folders),
    ]
    for benchmark, title in (
        ("step", "A step"),
        ("sequence", "A whole sequence in one call"),
        ("pool", "A step of many streams in one call"),
    ):
        for dtype in _OWN:
            parts.append(_section(f"{title}, {dtype}", of.get(benchmark, {}), _beside_peers(dtype)))
    for ms, pace in PACES.items():
        for dtype in _OWN:
            cells = [_beside_peers(dtype, ms, key) for key in ("p50_us", "p99_us")]
            title = f"A step {pace}, {dtype}: median; 99th percentile"
            parts.append(_section(title, of.get("paced", {}), _both(*cells)))
    for benchmark in ("step", "sequence"):
        title = f"Beside C++ whose sizes are known when it is compiled, {benchmark}"
        parts.append(_section(title, of.get(benchmark, {}), _beside_floor))
    for dtype in _OWN:
        title = f"Share of a read of the weights, step, {dtype}"
        parts.append(_section(title, of.get("step", {}), _share_of_read(dtype)))
        title = f"Share of the peak of float32, pools, {dtype}"
        parts.append(_section(title, of.get("pool", {}), _share_of_peak(dtype)))
    parts.append(_starts(of.get("cold", {})))
    return "\n\n".join(filter(None, parts)) + "\n"


def summary(steps: dict[Path, Results]) -> str:
    """Return the table of the README: LSTM with one layer, the fastest peer's time over ours."""
    folders = sorted(steps)
    columns = [(folder, dtype) for folder in folders for dtype in _OWN]
    header = ["LSTM, units", *(f"{' '.join(folder.parts)}, {dtype}" for folder, dtype in columns)]
    cases: dict[int, dict[Path, Results]] = {}
    for folder in folders:
        for case in steps[folder]["cases"]:
            if case["cell"] == "LSTM" and case["num_layers"] == 1 and not case.get("vocab_size"):
                cases.setdefault(case["hidden_size"], {})[folder] = case
    rows = []
    for size in sorted(cases):
        row = [str(size)]
        for folder, dtype in columns:
            case = cases[size].get(folder)
            row.append(_beside_peers(dtype)(case) if case else "-")
        rows.append(row)
    told = "; ".join(f"{steps[folder]['cpu']}, {steps[folder]['date'][:10]}" for folder in folders)
    return f"{table(header, rows)}\n\n{told}."


def _head(folder: Path, of: AllResults) -> str:
    """Return a line about a CPU, with its pages."""
    own = {benchmark: results[folder] for benchmark, results in of.items() if folder in results}
    cpus = ", ".join({results["cpu"]: None for results in own.values()})
    pages = ", ".join(
        f"[{benchmark}]({folder.as_posix()}/{benchmark}.md)"
        for benchmark in own
        if benchmark != "lookahead"  # its table is in the docs
    )
    return f"- **{folder.as_posix()}**: {cpus}: {pages}"


def _section(title: str, results: dict[Path, Results], cell: Callable[[Results], str]) -> str:
    """Return a table with a row for each network and a column for each CPU."""
    folders = sorted(results)
    rows: dict[str, dict[Path, str]] = {}
    for folder in folders:
        for case in results[folder]["cases"]:
            rows.setdefault(network_of(case), {})[folder] = cell(case)
    lines = [
        [name, *(cells.get(folder, "-") for folder in folders)]
        for name, cells in rows.items()
        if any(text.strip("-; ") for text in cells.values())
    ]
    if not lines:
        return ""
    return f"## {title}\n\n{table(['network', *map(Path.as_posix, folders)], lines)}"


# Cells --------------------------------------------------------------------------------------------


def _beside_peers(dtype: str, call: str = "", key: str = "p50_us") -> Callable[[Results], str]:
    """Return what tells of a case: the ratio to the fastest peer, and which that is."""

    def cell(case: Results) -> str:
        what = call or case["task"]
        own = value(case, _OWN[dtype], what, key)
        times = {
            name: value(case, name, what, key)
            for name in engines_of([case], (dtype,))
            if not PEERS[name].is_own and name != _FLOOR
        }
        known = {name: time for name, time in times.items() if time is not None}
        if own is None or not known:
            return "-"
        fastest = min(known, key=lambda name: known[name])
        label = label_of(fastest, case["cell"]).split(",")[0].removesuffix(f" {dtype}")
        return f"{_bold(known[fastest] / own)} {label}"

    return cell


def _both(*cells: Callable[[Results], str]) -> Callable[[Results], str]:
    return lambda case: "; ".join(cell(case) for cell in cells)


def _beside_floor(case: Results) -> str:
    own, floor = (value(case, name, case["task"]) for name in (_OWN["float32"], _FLOOR))
    return "-" if own is None or floor is None else _bold(floor / own)


def _share_of_read(dtype: str) -> Callable[[Results], str]:
    def cell(case: Results) -> str:
        name = _OWN[dtype]
        if case.get("vocab_size") or name not in case["engines"]:
            return "-"
        return f"{gb_per_s(case, name, 'step') / read_gb_per_s(case, name)[0]:.0%}"

    return cell


def _share_of_peak(dtype: str) -> Callable[[Results], str]:
    def cell(case: Results) -> str:
        rate = gflops(case, _OWN[dtype])
        if (
            rate is None
            or case["num_streams"] not in _NUM_STREAMS
            or "numlstm" not in case["engines"]
        ):
            return "-"
        return f"{rate / peak_gflops(case):.0%}"

    return cell


def _bold(times: float) -> str:
    return f"{times:.2f}" if times >= 1 else f"**{times:.2f}**"


def _starts(results: dict[Path, Results]) -> str:
    """Return the seconds of CPU of processes that do one thing."""
    folders = [folder for folder in sorted(results) if "commands" in results[folder]]
    if not folders:
        return ""
    told: Sequence[str] = list(results[folders[0]]["commands"])
    rows = [
        [what, *(_start(results[folder]["commands"].get(what)) for folder in folders)]
        for what in told
    ]
    header = ["process, s of CPU; largest MB", *map(Path.as_posix, folders)]
    return f"## From the start of a process to its end\n\n{table(header, rows)}"


def _start(found: Results | None) -> str:
    if found is None:
        return "-"
    largest = found["peak_bytes"]
    return f"{number(found['cpu_s'])}; {number(None if largest is None else largest / 1e6)}"
