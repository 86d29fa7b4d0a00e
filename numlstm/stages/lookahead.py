"""LookaheadStream: a network that reads later steps as a stream, its answers some steps late."""

import operator
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numlstm.run.border import Floats, checked_rows, finite_floats
from numlstm.run.compiled import Compiled
from numlstm.run.threads import Turn, in_turn
from numlstm.stages.causal import Causal
from numlstm.stages.stage import INPUT, Collecting, Flow, Read, Stage, no_rows
from numlstm.stages.staged import Staged

# Of each flow, of what waits before each stage, and whether it is finished.
Kept = tuple[list[Any], list[list[NDArray[Any]]], bool]


class LookaheadStream:
    """One sequence in progress of a network that reads later steps.

    Every bidirectional layer waits for ``lookahead`` steps after one before it answers: the forward
    direction goes on from its state, the other one reads that window of steps anew. The answer to
    a step is therefore `latency` steps late, lookahead times the number of such layers. `finish`
    gives the answers that are left; a lookahead that reaches the end of the sequence gives the
    bits of `Model.run`.

    A convolution or a pooling over a window needs no lookahead, only its own steps: where it has no
    padding there is no answer until its window is full, with a stride one to every so-manyth step.

    Get one from `Model.stream`. It belongs to one thread at a time: whichever method a second one
    calls meanwhile raises a RuntimeError. If a call raises, the stream is as it was before; if
    Ctrl-C interrupts it, as before it or as after it.

    Attributes
    ----------
    model : Model
        The model that it is of.
    lookahead : int
        How many steps each bidirectional layer waits for.
    latency : int or None
        How many steps behind its input an answer is; None if all come from `finish`.
    """

    def __init__(self, model: Any, network: Compiled | Staged, lookahead: int) -> None:
        if isinstance(lookahead, bool) or operator.index(lookahead) < 0:
            raise ValueError(f"lookahead is {lookahead!r}, expected 0 steps or more")
        self.model = model
        self._turn = Turn()
        self.lookahead = operator.index(lookahead)
        self._of = network
        self._network = network.network
        last = len(self._network.layers) - 1
        if isinstance(network, Staged):
            self._stages = network.stages
        else:
            writes = ((last, self._network.output_size),)
            self._stages = [Causal((Read(INPUT),), writes, network)]
        self._late = self._latencies()
        self.latency = self._late[last]
        self._flows: list[Flow]
        self._waiting: list[list[NDArray[Any]]]
        self._finished: bool
        # What was kept when the call began that is in progress, or that failed.
        self._before: Kept | None
        self._begin()

    def _latencies(self) -> dict[int, int | None]:
        """Return how late each layer answers, None where it waits for the end."""
        late: dict[int, int | None] = {INPUT: 0}
        apart = {INPUT: 1}  # how many steps of the input the rows of a layer are apart
        for stage in self._stages:
            own = stage.latency(self.lookahead)
            before = [late[read.source] for read in stage.reads]
            waits = own is None or self._comes_at_end(stage, late)
            steps = max(apart[read.source] for read in stage.reads)
            total = None if waits else max(n or 0 for n in before) + (own or 0) * steps
            late |= dict.fromkeys((n for n, _ in stage.writes), total)
            apart |= dict.fromkeys((n for n, _ in stage.writes), steps * stage.stride)
        return late

    @staticmethod
    def _comes_at_end(stage: Stage, late: dict[int, int | None]) -> bool:
        """Whether a stage can only begin when the sequence is at its end."""
        return any(read.last or late[read.source] is None for read in stage.reads)

    @in_turn
    def reset(self) -> None:
        """Return to the initial state."""
        self._begin()

    def _begin(self) -> None:
        # What comes at the end comes in one piece, and is run as such: no lookahead is too short.
        flows = [
            Collecting(stage)
            if self._comes_at_end(stage, self._late)
            else stage.flow(self.lookahead)
            for stage in self._stages
        ]
        # Rows that a stage has not read yet, of each of its inputs.
        waiting = [[self._no_rows(read.source) for read in stage.reads] for stage in self._stages]
        self._flows, self._waiting, self._finished, self._before = flows, waiting, False, None

    def _no_rows(self, source: int) -> NDArray[Any]:
        if source == INPUT:
            return no_rows(self._network)
        return np.zeros((0, self._network.size(source)), np.float32)

    def step(self, x: ArrayLike) -> Floats | None:
        """Take one step; return the answer to the one `latency` steps ago, (output_size,), or None.

        A masked step is left out, and has no answer.

        Parameters
        ----------
        x : int or array of shape (input_size,)
            A token id, or float32 numbers.

        Raises
        ------
        TypeError, ValueError, RuntimeError
            As `Stream.step`, or if the stream is finished.
        """
        ys = self.run(np.asarray(x)[None])
        return ys[0] if len(ys) else None

    def run(self, xs: ArrayLike) -> Floats:
        """Take T steps; return the answers that are ready, (rows, output_size).

        Parameters
        ----------
        xs : array of shape (T,) or (T, input_size)
            Token ids, or float32 numbers.

        Raises
        ------
        TypeError, ValueError, RuntimeError
            As `step`. None of the steps is taken then.
        """
        return self._push(checked_rows(self._network, xs), finish=False)

    def finish(self) -> Floats:
        """Return the answers that are left, (rows, output_size): the sequence is at its end.

        Raises
        ------
        ValueError, RuntimeError
            If it is finished already, the network overflows, or another thread is in the stream.
        """
        return self._push(self._no_rows(INPUT), finish=True)

    @in_turn
    def _push(self, xs: NDArray[Any], finish: bool) -> Floats:
        self._go_back()
        if self._finished:
            raise ValueError("the stream is finished; reset() begins a new sequence")
        masked = self._network.masked(xs)
        if masked is not None:
            xs = xs[~masked]
        self._before = self._now()
        ys = self._work(xs, finish)
        self._finished, self._before = finish, None
        return ys

    def _go_back(self) -> None:
        """Undo a call that failed.

        When the next one begins: no Ctrl-C, be it the second or third, can keep it from that.
        """
        if self._before is not None:
            self._set(self._before)
            self._before = None

    def _set(self, kept: Kept) -> None:
        flows, waiting, finished = kept
        if not isinstance(finished, bool):
            raise TypeError(f"whether it is finished is {finished!r}")
        for stage, flow, value in zip(self._stages, self._flows, flows, strict=True):
            if isinstance(flow, Collecting):
                value = [self._rows_of(stage, parts) for parts in value]
                if stage.joins and any(len({*map(len, parts)}) > 1 for parts in value):
                    raise ValueError("rows that are read together are not as many")
            flow.kept = value
        self._waiting = [
            self._rows_of(stage, parts) for stage, parts in zip(self._stages, waiting, strict=True)
        ]
        self._finished = finished

    def _rows_of(self, stage: Stage, parts: list[NDArray[Any]]) -> list[NDArray[Any]]:
        """Return rows of every input of a stage, checked."""
        return [
            checked_rows(self._network, rows)
            if read.source == INPUT
            else finite_floats("rows", rows, (-1, self._network.size(read.source)))
            for read, rows in zip(stage.reads, parts, strict=True)
        ]

    def _work(self, xs: NDArray[Any], finish: bool) -> Floats:
        """Pass new rows from stage to stage; return those of the last layer."""
        new: dict[int, NDArray[Any]] = {INPUT: xs}
        for stage, flow, waiting in zip(self._stages, self._flows, self._waiting, strict=True):
            for n, read in enumerate(stage.reads):
                rows = np.concatenate([waiting[n], new[read.source]])
                waiting[n] = rows[-1:] if read.last else rows
            counts = self._ready(stage, [len(rows) for rows in waiting], finish)
            parts = [rows[:count] for rows, count in zip(waiting, counts, strict=True)]
            waiting[:] = [rows[count:] for rows, count in zip(waiting, counts, strict=True)]
            ys = flow.push(parts) if any(counts) else stage.no_rows()
            if finish:
                ys = np.concatenate([ys, flow.finish()])
            at = 0
            for layer, size in stage.writes:
                new[layer] = ys[:, at : at + size]
                at += size
        return np.ascontiguousarray(new[len(self._network.layers) - 1])

    @staticmethod
    def _ready(stage: Stage, waiting: list[int], finish: bool) -> list[int]:
        """Return how many of the rows of each input a stage takes."""
        if not stage.joins:
            reads = zip(stage.reads, waiting, strict=True)
            return [0 if read.last and not finish else count for read, count in reads]
        if any(read.last for read in stage.reads) and not finish:
            return [0] * len(waiting)
        return [min(waiting)] * len(waiting)

    @in_turn
    def copy(self) -> Self:
        """Return a new stream that continues from here on its own."""
        self._go_back()
        twin = type(self)(self.model, self._of, self.lookahead)
        twin.kept = self._now()
        return twin

    @property
    @in_turn
    def kept(self) -> Kept:
        """What is kept from call to call; setting it goes back there.

        Raises
        ------
        ValueError
            If it is not of such a stream; this one is as it was before.
        """
        self._go_back()
        return self._now()

    @kept.setter
    @in_turn
    def kept(self, value: Kept) -> None:
        self._go_back()
        self._before = self._now()
        try:
            self._set(_owned(value))
        except (TypeError, ValueError) as error:
            self._go_back()
            raise ValueError(f"kept is not of a stream of this model: {error}") from error
        self._before = None

    def _now(self) -> Kept:
        flows = [flow.kept for flow in self._flows]
        return flows, [list(rows) for rows in self._waiting], self._finished

    __copy__ = copy

    def __deepcopy__(self, memo: Any) -> Self:
        return self.copy()

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (self.model, self.lookahead, self.kept)

    def __repr__(self) -> str:
        return f"<numlstm.LookaheadStream of {self.model!r}, {self.latency} steps late>"


def _owned(value: Any) -> Any:
    """Return what is kept with copies of its arrays, of those dtypes that the kernel knows.

    An array that was pickled has a dtype that is equal, not the same.
    """
    if isinstance(value, np.ndarray):
        return value.astype(np.dtype(value.dtype.str))
    if isinstance(value, list | tuple):
        return type(value)(map(_owned, value))
    return value


def _restore(model: Any, lookahead: int, kept: Any) -> LookaheadStream:
    stream: LookaheadStream = model.stream(lookahead=lookahead)
    stream.kept = kept
    return stream
