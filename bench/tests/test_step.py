"""`Stream.step` and `Stream.run`, as they are called from Python."""

from collections.abc import Callable

import numpy as np
import pytest

from bench.engines.cases import SIZES, Floats
from bench.engines.compiled_run import compiled_of
from numlstm import GRU, LSTM, RNN, Embedding, Linear, Model, Network
from tests.cases import random_weights

Measure = Callable[..., None]

_NUM_STEPS = 64
_CELLS = {"RNN": RNN, "GRU": GRU, "LSTM": LSTM}

cells = pytest.mark.parametrize("cell", _CELLS)
sizes = pytest.mark.parametrize("size", SIZES)


def _model(cell: str, size: int, num_layers: int = 1) -> Model:
    return Model(random_weights(Network((_CELLS[cell](size, size),) * num_layers)))


def _inputs(*shape: int) -> Floats:
    return np.random.default_rng(0).standard_normal(shape, np.float32)


@pytest.mark.benchmark(group="step")
@sizes
@cells
@pytest.mark.parametrize("num_layers", [1, 2])
def test_step(measure: Measure, num_layers: int, cell: str, size: int) -> None:
    model = _model(cell, size, num_layers)
    out = np.empty(size, np.float32)
    measure(
        model.stream().step, _inputs(size), out, num_bytes=compiled_of(model).program.params.nbytes
    )


@pytest.mark.benchmark(group="step, a new array each")
@pytest.mark.parametrize("size", [16, 128])
@cells
def test_step_new_array(measure: Measure, cell: str, size: int) -> None:
    measure(_model(cell, size).stream().step, _inputs(size))


@pytest.mark.benchmark(group="step, tokens")
@pytest.mark.parametrize("size", [16, 128])
@cells
def test_step_token(measure: Measure, cell: str, size: int) -> None:
    network = Network((Embedding(256, size), _CELLS[cell](size, size), Linear(size, 256)))
    out = np.empty(256, np.float32)
    measure(Model(random_weights(network)).stream().step, 65, out)


@pytest.mark.benchmark(group=f"run, {_NUM_STEPS} steps")
@sizes
@cells
def test_run(measure: Measure, cell: str, size: int) -> None:
    xs, out = _inputs(_NUM_STEPS, size), np.empty((_NUM_STEPS, size), np.float32)
    measure(_model(cell, size).stream().run, xs, out, count=_NUM_STEPS)
