"""The process of one checkout: ``python -m bench.measure.change_worker JSON``, from `change.py`.

bench is the one that asks, numlstm that of the checkout, of whose names only those are used that
every version has. It answers each line of JSON on its standard input with one on its standard
output: ``{"time": NAME, "seconds": S}`` with microseconds, ``{"save": PATH}`` when the file is
written, ``{"load": PATH, "dtype": DTYPE}`` with bytes of memory.
"""

import json
import os
import sys
from collections.abc import Callable
from functools import lru_cache, partial
from importlib import import_module
from itertools import repeat
from pathlib import Path
from statistics import median
from typing import Any

from bench.measure import level

# Before NumPy and the engine count the cores and ask for their instructions.
if __name__ == "__main__":
    _request = json.loads(sys.argv[1])
    if _request["cores"]:
        os.sched_setaffinity(0, _request["cores"])
    level.hide(_request["hidden"])
    sys.path.insert(0, _request["name"])

import numpy as np

from bench.measure.clock import times_us
from bench.measure.probes import memory

_BARE = memory()
numlstm: Any = import_module("numlstm")
_IMPORTED = memory()

DTYPES = ("float32", "bfloat16", "int8")  # of the models whose memory is read
_SIZES = (16, 64, 256)
_STEP_SIZES = (16, 64, 128, 256, 512, 1024)
# Short calls are timed together: so long that the clock is no part of it, and too short for other
# programs to interrupt most of them.
_TOGETHER_US = 100
_NUM_STREAMS = 8
_NUM_LARGE = 32
_NUM_SLOTS = 1000
_NUM_STEPS = 64

# A call, and how often it does what it is named after.
Timed = tuple[Callable[[], object], int]


def _model(*layers: Any, dtype: str = "float32") -> Any:
    network = numlstm.Network(layers)
    rng = np.random.default_rng(0)
    tensors = {}
    for name, shape in network.tensor_shapes().items():
        limit = shape[-1] ** -0.5
        tensors[name] = rng.uniform(-limit, limit, shape).astype(np.float32)
    return numlstm.Model(numlstm.Weights(network, tensors)).astype(dtype)


def _lstm(size: int, dtype: str = "float32", num_layers: int = 1) -> Any:
    return _model(*[numlstm.LSTM(size, size)] * num_layers, dtype=dtype)


def _numbers(*shape: int) -> Any:
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def _often(call: Callable[..., object], *args: Any) -> Timed:
    us = min(times_us(partial(call, *args), 0))
    count = max(1, int(_TOGETHER_US / us))

    def calls() -> None:
        for _ in repeat(None, count):
            call(*args)

    return calls, count


# What is timed ------------------------------------------------------------------------------------


def _step(size: int, dtype: str, cell: str = "LSTM", num_layers: int = 1) -> Timed:
    layer = getattr(numlstm, cell)(size, size)
    stream = _model(*[layer] * num_layers, dtype=dtype).stream()
    return _often(stream.step, _numbers(size), _numbers(size))


def _run(size: int, dtype: str) -> Timed:
    return _often(_lstm(size, dtype).stream().run, _numbers(1, size), _numbers(1, size))


def _model_run(size: int, dtype: str) -> Timed:
    return _often(_lstm(size, dtype).run, _numbers(1, size))


def _pool(capacity: int, size: int = 64, dtype: str = "float32") -> tuple[Any, Any]:
    pool = _lstm(size, dtype).pool(capacity)
    return pool, np.array([pool.open() for _ in range(capacity)])


def _pool_step() -> Timed:
    pool, slots = _pool(_NUM_STREAMS)
    xs = _numbers(_NUM_STREAMS, 64)
    return _often(pool.step, slots, xs, xs.copy())


def _pool_run() -> Timed:
    pool, slots = _pool(_NUM_STREAMS)
    xs = _numbers(_NUM_STEPS, _NUM_STREAMS, 64)
    return partial(pool.run, slots, xs, xs.copy()), _NUM_STEPS


def _large_pool(dtype: str) -> Timed:
    pool, slots = _pool(_NUM_LARGE, 256, dtype)
    xs = _numbers(_NUM_LARGE, 256)
    return _often(pool.step, slots, xs, xs.copy())


def _sequence(size: int) -> Timed:
    return _often(_lstm(size).run, _numbers(_NUM_STEPS, size))


def _open(score: str) -> Timed:
    attention = numlstm.Attention(64, 64, score, size=64 if score == "additive" else 0)
    model = _model(numlstm.LSTM(64, 64), attention, numlstm.Linear(64, 64))
    return _often(partial(model.stream, memory=_numbers(32, 64)))


def _load(dtype: str | None) -> Timed:
    return partial(numlstm.load, "words", dtype=dtype), 1


def _save_state() -> Timed:
    return _often(_lstm(64).stream().save_state)


def _save_states() -> Timed:
    pool, slots = _pool(_NUM_SLOTS)

    def one_by_one(slots: Any) -> list[bytes]:
        return [pool.stream(slot).save_state() for slot in slots]

    return partial(getattr(pool, "save_states", one_by_one), slots), _NUM_SLOTS


TIMED: dict[str, Callable[[], Timed]] = {
    **{
        f"Stream.step, LSTM {size} {dtype}": partial(_step, size, dtype)
        for dtype in DTYPES
        for size in _STEP_SIZES
    },
    **{
        f"Stream.step, {num_layers} x {cell} 256 {dtype}": partial(
            _step, 256, dtype, cell, num_layers
        )
        for dtype in DTYPES
        for cell, num_layers in (("GRU", 1), ("LSTM", 2))
    },
    **{
        f"{name}, LSTM {size} {dtype}": partial(make, size, dtype)
        for name, make in (
            ("Stream.run of one row", _run),
            ("Model.run of one row", _model_run),
        )
        for dtype in ("float32", "int8")
        for size in _SIZES
    },
    f"Pool.step, {_NUM_STREAMS} streams, LSTM 64": _pool_step,
    f"Pool.run of {_NUM_STEPS} steps, each": _pool_run,
    **{
        f"Pool.step, {_NUM_LARGE} streams, LSTM 256 {dtype}": partial(_large_pool, dtype)
        for dtype in DTYPES
    },
    **{
        f"Model.run of {_NUM_STEPS} steps, LSTM {size}": partial(_sequence, size)
        for size in (16, 128)
    },
    "a stream of a decoder, dot attention": partial(_open, "dot"),
    "a stream of a decoder, additive attention": partial(_open, "additive"),
    'load("words")': partial(_load, None),
    'load("words", dtype="int8")': partial(_load, "int8"),
    "Stream.save_state, LSTM 64": _save_state,
    f"saving {_NUM_SLOTS:,} slots of a pool, each": _save_states,
}


@lru_cache(maxsize=1)
def _made(name: str) -> Timed:
    return TIMED[name]()


def _time(name: str, seconds: float) -> float:
    call, count = _made(name)
    return round(median(times_us(call, seconds)) / count, 6)


# Memory -------------------------------------------------------------------------------------------


def _bytes_of(path: str, dtype: str) -> dict[str, int | None]:
    """Return the resident memory that the import took, and a model at work beyond it."""
    stream = numlstm.load(path, dtype=dtype).stream()
    for x in _numbers(_NUM_STEPS, 1024):
        stream.step(x)
    at_work = memory()
    if _BARE is None or _IMPORTED is None or at_work is None:
        return {"import": None, "model": None}
    return {"import": _IMPORTED - _BARE, "model": at_work - _IMPORTED}


def main() -> None:
    """Answer requests until there are no more."""
    for line in sys.stdin:
        match json.loads(line):
            case {"time": name, "seconds": seconds}:
                answer: Any = _time(name, seconds)
            case {"load": path, "dtype": dtype}:
                answer = _bytes_of(path, dtype)
            case {"save": path}:
                answer = _lstm(1024, num_layers=2).save(path)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    if not Path(numlstm.__file__).is_relative_to(_request["name"]):
        raise ImportError(f"numlstm is {numlstm.__file__}, expected that of {_request['name']}")
    main()
