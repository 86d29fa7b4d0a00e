"""Compiled: a causal network as flat arrays, and the function that runs them."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numlstm import spec
from numlstm.cached import cached_property
from numlstm.kernels import plan as columns
from numlstm.kernels.addresses import READABLE, aligned, argument
from numlstm.kernels.plan import DONE, STOPPED, WRONG_ARRAY
from numlstm.network.weights import fingerprint_of
from numlstm.program.check import check_layout
from numlstm.program.lower import BLOCK_ROWS, Fold, build
from numlstm.program.program import Layout
from numlstm.quantize import Encoded, floats_of
from numlstm.run.border import (
    FLOAT32,
    INT32,
    NO_MEMORY,
    Floats,
    as_floats,
    filled,
    for_kernel,
    raise_status,
    token_ids,
)
from numlstm.run.mask import answer_or_zeros, resting
from numlstm.run.threads import go_on
from numlstm.spec import Network
from numlstm.work import choice_work, work

# What one compiled call may cost, in `work`: 10 to 30 ms, as a product takes 0.05 to 0.1 ns; and a
# call of so few steps that they are better taken together, up to 100 or 150 ms.
_CALL, _LONG_CALL = 2**28, 9 * 2**28

# Beyond so much work the weights of a lone stream are not in the cache of a core, and each of its
# steps takes so many times as long.
_CACHED, _AWAY = 2**22, 4

_MANY_ROWS = 2**16  # of a memory that is not known

_MAX_SPARE = 2  # work arrays that are kept for the next call, of one thread and another


class Compiled:
    """A causal network, ready to run. Immutable; threads share it.

    Attributes
    ----------
    network : Network
        Its layers.
    program : Program
        Its arrays.
    """

    def __init__(self, network: Network, tensors: Encoded, fold: Fold = False) -> None:
        self.network = network
        self.program = build(network, tensors, fold)
        stored = {part.name for part in self.program.stored}
        # A copy of the others, which nobody else can change.
        self._beside = {name: deepcopy(tensors[name]) for name in tensors if name not in stored}
        self.vocab_size = network.vocab_size
        self.input_size, self.output_size = network.input_size, network.output_size
        self.num_kept = self.program.initial_state.size
        self._row_shape = (self.input_size,) if self.vocab_size is None else ()
        self._row_dtype = FLOAT32 if self.vocab_size is None else INT32
        self._spare: list[_Work] = []  # what nobody works in
        memory = self.program.memory
        self._keys = [] if memory is None else [(at, _keys_of(w)) for at, w in memory.keys]
        # As the walker takes them.
        self.params_at, self._block_plan_at = self.program.params_at, self.program.block.plan_at

    @property
    def tensors(self) -> dict[str, Floats]:
        """The tensors that the program was made of, in float32: its own numbers, bit for bit."""
        return floats_of(deepcopy(self._beside)) | self.program.tensors()

    @cached_property
    def fingerprint(self) -> bytes:
        """16 bytes that differ for any other network or tensors."""
        return fingerprint_of(self.network, self.tensors)

    @cached_property
    def run(self) -> Callable[..., int]:
        """The walker, (plan, params, state, xs, ys) -> status; compiled when something runs."""
        from numlstm.kernels.entry import walker

        return walker()

    # What comes in --------------------------------------------------------------------------------

    def rows(self, xs: ArrayLike, name: str = "xs") -> NDArray[Any]:
        """Return xs as the kernel reads them: float32 (T, input_size), or int32 ids (T,).

        An array that is such rows already is returned as it is: the kernel looks at each number and
        each id when it reads it.
        """
        if self.are_rows(xs, 1):
            return xs
        if self.vocab_size is None:
            return as_floats(name, xs, (-1, self.input_size))
        return token_ids(name, xs, self.vocab_size)

    def are_rows(self, xs: ArrayLike, num_axes: int) -> TypeGuard[NDArray[Any]]:
        """Whether xs is what the kernel reads: ``num_axes`` axes of rows or ids."""
        return (
            type(xs) is np.ndarray
            and xs.dtype is self._row_dtype
            and xs.shape[num_axes:] == self._row_shape
            and xs.ndim == num_axes + len(self._row_shape)
            and xs.flags.num & READABLE == READABLE
        )

    def memory_rows(self, memory: ArrayLike | None, ids: ArrayLike | None) -> Floats:
        """Return the rows that attention reads: what was given, keys made of it, id, score.

        (0, 0) for a network without attention to a memory.
        """
        layout = self.program.memory
        if layout is None:
            if memory is not None or ids is not None:
                raise ValueError("the network takes no memory")
            return NO_MEMORY
        if memory is None:
            raise ValueError(
                f"the network attends to a memory: pass memory=, (M, {layout.memory_size})"
            )
        given = as_floats("memory", memory, (-1, layout.memory_size)).copy()
        if not len(given) or not np.isfinite(given).all():
            raise ValueError("memory is empty, or holds a NaN or an infinity")
        rows = np.zeros((len(given), layout.row_size), FLOAT32)
        rows[:, : layout.memory_size] = given
        vocab_size = self.network.memory_vocab_size
        if vocab_size is None:
            if ids is not None:
                raise ValueError("the network copies no tokens: it takes no memory_ids")
        elif ids is None:
            raise ValueError("the network copies tokens: pass memory_ids=, (M,), those of memory")
        else:
            tokens = token_ids("memory_ids", ids, vocab_size)
            if len(tokens) != len(rows):
                raise ValueError(f"memory has {len(rows)} rows, memory_ids {len(tokens)}")
            rows[:, layout.keys_end] = tokens
        for at, keys in self._keys:
            try:
                rows[:, at : at + keys.output_size] = keys.run_whole(given)
            except ValueError:
                raise ValueError(
                    "memory makes the keys overflow, with which a query is compared; scale it as "
                    "the model was trained on"
                ) from None
        return rows

    def initial_state(self, memory_rows: Floats) -> Floats:
        """Return what a stream with these rows of a memory keeps before its first step."""
        program = self.program
        kept = program.initial_state.copy()
        if program.memory is not None:
            program.memory.set_count(kept, len(memory_rows))
        if program.answer is not None:
            at, size = program.answer
            kept[at : at + size] = self.answer_before_any(memory_rows)
        return kept

    def answer_before_any(self, memory_rows: Floats) -> Floats:
        """Return what steps that are left out repeat before the first answer, (output_size,).

        Zeros where the resting network overflows, as the logarithm of zero does.
        """
        if self.program.memory is None:
            return self._answer_alone
        compiled, x = self._resting
        ys = answer_or_zeros(lambda: compiled.run_whole(x, memory_rows), self.output_size)
        return np.asarray(ys[0])

    @cached_property
    def _answer_alone(self) -> Floats:
        network, tensors, x = resting(self.network, self.tensors)
        alone = Compiled(network, tensors)  # which is not kept
        return np.asarray(answer_or_zeros(lambda: alone.run_whole(x), self.output_size)[0])

    @cached_property
    def _resting(self) -> tuple["Compiled", NDArray[Any]]:
        network, tensors, x = resting(self.network, self.tensors)
        return Compiled(network, tensors), x

    # Work -----------------------------------------------------------------------------------------

    def run_whole(self, xs: NDArray[Any], memory_rows: Floats = NO_MEMORY) -> Floats:
        """Return the answers to `rows` from the initial state, none left out, (T, output_size)."""
        ys = np.empty((len(xs), self.output_size), FLOAT32)
        self.take(self.initial_state(memory_rows), memory_rows, xs, ys)
        return ys

    def run_rows(
        self, kept: Floats, memory_rows: Floats, xs: ArrayLike, out: Floats | None
    ) -> Floats:
        """Take the steps of xs, whatever it is; return the answers, in out if that is given.

        kept   what a stream keeps, (num_kept,), read and written
        """
        ys = self.room(xs, out)
        if ys is not None and len(ys) <= self.steps_per_call and not memory_rows.size:
            status = self._call(kept, xs, ys)
            if status == DONE:
                return ys
            if status != WRONG_ARRAY:
                raise_status("xs", np.asarray(xs), 0, status, self.vocab_size)
        rows = self.rows(xs)
        rows, ys = for_kernel(rows, out, (len(rows), self.output_size))
        self.take(kept, memory_rows, rows, ys)
        return filled(out, ys)

    def room(self, xs: ArrayLike, out: Floats | None) -> Floats | None:
        """Return what the answers to xs may be written to: out, or a new array if it is None.

        None if xs or out has not the shape of rows. All else about them the kernel looks at.
        """
        if type(xs) is not np.ndarray:
            return None
        shape = xs.shape
        if shape[1:] != self._row_shape or not shape:
            return None
        shape = shape[0], self.output_size
        if out is None:
            return np.empty(shape, FLOAT32)
        return out if type(out) is np.ndarray and out.shape == shape else None

    def _call(self, kept: Floats, xs: Any, ys: Floats) -> int:
        """Take up to `steps_per_call` steps without a memory; return the kernel's status.

        kept   (num_kept,), written if it is DONE
        """
        try:
            work = self._spare.pop()
        except IndexError:
            work = _Work(self, NO_MEMORY)
        work.kept[...] = kept
        status = self.run(self._block_plan_at, self.params_at, work.at, xs, ys)
        if status == DONE:
            kept[...] = work.kept
        if len(self._spare) < _MAX_SPARE:
            self._spare.append(work)
        return status

    def take(self, kept: Floats, memory_rows: Floats, xs: NDArray[Any], ys: Floats) -> None:
        """Take the steps of `rows`, without the GIL: all of them, or none if this raises.

        kept   what a stream keeps, (num_kept,), read and written
        ys     the answers, (T, output_size), written
        """
        stride = self.steps_with(len(memory_rows)) if memory_rows.size else self.steps_per_call
        if 0 < len(xs) <= stride and not memory_rows.size:
            status = self._call(kept, xs, ys)
            if status != DONE:
                raise_status("xs", xs, 0, status, self.vocab_size)
            return
        work = _Work(self, memory_rows)
        work.kept[...] = kept
        for t in range(0, len(xs), stride):
            go_on()
            part, answers = xs[t : t + stride], ys[t : t + stride]
            status = self.run(self._block_plan_at, self.params_at, work.at, part, answers)
            if status != DONE:
                raise_status("xs", part, t, status, self.vocab_size)
        kept[...] = work.kept

    def take_in(
        self, layout: Layout, array: Floats, kept: Floats, xs: NDArray[Any], ys: Floats
    ) -> int:
        """Take steps in an array of `array_for`, with its memory; return the kernel's status.

        kept   (num_kept,), read; written if the status is one of those up to STOPPED
        """
        own = array[: self.num_kept]
        own[:] = kept
        status = self.run(layout.plan_at, self.params_at, argument(array), xs, ys)
        if status <= STOPPED:
            kept[:] = own
        return status

    @cached_property
    def _row(self) -> Layout:
        step = self.program.step
        plan = step.plan.copy()
        plan[0, columns.MAX_AXES] = 3
        layout = replace(step, plan=plan)
        check_layout(self.program, layout, "a row")
        return layout

    @property
    def row_plan_at(self) -> Any:
        """The plan of a step whose x and y may be rows of one, (1, I) and (1, O)."""
        return self._row.plan_at

    @cached_property
    def work(self) -> int:
        """What a step costs in many rows: products, in the time of float32."""
        return work(self.network)

    @cached_property
    def rows_per_call(self) -> int:
        """Rows of a pool, which share what they read, in one compiled call: 10 to 30 ms."""
        return min(max(_CALL // self.work, 1), 2**16)

    @cached_property
    def steps_per_call(self) -> int:
        """Steps of a stream in one compiled call, which Ctrl-C waits for: 10 to 30 ms.

        Where 16 take longer, up to 16, as they share what they read, but of a memory. With one,
        this is for 65,536 rows; with fewer there are more steps.
        """
        return self.steps_with(0 if self.network.memory_size is None else _MANY_ROWS)

    def steps_with(self, memory_rows: int, num_scores: int = 0) -> int:
        """Return the steps of a call with so many rows of a memory, and so many to choose from."""
        each = work(self.network, memory_rows) + choice_work(num_scores)
        if each > _CACHED:
            each *= _AWAY
        if _CALL // each < BLOCK_ROWS:
            most = _CALL if memory_rows else _LONG_CALL
            return max(1, min(BLOCK_ROWS, most // each))
        return min(_CALL // each // BLOCK_ROWS * BLOCK_ROWS, 2**16)


class _Work:
    """Where a call takes many steps: an array of the layout of blocks."""

    __slots__ = ("array", "at", "kept")

    def __init__(self, compiled: Compiled, memory_rows: Floats) -> None:
        self.array = array_for(compiled.program.block, memory_rows)
        self.kept = self.array[: compiled.num_kept]
        self.at = argument(self.array)


def array_for(layout: Layout, memory_rows: Floats) -> Floats:
    """Return an array for a layout, with the memory behind it; the rest is not initialised."""
    array = aligned(layout.state_size + memory_rows.size)
    array[layout.state_size :] = memory_rows.reshape(-1)
    return array


def _keys_of(weight: Floats) -> Compiled:
    """Return what makes the keys of a memory: ``weight @ row``, weight (N, memory_size)."""
    layer = spec.Linear(weight.shape[1], len(weight), False)
    return Compiled(Network((layer,)), {"layers.0.weight": weight})
