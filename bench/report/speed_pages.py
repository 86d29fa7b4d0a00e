"""The tables of ``python -m bench sequence``, ``pool`` and ``generate``, from their JSON alone."""

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

_ERROR = "In brackets the largest difference to the same network in float64."


def sequence(results: Results) -> str:
    """Return the page of whole sequences."""
    cases = results["cases"]
    return page(
        "A whole sequence in one call",
        results,
        f"## Median of a sequence, us\n\n{_ERROR}\n\n{_times(cases, 'sequence')}",
        _ratios(cases, "sequence"),
    )


def pool(results: Results) -> str:
    """Return the page of many streams in one call."""
    cases = results["cases"]
    return page(
        "One step of many streams in one call",
        results,
        f"## Median of a call, us\n\n{_ERROR}\n\n{_times(cases, 'pool')}",
        _ratios(cases, "pool"),
        _gflops(cases),
    )


def generate(results: Results) -> str:
    """Return the page of generated tokens."""
    cases = results["cases"]
    names = engines_of(cases)
    header = ["network", *(label_of(name, "LSTM") for name in names)]
    own = [name for name in names if PEERS[name].is_own]
    loop_header = ["network", *(label_of(name, "LSTM") for name in own)]
    rates, loops = [], []
    for case in cases:
        rates.append([network_of(case), *(_rate(case, name, "generate") for name in names)])
        loops.append([network_of(case), *(_rate(case, name, "loop") for name in own)])
    return page(
        "Generated tokens per second",
        results,
        "## One call for 64 tokens, where there is one\n\nnumlstm's `Stream.generate`; the other "
        "engines take a step, and NumPy samples from the likeliest 40, token by token. "
        f"{_ERROR}\n\n{table(header, rates)}",
        f"## The same loop with numlstm's `step`\n\n{table(loop_header, loops)}" if own else "",
        _ratios(cases, "generate"),
    )


def peak_gflops(case: Results) -> float:
    """Return the peak of the core, measured beside numlstm: the faster of its two loops."""
    engine = case["engines"]["numlstm"]
    rates: list[float] = [
        int(name.removeprefix("fma_")) / engine[name]["p50_us"] / 1e3
        for name in engine
        if name.startswith("fma_")
    ]
    return max(rates)


def gflops(case: Results, name: str) -> float | None:
    """Return the floating-point operations per nanosecond of a call of an engine."""
    time = value(case, name, "pool")
    return None if time is None else case["flops"] / time / 1e3


def network_of(case: Results) -> str:
    """Return what tables call a case."""
    text = f"{case['cell']} {case['num_layers']} x {case['hidden_size']}"
    if case["vocab_size"]:
        text += f", {case['vocab_size']:,} tokens"
    if case["task"] == "sequence":
        text += f", {case['num_steps']:,} steps"
        text += ", two directions" if case["num_directions"] == 2 else ", one direction"
    if case["task"] == "pool":
        text += f", {case['num_streams']} stream{'s' * (case['num_streams'] > 1)}"
    return text


def _times(cases: list[Results], call: str) -> str:
    names = engines_of(cases)
    header = ["network", *(label_of(name, "LSTM") for name in names)]
    rows = [
        [
            network_of(case),
            *(with_error(number(value(case, name, call)), error(case, name)) for name in names),
        ]
        for case in cases
    ]
    return table(header, rows)


def _ratios(cases: list[Results], call: str) -> str:
    """Return how many times as fast numlstm is, a table for each dtype of its own."""
    names = engines_of(cases)
    if not any(PEERS[name].is_own for name in names):
        return ""
    parts = [
        "## Median of each engine / median of numlstm\n\n"
        "Above 1 numlstm is faster; where it loses, the ratio is bold."
    ]
    for own in filter(lambda name: PEERS[name].is_own, names):
        others = [name for name in names if name != own]
        header = [f"{label_of(own, '')} beside", *(label_of(name, "LSTM") for name in others)]
        rows = []
        for case in cases:
            time = value(case, own, call)
            rows.append(
                [network_of(case), *(ratio(time, value(case, name, call)) for name in others)]
            )
        parts.append(table(header, rows))
    return "\n\n".join(parts)


def _gflops(cases: list[Results]) -> str:
    if "numlstm" not in engines_of(cases):
        return ""
    names = engines_of(cases)
    header = ["network", "peak", *(label_of(name, "LSTM") for name in names)]
    rows = []
    for case in cases:
        peak = peak_gflops(case)
        rates = [gflops(case, name) for name in names]
        shares = ("-" if rate is None else f"{rate:.0f} ({rate / peak:.0%})" for rate in rates)
        rows.append([network_of(case), f"{peak:.0f}", *shares])
    return (
        "## GFLOP/s, and the share of the peak\n\n"
        "`peak` of one core is a compiled loop of float32 multiply-adds that wait for nothing, in "
        "the process of numlstm, timed in the same rounds. Engines of fewer bits may pass it.\n\n"
        f"{table(header, rows)}"
    )


def _rate(case: Results, name: str, call: str) -> str:
    time = value(case, name, call)
    if time is None:
        return "-"
    text = number(1e6 / time)
    return with_error(text, error(case, name)) if call == "generate" else text
