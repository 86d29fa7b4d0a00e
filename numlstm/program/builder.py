"""The builder of programs: it collects places and operations, and lays them out as flat arrays.

`hidden_size` and every buffer are padded to multiples of 16 with zeros.
"""

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import KW_ONLY, dataclass, fields, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from numlstm.budget import spend
from numlstm.errors import WeightsError
from numlstm.kernels import plan as columns
from numlstm.kernels.addresses import ARRAY_TYPE_AT, FLOAT32_AT, INT32_AT, address
from numlstm.kernels.packing import (
    INPUT_BYTES,
    num_scales,
    pack_weights,
    packed_size,
    pad_rows,
    padded,
    quantized_size,
    scales_and_sums,
)
from numlstm.kernels.plan import LANES, MAX_INPUTS, Dtype, Function
from numlstm.network.functions import parse_function
from numlstm.program.program import Doubles, Floats, Gate, Layout, Memory, Program, Stored
from numlstm.quantize import Encoded, Format, Matrix

# What is made of an operation costs whatever its sizes, its rows of plans above all; and a layout.
_OPERATION_BYTES, _OPERATION, _LAYOUT = 2**12, 1e5, 2e5

# A place is in a buffer, which has a row per step; or, with these numbers, elsewhere.
_KEPT, _MEMORY = -1, -2

_PAGES = 2**22  # floats for which params grow at a time


class Place(NamedTuple):
    """Where an operation reads or writes `size` floats: `at` is the offset in the buffer's row."""

    buffer: int
    at: int
    size: int

    def part(self, at: int, size: int) -> "Place":
        return Place(self.buffer, self.at + at, size)


MEMORY = Place(_MEMORY, 0, 0)


@dataclass(eq=False, repr=False)
class Operation:
    """A row of a plan: what it reads and writes, and the columns that its kind has.

    A field is the column of its name in `kernels/plan.py`; x, y, z and sx are places, which are
    two columns each, as X_AT and X_STRIDE. The sizes are those of x and y unless given; of what
    reads the input of the network, which has no x, both are that of y.
    """

    kind: int
    x: Place | None = None
    y: Place | None = None
    z: Place | None = None
    _: KW_ONLY
    sx: Place | None = None
    x_size: int = 0
    y_size: int = 0
    w_at: int = 0
    b_at: int = 0
    s_at: int = 0
    alpha_at: int = 0
    h_at: int = 0
    c_at: int = 0
    count_at: int = 0
    key_at: int = 0
    vocab_size: int = 0
    dtype: int = 0
    planes: int = 0
    function: int = 0
    repeats: int = 0
    taps: int = 0
    dilation: int = 0
    is_unit: bool = False
    decays: bool = False
    is_additive: bool = False
    are_probabilities: bool = False

    def __post_init__(self) -> None:
        if self.y is not None:
            self.y_size = self.y_size or self.y.size
            self.x_size = self.x_size or (self.y if self.x is None else self.x).size

    def write(self, row: NDArray[np.int64], find: Callable[[Place], tuple[int, int]]) -> None:
        """Write the columns into a row of a plan; ``find`` tells offset and stride of a place."""
        for name, column in _COLUMNS.items():
            value = getattr(self, name)
            if isinstance(value, Place):
                row[column], row[_STRIDES[name]] = find(value)
            elif value:
                row[column] = value


_STRIDES = {
    "x": columns.X_STRIDE,
    "y": columns.Y_STRIDE,
    "z": columns.Z_STRIDE,
    "sx": columns.SX_STRIDE,
}
_COLUMNS = {
    option.name: getattr(columns, option.name.upper() + "_AT" * (option.name in _STRIDES))
    for option in fields(Operation)
}


@dataclass(frozen=True, eq=False, repr=False)
class Own:
    """The tensors of one layer, of those of the network, and the format of its matrices.

    One is looked up when it is asked for: it may be read from a file then.
    """

    tensors: Encoded
    prefix: str
    format: Format

    def __getitem__(self, name: str) -> Floats:
        """Return a tensor in float32, by its name within the layer."""
        tensor = self.tensors[f"{self.prefix}.{name}"]
        return tensor.values() if isinstance(tensor, Matrix) else tensor

    def get(self, name: str, default: Floats) -> Floats:
        return self[name] if f"{self.prefix}.{name}" in self.tensors else default

    def matrix(self, name: str) -> Matrix:
        """Return a matrix as its format holds it."""
        tensor = self.tensors[f"{self.prefix}.{name}"]
        found = tensor if isinstance(tensor, Matrix) else self.format.encode(tensor)
        return found.named(name)


class Params:
    """An array that grows where it is: one that was joined in the end would be there twice."""

    def __init__(self) -> None:
        self.size = 0
        self._spare = np.zeros(0, np.float32)
        self._start = 0  # of the params in it

    def append(self, size: int) -> Floats:
        """Return room for numbers behind the others; it is lost when the next is asked for."""
        spend("its packed weights", memory=4 * padded(size))
        at, self.size = self.size, self.size + padded(size)
        # The system moves pages, not numbers; it clears them, and Ctrl-C waits for so many.
        wanted = self.size + LANES
        for end in (*range(self._spare.size + _PAGES, wanted, _PAGES), wanted):
            self._spare.resize(end, refcheck=False)
        self._align()
        room = self._spare[self._start + at : self._start + self.size]
        room[size:] = 0
        return room[:size]

    def _align(self) -> None:
        """Move the params to a multiple of 64 bytes: as a rule they are there."""
        start = -address(self._spare) % 64 // 4
        if start != self._start:
            at = address(self._spare)
            ctypes.memmove(at + 4 * start, at + 4 * self._start, 4 * self.size)
            self._start = start

    def whole(self) -> Floats:
        """Return all of them; nothing may be appended then."""
        self._align()
        return self._spare[self._start : self._start + self.size]


class Builder:
    """Collects params, the state's initial values, and operations with their buffers."""

    def __init__(self) -> None:
        self.params = Params()
        self.state: list[Floats] = []
        self.state_size = 0
        self.state_names: dict[str, tuple[int, int]] = {}
        self.buffer_sizes: list[int] = []  # of one row
        self.operations: list[Operation] = []
        self.gates: dict[str, tuple[Callable[..., Doubles], tuple[Place, ...]]] = {}
        self.memory: Memory | None = None
        self.stored: list[Stored] = []
        self.prefix = ""  # of the layer that is being added
        self._in_rows = False
        self.counters: list[int] = []
        self.keep_counter()  # of the steps: first of all, where the walker finds it

    # Numbers of three kinds: params, what is kept, buffers ----------------------------------------

    def param(self, values: Floats) -> int:
        """Append weights, padded to 16 floats; return where they are."""
        at = self.params.size
        self.params.append(values.size)[:] = values.ravel()
        return at

    def made(self, values: Floats) -> int:
        """Append what was made of several tensors, which may overflow together."""
        if not np.isfinite(values).all():
            raise WeightsError(f"{self.prefix}: its tensors together are beyond float32")
        return self.param(values)

    def parameters(self, *numbers: float) -> int:
        """Append up to two parameters of an operation."""
        return self.param(np.array(numbers, np.float32))

    def keep(self, size: int, values: Floats | float = 0.0, name: str = "") -> Place:
        """Return a place for a vector that is kept from step to step, with its first values.

        name   by which users know it: it belongs to the layer of the current `prefix`
        """
        spend("the state of a stream", memory=4 * padded(size))
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

    def leave(self, name: str, formula: Callable[..., Doubles], *places: Place) -> None:
        """Name a gate of the current layer for a trace: a formula of places.

        Nothing may overwrite those later in the step.
        """
        self.gates[f"{self.prefix}.{name}"] = formula, places

    # Operations -----------------------------------------------------------------------------------

    def append(self, operation: Operation) -> Place:
        """Append an operation that writes y; return y."""
        assert operation.y is not None
        spend("its plan", _OPERATION_BYTES, _OPERATION)
        self.operations.append(operation)
        return operation.y

    @contextmanager
    def rows(self) -> Iterator[None]:
        """Make the operations that are appended inside run row by row, one after another."""
        if self._in_rows:  # they do already
            yield
            return
        loop = Operation(columns.ROWS)
        self.operations.append(loop)
        first = len(self.operations)
        self._in_rows = True
        yield
        self._in_rows = False
        loop.repeats = len(self.operations) - first

    def linear(
        self,
        x: Place,
        weight: Matrix,
        bias: Floats,
        activations: str = "int16",
        unit: bool = False,
        y: Place | None = None,
    ) -> Place:
        """Add ``bias + weight @ x``; weight (N, K) with N a multiple of 16.

        activations   what int8 weights are multiplied with
        unit          whether x is in [-1, 1], as the h of an LSTM is unless a user sets another
        """
        y = self.buffer(len(weight.numbers)) if y is None else y
        product = Operation(columns.LINEAR, x, y, b_at=self.made(bias))
        return self._product(product, weight, activations, unit)

    def linear_add(
        self,
        x: Place,
        weight: Matrix,
        z: Place,
        y: Place | None = None,
        activations: str = "int16",
        unit: bool = False,
    ) -> Place:
        """Add ``z + weight @ x``, as `linear` does."""
        y = self.buffer(len(weight.numbers)) if y is None else y
        product = Operation(columns.LINEAR_ADD, x, y, z, y_size=len(weight.numbers))
        return self._product(product, weight, activations, unit)

    def _product(self, product: Operation, weight: Matrix, activations: str, unit: bool) -> Place:
        """Append a product, behind the operation that quantises its inputs where weights are."""
        if weight.scale is not None:
            product.s_at = self.param(scales_and_sums(weight.numbers, weight.scale))
            product.planes = INPUT_BYTES[activations]
            self._quantize(product, unit)
        product.w_at = self.params.size
        pack_weights(weight.numbers, self.params.append(packed_size(weight.numbers)))
        if weight.name:
            bare = replace(weight, numbers=np.empty(0, weight.numbers.dtype), scale=None)
            name, shape = f"{self.prefix}.{weight.name}", weight.numbers.shape
            self.stored.append(Stored(name, product.w_at, product.s_at, bare, shape))
        product.dtype = Dtype[weight.format.name.upper()]
        return self.append(product)

    def again(self, product: Operation, x: Place, y: Place) -> Place:
        """Append a product by the weights of one that is there, of as many inputs."""
        twin = replace(product, x=x, y=y)
        if product.planes:
            self._quantize(twin, unit=False)
        return self.append(twin)

    def _quantize(self, product: Operation, unit: bool) -> None:
        """Append what quantises the inputs of a product by int8 weights, which reads that then."""
        assert product.x is not None
        num_inputs = product.x.size
        if num_inputs > MAX_INPUTS:
            raise WeightsError(f"{self.prefix}: int8 is for at most {MAX_INPUTS} inputs")
        quantized = self.buffer(quantized_size(num_inputs, product.planes))
        product.sx = self.buffer(num_scales(num_inputs))
        quantize = Operation(
            columns.QUANTIZE, product.x, quantized, product.sx,
            planes=product.planes, is_unit=unit,
        )  # fmt: skip
        product.x = self.append(quantize)

    def activation(self, x: Place, function: str, y: Place | None = None) -> Place:
        """Add ``f(x)``; in place if y is x."""
        name, parameters = parse_function(function)
        y = self.buffer(x.size) if y is None else y
        if name == "linear" and x == y:
            return y
        at = self.parameters(*parameters, 0.0, 0.0)
        number = Function[name.upper()]
        return self.append(Operation(columns.ACTIVATION, x, y, function=number, alpha_at=at))

    def clip(self, x: Place, bound: float | None) -> None:
        """Bound x in place, if there is a bound."""
        if bound is not None:
            self.activation(x, f"clip({-bound!r}, {bound!r})", x)

    def multiply(self, x: Place, z: Place, y: Place | None = None) -> Place:
        return self.append(Operation(columns.MULTIPLY, x, y or self.buffer(x.size), z))

    def add(self, x: Place, z: Place, y: Place | None = None) -> Place:
        return self.append(Operation(columns.ADD, x, y or self.buffer(x.size), z))

    def scale_add(self, x: Place, factors: Floats, z: Place, y: Place | None = None) -> Place:
        """Add ``z + factors * x``, lane by lane."""
        at = self.param(factors)
        return self.append(Operation(columns.SCALE_ADD, x, y or self.buffer(x.size), z, w_at=at))

    def copy(self, x: Place, y: Place) -> Place:
        return self.append(Operation(columns.COPY, x, y))

    def keep_new(self, x: Place, kept: Place) -> Place:
        """Copy what decays from step to step to where it is kept; in place if it is there."""
        return self.append(Operation(columns.KEEP, x, kept, decays=True))

    def keep_copy(self, x: Place, kept: Place) -> Place:
        """Copy a vector as it is to where it is kept."""
        return self.append(Operation(columns.KEEP, x, kept))

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
        self.memory = self.memory._replace(keys=keys, row_size=size)
        return at

    def add_ids(self) -> None:
        """Give the rows of the memory a place for a token id."""
        assert self.memory is not None, "there are keys before"
        if not self.memory.has_ids:
            size = self.memory.row_size + LANES
            self.memory = self.memory._replace(row_size=size, has_ids=True)

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
        spend(f"work in blocks of {num_rows}", memory=4 * end, operations=_LAYOUT)
        kept_stride = self.state_size if of_streams else 0

        def find(place: Place) -> tuple[int, int]:
            if place.buffer == _KEPT:
                return place.at, kept_stride
            if place.buffer == _MEMORY:
                return end, 0
            return int(starts[place.buffer]) + place.at, self.buffer_sizes[place.buffer]

        operations = self.operations
        if of_streams:  # no row waits for another
            operations = [o for o in operations if o.kind != columns.ROWS]
        plan = np.zeros((len(operations), columns.NUM_COLUMNS), np.int64)
        for row, operation in zip(plan, operations, strict=True):
            operation.write(row, find)
            if operation.z == MEMORY and self.memory is not None:
                row[columns.MEMORY_STRIDE] = self.memory.row_size
                row[columns.SCORE_AT] = self.memory.score_at
                row[columns.COUNT_AT] = self.memory.count_at
        plan[:, columns.KEPT_STRIDE] = kept_stride
        plan[:, columns.CHECK_AT] = check_at
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
        gates = {
            name: Gate(formula, tuple((find(place)[0], place.size) for place in places))
            for name, (formula, places) in self.gates.items()
        }
        return Layout(plan, end, gates)

    def program(
        self, block_rows: int, pool_rows: int, generate: Layout | None, answer: Place | None
    ) -> Program:
        """Return the arrays of all that was appended."""
        params = self.params.whole()
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
            tuple(self.stored),
        )
