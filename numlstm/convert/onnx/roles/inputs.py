"""What the inputs of an ONNX graph are taken for: columns of a row, states, and what is given."""

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import onnx

from numlstm.convert.assembly import Array
from numlstm.errors import shortened


@cache
def _kind(type_of_tensor: int) -> str:
    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(type_of_tensor))
    if np.issubdtype(dtype, np.integer):
        return "i"
    return dtype.kind if dtype.kind in "bc" else "f"


@dataclass(frozen=True)
class Input:
    """An input, or output, of the graph; None is a size that may differ."""

    name: str
    shape: tuple[int | None, ...]
    type: int

    @classmethod
    def of(cls, info: Any) -> "Input":
        tensor = info.type.tensor_type
        shape = tuple(d.dim_value if d.HasField("dim_value") else None for d in tensor.shape.dim)
        return cls(info.name, shape, tensor.elem_type)

    @property
    def ones(self) -> tuple[int, ...]:
        """The shape with one for every size that may differ."""
        return tuple(1 if size is None else size for size in self.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(self.type))

    @property
    def kind(self) -> str:
        """The letter of its dtype: "b" bool, "i" whole numbers, "f" any other but complex ones."""
        return _kind(self.type)

    def batch(self, time: int | None = None) -> int | None:
        """The axis of the batch, if that can have any size: the first such that is not of time."""
        return next((n for n, s in enumerate(self.shape) if s is None and n != time), None)

    @property
    def sizes(self) -> str:
        """The shape for people."""
        sizes = ", ".join("any" if size is None else str(size) for size in self.shape)
        return shortened(f"({sizes}{',' if len(self.shape) == 1 else ''})")

    def __str__(self) -> str:
        return f"{self.name!r} {self.sizes}"


@dataclass(frozen=True)
class Data:
    """An input whose numbers are columns of a row.

    time       its axis of time; None of numbers of a single step, or of the whole sequence
    features   its axis of the numbers of a step; None of one, or of all
    """

    input: Input
    time: int | None
    features: int | None

    @property
    def name(self) -> str:
        return self.input.name

    @property
    def shape(self) -> tuple[int, ...]:
        """That of one step: without the axis of time, and one for each free one."""
        return tuple(n for axis, n in enumerate(self.input.ones) if axis != self.time)

    @property
    def size(self) -> int:
        return int(np.prod(self.shape))

    def feed(self, rows: Array) -> Array:
        """Return what the graph reads for these columns of rows, (T, size)."""
        if self.time is None:
            return np.asarray(rows[-1].reshape(self.input.ones), self.input.dtype)
        shape = list(self.input.ones)
        shape[self.time] = len(rows)
        rows = rows if self.features is None or self.time < self.features else rows.T
        return np.asarray(rows.reshape(shape), self.input.dtype)


@dataclass(frozen=True)
class Given:
    """An input that says no more than one sequence without padding, and no reset, does.

    value   "length" of the sequence, 1 or 0
    time    its axis of time, of a mask
    """

    input: Input
    value: str | int
    time: int | None = None

    def array(self, length: int) -> Array:
        shape = list(self.input.ones)
        if self.time is not None:
            shape[self.time] = length
        value = length if self.value == "length" else self.value
        return np.full(shape, value, self.input.dtype)


@dataclass(frozen=True)
class Roles:
    """What each input is.

    data      in the order in which their columns are joined; the first says what the steps are
    states    of the stream
    given     the same for every sequence of a length
    pairs     states with the output that continues each of them, where no operator says it
    guesses   how much of this is said by neither names nor operators
    doubtful  what has the axis of time, of a fixed length, could be a state as well
    """

    data: tuple[Data, ...]
    states: tuple[Input, ...]
    given: tuple[Given, ...]
    pairs: tuple[tuple[Input, Input], ...]
    guesses: int = 0
    doubtful: bool = False

    @property
    def main(self) -> Data:
        """The input that has the axis of time, if any has."""
        return next((part for part in self.data if part.time is not None), self.data[0])

    @property
    def time(self) -> int | None:
        return self.main.time

    @property
    def length(self) -> int | None:
        """How many steps the data has; None for any number."""
        return 1 if self.time is None else self.main.input.shape[self.time]

    @property
    def rank(self) -> tuple[int, int]:
        """How far from what is usual: a free axis of time, a fixed one, none; and guesses."""
        if self.time is None:
            return 2, self.guesses
        return 3 if self.doubtful else int(self.length is not None), self.guesses

    @property
    def batch(self) -> int | None:
        """The axis of the batch, if that can have any size."""
        return self.main.input.batch(self.time)

    def is_whole(self, part: Data) -> bool:
        """Tell whether an input belongs to the whole sequence: each row repeats it."""
        return part.time is None and self.time is not None

    def columns(self) -> list[tuple[Data, slice]]:
        """Return which columns of a row each input is."""
        ends = np.cumsum([part.size for part in self.data]).tolist()
        return [(p, slice(end - p.size, end)) for p, end in zip(self.data, ends, strict=True)]

    def zeros(self) -> dict[str, Array]:
        """Return the states before the first step."""
        return {s.name: np.zeros(s.ones, s.dtype) for s in self.states}

    def feeds(self, xs: Array, states: dict[str, Array]) -> dict[str, Array]:
        """Return the inputs of the graph for xs (T,) or (T, input_size), a batch of one."""
        rows = xs if xs.ndim == 2 else xs[:, None]
        return {
            **{part.name: part.feed(rows[:, columns]) for part, columns in self.columns()},
            **{given.input.name: given.array(len(xs)) for given in self.given},
            **states,
        }

    def batch_axis(self, name: str) -> int:
        """Return the axis of an input that is that of the batch."""
        times = {part.name: (part.input, part.time) for part in self.data}
        times |= {given.input.name: (given.input, given.time) for given in self.given}
        times |= {state.name: (state, None) for state in self.states}
        tensor, time = times[name]
        return tensor.batch(time) or 0

    def __str__(self) -> str:
        said = [f"{self.main.name} (time is axis {self.time})"]
        said += [part.name for part in self.data if part is not self.main]
        return " and ".join(said)
