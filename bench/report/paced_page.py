"""The page of ``python -m bench paced``, from its JSON alone."""

from bench.engines import PEERS, label_of
from bench.report.page import Results, engines_of, number, page, ratio, table, value

_PERCENTILES = ("p50_us", "p99_us")


def paced(results: Results) -> str:
    """Return the page: ratios first, then microseconds."""
    cases = results["cases"]
    return page(
        "A step now and then",
        results,
        "A stream takes a step every 1, 10 or 100 ms. Before each the process has read and written "
        "4, 40 or 64 MiB of other memory, and has slept; `0 ms` are steps one right after the "
        "other. The clock runs from the new input to the output.",
        *(_ratios(case) for case in cases),
        *(_times(case) for case in cases),
    )


def _network(case: Results) -> str:
    return f"{case['cell']} {case['num_layers']} x {case['hidden_size']}"


def _paces(case: Results) -> dict[str, str]:
    """Return what is timed by the heads of its columns."""
    engine = next(iter(case["engines"].values()))
    return {
        f"{key.split('_')[1]} ms": key for key in engine if key.startswith("every_")
    }  # every_10_ms


def _ratios(case: Results) -> str:
    """Return how many times as fast numlstm is, in the dtype of the other."""
    names = engines_of([case])
    own = {PEERS[name].dtype: name for name in reversed(names) if PEERS[name].is_own}
    paces = _paces(case)
    header = ["time / numlstm's", *(f"{pace}, {p[:-3]}" for p in _PERCENTILES for pace in paces)]
    rows = []
    for name in names:
        ours = own.get(PEERS[name].dtype)
        if PEERS[name].is_own or ours is None:
            continue
        ratios = (
            ratio(value(case, ours, call, percentile), value(case, name, call, percentile))
            for percentile in _PERCENTILES
            for call in paces.values()
        )
        rows.append([f"{label_of(name, case['cell'])} / {label_of(ours, '')}", *ratios])
    if not rows:
        return ""
    return (
        f"## {_network(case)}: beside numlstm in the same dtype\n\nAbove 1 numlstm is faster; "
        f"where it loses, the ratio is bold.\n\n{table(header, rows)}"
    )


def _times(case: Results) -> str:
    paces = _paces(case)
    header = ["us", *(f"{pace}, {p[:-3]}" for p in _PERCENTILES for pace in paces)]
    rows = [
        [
            label_of(name, case["cell"]),
            *(number(value(case, name, call, p)) for p in _PERCENTILES for call in paces.values()),
        ]
        for name in engines_of([case])
    ]
    return f"## {_network(case)}: us\n\n{table(header, rows)}"
