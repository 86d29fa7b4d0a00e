"""Stream: one sequence in progress. Check what comes in, make one compiled call, return."""

import operator
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Self, Unpack

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numlstm.errors import listed
from numlstm.kernels.plan import DONE, WRONG_ARRAY
from numlstm.run.border import (
    FLOAT32,
    Floats,
    as_floats,
    check_out,
    checked_rows,
    filled,
    raise_status,
    token_id,
)
from numlstm.run.compiled import Compiled
from numlstm.run.mask import spread
from numlstm.run.state import State
from numlstm.run.threads import in_turn

if TYPE_CHECKING:  # and where they are used: a stream that is stepped needs neither
    from numlstm.run.sampling import Generator, SamplingOptions, Tokens
    from numlstm.run.trace import Trace


class Stream:
    """One sequence in progress: owns its state, shares the model's weights.

    Get one from `Model.stream`. It belongs to one thread at a time: whichever method a second one
    calls meanwhile raises a RuntimeError. If a call raises, the stream is as it was before; if
    Ctrl-C interrupts it, as before it or as after it: `num_steps` tells.

    Attributes
    ----------
    model : Model
        The model that it is of.

    Examples
    --------
    >>> stream = numlstm.load("sentiment").stream()
    >>> stream.step(17).shape
    (2,)
    >>> stream.run([4, 8, 15]).shape
    (3, 2)
    >>> stream.num_steps
    4
    """

    def __init__(self, model: Any, state: State) -> None:
        self.model = model
        self._turn = self._state = state
        self._compiled = compiled = state.compiled
        self._token = np.zeros(1, np.int32)
        # What every step needs.
        self._vocab_size = compiled.vocab_size
        self._x_shape, self._y_shape = (compiled.input_size,), (compiled.output_size,)
        self._run = compiled.run
        self._plan_at, self._params_at = compiled.program.step.plan_at, compiled.params_at
        self._row_plan_at = compiled.row_plan_at
        self._row_shape = (1,) if compiled.vocab_size is not None else (1, compiled.input_size)
        self._answer_shape = (1, compiled.output_size)

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
        RuntimeError
            If another thread is in the stream; it is left alone.
        """
        state = self._state
        if state.taken:
            state.refuse()
        state.taken = True
        try:
            if self._vocab_size is not None:
                if type(x) is not int:
                    x = token_id(x)
                if not 0 <= x < self._vocab_size:
                    raise ValueError(f"token id {x} is outside 0 <= id < {self._vocab_size}")
                self._token[0] = x
                x = self._token
            if out is None:
                out = np.empty(self._y_shape, FLOAT32)
            # The kernel looks at the type, shape and numbers of x and out before it begins.
            status = self._run(self._plan_at, self._params_at, state.at, x, out)
            if status != DONE:
                self._step_fitted(x, out, status)
            return out
        finally:
            state.taken = False

    def _step_fitted(self, x: ArrayLike, out: Floats, status: int) -> None:
        """Take a step that the kernel refused, with arrays made to fit, or raise what is wrong."""
        if self._vocab_size is None:
            x = as_floats("x", x, self._x_shape)
        if status == WRONG_ARRAY:
            check_out(out, self._y_shape)
            y = np.empty(self._y_shape, FLOAT32)
            status = self._run(self._plan_at, self._params_at, self._state.at, x, y)
            if status == DONE:
                filled(out, y)
        if status != DONE:
            raise_status("x", np.asarray(x), 0, status, self._vocab_size)

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
        TypeError, ValueError, RuntimeError
            As `step`. None of the steps is taken then, nor if Ctrl-C interrupts them.
        """
        state = self._state
        if state.taken:
            state.refuse()
        state.taken = True
        try:
            # One row as it comes, if it is what the kernel reads: it looks at all but the shape.
            if type(xs) is np.ndarray and xs.shape == self._row_shape:
                ys = np.empty(self._answer_shape, FLOAT32) if out is None else out
                if type(ys) is np.ndarray and ys.shape == self._answer_shape:
                    status = self._run(self._row_plan_at, self._params_at, state.at, xs, ys)
                    if status == DONE:
                        return ys
            return state.run_rows(xs, out)
        finally:
            state.taken = False

    @in_turn
    def trace(self, xs: ArrayLike) -> "Trace":
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
        from numlstm.run.trace import record

        return record(self._state, checked_rows(self._compiled.network, xs))

    def generate(
        self,
        first_id: int,
        n: int,
        *,
        stop: Iterable[int] = (),
        history: Iterable[int] = (),
        **options: "Unpack[SamplingOptions]",
    ) -> NDArray[np.int32]:
        """Take steps whose answers choose the tokens of the next ones, in one call without the GIL.

        The scores of the tokens are what the network answers, logits; of one that ends in a
        softmax, what goes into it.

        Parameters
        ----------
        first_id : int
            The token that the first step reads.
        n : int
            How many tokens to choose.
        stop : token ids
            It ends after one of these.
        history : token ids
            Tokens before ``first_id`` that the repetition penalty is for.
        temperature, top_k, top_p, min_p, repetition_penalty, seed
            How a token is chosen: see `SamplingOptions`. Without them by the probabilities that the
            scores are.

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
        from numlstm.run.sampling import Generator, Sampling

        generator = Generator(self._state, first_id, Sampling(**options), stop, history)
        return self._generate(generator, operator.index(n))

    @in_turn
    def _generate(self, generator: "Generator", n: int) -> NDArray[np.int32]:
        stride = generator.steps_per_call
        parts = [np.zeros(0, np.int32)]
        kept = self._state.kept
        for at in range(0, n, stride):
            parts.append(generator.next(min(stride, n - at), kept))
            if generator.stopped:
                break
        self._state.go_back(kept)
        return np.concatenate(parts)

    def tokens(
        self,
        first_id: int,
        *,
        stop: Iterable[int] = (),
        history: Iterable[int] = (),
        **options: "Unpack[SamplingOptions]",
    ) -> "Tokens":
        """Yield tokens one by one, those of `generate`, without end or up to one that stops.

        Parameters and errors are those of `generate`; what is wrong with them is raised at once. A
        token is chosen when it is asked for, so the stream may be saved or copied in between; where
        that raises, the same token may be asked for again.

        Yields
        ------
        int
            The stream has read all but the last one.
        """
        from numlstm.run.sampling import Generator, Sampling, Tokens

        generator = Generator(self._state, first_id, Sampling(**options), stop, history)
        return Tokens(self._state, generator)

    @in_turn
    def reset(self) -> None:
        """Return to the initial state; a memory stays."""
        self._state.begin()

    @in_turn
    def copy(self) -> Self:
        """Return a new stream that continues from here on its own."""
        return type(self)(self.model, self._state.twin())

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
    @in_turn
    def kept(self) -> Floats:
        """A copy of all that is kept from step to step; assigning it goes back there.

        Raises
        ------
        TypeError, ValueError
            If it is not of a stream of this model, or was damaged; the stream is as it was before.
        """
        return self._state.kept

    @kept.setter
    @in_turn
    def kept(self, values: Floats) -> None:
        self._state.restore(values)

    @property
    @in_turn
    def num_steps(self) -> int:
        """How many steps were taken since the initial state, without masked ones.

        A saved state carries it; one of before, which did not, counts from 0.
        """
        return self._state.num_steps

    @property
    @in_turn
    def state(self) -> dict[str, Floats]:
        """Copies of the h (and c) of each recurrent layer, ``layers.{n}.h``: (hidden_size,).

        Assigning a dict replaces those it names, for a decoder that begins where an encoder ended:
        ``decoder.state = {"layers.0.h": encoder.state["layers.0.h"]}``.

        Raises
        ------
        TypeError, ValueError
            If it is no dict, or a name, a shape or a number is wrong: all that is, at once.
        """
        names = self._compiled.program.state_names
        return {name: self._state.numbers(place) for name, place in names.items()}

    @state.setter
    @in_turn
    def state(self, values: Mapping[str, ArrayLike]) -> None:
        if not isinstance(values, Mapping):
            raise TypeError(f"the state is {type(values).__name__}, expected a dict of arrays")
        names = self._compiled.program.state_names
        problems = [f"{name} is not among {', '.join(names)}" for name in values - names.keys()]
        arrays = {}
        for name in values.keys() & names.keys():
            at, size = names[name]
            try:
                arrays[name] = as_floats(name, values[name], (size,)).copy()
            except (TypeError, ValueError) as error:
                problems.append(str(error))
                continue
            if not self._compiled.program.could_keep(arrays[name], at).all():
                problems.append(f"{name} holds a NaN or an infinity")
        if problems:
            raise ValueError(f"the state cannot be set:{listed(sorted(problems))}")
        kept = self._state.kept
        for name, array in arrays.items():
            at, size = names[name]
            kept[at : at + size] = array
        self._state.go_back(kept)

    @in_turn
    def save_state(self) -> bytes:
        """Return the state as bytes; `load_state` continues from them, in any process.

        They hold the memory of a decoder as well. `Pool.save_states` gives those of many streams.
        """
        return self._state.to_bytes()

    @in_turn
    def load_state(self, blob: bytes) -> None:
        """Continue from what `save_state` returned, of this version or those before.

        Raises
        ------
        TypeError, ValueError
            If it is not a saved state, is damaged, or is another model's.
        """
        self._state.load(blob)

    def __repr__(self) -> str:
        return f"<numlstm.Stream of {self.model!r}>"


class MaskedStream(Stream):
    """A stream that skips masked steps: they change no state, the answer before is repeated."""

    def step(self, x: ArrayLike, out: Floats | None = None) -> Floats:
        # What is looked at is what is read: it is asked for once.
        given: Any
        if self._vocab_size is None:
            given = as_floats("x", x, self._x_shape)
            row = given[None]
        else:
            given = token_id(x)
            row = self._compiled.rows([given], "x")
        if not self._masked(row)[0]:
            return super().step(given, out)
        if out is not None:
            check_out(out, self._y_shape)
        return self._repeat(out)

    @in_turn
    def _repeat(self, out: Floats | None) -> Floats:
        return filled(out, self._state.answer)

    @in_turn
    def run(self, xs: ArrayLike, out: Floats | None = None) -> Floats:
        # All of them are checked here: an error names a step by its place among all.
        xs = checked_rows(self._compiled.network, xs)
        masked = self._masked(xs)
        if out is not None:
            check_out(out, (len(xs), *self._y_shape))
        before = self._state.answer
        return filled(out, spread(before, self._state.answers(xs[~masked]), masked))

    def _masked(self, xs: NDArray[Any]) -> NDArray[np.bool_]:
        masked = self._compiled.network.masked(xs)
        assert masked is not None
        return masked


def stream_of(
    model: Any,
    compiled: Compiled,
    memory: ArrayLike | None = None,
    memory_ids: ArrayLike | None = None,
) -> Stream:
    """Return a new stream of a network, which may leave out steps."""
    kind = MaskedStream if compiled.network.masks else Stream
    return kind(model, State(compiled, compiled.memory_rows(memory, memory_ids)))


def _restore(model: Any, blob: bytes) -> Stream:
    size, copies = model.network.memory_size, model.network.memory_vocab_size is not None
    memory = None if size is None else np.zeros((1, size), np.float32)
    stream: Stream = model.stream(memory=memory, memory_ids=[0] if copies else None)
    stream.load_state(blob)
    return stream
