"""numlstm itself, and what its figures are held against: the read bandwidth, an empty call."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit

import numlstm
from bench import bandwidth
from bench.cases import Case, Floats
from bench.clock import Call
from bench.compiled_run import CompiledRun, program_of
from bench.engines import Engine
from numlstm.kernels.network import SIGNATURE
from numlstm.model import Model
from numlstm.spec import Layer, Network, Weights

# The calls that are shorter than the clock is precise are timed by the thousand.
_MANY = 1000
# The largest network whose step is compared with an empty call.
_SMALL = 16


def network(case: Case) -> Network:
    """Return the layers of a case."""
    kind: Any = {"LSTM": numlstm.LSTM, "GRU": numlstm.GRU}[case.cell]
    sizes = [case.input_size] + [case.hidden_size] * case.num_layers
    layers: list[Layer] = [kind(*pair) for pair in pairwise(sizes)]
    return Network(tuple(layers))


def save(case: Case, tensors: dict[str, Floats], folder: Path) -> None:
    """Write weights.safetensors; the kernels are compiled by now."""
    Model(Weights(network(case), tensors)).save(folder / "weights.safetensors")


def _nothing(plan, params, state, xs, ys):  # type: ignore[no-untyped-def]
    return 0


class NumLSTM(Engine):
    """`Stream.step`, with the output in a given array."""

    def __init__(self, case: Case, folder: Path) -> None:
        super().__init__(case)
        self.case = case
        self.model = numlstm.load(folder / "weights.safetensors")
        self.stream = self.model.stream()

    def step(self, x: Floats, out: Floats) -> Floats:
        return self.stream.step(x, out)

    def output(self) -> Floats:
        return self.out.copy()

    def facts(self) -> dict[str, int]:
        return {"weight_bytes": program_of(self.model).params.nbytes}

    def calls(self, xs: Floats) -> dict[str, Call]:
        """Return `step`, and beside it what shows where its time goes.

        step       one call of `Stream.step`
        run        one call of `Stream.run` with all of xs: blocks of rows share a read of weights
        one_row    the same steps in one compiled call, the weights read for each: the kernels
                   alone, without the calls from Python
        read_*     one read of the weights, see `bandwidth.py`
        empty      a call of a compiled function that does nothing, with the arrays of a step
        entry      a call of one that does nothing either, made as numlstm calls its kernels
        steps      `step` timed as these two are, without reading the clock in between
        """
        params = program_of(self.model).params
        one_row = CompiledRun(self.model, program_of(self.model).step)
        ys = np.empty((len(xs), self.model.output_size), np.float32)
        calls = {
            "step": Call(self.stream.step, self.x, self.out),
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
        entry = next(iter(njit(SIGNATURE)(_nothing).overloads.values())).entry_point
        functions = {
            "steps": _many_steps(self.stream.step),
            "empty": _many_calls(njit(_nothing), *run.arrays),
            "entry": _many_calls(entry, *run.arguments),
        }
        return {
            name: Call(function, self.x, self.out, _MANY) for name, function in functions.items()
        }


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


def _repeated(read: Any, num_reads: int) -> Any:
    return lambda params, sums: read(params, sums, num_reads)
