"""Stream: one sequence in progress. Check what comes in, make one compiled call, return."""

import operator
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numlstm.checks import (
    FLOAT32,
    Floats,
    as_floats,
    check_out,
    filled,
    for_kernel,
    raise_status,
    token_id,
    token_ids,
)
from numlstm.kernels.addresses import aligned, argument
from numlstm.kernels.plan import DONE, WRONG_ARRAY
from numlstm.program.program import Layout
from numlstm.sampling import Generator, Sampling
from numlstm.threads import Turn
from numlstm.trace import Trace, trace

if TYPE_CHECKING:
    from numlstm.model import Model

# A state is saved as this header and the floats that are kept from step to step.
_STATE_HEADER = struct.Struct("<8s16sII")  # magic, fingerprint of the model, size, checksum
_STATE_MAGIC = b"numlstm1"


class Stream:
    """One sequence in progress: owns its state, shares the model's weights.

    A stream belongs to one thread at a time; a second one that enters it gets a RuntimeError. If a
    call raises, the stream is as it was before.
    """

    def __init__(
        self,
        model: "Model",
        memory: ArrayLike | None = None,
        memory_ids: ArrayLike | None = None,
    ) -> None:
        program = model._program
        assert program is not None, "only causal networks have streams of this class"
        self.model = model
        self._turn = Turn()
        self._program = program
        self._num_kept = program.initial_state.size
        self._vocab_size = model.vocab_size
        self._x_shape = (model.input_size,)
        self._y_shape = (model.output_size,)
        # A token id reaches the kernel as the bits of a float32.
        self._token = np.zeros(1, np.int32)
        self._token_bits = self._token.view(np.float32)
        # What every step passes to the kernel.
        self._run = model._run
        self._plan_at = program.step.plan_at
        self._params_at = program.params_at
        self._memory = model._memory_rows(memory, memory_ids)
        self._initial_state = model._initial_state(self._memory)
        self._place_state(self._initial_state)

    def _place_state(self, kept: Floats) -> None:
        """Begin anew with what is kept, and with room for the memory."""
        self._state = self._state_of(self._program.step)
        self._state_at = argument(self._state)
        self._go_back(kept)

    @property
    def kept(self) -> Floats:
        """A copy of all that is kept from step to step; assigning it goes back there."""
        with self._turn:
            return self._copy_kept()

    @kept.setter
    def kept(self, values: Floats) -> None:
        with self._turn:
            self._go_back(values)

    def _copy_kept(self) -> Floats:
        return self._state[: self._num_kept].copy()

    def _go_back(self, kept: Floats) -> None:
        self._state[: self._num_kept] = kept
        if self._program.memory is not None:
            at = self._program.memory.count_at
            self._state[at : at + 2].view(np.int64)[0] = len(self._memory)

    def _state_of(self, layout: Layout) -> Floats:
        """Return an array for a layout, with the memory behind it."""
        state = aligned(layout.state_size + self._memory.size)
        state[layout.state_size :] = self._memory.reshape(-1)
        return state

    def step(self, x: ArrayLike, out: Floats | None = None) -> Floats:
        """Take one step.

        Parameters
        ----------
        x : int or array of shape (input_size,)
            A token id, or float32 numbers; other real numbers are converted.
        out : float32 array of shape (output_size,), optional
            Written and returned in place of a new array; its contents are lost if this raises.

        Returns
        -------
        float32 array of shape (output_size,)

        Raises
        ------
        TypeError, ValueError
            If x or out is not as above, x holds a NaN or an infinity, or the network overflows.
            The stream is as it was before.
        """
        turn = self._turn
        if turn.taken:
            turn.refuse()
        turn.taken = True
        try:
            if self._vocab_size is not None:
                if type(x) is not int:
                    x = token_id(x)
                if not 0 <= x < self._vocab_size:
                    raise ValueError(f"token id {x} is outside 0 <= id < {self._vocab_size}")
                self._token[0] = x
                x = self._token_bits
            if out is None:
                out = np.empty(self._y_shape, FLOAT32)
            # The kernel looks at the type, shape and numbers of x and out before it begins.
            status = self._run(self._plan_at, self._params_at, self._state_at, x, out)
            if status != DONE:
                self._step_fitted(x, out, status)
            return out
        finally:
            turn.taken = False

    def _step_fitted(self, x: ArrayLike, out: Floats, status: int) -> None:
        """Take a step that the kernel refused, with arrays made to fit, or raise what is wrong."""
        x = as_floats("x", x, self._x_shape)
        if status == WRONG_ARRAY:
            check_out(out, self._y_shape)
            y = np.empty(self._y_shape, FLOAT32)
            status = self._run(self._plan_at, self._params_at, self._state_at, x, y)
            if status == DONE:
                out[:] = y
        if status != DONE:
            raise_status("x", x, 0, status)

    def run(self, xs: ArrayLike, out: Floats | None = None) -> Floats:
        """Take T steps in one call, without the GIL; the same bits as T calls of `step`.

        Parameters
        ----------
        xs : array of shape (T,) or (T, input_size)
            Token ids, or float32 numbers.
        out : float32 array of shape (T, output_size), optional
            Written and returned in place of a new array; its contents are lost if this raises.

        Returns
        -------
        float32 array of shape (T, output_size)

        Raises
        ------
        TypeError, ValueError
            As `step`. None of the steps is taken then, nor if Ctrl-C interrupts them.
        """
        with self._turn:
            return self._run_rows(self.model.rows_for_kernel(xs), out)

    def _run_rows(self, xs: Floats, out: Floats | None) -> Floats:
        xs, ys = for_kernel(xs, out, (len(xs), *self._y_shape))
        kept = slice(0, self._num_kept)
        state = self._state_of(self._program.block)
        state[kept] = self._state[kept]
        run_blocks(self.model, state, xs, ys)
        self._state[kept] = state[kept]
        return filled(out, ys)

    def trace(self, xs: ArrayLike) -> Trace:
        """Take T steps, the same bits as `run`, and return what went on in the cells as well.

        It costs a call of Python per step; what is not traced pays nothing.

        Parameters
        ----------
        xs : array of shape (T,) or (T, input_size)
            Token ids, or float32 numbers.

        Returns
        -------
        Trace
            The answers ``ys``, and by name the rows of the gates and states of every recurrent
            layer: ``trace["layers.0.f"]``, (T, hidden_size).

        Raises
        ------
        TypeError, ValueError
            As `run`; or if the network has no recurrent layer.
        """
        with self._turn:
            return trace(self, xs)

    def answer(self) -> Floats:
        """Return a copy of the last answer, which a masked step repeats."""
        assert self._program.answer is not None
        at, size = self._program.answer
        return self._state[at : at + size].copy()

    def _take_one(self, x: Floats, y: Floats) -> None:
        """Take a step with a checked row, ids in float32."""
        status = self._run(self._plan_at, self._params_at, self._state_at, x, y)
        if status != DONE:
            raise_status("xs", x, 0, status)

    def generate(
        self,
        first_id: int,
        n: int,
        *,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float = 1.0,
        min_p: float = 0.0,
        repetition_penalty: float = 1.0,
        seed: int | None = None,
        stop: Iterable[int] = (),
        history: Iterable[int] = (),
    ) -> NDArray[np.int32]:
        """Take steps whose answers choose the tokens of the next ones, in one call without the GIL.

        The scores of the tokens are what the network answers, logits; of one that ends in a
        softmax, what goes into it.
        The choice follows the order of Hugging Face's generation: repetition penalty, temperature,
        top-k, top-p, min-p. The same seed gives the same tokens on every machine.

        Parameters
        ----------
        first_id : int
            The token that the first step reads.
        n : int
            How many tokens to choose.
        temperature : float
            The scores are divided by it. 0 takes the token of the largest score, always.
        top_k : int, optional
            Only that many tokens of the largest scores.
        top_p : float
            Only the fewest tokens that have this probability together (Holtzman et al. 2020).
        min_p : float
            Only tokens with at least this share of the probability of the likeliest one.
        repetition_penalty : float
            What the scores of tokens that came before are divided by, or multiplied if they are
            negative (Keskar et al. 2019).
        seed : int, optional
            Decides the choices; without it they are others each time.
        stop : token ids
            It ends after one of these.
        history : token ids
            Tokens before ``first_id`` that the repetition penalty is for.

        Returns
        -------
        int32 array of shape (n,), or shorter if it was stopped
            The last one was not read yet: it is the ``first_id`` to go on with.

        Raises
        ------
        TypeError, ValueError
            If a setting is not as above, the network does not score the tokens that it reads, or it
            overflows. The stream is as it was before.
        """
        if isinstance(n, bool) or operator.index(n) < 0:
            raise ValueError(f"n is {n!r}, expected a number of tokens")
        how = Sampling(temperature, top_k, top_p, min_p, repetition_penalty, seed)
        generator = Generator(self, first_id, how, stop, history)
        stride = self.model.steps_per_call
        parts = [np.zeros(0, np.int32)]
        with self._turn:
            kept = self._copy_kept()
            try:
                for at in range(0, operator.index(n), stride):
                    parts.append(generator.next(min(stride, n - at)))
                    if generator.stopped:
                        break
            except BaseException:
                self._go_back(kept)
                raise
        return np.concatenate(parts)

    def tokens(
        self,
        first_id: int,
        *,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float = 1.0,
        min_p: float = 0.0,
        repetition_penalty: float = 1.0,
        seed: int | None = None,
        stop: Iterable[int] = (),
        history: Iterable[int] = (),
    ) -> Iterator[int]:
        """Yield tokens one by one, those of `generate`, without end or up to one that stops."""
        how = Sampling(temperature, top_k, top_p, min_p, repetition_penalty, seed)
        return self._tokens(Generator(self, first_id, how, stop, history))

    def _tokens(self, generator: Generator) -> Iterator[int]:
        while not generator.stopped:
            with self._turn:
                token = int(generator.next(1)[0])
            yield token

    def reset(self) -> None:
        """Return to the initial state; a memory stays."""
        self.kept = self._initial_state

    def copy(self) -> Self:
        """Return a new stream that continues from here on its own."""
        twin = type(self).__new__(type(self))
        with self._turn:
            twin.__dict__ |= self.__dict__
            twin._turn = Turn()
            twin._token = np.zeros(1, np.int32)
            twin._token_bits = twin._token.view(np.float32)
            twin._place_state(self._state[: self._num_kept])
        return twin

    __copy__ = copy

    def __deepcopy__(self, memo: Any) -> Self:
        return self.copy()

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (self.model, self.save_state())

    @property
    def latency(self) -> int:
        """How many steps behind its input an answer is: none."""
        return 0

    @property
    def state(self) -> dict[str, Floats]:
        """Copies of the h (and c) of each recurrent layer, ``layers.{n}.h``: (hidden_size,).

        Assigning a dict replaces those it names, for a decoder that begins where an encoder ended:
        ``decoder.state = {"layers.0.h": encoder.state["layers.0.h"]}``.
        """
        names = self._program.state_names
        with self._turn:
            return {name: self._state[at : at + size].copy() for name, (at, size) in names.items()}

    @state.setter
    def state(self, values: Mapping[str, ArrayLike]) -> None:
        if not isinstance(values, Mapping):
            raise TypeError(f"the state is {type(values).__name__}, expected a dict of arrays")
        names = self._program.state_names
        problems = [f"{name} is not among {', '.join(names)}" for name in values - names.keys()]
        arrays = {}
        for name in values.keys() & names.keys():
            try:
                arrays[name] = as_floats(name, values[name], names[name][1:])
                if not np.isfinite(arrays[name]).all():
                    problems.append(f"{name} holds a NaN or an infinity")
            except (TypeError, ValueError) as error:
                problems.append(str(error))
        if problems:
            raise ValueError("the state cannot be set:\n  " + "\n  ".join(sorted(problems)))
        with self._turn:
            for name, array in arrays.items():
                at, size = names[name]
                self._state[at : at + size] = array

    def save_state(self) -> bytes:
        """Return the state as bytes; `load_state` continues from them, in any process."""
        with self._turn:
            kept = self._state[: self._num_kept].astype("<f4").tobytes()
            kept += self._memory.astype("<f4").tobytes()
        fingerprint = self.model._weights.fingerprint
        checksum = zlib.crc32(kept)
        return _STATE_HEADER.pack(_STATE_MAGIC, fingerprint, len(kept), checksum) + kept

    def load_state(self, blob: bytes) -> None:
        """Continue from what `save_state` returned.

        Raises
        ------
        TypeError, ValueError
            If it is not a saved state, is damaged, or is another model's.
        """
        if not isinstance(blob, bytes | bytearray | memoryview):
            raise TypeError(f"the state is {type(blob).__name__}, expected bytes of save_state")
        blob = bytes(blob)
        if len(blob) < _STATE_HEADER.size or not blob.startswith(_STATE_MAGIC):
            raise ValueError("the state was not written by save_state of this version")
        _, fingerprint, size, checksum = _STATE_HEADER.unpack_from(blob)
        kept = blob[_STATE_HEADER.size :]
        if fingerprint != self.model._weights.fingerprint:
            raise ValueError("the state is another model's; load it with the model that saved it")
        row_size = 0 if self._program.memory is None else self._program.memory.row_size
        beyond = size // 4 - self._num_kept
        fits = beyond % row_size == 0 and beyond > 0 if row_size else beyond == 0
        if len(kept) != size or size % 4 or not fits or zlib.crc32(kept) != checksum:
            raise ValueError("the state is damaged: its length or checksum is wrong")
        floats = np.frombuffer(kept, "<f4").astype(np.float32)
        if np.isnan(floats).any():
            raise ValueError("the state is damaged: it holds a NaN")
        memory = self._memory
        if row_size:
            memory = self._checked_memory(floats[self._num_kept :].reshape(-1, row_size))
        initial_state = self.model._initial_state(memory)
        with self._turn:
            self._memory, self._initial_state = memory, initial_state
            self._place_state(floats[: self._num_kept])

    def _checked_memory(self, rows: Floats) -> Floats:
        """Return the rows of a memory, or raise unless each of their ids is a token's."""
        vocab_size = self.model.network.memory_vocab_size
        if vocab_size is not None:
            assert self._program.memory is not None
            ids = rows[:, self._program.memory.keys_end]
            if not ((ids >= 0) & (ids < vocab_size) & (ids == np.floor(ids))).all():
                raise ValueError(
                    "the state is damaged: its memory holds numbers that are no token ids, "
                    f"0 <= id < {vocab_size}"
                )
        return rows

    def __repr__(self) -> str:
        return f"<numlstm.Stream of {self.model!r}>"


def run_blocks(model: "Model", state: Floats, xs: NDArray[Any], ys: Floats) -> None:
    """Take steps from a state, of the layout of blocks; what it holds after an error is lost."""
    program = model._program
    assert program is not None
    plan_at, params_at, state_at = program.block.plan_at, program.params_at, argument(state)
    stride = model.steps_per_call
    for t in range(0, len(xs), stride):
        part = xs[t : t + stride]
        x, y = part.reshape(-1), ys[t : t + stride].reshape(-1)
        status = model._run(plan_at, params_at, state_at, x, y)
        if status != DONE:
            raise_status("xs", part, t, status)


def run_whole(model: "Model", xs: NDArray[Any], ys: Floats) -> None:
    """Take all steps of a sequence, for a network without a memory."""
    program = model._program
    assert program is not None
    state = aligned(program.block.state_size)
    state[: program.initial_state.size] = program.initial_state
    run_blocks(model, state, xs, ys)


class MaskedStream(Stream):
    """A stream that skips masked steps: they change no state, the answer before is repeated."""

    def step(self, x: ArrayLike, out: Floats | None = None) -> Floats:
        if not self._mask(self._check_one(x))[0]:
            return super().step(x, out)
        if out is not None:
            check_out(out, self._y_shape)
        with self._turn:
            return filled(out, self.answer())

    def run(self, xs: ArrayLike, out: Floats | None = None) -> Floats:
        xs = self.model.rows_for_kernel(xs)
        masked = self._mask(xs)
        if out is not None:
            check_out(out, (len(xs), *self._y_shape))
        rows = np.empty((1 + len(xs) - np.count_nonzero(masked), *self._y_shape), FLOAT32)
        with self._turn:
            rows[0] = self.answer()
            if len(rows) > 1:
                self._run_rows(xs[~masked], rows[1:])
        return filled(out, rows[np.cumsum(~masked)])

    def _check_one(self, x: ArrayLike) -> NDArray[Any]:
        if self._vocab_size is None:
            return as_floats("x", x, self._x_shape)[None]
        return token_ids("x", [token_id(x)], self._vocab_size)

    def _mask(self, xs: NDArray[Any]) -> NDArray[np.bool_]:
        masked = self.model.network.masked(xs.view(np.int32) if self._vocab_size else xs)
        assert masked is not None
        return masked


def _restore(model: "Model", blob: bytes) -> Stream:
    size, copies = model.network.memory_size, model.network.memory_vocab_size is not None
    memory = None if size is None else np.zeros((1, size), np.float32)
    stream = model.stream(memory=memory, memory_ids=[0] if copies else None)
    stream.load_state(blob)
    return stream
