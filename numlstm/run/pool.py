"""Pool: many sequences in progress, which take their steps together."""

import operator
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from typing import Any, NoReturn

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numlstm.kernels import plan as columns
from numlstm.kernels.addresses import aligned, argument
from numlstm.kernels.plan import DONE, LANES, OUTPUT_NOT_FINITE, WRONG_ARRAY
from numlstm.program.check import check_layout
from numlstm.run.border import (
    FLOAT32,
    NO_MEMORY,
    Floats,
    as_floats,
    filled,
    for_kernel,
    raise_status,
    refuse_masked,
    refuse_overflow,
    token_ids,
)
from numlstm.run.compiled import Compiled
from numlstm.run.saved import from_bytes, to_bytes
from numlstm.run.state import checked_kept
from numlstm.run.stream import Stream, stream_of
from numlstm.run.threads import Turn, go_on, in_turn, run_together

# Another thread pays when each has this much work (`Compiled.work`), 0.3 ms: a thread takes 0.05 ms
# to begin and to end, and shares the caches.
THREAD_WORK = 2**25

_INT64 = np.dtype(np.int64)


class Pool:
    """Many sequences in progress: a step of several reads the weights once.

    Get one from `Model.pool`. A stream has a slot from `open` to `close`. Any slots, in any order,
    may take a step together; each gets the bits of a lone `Stream`. A pool belongs to one thread at
    a time: whichever method a second one calls meanwhile raises a RuntimeError. If a call raises,
    every stream is as it was before; if Ctrl-C interrupts it, all are as before or all as after.

    Attributes
    ----------
    model : Model
        The model that its streams are of.
    capacity : int
        How many streams may be open.

    Examples
    --------
    >>> pool = numlstm.load("sentiment").pool(1000)
    >>> slots = [pool.open(), pool.open()]
    >>> pool.step(slots, [4, 8]).shape
    (2, 2)
    >>> states = pool.save_states(slots)
    >>> len(pool.open_many(states)), len(pool)
    (2, 4)
    """

    def __init__(self, model: Any, compiled: Compiled, capacity: int, num_threads: int = 1) -> None:
        if isinstance(capacity, bool) or operator.index(capacity) < 1:
            raise ValueError(f"capacity is {capacity!r}, expected 1 stream or more")
        self.model = model
        self.capacity = operator.index(capacity)
        self._turn = Turn()
        self._compiled = compiled
        self._masks = compiled.network.masks
        self._first = compiled.initial_state(NO_MEMORY)
        # The work of each thread, and behind it what the streams keep. Pages that no stream has
        # touched are not taken.
        work_size = compiled.program.pool.state_size
        work = num_threads * work_size
        try:
            state = aligned(work + self.capacity * compiled.num_kept)
        except (MemoryError, ValueError, OverflowError) as error:
            raise ValueError(
                f"capacity is {capacity}: the states of so many streams, {4 * compiled.num_kept} "
                "bytes each, do not fit in memory"
            ) from error
        self._kept = state[work:].reshape(self.capacity, compiled.num_kept)
        self._workers = [
            _Worker(compiled, state[at:], work - at, self.capacity)
            for at in range(0, work, work_size)
        ]
        self._is_open = np.zeros(self.capacity, np.bool_)
        # The slots of the last call, while they are open.
        self._key: bytes | None = None
        self._slots = np.zeros(0, np.int64)
        self._order = np.zeros(self.capacity, np.int64)
        self._free = list(range(self.capacity))[::-1]

    def __len__(self) -> int:
        """How many streams are open."""
        return self.capacity - len(self._free)

    def open(self, stream: Stream | None = None) -> int:
        """Begin a stream, or continue one of the same model from where it is; return its slot.

        Raises
        ------
        ValueError
            If every slot is open, or the stream is another model's.
        """
        if stream is not None and not (isinstance(stream, Stream) and self._runs(stream.model)):
            raise ValueError("the stream is another model's")
        kept = self._first if stream is None else stream.kept
        return self._open([kept])[0]

    def open_many(self, states: Iterable[bytes]) -> list[int]:
        """Continue many streams from what `save_states` or `Stream.save_state` returned.

        Parameters
        ----------
        states : iterable of bytes
            Of this model, one for each stream.

        Returns
        -------
        list of int
            The slot of each.

        Raises
        ------
        TypeError, ValueError
            If there are not as many free slots, or as `Stream.load_state`, naming the state. None
            of them is open then.
        """
        kept = []
        for n, blob in enumerate(states):
            try:
                kept.append(from_bytes(self._compiled, blob)[0])
            except (TypeError, ValueError) as error:
                raise type(error)(f"state {n}: {error}") from error
        return self._open(kept)

    def _runs(self, model: Any) -> bool:
        """Whether a model is the pool's, or one of the same bits, as a pickled stream brings it."""
        return model is self.model or model.fingerprint == self._compiled.fingerprint

    @in_turn
    def _open(self, kept: list[Floats]) -> list[int]:
        if len(kept) > len(self._free):
            raise ValueError(
                f"all {self.capacity} slots of the pool are open; close one first"
                if len(kept) == 1
                else f"{len(self)} of {self.capacity} slots of the pool are open, {len(kept)} more "
                "do not fit; close some first"
            )
        count = len(kept)
        slots = self._free[len(self._free) - count :][::-1]
        if slots:
            self._kept[slots] = kept
            # Nothing is called between these two, so nothing comes between them.
            self._is_open[slots] = True
            del self._free[-count:]
        return slots

    @in_turn
    def close(self, slot: int) -> None:
        """End the stream of a slot.

        Raises
        ------
        TypeError, ValueError
            If the slot is not open.
        """
        (checked,) = map(int, self._check_slots([slot]))
        # Nothing is called from here on, so nothing comes between.
        self._key = None
        self._is_open[checked] = False
        self._free += [checked]

    @in_turn
    def stream(self, slot: int) -> Stream:
        """Return a lone stream that continues from where the stream of a slot is; that one stays.

        Raises
        ------
        TypeError, ValueError
            If the slot is not open.
        """
        (checked,) = self._check_slots([slot])
        stream = stream_of(self.model, self._compiled)
        stream.kept = self._kept[checked]
        return stream

    @in_turn
    def save_states(self, slots: ArrayLike) -> list[bytes]:
        """Return the states of some of the streams, each what `Stream.save_state` would return.

        Parameters
        ----------
        slots : array of int of shape (n,)
            Of open streams, each at most once.

        Returns
        -------
        list of n bytes

        Raises
        ------
        TypeError, ValueError
            If a slot is not open or comes twice.
        """
        checked = self._check_slots(slots)
        return [to_bytes(self._compiled, self._kept[slot], NO_MEMORY) for slot in checked]

    @in_turn
    def reset(self, slots: ArrayLike) -> None:
        """Take the streams of some slots back to the initial state.

        Parameters
        ----------
        slots : array of int of shape (n,)
            Of open streams, each at most once.

        Raises
        ------
        TypeError, ValueError
            If a slot is not open or comes twice; no stream has gone back then.
        """
        self._kept[self._check_slots(slots)] = self._first

    @in_turn
    def kept(self, slots: ArrayLike) -> Floats:
        """Return a copy of all that the streams of some slots keep from step to step.

        Parameters
        ----------
        slots : array of int of shape (n,)
            Of open streams, each at most once.

        Returns
        -------
        float32 array of shape (n, num_kept)
            Each row is what `Stream.kept` gives.

        Raises
        ------
        TypeError, ValueError
            If a slot is not open or comes twice.
        """
        return self._kept[self._check_slots(slots)]

    @in_turn
    def restore(self, slots: ArrayLike, kept: ArrayLike) -> None:
        """Take the streams of some slots to where `kept` was taken, of any streams of the model.

        Parameters
        ----------
        slots : array of int of shape (n,)
            Of open streams, each at most once.
        kept : float32 array of shape (n, num_kept)
            What `kept`, or `Stream.kept` of each, gave.

        Raises
        ------
        TypeError, ValueError
            If a slot is not open or comes twice, or a row is not of a stream of this model; every
            stream is as it was then.
        """
        checked = self._check_slots(slots)
        given = np.asarray(kept)
        if given.ndim != 2 or len(given) != len(checked):
            raise ValueError(f"kept has shape {given.shape} for {len(checked)} slots")
        rows = [checked_kept(self._compiled, row, f"kept[{n}]") for n, row in enumerate(given)]
        if rows:
            self._kept[checked] = rows

    def step(self, slots: ArrayLike, xs: ArrayLike, out: Floats | None = None) -> Floats:
        """Take one step of some of the streams.

        Parameters
        ----------
        slots : array of int of shape (n,)
            Of open streams, each at most once.
        xs : array of shape (n,) or (n, input_size)
            A token id, or float32 numbers, for each of them.
        out : float32 array of shape (n, output_size), optional
            Written and returned in place of a new array; its contents are lost if this raises.

        Returns
        -------
        float32 array of shape (n, output_size)

        Raises
        ------
        TypeError, ValueError
            If a slot is not open or comes twice, or as `Stream.step`; of a network that overflows
            it names the slot. No stream has taken a step.
        RuntimeError
            If another thread is in the pool; it is left alone.
        """
        turn = self._turn
        if turn.taken:
            turn.refuse()
        turn.taken = True
        try:
            checked, compiled = self._check_slots(slots), self._compiled
            count = len(checked)
            is_lone = not self._masks and self._is_lone_call(1, count)
            # Rows as they come, if they are what the kernel reads: it looks at all but the shapes.
            room = compiled.room(xs, out) if is_lone else None
            if room is not None and len(room) == count:
                status = self._workers[0].call(checked, xs, room)
                if status == DONE:
                    return room
                if status != WRONG_ARRAY:
                    self._workers[0].refuse(checked, xs, room, status)
            xs = self._rows(xs, (count,))
            xs, ys = for_kernel(xs, out, (count, compiled.output_size))
            if is_lone:
                self._workers[0].take(checked, xs, ys, xs)
            else:
                self._take(checked, xs[None], ys[None], xs)
            return filled(out, ys)
        finally:
            turn.taken = False

    @in_turn
    def run(self, slots: ArrayLike, xs: ArrayLike, out: Floats | None = None) -> Floats:
        """Take T steps of some of the streams in one call; the same bits as T calls of `step`.

        Parameters
        ----------
        slots : array of int of shape (n,)
            Of open streams, each at most once.
        xs : array of shape (T, n) or (T, n, input_size)
            Token ids, or float32 numbers.
        out : float32 array of shape (T, n, output_size), optional
            Written and returned in place of a new array; its contents are lost if this raises.

        Returns
        -------
        float32 array of shape (T, n, output_size)

        Raises
        ------
        TypeError, ValueError, RuntimeError
            As `step`. No stream has taken a step.
        """
        checked = self._check_slots(slots)
        xs = self._rows(xs, (-1, len(checked)))
        xs, ys = for_kernel(xs, out, (*xs.shape[:2], self._compiled.output_size))
        self._take(checked, xs, ys, xs)
        return filled(out, ys)

    # Checks ---------------------------------------------------------------------------------------

    def _check_slots(self, slots: ArrayLike) -> NDArray[np.int64]:
        """Return slots as an array that nobody else has, each open and named once, or raise."""
        if type(slots) is np.ndarray and slots.dtype is _INT64 and slots.ndim == 1:
            array = slots  # only its bytes are read
        else:
            refuse_masked("slots", slots)
            given = np.array(slots)
            if given.size == 0:
                given = given.astype(_INT64)
            if given.ndim != 1 or given.dtype.kind not in "iu":
                raise TypeError(
                    f"slots are {given.dtype} of shape {given.shape}, expected integers (n,)"
                )
            array = given.astype(_INT64, copy=False)
        key = array.tobytes()
        if key == self._key:  # as in the call before, as a rule
            return self._slots
        array = np.frombuffer(key, _INT64)
        outside = (array < 0) | (array >= self.capacity)
        is_closed = outside | ~self._is_open[np.where(outside, 0, array)]
        if is_closed.any():
            raise ValueError(f"slot {array[is_closed.argmax()]} is not open")
        self._order[array] = np.arange(len(array))
        repeated = self._order[array] != np.arange(len(array))
        if repeated.any():
            raise ValueError(f"slot {array[repeated.argmax()]} comes twice")
        self._key, self._slots = key, array
        return array

    def _rows(self, xs: ArrayLike, shape: tuple[int, ...]) -> NDArray[Any]:
        """Return xs as the kernel reads them: ``shape`` of ids, or (*shape, input_size)."""
        vocab_size = self._compiled.vocab_size
        if vocab_size is None:
            return as_floats("xs", xs, (*shape, self._compiled.input_size))
        return token_ids("xs", xs, vocab_size, shape)

    # Steps ----------------------------------------------------------------------------------------

    def _take(
        self, slots: NDArray[np.int64], xs: NDArray[Any], ys: Floats, given: NDArray[Any]
    ) -> None:
        """Take the steps of xs, (T, n, ...); write ys, (T, n, O).

        given   xs as they were given, for errors
        """
        if not self._masks:
            self.take(slots, xs, ys, given)
            return
        before = self._kept[slots]
        try:
            for x, y in zip(xs, ys, strict=True):
                self._take_unmasked(slots, x, y, given)
        except BaseException:
            self._kept[slots] = before
            raise

    def _take_unmasked(
        self, slots: NDArray[np.int64], x: NDArray[Any], y: Floats, given: NDArray[Any]
    ) -> None:
        """Take one step of the streams whose x is not masked; of others repeat the answer."""
        answer = self._compiled.program.answer
        is_masked = self._compiled.network.masked(x)
        assert answer is not None
        assert is_masked is not None
        at, size = answer
        y[is_masked] = self._kept[slots[is_masked], at : at + size]
        goes_on = ~is_masked
        new = np.empty((1, np.count_nonzero(goes_on), y.shape[1]), FLOAT32)
        self.take(slots[goes_on], x[goes_on][None], new, given)
        y[goes_on] = new[0]

    def take(
        self, slots: NDArray[np.int64], xs: NDArray[Any], ys: Floats, given: NDArray[Any]
    ) -> None:
        """Take steps (T, n, ...), none of them masked, of checked slots."""
        num_steps, num_streams = xs.shape[:2]
        if not num_steps or not num_streams:
            return
        if self._is_lone_call(num_steps, num_streams):
            self._workers[0].take(slots, xs, ys, given)
            return
        rows = self._workers[0].num_rows
        stride = max(1, self._compiled.rows_per_call // min(num_streams, rows))
        num_threads = self._num_threads(num_steps, num_streams)
        before = self._kept[slots]
        try:
            rows = min(rows, -(-num_streams // num_threads // 4) * 4)
            parts = [slice(at, at + rows) for at in range(0, num_streams, rows)]

            def work(worker: _Worker, parts: list[slice]) -> None:
                for part in parts:
                    for t in range(0, num_steps, stride):
                        go_on()
                        steps = slice(t, t + stride)
                        y = np.empty_like(ys[steps, part])
                        x = np.ascontiguousarray(xs[steps, part])
                        worker.take(slots[part], x, y, given)
                        ys[steps, part] = y

            run_together(
                [
                    partial(work, worker, parts[n::num_threads])
                    for n, worker in enumerate(self._workers[:num_threads])
                ]
            )
        except BaseException:
            self._kept[slots] = before
            raise

    def take_alone(self, slot: int, xs: NDArray[Any], ys: Floats) -> None:
        """Take steps (T, ...), none of them masked, of one checked slot, together."""
        self._compiled.take(self._kept[slot], NO_MEMORY, xs, ys)

    def _is_lone_call(self, num_steps: int, num_streams: int) -> bool:
        """Whether one call of the kernel takes these steps, if none of them is masked."""
        return (
            0 < num_streams <= self._workers[0].num_rows
            and num_steps * num_streams <= self._compiled.rows_per_call
            and (len(self._workers) == 1 or self._num_threads(num_steps, num_streams) == 1)
        )

    def _num_threads(self, num_steps: int, num_streams: int) -> int:
        """Return how many threads pay for these steps."""
        pay = num_steps * num_streams * self._compiled.work // THREAD_WORK
        return max(1, min(len(self._workers), pay, num_streams // 4))

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a pool is neither copied nor pickled: save_states(slots) gives its streams as bytes, "
            "and open_many(states) of another pool continues them"
        )

    def __repr__(self) -> str:
        return f"<numlstm.Pool of {self.model!r}, {len(self)} of {self.capacity} streams open>"


class _Worker:
    """The arrays with which a thread takes a step of some streams."""

    def __init__(self, compiled: Compiled, state: Floats, kept_at: int, capacity: int) -> None:
        layout = compiled.program.pool
        plan = layout.plan.copy()
        plan[0, columns.KEPT_AT] = kept_at
        layout = replace(layout, plan=plan)
        check_layout(compiled.program, layout, "a pool", state.size, capacity)
        slots_at, checks_at = plan[0, columns.SLOTS_AT], plan[0, columns.CHECK_AT]
        self.num_rows = int(plan[0, columns.BLOCK_ROWS])
        self._vocab_size = compiled.vocab_size
        self._num_streams = plan[0, columns.BLOCK_ROWS : columns.BLOCK_ROWS + 1]
        self._slots = state[slots_at : slots_at + 2 * self.num_rows].view(_INT64)
        self._placed: NDArray[np.int64] | None = None  # those that lie there
        self._checks = state[checks_at : checks_at + self.num_rows * LANES].reshape(-1, LANES)
        self._arguments = argument(plan), compiled.params_at, argument(state)
        self._alive = plan, state
        self._run = compiled.run

    def take(
        self, slots: NDArray[np.int64], xs: NDArray[Any], ys: Floats, given: NDArray[Any]
    ) -> None:
        """Take the steps of xs, (n, ...) or (T, n, ...), or raise."""
        status = self.call(slots, xs, ys)
        if status != DONE:
            self.refuse(slots, given, ys, status)

    def call(self, slots: NDArray[np.int64], xs: Any, ys: Floats) -> int:
        """Take the steps of xs; return the kernel's status."""
        if slots is not self._placed:
            self._placed = None  # until all of them lie there
            self._num_streams[0] = len(slots)
            self._slots[: len(slots)] = slots
            self._placed = slots
        return self._run(*self._arguments, xs, ys)

    def refuse(
        self, slots: NDArray[np.int64], given: ArrayLike, ys: Floats, status: int
    ) -> NoReturn:
        """Raise what the status of a call means.

        given   xs as they were given
        """
        if status == OUTPUT_NOT_FINITE:
            is_kept = np.isnan(self._checks[: len(slots)]).any(1)
            row = is_kept.argmax() if is_kept.any() else np.argwhere(~np.isfinite(ys))[0][-2]
            refuse_overflow("xs", f" in slot {slots[row]}")
        raise_status("xs", np.asarray(given), 0, status, self._vocab_size)
