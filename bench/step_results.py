"""The rates at which weights are read in the JSON of ``python -m bench step``."""

from bench.tables import Results


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
