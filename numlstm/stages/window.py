"""What reads a window of steps, later ones among them, or gives other rows than it reads."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from numlstm import spec
from numlstm.network.functions import LARGEST
from numlstm.run.compiled import Compiled
from numlstm.stages.causal import CausalFlow, new_state
from numlstm.stages.stage import Flow, Read, Rows, Stage


class Window(Stage):
    """A layer that reads a window of steps, as the causal one, whose first answers are left out.

    compiled   the same one, causal, without its function
    activate   the function, for the rows that are wanted; None if there is none
    """

    padding = 0.0  # each number of a step that is not there

    def __init__(
        self,
        reads: tuple[Read, ...],
        writes: tuple[tuple[int, int], ...],
        layer: spec.Windowed,
        compiled: Compiled,
        activate: Compiled | None = None,
    ) -> None:
        super().__init__(reads, writes)
        self.layer = layer
        self.compiled = compiled
        self.activate = activate
        self.stride = layer.stride

    def run_one(self, inputs: list[Rows]) -> Rows:
        flow = self.flow(0)
        return np.concatenate([flow.push(inputs), flow.finish()])

    def flow(self, lookahead: int) -> Flow:
        return _WindowFlow(self)

    def latency(self, lookahead: int) -> int | None:
        return self.layer.reach - self.layer.pads[0]

    def num_behind(self, num_rows: int) -> int:
        """Return how many steps of padding stand behind so many rows."""
        return self.layer.pads[1]

    def of_rows(self, ys: Rows, counts: NDArray[np.int64]) -> Rows:
        """Return the answers of windows with so many rows that are there."""
        return ys


class Convolution(Window):
    """A convolution that reads later steps, or gives other rows than it reads."""


class WindowPooling(Window):
    """Such a pooling: a mean is the sum, divided here by the number of rows that are there."""

    layer: spec.Pool1d

    def __init__(
        self,
        reads: tuple[Read, ...],
        writes: tuple[tuple[int, int], ...],
        layer: spec.Pool1d,
        compiled: Compiled,
    ) -> None:
        super().__init__(reads, writes, layer, compiled)
        self.padding = -LARGEST if layer.mode == "max" else 0.0

    def num_behind(self, num_rows: int) -> int:
        before, after = self.layer.pads
        if not self.layer.ceil_mode:
            return after
        reached, stride = before + num_rows + after - self.layer.kernel_size, self.layer.stride
        start = -(-reached // stride) * stride  # of the last window
        if start >= before + num_rows:
            start -= stride
        return max(start + self.layer.kernel_size - before - num_rows, after)

    def of_rows(self, ys: Rows, counts: NDArray[np.int64]) -> Rows:
        if self.layer.mode != "mean":
            return ys
        return ys / counts[:, None].astype(np.float32)


class _WindowFlow(Flow):
    """The causal layer, of whose answers the first ones are not wanted."""

    def __init__(self, stage: Window) -> None:
        self.stage, self.layer = stage, stage.layer
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
        before = self.inner.state.num_steps
        return self._wanted(self.inner.push(rows), before, before + len(rows[0]))

    def _wanted(self, ys: Rows, before: int, num_rows: int) -> Rows:
        """Return the answers that are wanted of those behind others, to so many rows in all."""
        stride, reach = self.layer.stride, self.layer.reach
        ends = before + np.arange(self.next, len(ys), stride)
        self.next += len(ends) * stride - len(ys)
        counts = np.minimum(ends, num_rows - 1) - np.maximum(ends - reach, 0) + 1
        wanted = self.stage.of_rows(np.ascontiguousarray(ys[ends - before]), counts)
        return wanted if self.activate is None else self.activate.answers(wanted)

    def finish(self) -> Rows:
        num_rows = self.inner.state.num_steps
        if not num_rows:  # there is nothing to pad
            return np.zeros((0, self.layer.output_size), np.float32)
        shape = self.stage.num_behind(num_rows), self.layer.input_size
        behind = np.full(shape, self.stage.padding, np.float32)
        return self._wanted(self.inner.push([behind]), num_rows, num_rows)
