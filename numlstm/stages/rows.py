"""Stages that need all rows of a layer: attention to them, what joins, repeats or turns them."""

import numpy as np

from numlstm.run.compiled import Compiled
from numlstm.run.state import State
from numlstm.stages.stage import Read, Rows, Stage, joined


class Attended(Stage):
    """Attention over all rows of another layer, the second input."""

    joins = False

    def __init__(
        self, reads: tuple[Read, ...], writes: tuple[tuple[int, int], ...], compiled: Compiled
    ) -> None:
        super().__init__(reads, writes)
        self.compiled = compiled

    def run_one(self, inputs: list[Rows]) -> Rows:
        *queries, memory = inputs
        if not len(memory):
            raise ValueError(
                "no rows are left to attend to: the sequence is too short for the convolutions "
                "before the attention; give it more steps"
            )
        state = State(self.compiled, self.compiled.memory_rows(memory, None))
        return state.answers(joined(queries))


class _OfSteps(Stage):
    """What knows of how many steps it is."""

    def __init__(
        self, reads: tuple[Read, ...], writes: tuple[tuple[int, int], ...], num_steps: int
    ) -> None:
        super().__init__(reads, writes)
        self.num_steps = num_steps


class Flattened(_OfSteps):
    """The last rows end to end."""

    def run_one(self, inputs: list[Rows]) -> Rows:
        rows = joined(inputs)[-self.num_steps :]
        before = np.zeros((self.num_steps - len(rows), rows.shape[1]), np.float32)
        return np.concatenate([before, rows]).reshape(1, -1)


class Repeated(_OfSteps):
    """The last row, several times."""

    def run_one(self, inputs: list[Rows]) -> Rows:
        return np.repeat(joined(inputs)[-1:], self.num_steps, 0)


class Reversed(Stage):
    """The rows from the last to the first."""

    def run_one(self, inputs: list[Rows]) -> Rows:
        return np.ascontiguousarray(joined(inputs)[::-1])
