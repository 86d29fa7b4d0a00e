"""The JSON of ``python -m bench step``, and the rates at which weights are read in it."""

from typing import Any

# Of a whole run, or of one case of it: `step.py` writes them, `worker.py` and `clock.py` fill them.
Results = dict[str, Any]


def read_gb_per_s(case: Results) -> tuple[float, str]:
    """Return the fastest read of the weights' bytes, and which loop did it."""
    engine = case["engines"]["numlstm"]
    reads = {name: engine[name]["p50_us"] for name in engine if name.startswith("read_")}
    fastest = min(reads, key=lambda name: reads[name])
    return engine["weight_bytes"] / reads[fastest] / 1e3, fastest.removeprefix("read_")


def gb_per_s(case: Results, call: str) -> float:
    """Return the weight bytes per second of a call of numlstm, each read once per step."""
    engine = case["engines"]["numlstm"]
    rate: float = engine["weight_bytes"] / engine[call]["p50_us"] / 1e3
    return rate
