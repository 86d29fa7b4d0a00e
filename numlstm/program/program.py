"""The flat arrays that the compiled walker runs, and where in them is what."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numlstm.kernels.addresses import argument
from numlstm.kernels.plan import LANES

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class Gate:
    """What a cell made of a gate in a step: a formula, in float64, of what it left in the state.

    places   offset and size of each argument, in the row of a block's first step
    """

    formula: Callable[..., Doubles]
    places: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
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
    def score_at(self) -> int:
        """Where in the row the score is."""
        return self.row_size - LANES

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
