"""Stages: what a network that is not causal is run as, one after another (`split.py`).

A stage takes rows and gives rows: all those of some sequences at once (`Stage.run`), or those of
one as they come (`Stage.flow`).
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from numlstm import spec
from numlstm.batch import run_sequences
from numlstm.pool import THREAD_WORK
from numlstm.spec import Recurrent
from numlstm.stream import Stream
from numlstm.threads import run_together

if TYPE_CHECKING:
    from numlstm.model import Model

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
    """

    joins = True

    def __init__(self, reads: tuple[Read, ...], writes: tuple[tuple[int, int], ...]) -> None:
        self.reads = reads
        self.writes = writes

    @property
    def size(self) -> int:
        return sum(size for _, size in self.writes)

    def run(self, batch: list[list[Rows]]) -> list[Rows]:
        """Return all rows of every sequence of a batch, from all rows of its inputs."""
        return [self.run_one(inputs) for inputs in batch]

    def run_one(self, inputs: list[Rows]) -> Rows:
        """Return all rows of a sequence."""
        raise NotImplementedError

    def flow(self, lookahead: int) -> Flow:
        """Return a flow whose answers may be ``lookahead`` steps late."""
        return Collecting(self)

    def latency(self, lookahead: int) -> int | None:
        """How many steps late its answers are; None if they come when it finishes."""
        return None


class Collecting(Flow):
    """Waits for all rows."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.kept = []

    def push(self, rows: list[Rows]) -> Rows:
        self.kept = [*self.kept, rows]
        return np.zeros((0, self.stage.size), np.float32)

    def finish(self) -> Rows:
        inputs = [np.concatenate(parts) for parts in zip(*self.kept, strict=True)]
        if not inputs or not len(inputs[0]):
            return np.zeros((0, self.stage.size), np.float32)
        return self.stage.run([inputs])[0]


def no_rows(model: "Model") -> Rows:
    """Return no rows of what a model reads."""
    if model.vocab_size is not None:
        return np.zeros(0, np.int32)
    return np.zeros((0, model.input_size), np.float32)


def _joined(inputs: list[Rows]) -> Rows:
    """Return inputs side by side, in an array of their own where they are columns of another."""
    return np.ascontiguousarray(inputs[0] if len(inputs) == 1 else np.hstack(inputs))


# Stages -------------------------------------------------------------------------------------------


class Causal(Stage):
    """Layers that need no later step."""

    def __init__(
        self, reads: tuple[Read, ...], writes: tuple[tuple[int, int], ...], model: "Model"
    ) -> None:
        super().__init__(reads, writes)
        self.model = model

    def run(self, batch: list[list[Rows]]) -> list[Rows]:
        return run_sequences(self.model, [_joined(inputs) for inputs in batch])

    def flow(self, lookahead: int) -> Flow:
        return _CausalFlow(self.model)

    def latency(self, lookahead: int) -> int | None:
        return 0


class _CausalFlow(Flow):
    def __init__(self, model: "Model") -> None:
        self.stream = Stream(model)

    @property
    def kept(self) -> Any:
        return self.stream.kept

    @kept.setter
    def kept(self, value: Any) -> None:
        self.stream.kept = value

    def push(self, rows: list[Rows]) -> Rows:
        return self.stream.run(_joined(rows))

    def finish(self) -> Rows:
        return np.zeros((0, self.stream.model.output_size), np.float32)


class Pooled(Causal):
    """The last row of a causal layer: a pooling over the whole sequence."""

    def run(self, batch: list[list[Rows]]) -> list[Rows]:
        return [rows[-1:] for rows in super().run(batch)]

    def flow(self, lookahead: int) -> Flow:
        return _LastFlow(self.model)

    def latency(self, lookahead: int) -> int | None:
        return None


class _LastFlow(Flow):
    def __init__(self, model: "Model") -> None:
        self.inner = _CausalFlow(model)
        self.row: Rows = np.zeros((0, model.output_size), np.float32)

    @property
    def kept(self) -> Any:
        return self.inner.kept, self.row

    @kept.setter
    def kept(self, value: Any) -> None:
        self.inner.kept, self.row = value

    def push(self, rows: list[Rows]) -> Rows:
        self.row = np.concatenate([self.row, self.inner.push(rows)])[-1:]
        return self.row[:0]

    def finish(self) -> Rows:
        return self.row


def backward(stream: Stream, xs: Rows) -> Rows:
    """Run a stream anew from the last row to the first; the answers are in the order of xs."""
    stream.reset()
    return stream.run(np.ascontiguousarray(xs[::-1]))[::-1]


class Directions(Stage):
    """A recurrent layer that reads from the end, or from both ends."""

    def __init__(
        self,
        reads: tuple[Read, ...],
        writes: tuple[tuple[int, int], ...],
        layer: Recurrent,
        forward: "Model | None",
        reverse: "Model",
        num_threads: int,
    ) -> None:
        super().__init__(reads, writes)
        self.num_threads = num_threads
        self.layer = layer
        self.forward = forward
        self.reverse = reverse

    def run(self, batch: list[list[Rows]]) -> list[Rows]:
        xss = [_joined(inputs) for inputs in batch]
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
        match self.layer.merge:
            case "concat":
                return np.hstack([forward, reverse])
            case "sum":
                return forward + reverse
            case "mul":
                return forward * reverse
            case _:
                return (forward + reverse) * np.float32(0.5)

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
        self.inner = None if stage.forward is None else _CausalFlow(stage.forward)
        self.reverse = Stream(stage.reverse)
        self.xs = no_rows(stage.reverse)
        self.forward: Rows = np.zeros((0, stage.layer.h_size), np.float32)

    @property
    def kept(self) -> Any:
        return None if self.inner is None else self.inner.kept, self.xs, self.forward

    @kept.setter
    def kept(self, value: Any) -> None:
        inner, self.xs, self.forward = value
        if self.inner is not None:
            self.inner.kept = inner

    def _take(self, reverse: Rows) -> Rows:
        """Return the answers to the oldest rows, and let go of them."""
        count = len(reverse)
        forward = None if self.inner is None else self.forward[:count]
        ys = self.stage.merge(forward, reverse)
        self.xs, self.forward = self.xs[count:], self.forward[count:]
        return ys

    def push(self, rows: list[Rows]) -> Rows:
        xs = _joined(rows)
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


class Convolution(Stage):
    """A convolution that reads later steps, or gives other rows than it reads.

    model      the same one, causal, without its function
    activate   the function, for the rows that are wanted; None if there is none
    """

    def __init__(
        self,
        reads: tuple[Read, ...],
        writes: tuple[tuple[int, int], ...],
        layer: spec.Conv1d,
        model: "Model",
        activate: "Model | None",
    ) -> None:
        super().__init__(reads, writes)
        self.layer = layer
        self.model = model
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
        self.inner = _CausalFlow(stage.model)
        self.activate = None if stage.activate is None else Stream(stage.activate)
        self.next = self.layer.reach - self.layer.pads[0]  # how many rows until one is wanted

    @property
    def kept(self) -> Any:
        return self.inner.kept, self.next

    @kept.setter
    def kept(self, value: Any) -> None:
        self.inner.kept, self.next = value

    def push(self, rows: list[Rows]) -> Rows:
        ys = self.inner.push(rows)
        wanted = np.ascontiguousarray(ys[self.next :: self.layer.stride])
        self.next += len(wanted) * self.layer.stride - len(ys)
        return wanted if self.activate is None else self.activate.run(wanted)

    def finish(self) -> Rows:
        return self.push([np.zeros((self.layer.pads[1], self.layer.input_size), np.float32)])


class Attended(Stage):
    """Attention over all rows of another layer, the second input."""

    joins = False

    def __init__(
        self, reads: tuple[Read, ...], writes: tuple[tuple[int, int], ...], model: "Model"
    ) -> None:
        super().__init__(reads, writes)
        self.model = model

    def run_one(self, inputs: list[Rows]) -> Rows:
        *queries, memory = inputs
        return Stream(self.model, memory).run(_joined(queries))


class Repeated(Stage):
    """The last row, several times."""

    def __init__(
        self, reads: tuple[Read, ...], writes: tuple[tuple[int, int], ...], num_steps: int
    ) -> None:
        super().__init__(reads, writes)
        self.num_steps = num_steps

    def run_one(self, inputs: list[Rows]) -> Rows:
        return np.repeat(_joined(inputs)[-1:], self.num_steps, 0)


class Reversed(Stage):
    """The rows from the last to the first."""

    def run_one(self, inputs: list[Rows]) -> Rows:
        return np.ascontiguousarray(_joined(inputs)[::-1])


class BestPath(Stage):
    """The tags of the best path through a linear-chain CRF, as rows of zeros and a one."""

    def __init__(
        self, reads: tuple[Read, ...], writes: tuple[tuple[int, int], ...], own: spec.Tensors
    ) -> None:
        super().__init__(reads, writes)
        self.start, self.end = own["start_transitions"], own["end_transitions"]
        self.transitions = own["transitions"]

    def run_one(self, inputs: list[Rows]) -> Rows:
        flow = _BestPathFlow(self, lookahead=len(inputs[0]))
        return np.concatenate([flow.push(inputs), flow.finish()])

    def flow(self, lookahead: int) -> Flow:
        return _BestPathFlow(self, lookahead)

    def latency(self, lookahead: int) -> int | None:
        return lookahead


class _BestPathFlow(Flow):
    """Viterbi 1967; a tag is that on the best path to the newest row, ``lookahead`` rows later."""

    def __init__(self, stage: BestPath, lookahead: int) -> None:
        self.stage = stage
        self.lookahead = lookahead
        # The best score of a path to each tag, and the tag before each, of rows not answered yet.
        self.kept: tuple[Rows | None, tuple[Rows, ...]] = (None, ())

    def push(self, rows: list[Rows]) -> Rows:
        best, back = self.kept
        tags = []
        for scores in _joined(rows):
            if best is None:
                best, before = self.stage.start + scores, np.arange(len(scores))
            else:
                paths = best[:, None] + self.stage.transitions
                before = paths.argmax(0)
                best = paths.max(0) + scores
            back = (*back, before)
            if len(back) > self.lookahead:
                tags.append(self._trace(best, back)[0])
                back = back[1:]
        self.kept = best, back
        return self._one_hot(tags)

    def finish(self) -> Rows:
        best, back = self.kept
        self.kept = best, ()
        return self._one_hot([] if best is None else self._trace(best + self.stage.end, back))

    def _trace(self, best: Rows, back: tuple[Rows, ...]) -> list[int]:
        """Return the tags of the rows in `back` on the best path."""
        tags = [int(best.argmax())]
        for before in reversed(back[1:]):
            tags.append(int(before[tags[-1]]))
        return tags[len(tags) - len(back) :][::-1] if back else []

    def _one_hot(self, tags: list[int]) -> Rows:
        return np.eye(self.stage.size, dtype=np.float32)[np.array(tags, np.intp)]
