"""Pool: many sequences in progress, which take their steps together."""

import operator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numlstm.checks import FLOAT32, Floats, as_floats, filled, for_kernel, raise_status, token_ids
from numlstm.kernels import plan as columns
from numlstm.kernels.addresses import aligned, argument
from numlstm.kernels.plan import DONE, LANES, OUTPUT_NOT_FINITE
from numlstm.stream import Stream
from numlstm.threads import Turn, run_together

if TYPE_CHECKING:
    from numlstm.model import Model

# Another thread pays when each has this much work (`Model.work`), 0.3 ms: a thread takes 0.05 ms
# to begin and to end, and shares the caches.
THREAD_WORK = 2**25


class Pool:
    """Many sequences in progress: a step of several reads the weights once.

    A stream has a slot from `open` to `close`. Any slots, in any order, may take a step together;
    each gets the bits of a lone `Stream`. A pool belongs to one thread at a time; a second one that
    enters it gets a RuntimeError. If a call raises, every stream is as it was before.

    Attributes
    ----------
    capacity : int
        How many streams may be open.
    """

    def __init__(self, model: "Model", capacity: int, num_threads: int) -> None:
        program = model._program
        assert program is not None, "only causal networks have pools"
        if isinstance(capacity, bool) or operator.index(capacity) < 1:
            raise ValueError(f"capacity is {capacity!r}, expected 1 stream or more")
        self.model = model
        self._turn = Turn()
        self.capacity = operator.index(capacity)
        self._program = program
        self._initial_state = model._initial_state(np.zeros((0, 0), FLOAT32))
        self._masks = model.network.masks
        num_kept, work_size = program.initial_state.size, program.pool.state_size
        # The work of each thread, and behind it what the streams keep. Memory that no stream has
        # touched is not taken.
        work = num_threads * work_size
        state = aligned(work + self.capacity * num_kept)
        self._kept = state[work:].reshape(self.capacity, num_kept)
        self._workers = [_Worker(model, state[at:], work - at) for at in range(0, work, work_size)]
        self._is_open = np.zeros(self.capacity, np.bool_)
        self._checked: bytes | None = None  # the slots of the last call, while they are open
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
        if stream is not None and (
            not isinstance(stream, Stream) or stream.model is not self.model
        ):
            raise ValueError("the stream is another model's")
        kept = self._initial_state if stream is None else stream.kept
        with self._turn:
            if not self._free:
                raise ValueError(f"all {self.capacity} slots of the pool are open; close one first")
            slot = self._free.pop()
            self._kept[slot] = kept
            self._is_open[slot] = True
        return slot

    def close(self, slot: int) -> None:
        """End the stream of a slot."""
        with self._turn:
            self._check_slots([slot])
            self._is_open[slot] = False
            self._checked = None
            self._free.append(operator.index(slot))

    def stream(self, slot: int) -> Stream:
        """Return a lone stream that continues from where the stream of a slot is."""
        stream = self.model.stream()
        with self._turn:
            self._check_slots([slot])
            stream.kept = self._kept[slot]
        return stream

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
            If a slot is not open or comes twice, or as `Stream.step`. No stream has taken a step.
        """
        with self._turn:
            slots = self._check_slots(slots)
            xs = self._check_xs(xs, (len(slots),))
            xs, ys = for_kernel(xs, out, (len(slots), self.model.output_size))
            self._take(slots, xs[None], ys[None], xs)
            return filled(out, ys)

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
        TypeError, ValueError
            As `step`. No stream has taken a step.
        """
        with self._turn:
            slots = self._check_slots(slots)
            xs = self._check_xs(xs, (-1, len(slots)))
            xs, ys = for_kernel(xs, out, (*xs.shape[:2], self.model.output_size))
            self._take(slots, xs, ys, xs)
            return filled(out, ys)

    # Checks ---------------------------------------------------------------------------------------

    def _check_slots(self, slots: ArrayLike) -> NDArray[np.int64]:
        """Return slots as an array, each open and named once, or raise."""
        given = np.array(slots)  # a copy: nobody changes it between the check and the step
        if given.size == 0:
            given = given.astype(np.int64)
        if given.ndim != 1 or given.dtype.kind not in "iu":
            raise TypeError(
                f"slots are {given.dtype} of shape {given.shape}, expected integers (n,)"
            )
        array = np.ascontiguousarray(given, np.int64)
        key = array.tobytes()
        if key == self._checked:
            return array
        outside = (array < 0) | (array >= self.capacity)
        is_closed = outside | ~self._is_open[np.where(outside, 0, array)]
        if is_closed.any():
            raise ValueError(f"slot {array[is_closed.argmax()]} is not open")
        self._order[array] = np.arange(len(array))
        repeated = self._order[array] != np.arange(len(array))
        if repeated.any():
            raise ValueError(f"slot {array[repeated.argmax()]} comes twice")
        self._checked = key
        return array

    def _check_xs(self, xs: ArrayLike, shape: tuple[int, ...]) -> NDArray[Any]:
        """Return xs as the kernel reads them, ids in float32 too: ``shape`` or (*shape, I)."""
        vocab_size = self.model.vocab_size
        if vocab_size is None:
            return as_floats("xs", xs, (*shape, self.model.input_size))
        ids = np.array(xs)
        fits = ids.ndim == len(shape) and ids.shape[-1] == shape[-1]
        if not fits:
            expected = str(shape).replace("-1", "T")
            raise ValueError(f"xs has shape {ids.shape}, expected {expected} token ids")
        return token_ids("xs", ids.reshape(-1), vocab_size).reshape(ids.shape)

    # Steps ----------------------------------------------------------------------------------------

    def _take(
        self, slots: NDArray[np.int64], xs: NDArray[Any], ys: Floats, given: NDArray[Any]
    ) -> None:
        """Take the steps of xs, (T, n) or (T, n, I); write ys, (T, n, O).

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
        assert self._program.answer is not None
        at, size = self._program.answer
        is_masked = self.model.network.masked(x if x.ndim > 1 else x.view(np.int32))
        assert is_masked is not None
        y[is_masked] = self._kept[slots[is_masked], at : at + size]
        goes_on = ~is_masked
        new = np.empty((1, np.count_nonzero(goes_on), y.shape[1]), FLOAT32)
        self.take(slots[goes_on], x[goes_on][None], new, given)
        y[goes_on] = new[0]

    def take(
        self, slots: NDArray[np.int64], xs: NDArray[Any], ys: Floats, given: NDArray[Any]
    ) -> None:
        """Take steps, none of them masked, of checked slots; ids are in float32."""
        num_steps, num_streams = xs.shape[:2]
        if not num_steps or not num_streams:
            return
        rows = self._workers[0].num_rows
        stride = max(1, self.model.steps_per_call // num_streams)
        num_threads = self._num_threads(num_steps, num_streams)
        if num_streams <= rows and num_steps <= stride and num_threads == 1:
            self._workers[0].take(slots, xs, ys, given)
            return
        before = self._kept[slots]
        try:
            rows = min(rows, -(-num_streams // num_threads // 4) * 4)
            parts = [slice(at, at + rows) for at in range(0, num_streams, rows)]

            def work(worker: _Worker, parts: list[slice]) -> None:
                for part in parts:
                    for t in range(0, num_steps, stride):
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

    def _num_threads(self, num_steps: int, num_streams: int) -> int:
        """Return how many threads pay for these steps."""
        pay = num_steps * num_streams * self.model.work // THREAD_WORK
        return max(1, min(len(self._workers), pay, num_streams // 4))

    def __repr__(self) -> str:
        return f"<numlstm.Pool of {self.model!r}, {len(self)} of {self.capacity} streams open>"


class _Worker:
    """The arrays with which a thread takes a step of some streams."""

    def __init__(self, model: "Model", state: Floats, kept_at: int) -> None:
        program = model._program
        assert program is not None
        layout = program.pool
        plan = layout.plan.copy()
        plan[0, columns.KEPT_AT] = kept_at
        slots_at = plan[0, columns.SLOTS_AT]
        self.num_rows = int(plan[0, columns.BLOCK_ROWS])
        self._num_streams = plan[0, columns.BLOCK_ROWS : columns.BLOCK_ROWS + 1]
        self._slots = state[slots_at : slots_at + 2 * self.num_rows].view(np.int64)
        checks_at = plan[0, columns.CHECK_AT]
        self._checks = state[checks_at : checks_at + self.num_rows * LANES].reshape(-1, LANES)
        self._arguments = argument(plan), program.params_at, argument(state)
        self._alive = plan, state
        self._run = model._run

    def take(
        self, slots: NDArray[np.int64], xs: NDArray[Any], ys: Floats, given: NDArray[Any]
    ) -> None:
        """Take the steps of xs, (T, n) or (T, n, I), or raise."""
        self._num_streams[0] = len(slots)
        self._slots[: len(slots)] = slots
        status = self._run(*self._arguments, xs.reshape(-1), ys.reshape(-1))
        if status == OUTPUT_NOT_FINITE:
            is_kept = np.isnan(self._checks[: len(slots)]).any(1)
            row = is_kept.argmax() if is_kept.any() else np.argwhere(~np.isfinite(ys))[0][1]
            raise ValueError(
                f"xs made the network overflow in slot {slots[row]}; "
                "scale the input as the model was trained on"
            )
        if status != DONE:
            raise_status("xs", given, 0, status)
