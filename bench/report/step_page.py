"""The tables of ``python -m bench step``, from its JSON alone."""

from bench.engines import PEERS, label_of
from bench.report.page import (
    Results,
    engines_of,
    error,
    number,
    page,
    ratio,
    table,
    value,
    with_error,
)

_NEEDED_FOR_P999 = 1000  # calls; with fewer it is the maximum


def report(results: Results) -> str:
    """Return all tables as Markdown."""
    cases = _vectors(results)
    cells = list(dict.fromkeys(case["cell"] for case in cases))
    return page(
        "One step of a stream",
        results,
        *(_times(cases, cell, "p50_us", "median") for cell in cells),
        *(_rounded(cases, cell) for cell in cells),
        _tokens(results),
        *(_ratios(cases, own) for own in engines_of(cases) if PEERS[own].is_own),
        _tails(cases),
        *(_times(cases, cell, "p99_us", "99th percentile") for cell in cells),
        _bandwidth(cases),
        _dispatch(cases),
    )


def read_gb_per_s(case: Results, name: str) -> tuple[float, str]:
    """Return the fastest read of the weights' bytes of an engine, and which loop did it."""
    engine = case["engines"][name]
    reads = {call: engine[call]["p50_us"] for call in engine if call.startswith("read_")}
    fastest = min(reads, key=lambda call: reads[call])
    return engine["weight_bytes"] / reads[fastest] / 1e3, fastest.removeprefix("read_")


def gb_per_s(case: Results, name: str, call: str) -> float:
    """Return the weight bytes per second of a call of numlstm, each read once per step."""
    engine = case["engines"][name]
    rate: float = engine["weight_bytes"] / engine[call]["p50_us"] / 1e3
    return rate


def _vectors(results: Results) -> list[Results]:
    """Return the cases that read vectors."""
    return [case for case in results["cases"] if not case.get("vocab_size")]


def _network(case: Results) -> str:
    return f"{case['cell']} {case['num_layers']} x {case['hidden_size']}"


def _times(cases: list[Results], cell: str, percentile: str, title: str) -> str:
    """Return a percentile of a step of the float32 engines, for all networks of a cell."""
    cases = [case for case in cases if case["cell"] == cell]
    names = engines_of(cases, ("float32",))
    if not names:
        return ""
    header = [f"{cell}, layers x units", *(label_of(name, cell) for name in names)]
    rows = [
        [_network(case), *(number(value(case, name, "step", percentile)) for name in names)]
        for case in cases
    ]
    largest = max(error(case, name) or 0 for case in cases for name in names)
    return (
        f"## {cell}: {title} of a step in float32, us\n\n"
        f"The largest difference to float64 is {largest:.0e}.\n\n{table(header, rows)}"
    )


def _rounded(cases: list[Results], cell: str) -> str:
    """Return the medians of the engines with fewer bits, and their errors."""
    cases = [case for case in cases if case["cell"] == cell]
    names = engines_of(cases, ("bfloat16", "int8"))
    if not names:
        return ""
    names = [name for name in ("numlstm", *names) if name in engines_of(cases)]
    header = [f"{cell}, layers x units", *(label_of(name, cell) for name in names)]
    rows = []
    for case in cases:
        times = ((number(value(case, name, "step")), error(case, name)) for name in names)
        rows.append([_network(case), *(with_error(time, largest) for time, largest in times)])
    return (
        f"## {cell}: median of a step with fewer bits, us\n\nIn brackets the largest difference "
        f"to float64 over 64 steps; outputs are between -1 and 1.\n\n{table(header, rows)}"
    )


def _tokens(results: Results) -> str:
    cases = [case for case in results["cases"] if case.get("vocab_size")]
    if not cases:
        return ""
    rows = []
    for case in cases:
        unfolded = value(case, "numlstm_unfolded", "step")
        for name in engines_of([case]):
            time = value(case, name, "step")
            row = [f"{label_of(name, case['cell'])}, {case['vocab_size']:,} tokens"]
            row += [_network(case), with_error(number(time), error(case, name))]
            rows.append([*row, f"{unfolded / time:.2f}" if unfolded and time else "-"])
    header = ["a step of a token model", "layers x units", "median, us", "unfolded / this"]
    return (
        "## Token models\n\nAn embedding, an LSTM and a Linear with an answer for each token. "
        f"numlstm reads the first layer's product as a row, unfolded it multiplies.\n\n"
        f"{table(header, rows)}"
    )


def _ratios(cases: list[Results], own: str) -> str:
    peers = [name for name in engines_of(cases) if name != own]
    header = ["layers x units", *(label_of(name, "*") for name in peers)]
    rows = []
    for case in cases:
        time = value(case, own, "step")
        ratios = (ratio(time, value(case, name, "step")) for name in peers)
        rows.append([_network(case), *ratios])
    label = label_of(own, "*")
    return (
        f"## Median of each engine / median of {label}\n\nAbove 1 {label} is faster; where it "
        f"loses, the ratio is bold. `*` is LSTM or GRU.\n\n{table(header, rows)}"
    )


def _tails(cases: list[Results]) -> str:
    header = ["us", "p50", "p90", "p99", "p99.9", "max", "p99 / p50", "run/64, per step"]
    rows = []
    for case, name in _own(cases):
        engine = case["engines"][name]
        step = engine["step"]
        enough = step["num_calls"] >= _NEEDED_FOR_P999
        rows.append(
            [
                f"{label_of(name, '')}, {_network(case)}",
                *(number(step[f"{key}_us"]) for key in ("p50", "p90", "p99")),
                number(step["p999_us"] if enough else None),
                number(step["max_us"]),
                f"{step['p99_us'] / step['p50_us']:.2f}",
                number(engine["run"]["p50_us"]),
            ]
        )
    if not rows:
        return ""
    return (
        "## numlstm: the tail, and many steps in one call\n\n"
        "`run/64` is `Stream.run` with 64 steps: the input half of a layer reads its weights once "
        f"for several steps.\n\n{table(header, rows)}"
    )


def _own(cases: list[Results]) -> list[tuple[Results, str]]:
    """Return numlstm in each dtype with each of its cases."""
    names = [name for name in engines_of(cases) if PEERS[name].is_own]
    return [(case, name) for name in names for case in cases if name in case["engines"]]


def _bandwidth(cases: list[Results]) -> str:
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
    for case, name in _own(cases):
        read, which = read_gb_per_s(case, name)
        row = [
            f"{label_of(name, '')}, {_network(case)}",
            number(case["engines"][name]["weight_bytes"] / 1e3),
            number(read),
            which,
        ]
        for call in ("step", "one_row", "run"):
            rate = gb_per_s(case, name, call)
            row += [number(rate), f"{rate / read:.0%}"]
        rows.append(row)
    if not rows:
        return ""
    return (
        "## Weights read per second\n\n"
        "A step reads every weight once. `read` is a compiled loop that does nothing else with the "
        "same bytes, in the same process and rounds; `step` is called from Python for each step; "
        "`compiled steps` are 64 steps in one compiled call that reads the weights for each of "
        "them, the kernels alone; `run` is `Stream.run` of 64 steps, which reads the input half "
        "of the weights once for several steps and so may pass the roof."
        f"\n\n{table(header, rows)}"
    )


def _dispatch(cases: list[Results]) -> str:
    rows = []
    for case, name in _own(cases):
        engine = case["engines"][name]
        if "empty" in engine:
            step, empty, entry = (engine[name]["p50_us"] for name in ("steps", "empty", "entry"))
            rows.append(
                [
                    f"{label_of(name, '')}, {_network(case)}",
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
        "`empty` is a call of a function that Numba has compiled and that does nothing, with the "
        "five arrays of a step; `entry` is a call of numlstm's kernels that finds nothing to do. "
        "Timed by the thousand, without the clock."
        f"\n\n{table(header, rows)}"
    )
