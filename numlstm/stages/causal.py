"""Layers that need no later step, as one causal network."""

from typing import Any

import numpy as np

from numlstm.run.batch import run_sequences
from numlstm.run.border import finite_floats
from numlstm.run.compiled import Compiled
from numlstm.run.state import State
from numlstm.stages.stage import Flow, Read, Rows, Stage, joined


class Causal(Stage):
    """Layers that need no later step."""

    def __init__(
        self,
        reads: tuple[Read, ...],
        writes: tuple[tuple[int, int], ...],
        compiled: Compiled,
        num_threads: int = 1,
    ) -> None:
        super().__init__(reads, writes)
        self.compiled = compiled
        self.num_threads = num_threads

    def run(self, batch: list[list[Rows]]) -> list[Rows]:
        xss = [joined(inputs) for inputs in batch]
        return run_sequences(self.compiled, xss, self.num_threads)

    def flow(self, lookahead: int) -> Flow:
        return CausalFlow(self.compiled)

    def latency(self, lookahead: int) -> int | None:
        return 0


def new_state(compiled: Compiled) -> State:
    """Return the initial state of a network without a memory."""
    return State(compiled, compiled.memory_rows(None, None))


class CausalFlow(Flow):
    """A causal network that goes on from its state."""

    def __init__(self, compiled: Compiled) -> None:
        self.state = new_state(compiled)

    @property
    def kept(self) -> Any:
        return self.state.kept

    @kept.setter
    def kept(self, value: Any) -> None:
        self.state.restore(value)

    def push(self, rows: list[Rows]) -> Rows:
        return self.state.answers(joined(rows))

    def finish(self) -> Rows:
        return np.zeros((0, self.state.compiled.output_size), np.float32)


class Pooled(Causal):
    """The last row of a causal layer: a pooling over the whole sequence."""

    def run(self, batch: list[list[Rows]]) -> list[Rows]:
        return [rows[-1:] for rows in super().run(batch)]

    def flow(self, lookahead: int) -> Flow:
        return _LastFlow(self.compiled)

    def latency(self, lookahead: int) -> int | None:
        return None


class _LastFlow(Flow):
    def __init__(self, compiled: Compiled) -> None:
        self.inner = CausalFlow(compiled)
        self.row: Rows = np.zeros((0, compiled.output_size), np.float32)

    @property
    def kept(self) -> Any:
        return self.inner.kept, self.row

    @kept.setter
    def kept(self, value: Any) -> None:
        self.inner.kept, row = value
        self.row = finite_floats("the last row", row, (-1, self.row.shape[1]))[-1:]

    def push(self, rows: list[Rows]) -> Rows:
        self.row = np.concatenate([self.row, self.inner.push(rows)])[-1:]
        return self.row[:0]

    def finish(self) -> Rows:
        return self.row
