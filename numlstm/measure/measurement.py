"""What a model costs on this machine."""

import gc
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from numlstm.measure.inputs import inputs, single
from numlstm.measure.machine import describe
from numlstm.measure.process import allocations, memory
from numlstm.measure.roof import read_time, step_bytes
from numlstm.measure.times import paced, percentiles, timed
from numlstm.model import Model

_ROWS = 64  # different inputs, in turn
_POOLS = (1, 4, 16, 64, 128)  # streams
_NUM_STREAMS = 1000
_PACED = {1: 500, 10: 100, 100: 20}  # steps at each interval
_ALLOCATING = 10_000
_SEQUENCE = 256  # steps in one call


@dataclass
class Measurement:
    """What a model costs on this machine.

    Attributes
    ----------
    machine : dict
        CPU, level, system, versions.
    model : dict
        Its layers, sizes and bytes of weights.
    step : dict
        Percentiles of a step right after another, in microseconds; empty where there are none.
    paced : dict
        The same of steps now and then, by the milliseconds from one to the next.
    pool : dict
        Steps of streams per second, by how many step together.
    sequence : dict
        Steps per second in one call; tokens per second where they are sampled.
    allocations, memory : dict
        Of steps; of the model and its streams, in bytes.
    roof : dict
        How fast this core reads the bytes of a step, and the share of it that a step reaches.
    lookahead : dict
        Of a network that reads later steps: percentiles of a step of a stream.
    peers : dict
        The same steps by others, in the same process.
    """

    machine: dict[str, Any]
    model: dict[str, Any]
    step: dict[str, Any] = field(default_factory=dict)
    paced: dict[str, Any] = field(default_factory=dict)
    pool: dict[str, Any] = field(default_factory=dict)
    sequence: dict[str, Any] = field(default_factory=dict)
    allocations: dict[str, Any] = field(default_factory=dict)
    memory: dict[str, Any] = field(default_factory=dict)
    roof: dict[str, Any] = field(default_factory=dict)
    lookahead: dict[str, Any] = field(default_factory=dict)
    peers: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """Return it as a JSON text."""
        return json.dumps(asdict(self), indent=2)


def measure(
    load: Callable[[], Model],
    *,
    seconds: float = 1.0,
    pace: Sequence[int] = (),
    lookahead: int = 8,
) -> Measurement:
    """Measure a model, in this thread.

    Parameters
    ----------
    load : callable
        Returns the model; called once, and what it adds to this process is its memory.
    seconds : float
        How long each kind of call is timed.
    pace : sequence of int
        Milliseconds from step to step, with other data in the caches meanwhile.
    lookahead : int
        Of the stream of a network that reads later steps.

    Returns
    -------
    Measurement
    """
    gc.collect()
    before = memory()
    began = time.perf_counter()
    model = load()
    load_ms = 1e3 * (time.perf_counter() - began)
    gc.collect()
    after = memory()
    weights = model.weights
    found = Measurement(
        describe(),
        {
            "layers": list(map(str, model.network.layers)),
            "weight_bytes": sum(t.nbytes for t in weights.tensors.values()),
            "load_ms": load_ms,
        },
    )
    if before is not None and after is not None:
        found.memory["model_bytes"] = after - before
    rows = inputs(model, _SEQUENCE)
    if not model.network.is_causal:
        _of_both_ends(model, rows, seconds, lookahead, found)
        return found
    if model.network.memory_size is not None:
        raise ValueError("the network attends to a memory: its steps cost what that has of rows")
    _of_steps(model, rows, seconds, pace, found)
    _of_pools(model, rows, seconds, found)
    _of_sequences(model, rows, seconds, found)
    return found


def _of_steps(
    model: Model, rows: Any, seconds: float, pace: Sequence[int], found: Measurement
) -> None:
    stream = model.stream()
    out = np.empty(model.output_size, np.float32)
    xs = single(rows[:_ROWS])
    found.step = percentiles(timed(lambda n: stream.step(xs[n % _ROWS], out=out), seconds))
    for interval in pace:
        num_steps = _PACED.get(interval, max(20, 1000 // interval))
        times = paced(
            lambda n: stream.step(xs[n % _ROWS], out=out), lambda n: None, interval, num_steps
        )
        found.paced[str(interval)] = percentiles(times)
    found.allocations = dict(allocations(lambda: stream.step(xs[0], out=out), _ALLOCATING))
    gc.collect()
    before = memory()
    streams = [model.stream() for _ in range(_NUM_STREAMS)]
    for each in streams:
        each.step(xs[0])
    after = memory()
    if before is not None and after is not None:
        found.memory["stream_bytes"] = (after - before) // _NUM_STREAMS
    num_bytes = step_bytes(model)
    roof = read_time(num_bytes)
    found.roof = {"step_bytes": num_bytes}
    if roof is not None:
        found.roof |= roof | {"share": roof["us"] / found.step["p50_us"]}


def _of_pools(model: Model, rows: Any, seconds: float, found: Measurement) -> None:
    for count in _POOLS:
        pool = model.pool(count)
        slots = np.array([pool.open() for _ in range(count)])
        xs = [np.ascontiguousarray(rows[n : n + count]) for n in range(_ROWS)]
        out = np.empty((count, model.output_size), np.float32)

        def step(
            n: int, pool: Any = pool, slots: Any = slots, xs: Any = xs, out: Any = out
        ) -> None:
            pool.step(slots, xs[n % _ROWS], out=out)

        times = percentiles(timed(step, seconds / 2))
        found.pool[str(count)] = times | {"steps_per_s": 1e6 * count / times["p50_us"]}


def _of_sequences(model: Model, rows: Any, seconds: float, found: Measurement) -> None:
    stream = model.stream()
    ys = np.empty((len(rows), model.output_size), np.float32)
    times = percentiles(timed(lambda n: stream.run(rows, out=ys), seconds / 2))
    found.sequence["steps_per_s"] = 1e6 * len(rows) / times["p50_us"]
    if model.vocab_size is not None and model.output_size == model.vocab_size:
        stream = model.stream()
        options: dict[str, Any] = {"top_k": 40, "seed": 0}
        times = percentiles(timed(lambda n: stream.generate(0, 100, **options), seconds / 2))
        found.sequence["tokens_per_s"] = 1e6 * 100 / times["p50_us"]


def _of_both_ends(
    model: Model, rows: Any, seconds: float, lookahead: int, found: Measurement
) -> None:
    times = percentiles(timed(lambda n: model.run(rows), seconds))
    found.sequence["steps_per_s"] = 1e6 * len(rows) / times["p50_us"]
    stream = model.stream(lookahead=lookahead)
    xs = single(rows)
    found.lookahead = {"lookahead": lookahead} | percentiles(
        timed(lambda n: stream.step(xs[n % _ROWS]), seconds)
    )
