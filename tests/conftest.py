"""Fixtures that several test files use."""

import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

import numlstm
from numlstm.kernels.addresses import COMPILED
from tests.cases import NETWORKS, random_weights

ROOT = Path(numlstm.__file__).parent.parent

# Seconds that another process may take. It may compile the kernels, which takes a minute on a slow
# machine, while others do the same: only what hangs meets this limit.
PATIENCE = 1200

# The first example may compile the kernels.
settings.register_profile(
    "numlstm", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("numlstm")


def pytest_configure(config: pytest.Config) -> None:
    """Let the plain Python twin overflow, as compiled kernels do: NumPy warns of it."""
    if not COMPILED:
        config.addinivalue_line("filterwarnings", "ignore::RuntimeWarning")


# Another process, networks of ordinary sizes.
LONG_FIXTURES = {"python", "real"}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as quick the first case of every test that is neither slow nor long."""
    met: set[str] = set()
    for item in items:
        test = item.nodeid.partition("[")[0]
        if not LONG_FIXTURES.isdisjoint(getattr(item, "fixturenames", ())):
            item.add_marker("long")
        if test not in met and not any(map(item.get_closest_marker, ("slow", "long"))):
            item.add_marker("quick")
        met.add(test)


@cache
def model_of(name: str) -> numlstm.Model:
    """Return the model of one of `NETWORKS`, with random weights."""
    return numlstm.Model(random_weights(NETWORKS[name]))


@pytest.fixture(params=NETWORKS)
def model(request: pytest.FixtureRequest) -> numlstm.Model:
    """A model of each of `NETWORKS`."""
    return model_of(request.param)


@pytest.fixture
def float_model() -> numlstm.Model:
    """Three numbers in, two out, with every kind of state but c."""
    return model_of("vectors")


@pytest.fixture
def token_model() -> numlstm.Model:
    """Eleven token ids in, three probabilities out."""
    return model_of("tokens")


@pytest.fixture(scope="session", autouse=True)
def _plain_terminal() -> Iterator[None]:
    """Forget what a user, or a server that runs the tests, has said of terminals."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("FORCE_COLOR", "TTY_COMPATIBLE"):
            patch.delenv(name, raising=False)
        patch.setenv("TERM", "xterm")
        yield


@pytest.fixture
def messages() -> Iterator[list[str]]:
    """What numlstm logs during the test."""
    lines: list[str] = []

    class _Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    logger = logging.getLogger("numlstm")
    handler, level = _Keep(), logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield lines
    logger.removeHandler(handler)
    logger.setLevel(level)


Python = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def python() -> Iterator[Python]:
    """Start another Python that can import numlstm and the tests: ``python(*args, **environ)``."""
    started: list[subprocess.Popen[str]] = []

    def start(*args: str, path: Path = ROOT, **environ: str) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, *args],
            env=os.environ | {"PYTHONPATH": f"{path}{os.pathsep}{ROOT}"} | environ,
            cwd=path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def output_of(process: "subprocess.Popen[str]") -> str:
    """Wait for a process of `python`; return what it wrote, or fail with its traceback."""
    out, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, errors
    return out
