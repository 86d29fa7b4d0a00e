"""numlstm's compiled `run`, called with a plan of one's choice."""

from typing import Any

from numpy.typing import NDArray

from bench.engines.cases import Floats
from numlstm import Model
from numlstm.kernels.addresses import aligned, argument
from numlstm.kernels.plan import DONE, MAX_STEPS
from numlstm.program.lower import Fold
from numlstm.program.program import Layout
from numlstm.quantize import encoded
from numlstm.run.compiled import Compiled


def compiled_of(model: Model, fold: Fold = "auto") -> Compiled:
    """Return a model that is one program, a causal network, as what its streams share."""
    return Compiled(model.network, encoded(model.weights), fold)


class CompiledRun:
    """``run(xs, ys)``: steps of a network from its initial state, in one compiled call.

    Parameters
    ----------
    layout : Layout
        ``compiled.program.step`` takes the steps one by one, every weight read for each;
        ``compiled.program.block`` takes them in blocks of rows.
    """

    def __init__(self, compiled: Compiled, layout: Layout) -> None:
        program = compiled.program
        self._run = compiled.run
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
