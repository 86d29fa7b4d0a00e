"""State: what one sequence keeps from step to step, and its memory. It belongs to one owner."""

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numlstm.kernels.addresses import argument
from numlstm.kernels.plan import DONE
from numlstm.run.border import FLOAT32, Floats, raise_status
from numlstm.run.compiled import Compiled, array_for
from numlstm.run.saved import from_bytes, to_bytes
from numlstm.run.threads import Turn


class State(Turn):
    """What one sequence keeps, where the kernel takes its steps. One thread's at a time.

    Attributes
    ----------
    compiled : Compiled
        The network.
    at : address
        Where it is, as the kernel takes it.
    memory_rows : float32 array of shape (M, row_size)
        What attention reads; (0, 0) without one.

    Parameters
    ----------
    first : float32 array of shape (num_kept,), optional
        What is kept before the first step, where it is known already.
    """

    __slots__ = ("_array", "_first", "_kept", "at", "compiled", "memory_rows")

    def __init__(
        self, compiled: Compiled, memory_rows: Floats, first: Floats | None = None
    ) -> None:
        super().__init__()
        self.compiled = compiled
        if first is None:
            first = compiled.initial_state(memory_rows)
        self._place(first, first, memory_rows)

    def _place(self, first: Floats, kept: Floats, memory_rows: Floats) -> None:
        """Go to a new array, with room for the memory: all of it, or nothing if this raises."""
        array = array_for(self.compiled.program.step, memory_rows)
        own = array[: self.compiled.num_kept]
        own[:] = kept
        if self.compiled.program.memory is not None:
            self.compiled.program.memory.set_count(own, len(memory_rows))
        at = argument(array)
        self._first, self.memory_rows = first, memory_rows
        self._array, self._kept, self.at = array, own, at

    @property
    def kept(self) -> Floats:
        """A copy of all that is kept from step to step, (num_kept,)."""
        return self._kept.copy()

    def go_back(self, kept: Floats) -> None:
        """Go to where `kept` was taken."""
        memory = self.compiled.program.memory
        if memory is not None:
            kept = kept.copy()
            memory.set_count(kept, len(self.memory_rows))
        self._kept[:] = kept  # all of it at once, whatever interrupts this

    def restore(self, values: ArrayLike) -> None:
        """Go to where `kept` was taken, by whoever has it now: a copy of it is checked first.

        Raises
        ------
        TypeError, ValueError
            If it is not what a stream of this network could keep.
        """
        self.go_back(checked_kept(self.compiled, values))

    def begin(self) -> None:
        """Go back to the initial state; a memory stays."""
        self.go_back(self._first)

    @property
    def num_steps(self) -> int:
        """How many steps were taken since the beginning, without those that are left out."""
        return int(self._array[:2].view(np.int64)[0])

    @property
    def answer(self) -> Floats:
        """A copy of the last answer, which a step that is left out repeats."""
        answer = self.compiled.program.answer
        assert answer is not None, "the network leaves out no steps"
        return self.numbers(answer)

    def numbers(self, place: tuple[int, int]) -> Floats:
        """Return a copy of what is at a place of the layout of a step: (offset, size)."""
        at, size = place
        return self._array[at : at + size].copy()

    # Steps ----------------------------------------------------------------------------------------

    def run(self, xs: NDArray[Any], ys: Floats) -> None:
        """Take the steps of `Compiled.rows`, none of them left out: all, or none if this raises.

        ys   (T, output_size), written
        """
        compiled = self.compiled
        if len(xs) != 1:
            compiled.take(self._kept, self.memory_rows, xs, ys)
            return
        status = compiled.run(compiled.row_plan_at, compiled.params_at, self.at, xs, ys)
        if status != DONE:
            raise_status("xs", xs, 0, status, compiled.vocab_size)

    def run_rows(self, xs: ArrayLike, out: Floats | None) -> Floats:
        """Take the steps of xs, whatever it is: see `Compiled.run_rows`."""
        return self.compiled.run_rows(self._kept, self.memory_rows, xs, out)

    def answers(self, xs: NDArray[Any]) -> Floats:
        """Return the answers to steps that `run` takes, (T, output_size)."""
        ys = np.empty((len(xs), self.compiled.output_size), FLOAT32)
        self.run(xs, ys)
        return ys

    def twin(self) -> Self:
        """Return a state that goes on from here on its own."""
        twin = type(self)(self.compiled, self.memory_rows, self._first)
        twin.go_back(self.kept)
        return twin

    # Bytes ----------------------------------------------------------------------------------------

    def to_bytes(self) -> bytes:
        """Return the state as bytes; see `saved`."""
        return to_bytes(self.compiled, self._kept, self.memory_rows)

    def load(self, blob: bytes) -> None:
        """Go to where `to_bytes` was called, with the memory that was there, or raise."""
        kept, memory_rows = from_bytes(self.compiled, blob)
        if memory_rows.size:
            self._place(self.compiled.initial_state(memory_rows), kept, memory_rows)
        else:
            self.go_back(kept)


def checked_kept(compiled: Compiled, values: ArrayLike, name: str = "kept") -> Floats:
    """Return a copy of what a stream kept, (num_kept,), by whoever has it now.

    Raises
    ------
    TypeError, ValueError
        If it is not what a stream of this network could keep.
    """
    kept = np.array(values)
    if kept.dtype != FLOAT32:
        raise TypeError(f"{name} is of {kept.dtype}, expected the float32 array that a stream gave")
    if kept.shape != (compiled.num_kept,):
        raise ValueError(f"{name} has shape {kept.shape}, a stream keeps {(compiled.num_kept,)}")
    could = compiled.program.could_keep(kept)
    if not could.all():
        at = could.argmin()
        raise ValueError(f"{name}[{at}] is {kept[at]}, which no stream of this model keeps")
    return kept
