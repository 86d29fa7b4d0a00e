"""The page of all CPUs, from results made up, and those that are stored."""

from pathlib import Path
from typing import Any

import pytest

from bench import report
from bench.engines import PEERS
from bench.report import side_by_side

AVX512, AVX2 = Path("one", "x86-64-v4"), Path("one", "x86-64-v3")


def _case(task: str, us: dict[str, float], **other: Any) -> dict[str, Any]:
    engines = {
        name: {
            "weight_bytes": 1_000_000,
            "largest_difference": 1e-7,
            "read_add": {"p50_us": 8.0},
            "fma_384": {"p50_us": 0.00384},  # 100 GFLOP/s
            **{call: {"p50_us": time, "p99_us": 2 * time} for call in (task, *side_by_side.PACES)},
        }
        for name, time in us.items()
    }
    case = {"task": task, "cell": "LSTM", "num_layers": 1, "hidden_size": 128, "vocab_size": 0}
    case |= {"num_steps": 64, "num_directions": 1, "num_streams": 8, "flops": 800_000}
    return case | {"engines": engines} | other


def _results(*cases: dict[str, Any]) -> dict[str, Any]:
    return {"cpu": "a CPU", "date": "2026-01-01T00:00", "cases": list(cases)}


def _row(page: str, section: str) -> list[str]:
    """Return the cells of the first network in a section."""
    table = page.split(f"## {section}\n\n")[1].split("\n\n")[0]
    return [cell.strip() for cell in table.splitlines()[2].split("|")[1:-1]]


def test_ratios_and_shares() -> None:
    fast = {"numlstm": 10.0, "onnxruntime_binding": 20.0, "litert": 15.0, "numlstm_int8": 5.0}
    slow = {"numlstm": 20.0, "onnxruntime_binding": 18.0, "cpp": 10.0}
    page = side_by_side.page(
        {
            "step": {AVX512: _results(_case("step", fast)), AVX2: _results(_case("step", slow))},
            "pool": {AVX2: _results(_case("pool", slow))},
            "paced": {AVX2: _results(_case("paced", slow))},
        }
    )
    network = "LSTM 1 x 128"
    assert _row(page, "A step, float32") == [network, "**0.90** ONNX Runtime", "1.50 LiteRT"]
    assert "## A step, int8" not in page  # no peer
    beside = "Beside C++ whose sizes are known when it is compiled, step"
    assert _row(page, beside) == [network, "**0.50**", "-"]
    assert _row(page, "Share of a read of the weights, step, float32") == [network, "40%", "80%"]
    pool = "Share of the peak of float32, pools, float32"
    assert _row(page, pool) == ["LSTM 1 x 128, 8 streams", "40%"]
    paced = "A step every 10 ms, float32: median; 99th percentile"
    assert _row(page, paced) == [network, "**0.90** ONNX Runtime; **0.90** ONNX Runtime"]


def test_the_table_of_the_readme() -> None:
    one = _results(_case("step", {"numlstm": 10.0, "onnxruntime_binding": 20.0}))
    text = side_by_side.summary({AVX512: one, AVX2: one})
    assert "one x86-64-v3, float32" in text
    assert text.count("2.00 ONNX Runtime") == 2


@pytest.mark.parametrize("document", ["README.md", "bench/results/README.md"])
def test_what_is_stored_is_what_the_json_tells(document: str) -> None:
    found = report.read_all()
    told = {
        "README.md": lambda: side_by_side.summary(found["step"]),
        "bench/results/README.md": lambda: side_by_side.page(found),
    }
    stored = (report.RESULTS.parents[1] / document).read_text()
    assert told[document]() in stored


def test_every_engine_has_a_line() -> None:
    pytest.importorskip("matplotlib")
    from bench.report import plots

    assert plots._LINES.keys() == PEERS.keys() - {"numlstm_unfolded"}  # it reads tokens alone
