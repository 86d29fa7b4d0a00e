"""Where the real models are, beside the repository, and the table of how far the engine is off."""

import wave
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import ArrayLike

import numlstm
from numlstm import reference
from numlstm.spec import Weights
from tests.cases import Tolerance, assert_same_bits
from tests.conftest import ROOT

REAL = ROOT.parent / "shared" / "real"

# (network, what) -> the largest difference, and what is allowed.
_differences: dict[tuple[str, str], tuple[float, str]] = {}

Record = Callable[[str, str, Any, "float | Tolerance"], None]


@pytest.fixture
def real(request: pytest.FixtureRequest) -> Path:
    """The folder of a model: `FOLDER` of the test file, or test_nam.py -> the folder nam*."""
    name = getattr(request.module, "FOLDER", "")
    name = name or Path(request.node.path).stem.removeprefix("test_") + "*"
    folders = sorted(REAL.glob(name))
    if not folders:
        pytest.skip(f"no folder {name} of real models beside the repository")
    return folders[0]


# Who runs the network -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Runner:
    """The engine, or the reference, which is the same network in float64."""

    name: str
    record: Record

    def run(self, weights: Weights, xs: ArrayLike) -> tuple[Any, dict[str, Any]]:
        """Return ys and the last states (none of the engine's if the network is not causal)."""
        if self.name == "reference":
            return reference.run(weights.network, weights.tensors, xs)
        model = numlstm.Model(weights)
        if not weights.network.is_causal:
            return model.run(xs), {}
        stream = model.stream()
        return stream.run(xs), stream.state

    def hold(
        self, network: str, what: str, found: ArrayLike, expected: ArrayLike, allowed: Tolerance
    ) -> None:
        """Check, and note the difference if it is the engine's."""
        allowed.check(found, expected, what)
        if self.name == "engine":
            difference = np.abs(np.asarray(found, np.float64) - expected).max()
            self.record(network, what, difference, allowed)


@pytest.fixture(params=["reference", "engine"])
def runner(request: pytest.FixtureRequest, record: Record) -> Runner:
    """The reference, then the engine."""
    return Runner(request.param, record)


def assert_streams(weights: Weights, xs: Any) -> None:
    """Raise unless steps, one by one, have the bits of a run, and end in its state."""
    stream, twin = numlstm.Model(weights).stream(), numlstm.Model(weights).stream()
    assert_same_bits(np.stack([stream.step(x) for x in xs]), twin.run(xs), "steps")
    assert_same_bits(np.stack([twin.step(x) for x in xs[:1]]), stream.run(xs[:1]), "one more")


# The table ----------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def record() -> Record:
    """Note a difference for the table at the end: ``record(network, what, 3e-6, 1e-5)``."""

    def keep(name: str, what: str, difference: Any, tolerance: "float | Tolerance") -> None:
        if isinstance(tolerance, Tolerance):
            relative = f" + {tolerance.relative:g} |y|" if tolerance.relative else ""
            allowed = f"{tolerance.absolute:g}{relative}"
        else:
            allowed = f"{tolerance:g}"
        largest, _ = _differences.get((name, what), (0.0, ""))
        # A NaN stays one.
        _differences[name, what] = (float(np.maximum(largest, difference)), allowed)

    return keep


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the largest difference of every network, in one table."""
    if not _differences:
        return
    heads = ("network", "what", "largest difference", "allowed")
    rows = [
        (name, what, f"{difference:.1e}" if difference else "0", allowed)
        for (name, what), (difference, allowed) in sorted(_differences.items())
    ]
    widths = [max(len(row[n]) for row in (heads, *rows)) for n in range(len(heads))]
    terminalreporter.section("networks trained by others")
    for row in (heads, *rows):
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        terminalreporter.write_line("  ".join(cells).rstrip())


def read_chunks(path: Path, chunk: int, context: int) -> np.ndarray:
    """Return the chunks of a recording, each after the end of the one before: rows of both."""
    with wave.open(str(path)) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float32)
    padded = np.concatenate([np.zeros(context, np.float32), samples / 32768])
    windows = np.lib.stride_tricks.sliding_window_view(padded, chunk + context)
    return windows[::chunk].copy()
