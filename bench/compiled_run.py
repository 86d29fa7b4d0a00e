"""numlstm's compiled `run`, called with a plan of one's choice."""

from typing import Any

from numpy.typing import NDArray

from bench.cases import Floats
from numlstm.kernels.addresses import aligned, argument
from numlstm.kernels.plan import DONE, MAX_STEPS
from numlstm.model import Model
from numlstm.program.program import Layout, Program


def program_of(model: Model) -> Program:
    """Return the operations of a model that is one program: a causal network."""
    if model._program is None:
        raise ValueError("the network is not causal: it is several programs")
    return model._program


class CompiledRun:
    """``run(xs, ys)``: steps of a model from its initial state, in one compiled call.

    Parameters
    ----------
    layout : Layout
        ``program_of(model).step`` takes the steps one by one, every weight read for each;
        ``program_of(model).block`` takes them in blocks of rows.
    """

    def __init__(self, model: Model, layout: Layout) -> None:
        program = program_of(model)
        assert model._compiled is not None
        self._run = model._compiled.run
        self._initial_state = program.initial_state
        plan = layout.plan.copy()
        plan[0, MAX_STEPS] = 2**31  # a stream takes one step with the plan of single steps
        self.arrays = (plan, program.params, aligned(layout.state_size))
        self.arguments = tuple(argument(array) for array in self.arrays)

    def __call__(self, xs: NDArray[Any], ys: Floats) -> None:
        _, _, state = self.arrays
        state[: self._initial_state.size] = self._initial_state
        status = self._run(*self.arguments, xs.reshape(-1), ys.reshape(-1))
        if status != DONE:
            raise RuntimeError(f"the compiled run returned {status}, expected {DONE}")
