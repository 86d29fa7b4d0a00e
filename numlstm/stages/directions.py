"""A recurrent layer that reads from the end, or from both ends."""

from typing import Any

import numpy as np

from numlstm.quantize import blocks
from numlstm.run.batch import run_sequences
from numlstm.run.border import checked_rows, finite_floats, refuse_overflow
from numlstm.run.compiled import Compiled
from numlstm.run.pool import THREAD_WORK
from numlstm.run.state import State
from numlstm.run.threads import run_together
from numlstm.spec import Recurrent
from numlstm.stages.causal import CausalFlow, new_state
from numlstm.stages.stage import Collecting, Flow, Read, Rows, Stage, joined, no_rows


def backward(state: State, xs: Rows) -> Rows:
    """Run anew from the last row to the first; the answers are in the order of xs."""
    state.begin()
    return state.answers(np.ascontiguousarray(xs[::-1]))[::-1]


class Directions(Stage):
    """A recurrent layer that reads from the end, or from both ends."""

    def __init__(
        self,
        reads: tuple[Read, ...],
        writes: tuple[tuple[int, int], ...],
        layer: Recurrent,
        forward: Compiled | None,
        reverse: Compiled,
        num_threads: int,
    ) -> None:
        super().__init__(reads, writes)
        self.num_threads = num_threads
        self.layer = layer
        self.forward = forward
        self.reverse = reverse

    def run(self, batch: list[list[Rows]]) -> list[Rows]:
        xss = [joined(inputs) for inputs in batch]
        forwards: list[Any] = [None] * len(xss)
        reverses: list[Any] = [None] * len(xss)

        def run_forward() -> None:
            if self.forward is not None:
                forwards[:] = run_sequences(self.forward, xss)

        def run_reverse() -> None:
            ends_first = [np.ascontiguousarray(xs[::-1]) for xs in xss]
            reverses[:] = [ys[::-1] for ys in run_sequences(self.reverse, ends_first)]

        work = sum(len(xs) for xs in xss) * self.reverse.work
        if self.num_threads > 1 and self.forward is not None and work > THREAD_WORK:
            run_together([run_forward, run_reverse])
        else:
            run_forward()
            run_reverse()
        if self.layer.outputs == "last":
            forwards = [None if ys is None else ys[-1:] for ys in forwards]
            reverses = [ys[:1] for ys in reverses]
        return [self.merge(*pair) for pair in zip(forwards, reverses, strict=True)]

    def merge(self, forward: Rows | None, reverse: Rows) -> Rows:
        if forward is None:
            return np.ascontiguousarray(reverse)
        merged = np.empty((len(reverse), self.layer.output_size), np.float32)
        with np.errstate(over="ignore"):
            for some in blocks(*merged.shape):
                merged[some] = self._merge(forward[some], reverse[some])
        return merged

    def _merge(self, forward: Rows, reverse: Rows) -> Rows:
        if self.layer.merge == "concat":
            return np.concatenate([forward, reverse], axis=1)
        ys = forward * reverse if self.layer.merge == "mul" else forward + reverse
        if not np.isfinite(ys).all():
            refuse_overflow("xs")
        return ys * np.float32(0.5) if self.layer.merge == "ave" else ys

    def flow(self, lookahead: int) -> Flow:
        if self.layer.outputs == "last":
            return Collecting(self)
        return _DirectionsFlow(self, lookahead)

    def latency(self, lookahead: int) -> int | None:
        return None if self.layer.outputs == "last" else lookahead


class _DirectionsFlow(Flow):
    """The forward state goes on; the other direction runs anew over each window of rows."""

    def __init__(self, stage: Directions, lookahead: int) -> None:
        self.stage = stage
        self.lookahead = lookahead
        self.inner = None if stage.forward is None else CausalFlow(stage.forward)
        self.reverse = new_state(stage.reverse)
        self.xs = no_rows(stage.reverse.network)
        self.forward: Rows = np.zeros((0, stage.layer.h_size), np.float32)

    @property
    def kept(self) -> Any:
        return None if self.inner is None else self.inner.kept, self.xs, self.forward

    @kept.setter
    def kept(self, value: Any) -> None:
        inner, xs, forward = value
        xs = checked_rows(self.stage.reverse.network, xs)
        forward = finite_floats("forward", forward, (-1, self.stage.layer.h_size))
        if len(xs) > self.lookahead or len(forward) != (0 if self.inner is None else len(xs)):
            raise ValueError(f"{len(xs)} rows wait, and {len(forward)} of the forward direction")
        if self.inner is not None:
            self.inner.kept = inner
        self.xs, self.forward = xs, forward

    def _take(self, reverse: Rows) -> Rows:
        """Return the answers to the oldest rows, and let go of them."""
        count = len(reverse)
        forward = None if self.inner is None else self.forward[:count]
        ys = self.stage.merge(forward, reverse)
        self.xs, self.forward = self.xs[count:], self.forward[count:]
        return ys

    def push(self, rows: list[Rows]) -> Rows:
        xs = joined(rows)
        self.xs = np.concatenate([self.xs, xs])
        if self.inner is not None:
            self.forward = np.concatenate([self.forward, self.inner.push([xs])])
        ready = max(len(self.xs) - self.lookahead, 0)
        reverse = np.empty((ready, self.stage.layer.h_size), np.float32)
        for t in range(ready):
            reverse[t] = backward(self.reverse, self.xs[t : t + self.lookahead + 1])[0]
        return self._take(reverse)

    def finish(self) -> Rows:
        return self._take(backward(self.reverse, self.xs))
