"""A convolution that reads later steps, or gives other rows than it reads."""

from typing import Any

import numpy as np

from numlstm import spec
from numlstm.run.compiled import Compiled
from numlstm.stages.causal import CausalFlow, new_state
from numlstm.stages.stage import Flow, Read, Rows, Stage


class Convolution(Stage):
    """A convolution that reads later steps, or gives other rows than it reads.

    compiled   the same one, causal, without its function
    activate   the function, for the rows that are wanted; None if there is none
    """

    def __init__(
        self,
        reads: tuple[Read, ...],
        writes: tuple[tuple[int, int], ...],
        layer: spec.Conv1d,
        compiled: Compiled,
        activate: Compiled | None,
    ) -> None:
        super().__init__(reads, writes)
        self.layer = layer
        self.compiled = compiled
        self.activate = activate

    def run_one(self, inputs: list[Rows]) -> Rows:
        flow = self.flow(0)
        return np.concatenate([flow.push(inputs), flow.finish()])

    def flow(self, lookahead: int) -> Flow:
        return _ConvolutionFlow(self)

    def latency(self, lookahead: int) -> int | None:
        return self.layer.reach - self.layer.pads[0] if self.layer.stride == 1 else None


class _ConvolutionFlow(Flow):
    """The causal convolution, of whose answers the first ones are not wanted."""

    def __init__(self, stage: Convolution) -> None:
        self.layer = stage.layer
        self.inner = CausalFlow(stage.compiled)
        self.activate = None if stage.activate is None else new_state(stage.activate)
        self.next = self.layer.reach - self.layer.pads[0]  # how many rows until one is wanted

    @property
    def kept(self) -> Any:
        return self.inner.kept, self.next

    @kept.setter
    def kept(self, value: Any) -> None:
        self.inner.kept, following = value
        if type(following) is not int or not 0 <= following <= self.layer.reach + self.layer.stride:
            raise ValueError(f"the next row that is wanted is {following!r}")
        self.next = following

    def push(self, rows: list[Rows]) -> Rows:
        ys = self.inner.push(rows)
        wanted = np.ascontiguousarray(ys[self.next :: self.layer.stride])
        self.next += len(wanted) * self.layer.stride - len(ys)
        return wanted if self.activate is None else self.activate.answers(wanted)

    def finish(self) -> Rows:
        if not self.inner.state.num_steps:  # there is nothing to pad
            return np.zeros((0, self.layer.output_size), np.float32)
        return self.push([np.zeros((self.layer.pads[1], self.layer.input_size), np.float32)])
