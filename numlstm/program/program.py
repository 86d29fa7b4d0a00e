"""The flat arrays that the compiled walker runs, and where in them is what."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from numlstm.cached import cached_property
from numlstm.kernels.addresses import argument
from numlstm.kernels.packing import unpacked
from numlstm.kernels.plan import LANES
from numlstm.program.check import check_program
from numlstm.quantize import Matrix, blocks

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

MOST_STEPS = 2**62  # from where a counter goes on without turning negative


class Gate(NamedTuple):
    """What a cell made of a gate in a step: a formula, in float64, of what it left in the state.

    places   offset and size of each argument, in the row of a block's first step
    """

    formula: Callable[..., Doubles]
    places: tuple[tuple[int, int], ...]


@dataclass(frozen=True, eq=False, repr=False)
class Layout:
    """A plan for blocks of a number of rows, and the size of a `state` that can run it.

    Behind the state lie the rows of the memory, where the network reads one; of a pool, what its
    streams keep. `gates` are those that the cells leave, by name: ``layers.0.i``.
    """

    plan: NDArray[np.int64]
    state_size: int
    gates: dict[str, Gate]

    @cached_property
    def plan_at(self) -> Any:
        """The plan as the kernel takes it."""
        return argument(self.plan)


class Memory(NamedTuple):
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
    def score_at(self) -> int:
        """Where in the row the score is."""
        return self.row_size - LANES

    @property
    def keys_end(self) -> int:
        """Where in the row the keys end."""
        return self.row_size - LANES * (1 + self.has_ids)


class Stored(NamedTuple):
    """A matrix in `params`, and how it becomes a tensor of the network again, bit for bit.

    name       of the tensor; others may hold more rows of it
    at         where the packed weights are; scale_at: where the scales of their rows are
    matrix     its format, the origin of its rows and what makes a tensor of them; without numbers
    shape      (N, K), as it was packed
    stride     0, or from one row to the next where they are not packed
    """

    name: str
    at: int
    scale_at: int
    matrix: Matrix
    shape: tuple[int, int]
    stride: int = 0

    @property
    def num_rows(self) -> int:
        """How many rows of the tensor are here."""
        assert self.matrix.rows is not None
        return int(np.count_nonzero(self.matrix.rows))

    def write_to(self, tensor: Floats, params: Floats) -> None:
        """Write the rows of the tensor that are here, in float32. tensor (N, K)"""
        form = self.matrix.format
        if self.stride:
            whole = params[self.at : self.at + self.shape[0] * self.stride]
            numbers = whole.reshape(-1, self.stride)[:, : self.shape[1]]
        else:
            numbers = unpacked(params, self.at, self.shape, form.type)
        scale = params[self.scale_at : self.scale_at + len(numbers)] if form.has_scale else None
        assert self.matrix.rows is not None
        for block in blocks(*self.shape):
            rows = self.matrix.rows[block]
            values = form.decode(numbers[block], None if scale is None else scale[block])
            tensor[rows[rows > 0] - 1] = values[rows > 0]


@dataclass(frozen=True, eq=False, repr=False)
class Program:
    """A causal network as arrays.

    `initial_state` is what a new stream begins with. All layouts keep it in the same order, so a
    state moves between them by a copy. `state_names` tells where in it the h and c of each layer
    are: name -> (offset, size). `counters` tells where an int64 is in place of two floats; the
    first one counts the steps. `answer` is where the last answer is, of a network that repeats it
    for masked steps. `stored` tells which tensors need no other copy.

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
    stored: tuple[Stored, ...]

    def __post_init__(self) -> None:
        check_program(self)

    def could_keep(self, values: Floats, at: int = 0) -> NDArray[np.bool_]:
        """Whether each number could be what a stream keeps, from offset ``at`` of its state on.

        Every number is finite, but for what a maximum begins with. An h beyond [-1, 1] could be
        there: users set it, and every format computes with it. A counter is not negative.
        """
        first = self.initial_state[at : at + len(values)]
        could: NDArray[np.bool_] = np.isfinite(values) | ((values == -np.inf) & (first == -np.inf))
        for counter in self.counters:
            here = counter - at
            if 0 <= here < len(values):
                (count,) = values[here : here + 2].copy().view(np.int64)
                could[here : here + 2] = 0 <= count < MOST_STEPS
        return could

    def tensors(self) -> dict[str, Floats]:
        """Return the tensors of which `stored` tells, in float32, by their canonical names."""
        parts_of: dict[str, list[Stored]] = {}
        for part in self.stored:
            parts_of.setdefault(part.name, []).append(part)
        found: dict[str, Floats] = {}
        for name, parts in parts_of.items():
            num_rows = sum(part.num_rows for part in parts)
            tensor = np.empty((num_rows, parts[0].shape[1]), np.float32)
            for part in parts:
                part.write_to(tensor, self.params)
            back = parts[0].matrix.back
            found[name] = tensor if back is None else back(tensor)
        return found

    @cached_property
    def params_at(self) -> Any:
        """The params as the kernel takes them."""
        return argument(self.params)
