"""Stages: what a network that is not causal is run as, one after another (`split.py`).

A stage takes rows and gives rows: all those of some sequences at once (`Stage.run`), or those of
one as they come (`Stage.flow`).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numlstm.spec import Network

Rows = NDArray[Any]  # float32 (rows, size), or token ids (rows,)

INPUT = -1  # the number of the network's input among those of the layers


@dataclass(frozen=True)
class Read:
    """What a stage reads: the rows of a layer, or only the last of them."""

    source: int
    last: bool = False


class Flow:
    """A stage at work on rows as they come. What it keeps from call to call is read and set."""

    kept: Any = None

    def push(self, rows: list[Rows]) -> Rows:
        """Take rows of every input, as many of each; return the rows that are ready."""
        raise NotImplementedError

    def finish(self) -> Rows:
        """Return the rows that are left; no more come."""
        raise NotImplementedError


class Stage:
    """One step of a network's work.

    reads    its inputs
    writes   layers whose output it gives, side by side: (number, size)
    joins    whether the inputs are joined row by row, and so have as many rows
    stride   how many rows it takes for each that it gives
    """

    joins = True
    stride = 1

    def __init__(self, reads: tuple[Read, ...], writes: tuple[tuple[int, int], ...]) -> None:
        self.reads = reads
        self.writes = writes

    @property
    def size(self) -> int:
        return sum(size for _, size in self.writes)

    def run(self, batch: list[list[Rows]]) -> list[Rows]:
        """Return all rows of every sequence of a batch, from all rows of its inputs."""
        return [self.run_one(inputs) if len(inputs[0]) else self.no_rows() for inputs in batch]

    def run_one(self, inputs: list[Rows]) -> Rows:
        """Return all rows of a sequence, which has some."""
        raise NotImplementedError

    def no_rows(self) -> Rows:
        """Return the answer where no row is read: a window may have left none."""
        return np.zeros((0, self.size), np.float32)

    def flow(self, lookahead: int) -> Flow:
        """Return a flow whose answers may be ``lookahead`` steps late."""
        return Collecting(self)

    def latency(self, lookahead: int) -> int | None:
        """How many of its rows late its answers are; None if they come when it finishes."""
        return None


class Collecting(Flow):
    """Waits for all rows."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.kept: list[list[Rows]] = []

    def push(self, rows: list[Rows]) -> Rows:
        self.kept = [*self.kept, rows]
        return self.stage.no_rows()

    def finish(self) -> Rows:
        inputs = [np.concatenate(parts) for parts in zip(*self.kept, strict=True)]
        if not inputs:
            return self.stage.no_rows()
        return self.stage.run([inputs])[0]


def joined(inputs: list[Rows]) -> Rows:
    """Return inputs side by side, in an array of their own where they are columns of another."""
    return np.ascontiguousarray(inputs[0] if len(inputs) == 1 else np.hstack(inputs))


def no_rows(network: Network) -> Rows:
    """Return no rows of what a network reads."""
    if network.reads_tokens:
        return np.zeros(0, np.int32)
    return np.zeros((0, network.input_size), np.float32)
