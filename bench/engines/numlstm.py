"""numlstm itself, and what its figures are held against: the roofs, an empty call.

Numba, which compiles what it is held against, is imported after the first output.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import numlstm
from bench.engines import TEMPERATURE, TOP_K, Call, Engine
from bench.engines.cases import Case, Floats, Inputs
from bench.engines.compiled_run import CompiledRun, compiled_of
from numlstm import Model, Network, Weights
from numlstm.kernels.entry import walker
from numlstm.spec import Layer

# The calls that are shorter than the clock is precise are timed by the thousand.
_MANY = 1000
# The largest network whose step is compared with an empty call.
_SMALL = 16
_ROUNDS = 100_000  # of multiply-adds in one call


def network(case: Case) -> Network:
    """Return the layers of a case."""
    kind: Any = {"LSTM": numlstm.LSTM, "GRU": numlstm.GRU}[case.cell]
    size = case.hidden_size
    direction = "bidirectional" if case.num_directions == 2 else "forward"
    layers: list[Layer] = []
    if case.vocab_size:
        layers.append(numlstm.Embedding(case.vocab_size, size))
    inputs = [size, *[size * case.num_directions] * (case.num_layers - 1)]
    layers += [kind(input_size, size, direction=direction) for input_size in inputs]
    if case.vocab_size:
        layers.append(numlstm.Linear(size, case.vocab_size))
    return Network(tuple(layers))


def save(case: Case, tensors: dict[str, Floats], folder: Path) -> None:
    """Write weights.safetensors; the kernels are compiled by now."""
    Model(Weights(network(case), tensors)).save(folder / "weights.safetensors")


def _nothing(plan, params, state, xs, ys):  # type: ignore[no-untyped-def]
    return 0


class NumLSTM(Engine):
    """`Stream.step`, `Model.run` or `Pool.step`, with the output in a given array."""

    dtype = "float32"
    activations = "int16"
    fold: Any = "auto"

    def __init__(self, case: Case, folder: Path) -> None:
        super().__init__(case)
        path = folder / "weights.safetensors"
        self.model = numlstm.load(
            path,
            dtype=self.dtype,
            activations=self.activations,
            fold=self.fold,
            num_threads=case.num_threads,
        )
        self._call: Callable[..., Any]
        match case.task:
            case "sequence":
                self.x = self.input[:, 0]
                self.out = self.out[:, 0]
                self._call = self.model.run
            case "pool":
                self.pool = self.model.pool(case.num_streams)
                self.slots = np.array([self.pool.open() for _ in range(case.num_streams)])
                self.x, self.out = self.input[0], self.out[0]
                self._call = self._pool_step
            case _:
                self.x, self.out = self.input.reshape(-1), self.out.reshape(-1)
                self.stream = self.model.stream()
                self._call = self._token_step if case.vocab_size else self.stream.step

    def step(self, x: Any, out: Floats) -> Any:
        return self._call(x, out)

    def _pool_step(self, xs: Any, out: Floats) -> None:
        self.pool.step(self.slots, xs, out)

    def _token_step(self, x: Any, out: Floats) -> None:
        self.stream.step(int(x[0]), out)

    def output(self) -> Floats:
        return self.out.copy()

    def open_streams(self, kind: str, count: int) -> Any:
        """Return new streams, or a pool with its slots open; each has taken a step."""
        xs = np.zeros((count, self.case.hidden_size), np.float32)
        if kind == "stream":
            streams = [self.model.stream() for _ in range(count)]
            for stream, x in zip(streams, xs, strict=True):
                stream.step(x, self.out)
            return streams
        pool = self.model.pool(count)
        slots = np.array([pool.open() for _ in range(count)])
        for some in np.array_split(slots, -(-count // 64)):
            pool.step(some, xs[: len(some)])
        return pool, slots

    def facts(self) -> dict[str, int]:
        if self.case.num_directions > 1:
            return {}
        return {"weight_bytes": compiled_of(self.model).program.params.nbytes}

    def calls(self, xs: Inputs) -> dict[str, Call]:
        """Return the task, and beside it what shows where its time goes.

        step       one call of `Stream.step`
        run        one call of `Stream.run` with all of xs: blocks of rows share a read of weights
        one_row    the same steps in one compiled call, the weights read for each: the kernels
                   alone, without the calls from Python
        read_*     one read of the weights, see `bandwidth.py`
        empty      a call of a compiled function that does nothing, with the arrays of a step
        entry      a call of numlstm's kernels that finds no arrays
        steps      `step` timed as these two are, without reading the clock in between
        fma_*      floating-point operations that wait for nothing, see `bandwidth.py`
        loop       samples by `Stream.step` and NumPy, as the other engines have to
        """
        calls = super().calls(xs)
        if self.case.task == "generate":
            ids = np.zeros(calls["generate"].count, np.int32)
            calls["loop"] = calls["generate"]
            calls["generate"] = Call(self._generate, len(ids), ids, len(ids))
        elif self.case.task == "pool":
            from numlstm.kernels import bandwidth

            sums = np.zeros(16, np.float32)
            numbers = np.full(32, 0.5, np.float32)
            for flops, multiply in bandwidth.MULTIPLIES.items():
                function = _repeated(multiply, _ROUNDS)
                calls[f"fma_{flops}"] = Call(function, numbers, sums, _ROUNDS)
        elif self.case.task == "step" and not self.case.vocab_size:
            calls |= self._beside_step(xs.reshape(len(xs), -1))
        return calls

    def _generate(self, count: int, ids: Any) -> None:
        ids[:] = self.stream.generate(0, count, temperature=TEMPERATURE, top_k=TOP_K, seed=0)

    def _beside_step(self, xs: Floats) -> dict[str, Call]:
        from numlstm.kernels import bandwidth

        compiled = compiled_of(self.model)
        params = compiled.program.params
        one_row = CompiledRun(compiled, compiled.program.step)
        ys = np.empty((len(xs), self.model.output_size), np.float32)
        calls = {
            "run": Call(self.model.stream().run, xs, ys, len(xs), answers=True),
            "one_row": Call(one_row, xs, ys.copy(), len(xs), answers=True),
        }
        num_reads = max(1, 2**25 // params.nbytes)
        for name, read in bandwidth.READS.items():
            sums = np.zeros(16, np.float32)
            calls[f"read_{name}"] = Call(_repeated(read, num_reads), params, sums, num_reads)
        if self.case.hidden_size <= _SMALL:
            calls |= self._short_calls(one_row)
        return calls

    def _short_calls(self, run: CompiledRun) -> dict[str, Call]:
        from numba import njit

        functions = {
            "steps": _many_steps(self.stream.step),
            "empty": _many_calls(njit(_nothing), *run.arrays),
            "entry": _many_refusals(walker(), *run.arguments),
        }
        return {
            name: Call(function, self.x, self.out, _MANY) for name, function in functions.items()
        }


class Unfolded(NumLSTM):
    """The first layer multiplies, where it could read a row for each token."""

    fold = False


class Bfloat16(NumLSTM):
    dtype = "bfloat16"


class Int8(NumLSTM):
    dtype = "int8"


class Int8Activations(Int8):
    activations = "int8"


def _many_steps(step: Any) -> Any:
    def steps(x: Floats, out: Floats) -> None:
        for _ in range(_MANY):
            step(x, out)

    return steps


def _many_calls(function: Any, plan: Any, params: Any, state: Any) -> Any:
    def calls(x: Floats, out: Floats) -> None:
        for _ in range(_MANY):
            function(plan, params, state, x, out)

    return calls


def _many_refusals(run: Any, plan: Any, params: Any, state: Any) -> Any:
    """Return calls that come and go, and find no arrays to work on."""

    def calls(x: Floats, out: Floats) -> None:
        for _ in range(_MANY):
            run(plan, params, state, None, None)

    return calls


def _repeated(read: Any, num_reads: int) -> Any:
    return lambda params, sums: read(params, sums, num_reads)
