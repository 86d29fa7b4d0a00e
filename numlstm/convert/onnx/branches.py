"""The operators of ONNX that have graphs of their own: If, Loop and Scan."""

from typing import Any

import numpy as np

from numlstm.convert.assembly import Refused
from numlstm.convert.onnx.trace import Inner, Op, Trace, Value


def _if(trace: Trace, op: Op, scope: dict[str, Any]) -> tuple[Any, ...]:
    """Walk the branch that is taken; the condition must not depend on the input."""
    condition = op.inputs[0]
    if isinstance(condition, Value):
        kinds = trace.owners(condition.ids)
        given = [node.label for node in kinds if node.kind in ("input", "state", "length")]
        instead = "export the branch that is taken"
        if given:
            name = given[0].removeprefix("input ").strip("'")
            instead = f'if {given[0]} is the same at every step, constants={{"{name}": ...}}'
        raise Refused("its condition depends on the input, and a network has no branches", instead)
    taken = "then_branch" if np.ravel(op.constant(0))[0] else "else_branch"
    branch = op.attribute(taken)
    inner = trace.run(branch, scope)
    return tuple(inner[output.name] for output in branch.output)


INNER: dict[str, Inner] = {"If": _if}
