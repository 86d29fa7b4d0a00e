"""The flat arrays that the compiled walker runs, and the builder that lays them out.

`hidden_size` and every buffer are padded to multiples of 16 with zeros.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numlstm.errors import WeightsError
from numlstm.kernels import plan as columns
from numlstm.kernels.activations import FUNCTIONS
from numlstm.kernels.arrays import ARRAY_TYPE_AT, FLOAT32_AT, INT32_AT, address
from numlstm.kernels.integers import MAX_INPUTS
from numlstm.kernels.network import argument
from numlstm.kernels.simd import LANES
from numlstm.kernels.tiles import pack, panel_widths
from numlstm.network.functions import parse_function
from numlstm.network.layer import DTYPES, FLOAT32, Precision
from numlstm.quantize import bfloat16_bits, quantize_rows

Floats = NDArray[np.float32]


def aligned(size: int) -> Floats:
    """Return an array, not initialised, at a multiple of 64 bytes: unaligned runs at half speed."""
    spare = np.empty(size + LANES, np.float32)
    start = -address(spare) % 64 // 4
    return spare[start : start + size]


def padded(size: int) -> int:
    """Return a size rounded up to a multiple of 16."""
    return -(-size // LANES) * LANES


def pad_rows(weight: Floats) -> Floats:
    """Return (N, K) or (N,) with N padded to a multiple of 16 by zeros."""
    missing = padded(len(weight)) - len(weight)
    return np.pad(weight, [(0, missing)] + [(0, 0)] * (weight.ndim - 1)) if missing else weight


@dataclass(frozen=True)
class Layout:
    """A plan for blocks of a number of rows, and the size of a `state` that can run it.

    Behind the state lie the rows of the memory, where the network reads one; of a pool, what its
    streams keep. `gates` tells where the cells leave what they made of the first row:
    name -> (offset, size).
    """

    plan: NDArray[np.int64]
    state_size: int
    gates: dict[str, tuple[int, int]]

    @cached_property
    def plan_at(self) -> Any:
        """The plan as the kernel takes it."""
        return argument(self.plan)


@dataclass(frozen=True)
class Memory:
    """What a row of the memory of a stream holds: what was given, keys made of it, id, score.

    keys       where in the row, and the weights (N, memory_size) that make them
    has_ids    whether there is a place for a token id, before that of the score, which is last
    count_at   where in the state the number of rows is, int64
    """

    memory_size: int
    row_size: int
    keys: tuple[tuple[int, Floats], ...]
    count_at: int
    has_ids: bool = False

    def set_count(self, state: Floats, num_rows: int) -> None:
        """Write the number of rows to a state."""
        state[self.count_at : self.count_at + 2].view(np.int64)[0] = num_rows

    @property
    def keys_end(self) -> int:
        """Where in the row the keys end."""
        return self.row_size - LANES * (1 + self.has_ids)


@dataclass(frozen=True)
class Program:
    """A causal network as arrays.

    `initial_state` is what a new stream begins with. All layouts keep it in the same order, so a
    state moves between them by a copy. `state_names` tells where in it the h and c of each layer
    are: name -> (offset, size). `counters` tells where an int64 is in place of two floats; the
    first one counts the steps. `answer` is where the last answer is, of a network that repeats it
    for masked steps.

    step, block   for one row, for several steps of a stream
    pool          for a step of up to POOL_ROWS streams; a pool writes how many into its copy
    generate      for steps whose answers become tokens, the next inputs; None if they cannot
    """

    params: Floats
    step: Layout
    block: Layout
    pool: Layout
    generate: Layout | None
    initial_state: Floats
    state_names: dict[str, tuple[int, int]]
    counters: tuple[int, ...]
    memory: Memory | None
    answer: tuple[int, int] | None

    @cached_property
    def params_at(self) -> Any:
        """The params as the kernel takes them."""
        return argument(self.params)


# A place is in a buffer, which has a row per step; or, with these numbers, elsewhere.
_KEPT, _MEMORY = -1, -2


@dataclass(frozen=True)
class Place:
    """Where an operation reads or writes `size` floats: `at` is the offset in the buffer's row."""

    buffer: int
    at: int
    size: int

    def part(self, at: int, size: int) -> "Place":
        return Place(self.buffer, self.at + at, size)


def as_words(values: NDArray[Any]) -> NDArray[Any]:
    """Return numbers (N, K) of 8 or 16 bits as words of 32 (N, number of words)."""
    per_word = 4 // values.itemsize
    whole = np.zeros((len(values), -(-values.shape[1] // per_word) * per_word), values.dtype)
    whole[:, : values.shape[1]] = values
    return whole.view(np.float32)


class Builder:
    """Collects params, the state's initial values, and operations with their buffers."""

    def __init__(self) -> None:
        self.params: list[Floats] = []
        self.params_size = 0
        self.state: list[Floats] = []
        self.state_size = 0
        self.state_names: dict[str, tuple[int, int]] = {}
        self.buffer_sizes: list[int] = []  # of one row
        self.operations: list[dict[int, int | Place]] = []
        self.gates: dict[str, Place] = {}
        self.memory: Memory | None = None
        self.prefix = ""  # of the layer that is being added
        self._in_rows = False
        self.counters: list[int] = []
        self.keep_counter()  # of the steps: first of all, where the walker finds it

    # Memory of three kinds ------------------------------------------------------------------------

    def param(self, values: Floats) -> int:
        """Append weights, padded to 16 floats; return where they are."""
        at = self.params_size
        whole = np.zeros(padded(values.size), np.float32)
        whole[: values.size] = values.ravel()
        self.params.append(whole)
        self.params_size += whole.size
        return at

    def parameters(self, *numbers: float) -> int:
        """Append up to two parameters of an operation."""
        return self.param(np.array(numbers, np.float32))

    def keep(self, size: int, values: Floats | float = 0.0, name: str = "") -> Place:
        """Return a place for a vector that is kept from step to step, with its first values.

        name   by which users know it: it belongs to the layer of the current `prefix`
        """
        first = np.zeros(padded(size), np.float32)
        first[:] = pad_rows(values) if isinstance(values, np.ndarray) else values
        place = Place(_KEPT, self.state_size, size)
        if name:
            self.state_names[f"{self.prefix}.{name}"] = (place.at, size)
        self.state.append(first)
        self.state_size += first.size
        return place

    def keep_counter(self) -> int:
        """Return where an int64 that counts from 0 is kept."""
        at = self.keep(1).at
        self.counters.append(at)
        return at

    def buffer(self, size: int, room: int = 0) -> Place:
        """Return a place for a vector per step, with room behind it for what is written too far."""
        self.buffer_sizes.append(padded(size + room))
        return Place(len(self.buffer_sizes) - 1, 0, size)

    def leave(self, **places: Place) -> None:
        """Name buffers of the current layer that nothing overwrites in a step, for `trace`."""
        self.gates |= {f"{self.prefix}.{name}": place for name, place in places.items()}

    # Operations -----------------------------------------------------------------------------------

    def operation(
        self,
        kind: int,
        x: Place | None,
        y: Place,
        z: Place | None = None,
        **columns_by_name: int | Place,
    ) -> Place:
        """Append an operation that reads x (and z) and writes y; return y."""
        operation: dict[int, int | Place] = {
            columns.KIND: kind,
            columns.X_SIZE: y.size if x is None else x.size,
            columns.Y_SIZE: y.size,
            columns.Y_AT: y,
        }
        if x is not None:
            operation[columns.X_AT] = x
        if z is not None:
            operation[columns.Z_AT] = z
        for name, value in columns_by_name.items():
            operation[getattr(columns, name)] = value
        self.operations.append(operation)
        return y

    @contextmanager
    def rows(self) -> Iterator[None]:
        """Make the operations that are appended inside run row by row, one after another."""
        if self._in_rows:  # they do already
            yield
            return
        loop: dict[int, int | Place] = {columns.KIND: columns.ROWS}
        self.operations.append(loop)
        first = len(self.operations)
        self._in_rows = True
        yield
        self._in_rows = False
        loop[columns.COUNT] = len(self.operations) - first

    def linear(
        self,
        x: Place,
        weight: Floats,
        bias: Floats,
        precision: Precision = FLOAT32,
        unit: bool = False,
    ) -> Place:
        """Add ``bias + weight @ x``; weight (N, K) with N a multiple of 16.

        unit   whether x is in [-1, 1], as the h of an LSTM is unless a user sets another
        """
        at = {"B_AT": self.param(bias)}
        return self._product(columns.LINEAR, x, weight, None, None, precision, unit, at)

    def linear_add(
        self,
        x: Place,
        weight: Floats,
        z: Place,
        y: Place | None = None,
        precision: Precision = FLOAT32,
        unit: bool = False,
    ) -> Place:
        """Add ``z + weight @ x``, as `linear` does."""
        return self._product(columns.LINEAR_ADD, x, weight, z, y, precision, unit, {})

    def _product(
        self,
        kind: int,
        x: Place,
        weight: Floats,
        z: Place | None,
        y: Place | None,
        precision: Precision,
        unit: bool,
        at: dict[str, Any],
    ) -> Place:
        y = self.buffer(len(weight)) if y is None else y
        if precision.dtype == "int8":
            if x.size > MAX_INPUTS:
                raise WeightsError(f"{self.prefix}: int8 is for at most {MAX_INPUTS} inputs")
            q, scale = quantize_rows(weight)
            sums = -128 * q.sum(axis=1, dtype=np.int32)
            at["S_AT"] = self.param(np.concatenate([scale, sums.view(np.float32)]))
            words = as_words(q)
            plane = padded(words.shape[1])
            at["COUNT"] = num_planes = 1 if precision.activations == "int8" else 2
            quantized, at["SX_AT"] = self.buffer(num_planes * plane), self.buffer(1)
            at["X_SIZE"] = x.size
            named = {"Y_SIZE": plane, "FUNCTION": int(unit), "COUNT": num_planes}
            x = self.operation(columns.QUANTIZE, x, quantized, at["SX_AT"], **named)
        elif precision.dtype == "bfloat16":
            words = as_words(bfloat16_bits(weight))
        else:
            words = weight
        at["W_AT"] = self.param(pack(words, panel_widths(len(words) // LANES)))
        at["DTYPE"] = DTYPES.index(precision.dtype)
        return self.operation(kind, x, y, z, Y_SIZE=len(weight), **at)

    def activation(self, x: Place, function: str, y: Place | None = None) -> Place:
        """Add ``f(x)``; in place if y is x."""
        name, parameters = parse_function(function)
        y = self.buffer(x.size) if y is None else y
        if name == "linear" and x == y:
            return y
        at = self.parameters(*parameters, 0.0, 0.0)
        return self.operation(columns.ACTIVATION, x, y, FUNCTION=FUNCTIONS[name], ALPHA_AT=at)

    def clip(self, x: Place, bound: float | None) -> None:
        """Bound x in place, if there is a bound."""
        if bound is not None:
            self.activation(x, f"clip({-bound!r}, {bound!r})", x)

    def multiply(self, x: Place, z: Place, y: Place | None = None) -> Place:
        return self.operation(columns.MULTIPLY, x, self.buffer(x.size) if y is None else y, z)

    def add(self, x: Place, z: Place, y: Place | None = None) -> Place:
        return self.operation(columns.ADD, x, self.buffer(x.size) if y is None else y, z)

    def copy(self, x: Place, y: Place) -> Place:
        return self.operation(columns.COPY, x, y)

    def keep_new(self, x: Place, kept: Place) -> Place:
        """Copy what decays from step to step to where it is kept; in place if it is there."""
        return self.operation(columns.KEEP, x, kept, FUNCTION=1)

    def keep_copy(self, x: Place, kept: Place) -> Place:
        """Copy a vector as it is to where it is kept."""
        return self.operation(columns.KEEP, x, kept)

    def join(self, places: list[Place]) -> Place:
        """Return a place that holds several end to end."""
        if len(places) == 1:
            return places[0]
        whole = self.buffer(sum(place.size for place in places), LANES - 1)
        at = 0
        for place in places:
            self.copy(place, whole.part(at, place.size))
            at += place.size
        return whole

    # The memory of a stream -----------------------------------------------------------------------

    def add_keys(self, memory_size: int, weight: Floats | None) -> int:
        """Return where in a row of the memory the keys are: made of it by weights, or itself."""
        if self.memory is None:
            count_at = self.keep_counter()
            self.memory = Memory(memory_size, padded(memory_size) + LANES, (), count_at)
        if weight is None:
            return 0
        at = self.memory.keys_end
        keys = (*self.memory.keys, (at, weight))
        size = self.memory.row_size + padded(len(weight))
        self.memory = replace(self.memory, keys=keys, row_size=size)
        return at

    def add_ids(self) -> None:
        """Give the rows of the memory a place for a token id."""
        assert self.memory is not None, "there are keys before"
        if not self.memory.has_ids:
            size = self.memory.row_size + LANES
            self.memory = replace(self.memory, row_size=size, has_ids=True)

    # Arrays ---------------------------------------------------------------------------------------

    def twin(self) -> "Builder":
        """Return a builder that goes on from here; what it appends is not appended here."""
        twin = copy(self)
        twin.operations, twin.buffer_sizes = list(self.operations), list(self.buffer_sizes)
        return twin

    def layout(self, num_rows: int, max_steps: int, of_streams: bool = False) -> Layout:
        """Place the buffers for blocks of ``num_rows``.

        Before them is the state and a copy of it; ``of_streams``, in which each row is of another
        stream, the states of all of them and their slots.
        """
        slots_at = num_rows * self.state_size
        start = slots_at + padded(2 * num_rows) if of_streams else 2 * self.state_size
        starts = start + num_rows * np.cumsum([0, *self.buffer_sizes])
        check_at = int(starts[-1]) + LANES  # a vector that begins in a buffer may end behind it
        end = check_at + num_rows * LANES
        kept_stride = self.state_size if of_streams else 0
        operations = self.operations
        if of_streams:  # no row waits for another
            operations = [o for o in operations if o[columns.KIND] != columns.ROWS]
        plan = np.zeros((len(operations), columns.NUM_COLUMNS), np.int64)
        plan[:, columns.KEPT_STRIDE] = kept_stride
        plan[:, columns.CHECK_AT] = check_at
        strides = {
            columns.X_AT: columns.X_STRIDE,
            columns.Y_AT: columns.Y_STRIDE,
            columns.Z_AT: columns.Z_STRIDE,
            columns.SX_AT: columns.S_STRIDE,
        }
        for row, operation in zip(plan, operations, strict=True):
            for column, value in operation.items():
                if not isinstance(value, Place):
                    row[column] = value
                elif value.buffer >= 0:
                    row[column] = starts[value.buffer] + value.at
                    row[strides[column]] = self.buffer_sizes[value.buffer]
                elif value.buffer == _KEPT:
                    row[column] = value.at
                    row[strides[column]] = kept_stride
                else:
                    row[column] = end
            of_memory = row[columns.KIND] in (columns.ATTENTION, columns.COPY_TOKENS)
            if of_memory and self.memory is not None:
                row[columns.MEMORY_STRIDE] = self.memory.row_size
                row[columns.SPREAD] = self.memory.row_size - LANES
                row[columns.COUNT_AT] = self.memory.count_at
        plan[0, columns.BLOCK_ROWS] = num_rows
        plan[0, columns.STATE_SIZE] = self.state_size
        plan[0, columns.NUM_ROWS] = len(plan)
        plan[0, columns.MAX_STEPS] = max_steps
        plan[0, columns.MAX_AXES] = 1 if max_steps == 1 else 3
        plan[0, columns.ARRAY_TYPE_AT] = ARRAY_TYPE_AT
        plan[0, columns.FLOAT32_AT] = FLOAT32_AT
        reads_tokens = plan[0, columns.KIND] in (columns.EMBEDDING, columns.ONE_HOT)
        plan[0, columns.X_TYPE_AT] = INT32_AT if reads_tokens else FLOAT32_AT
        if of_streams:
            plan[0, columns.KEPT_AT] = end
            plan[0, columns.SLOTS_AT] = slots_at
        plan.flags.writeable = False
        gates = {name: (int(starts[g.buffer]) + g.at, g.size) for name, g in self.gates.items()}
        return Layout(plan, end, gates)

    def program(
        self, block_rows: int, pool_rows: int, generate: Layout | None, answer: Place | None
    ) -> Program:
        """Return the arrays of all that was appended."""
        params = aligned(self.params_size)
        if self.params:
            np.concatenate(self.params, out=params)
        params.flags.writeable = False
        initial_state = np.concatenate([np.zeros(0, np.float32), *self.state])
        initial_state.flags.writeable = False
        return Program(
            params,
            self.layout(1, max_steps=1),
            self.layout(block_rows, max_steps=2**31),
            self.layout(pool_rows, max_steps=2**31, of_streams=True),
            generate,
            initial_state,
            self.state_names,
            tuple(self.counters),
            self.memory,
            None if answer is None else (answer.at, answer.size),
        )


MEMORY = Place(_MEMORY, 0, 0)
