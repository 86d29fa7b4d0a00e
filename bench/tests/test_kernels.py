"""The kernels without their calls from Python: each repeated in one compiled call.

The first half compiles single kernels over arrays, the second runs one-layer networks.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numba import njit
from numpy.typing import NDArray

from bench.engines.cases import Floats
from bench.engines.compiled_run import CompiledRun, compiled_of
from numlstm import (
    GRU,
    LSTM,
    RNN,
    Activation,
    Embedding,
    LayerNorm,
    Linear,
    Model,
    Network,
    Pooling,
    Softmax,
)
from numlstm.kernels import integers
from numlstm.kernels.activations import exp, relu, sigmoid, softmax, tanh
from numlstm.kernels.addresses import aligned
from numlstm.kernels.bandwidth import READS
from numlstm.kernels.packing import pack_weights
from numlstm.kernels.plan import B_AT, LANES, PLANES
from numlstm.kernels.simd import load, pointer, store
from numlstm.kernels.tiles import linear_rows
from numlstm.spec import Layer
from tests.cases import random_weights
from tests.kernels.products import arrays

Measure = Callable[..., None]

# The kernels have no wrapper for Python: these functions are theirs.
_compiled = njit(nogil=True, error_model="numpy", boundscheck=False)


def _random(size: int) -> Floats:
    array = aligned(size)
    array[:] = np.random.default_rng(0).standard_normal(size, np.float32)
    return array


# Activations --------------------------------------------------------------------------------------


def _over(function: Any) -> Any:
    @_compiled
    def apply(xs, ys):  # type: ignore[no-untyped-def]
        source, target = pointer(xs, np.float32), pointer(ys, np.float32)
        for j in range(0, xs.size, LANES):
            store(target, j, function(load(source, j)))

    return apply


@pytest.mark.benchmark(group="activations, each number")
@pytest.mark.parametrize("function", [tanh, sigmoid, exp, relu], ids=lambda f: f.__name__)
def test_activation(measure: Measure, function: Any) -> None:
    size = 4096  # 16 KiB, and as much is written
    measure(_over(function), _random(size), aligned(size), count=size)


@_compiled
def _softmax(xs, ys, num_times):  # type: ignore[no-untyped-def]
    target = pointer(ys, np.float32)
    for _ in range(num_times):
        ys[:] = xs
        softmax(target, 0, ys.size)


@pytest.mark.benchmark(group="softmax")
@pytest.mark.parametrize("size", [16, 256, 4096])
def test_softmax(measure: Measure, size: int) -> None:
    measure(_softmax, _random(size), aligned(size), 100, count=100)


# The tile of dot products -------------------------------------------------------------------------

_TILE_SIZES = (64, 256, 512, 1024, 2048)  # outputs and inputs: 16 KiB to 16 MiB of weights


@_compiled
def _tile(weights, bias, xs, ys, num_times):  # type: ignore[no-untyped-def]
    num_rows, k_size = xs.shape
    y_size = bias.size
    params = pointer(weights, np.float32)
    init = pointer(bias, np.float32)
    source, target = pointer(xs, np.float32), pointer(ys, np.float32)
    for _ in range(num_times):
        linear_rows(
            params, 0, k_size, y_size, init, 0, 0, source, 0, k_size, target, 0, y_size, num_rows,
            False,
        )  # fmt: skip


def _num_times(num_bytes: int) -> int:
    """Return how often a call reads the weights, so that a call takes 50 microseconds or more."""
    return max(1, 2**23 // num_bytes)


@pytest.mark.benchmark(group="tile")
@pytest.mark.parametrize("size", _TILE_SIZES)
@pytest.mark.parametrize("num_rows", [1, 2, 4])
def test_tile(measure: Measure, num_rows: int, size: int) -> None:
    weights = aligned(size * size)
    pack_weights(_random(size * size).reshape(size, size), weights)
    xs, ys = (_random(num_rows * size).reshape(num_rows, size) for _ in range(2))
    count = _num_times(weights.nbytes)
    flops = 2 * num_rows * size * size
    args = (weights, _random(size), xs, ys, count)
    measure(_tile, *args, count=count, flops=flops, num_bytes=weights.nbytes)
    expected = xs @ _random(size * size).reshape(size, size).T + _random(size)
    np.testing.assert_allclose(ys, expected, atol=1e-5 * size)


@_compiled
def _integer_tile(quantize, product, params, state, num_rows, num_times):  # type: ignore[no-untyped-def]
    ops = pointer(quantize, np.int64), pointer(product, np.int64)
    weights, rows = pointer(params, np.float32), pointer(state, np.float32)
    for _ in range(num_times):
        integers.quantize(ops[0], rows, 0, num_rows)
        if product[PLANES] == 2:
            integers.rows_of_2_bytes(ops[1], weights, weights, product[B_AT], rows, 0, num_rows)
        else:
            integers.rows_of_1_byte(ops[1], weights, weights, product[B_AT], rows, 0, num_rows)


@pytest.mark.benchmark(group="tile of int8 weights, and quantising its inputs")
@pytest.mark.parametrize("size", _TILE_SIZES)
@pytest.mark.parametrize("num_rows", [1, 2, 8, 32])
@pytest.mark.parametrize("num_bytes", [1, 2])
def test_integer_tile(measure: Measure, num_bytes: int, num_rows: int, size: int) -> None:
    q = np.random.default_rng(0).integers(-127, 128, (size, size)).astype(np.int8)
    xs = _random(num_rows * size).reshape(num_rows, size)
    args, _ = arrays(q, np.ones(size, np.float32), np.zeros(size, np.float32), xs, num_bytes)
    count = _num_times(q.nbytes * num_rows)
    flops = 2 * num_rows * q.size
    measure(_integer_tile, *args, count, count=count, flops=flops, num_bytes=q.nbytes)


@pytest.mark.benchmark(group="read, nothing else")
@pytest.mark.parametrize("size", _TILE_SIZES)
@pytest.mark.parametrize("read", READS)
def test_read(measure: Measure, read: str, size: int) -> None:
    weights = _random(size * size)
    count = _num_times(weights.nbytes)
    args = (weights, np.zeros(LANES, np.float32), count)
    measure(READS[read], *args, count=count, num_bytes=weights.nbytes)


# Layers -------------------------------------------------------------------------------------------

_NUM_STEPS = 64
_RECURRENT: dict[str, Callable[[int], Layer]] = {
    "LSTM": lambda size: LSTM(size, size),
    "GRU": lambda size: GRU(size, size),
    "RNN tanh": lambda size: RNN(size, size),
    "RNN relu": lambda size: RNN(size, size, nonlinearity="relu"),
}
_FEED_FORWARD: dict[str, Callable[[int], Layer]] = {
    "Linear": lambda size: Linear(size, size),
    "LayerNorm": LayerNorm,
    "mean pool": lambda size: Pooling(size, "mean"),
    "max pool": lambda size: Pooling(size, "max"),
    "Activation tanh": lambda size: Activation(size, "tanh"),
    "Softmax": Softmax,
    "Embedding": lambda size: Embedding(1000, size),
}

# One step after another, as `Stream.step` takes them; or in blocks of rows, as `Stream.run` does.
layouts = pytest.mark.parametrize("layout", ["step", "block"])


@pytest.mark.benchmark(group=f"recurrent layers, {_NUM_STEPS} steps")
@layouts
@pytest.mark.parametrize("size", [16, 64, 128, 256, 512, 1024])
@pytest.mark.parametrize("layer", _RECURRENT)
def test_recurrent(measure: Measure, layer: str, size: int, layout: str) -> None:
    _measure_layer(measure, _RECURRENT[layer](size), layout, _random(_NUM_STEPS * size))


@pytest.mark.benchmark(group=f"feed-forward layers, {_NUM_STEPS} steps")
@layouts
@pytest.mark.parametrize("size", [64, 512])
@pytest.mark.parametrize("layer", _FEED_FORWARD)
def test_feed_forward(measure: Measure, layer: str, size: int, layout: str) -> None:
    xs: NDArray[Any] = _random(_NUM_STEPS * size)
    if layer == "Embedding":
        xs = np.random.default_rng(0).integers(0, 1000, _NUM_STEPS, np.int32)
    _measure_layer(measure, _FEED_FORWARD[layer](size), layout, xs)


def _measure_layer(measure: Measure, layer: Layer, layout: str, xs: NDArray[Any]) -> None:
    model = Model(random_weights(Network((layer,))))
    compiled = compiled_of(model)
    run = CompiledRun(compiled, getattr(compiled.program, layout))
    ys = aligned(_NUM_STEPS * model.output_size)
    read_each_step = layout == "step" and not isinstance(layer, Embedding)
    num_bytes = compiled.program.params.nbytes if read_each_step else 0
    measure(run, xs, ys, count=_NUM_STEPS, num_bytes=num_bytes)


@pytest.mark.benchmark(group=f"a token model of 10,000 tokens, {_NUM_STEPS} steps")
@pytest.mark.parametrize("fold", [False, True], ids=["unfolded", "folded"])
@pytest.mark.parametrize("cell", [LSTM, GRU], ids=["LSTM", "GRU"])
def test_token_step(measure: Measure, cell: Callable[..., Layer], fold: bool) -> None:
    """Steps of an embedding of 256 numbers and a cell of 256 units; no scores of tokens."""
    network = Network((Embedding(10_000, 256), cell(256, 256)))
    model = Model(random_weights(network))
    ids = np.random.default_rng(0).integers(0, 10_000, _NUM_STEPS, np.int32)
    compiled = compiled_of(model, fold)
    run = CompiledRun(compiled, compiled.program.step)
    measure(run, ids, aligned(_NUM_STEPS * 256), count=_NUM_STEPS)
