"""The fixture `measure` of the pytest-benchmark files, and a summary of the rates it found."""

from collections.abc import Callable
from typing import Any

import pytest

from bench.report.page import number

_RATES = pytest.StashKey[list[tuple[str, ...]]]()


@pytest.fixture
def measure(request: pytest.FixtureRequest, benchmark: Any) -> Callable[..., None]:
    """Return a function that benchmarks ``function(*args)`` and reports rates.

    count       how often a call does what is measured; the table of pytest-benchmark has the time
                of the whole call
    flops       floating-point operations of one
    num_bytes   bytes that one reads
    """

    def measure(
        function: Callable[..., object],
        *args: Any,
        count: int = 1,
        flops: int = 0,
        num_bytes: int = 0,
    ) -> None:
        function(*args)  # compiles
        benchmark(function, *args)
        if benchmark.stats is None:  # --benchmark-disable
            return
        ns = benchmark.stats.stats.median * 1e9 / count
        rates = {"ns": ns}
        if flops:
            rates["GFLOP/s"] = flops / ns
        if num_bytes:
            rates["GB/s"] = num_bytes / ns
        benchmark.extra_info.update(rates)
        columns = (number(rates[unit]) if unit in rates else "" for unit in _UNITS)
        request.config.stash.setdefault(_RATES, []).append((request.node.name, *columns))

    return measure


_UNITS = ("ns", "GFLOP/s", "GB/s")


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    rows = config.stash.get(_RATES, [])
    if rows:
        terminalreporter.section("each, by its median")
        width = max(len(name) for name, *_ in rows)
        for name, *columns in [("", *_UNITS), *rows]:
            cells = "".join(f"{cell:>12}" for cell in columns)
            terminalreporter.write_line(f"{name:<{width}}{cells}")
