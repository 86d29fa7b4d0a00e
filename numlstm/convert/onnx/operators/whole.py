"""Numbers of the whole sequence, which are one row for all steps and known at each of them.

What an input says of the whole sequence stands in each row of the network; a row of it is that of
the last step. So it is also known at each step, and so is what is made of it alone.
"""

import numpy as np

from numlstm.convert.assembly import Refused
from numlstm.convert.onnx.trace import Node, Op, Trace
from numlstm.convert.onnx.values import Ids, Value
from numlstm.spec import Pooling

WHOLE = "whole"  # the note of a row that is the last step of an input of the whole sequence


def row_of_input(trace: Trace, ids: Ids, label: str) -> Ids:
    """Return the row of an input of the whole sequence, of which all steps are the same."""
    if trace.length == 1:
        return ids
    node = trace.add("layer", ids.size, label)
    node.layer, node.sources = Pooling(ids.size, "last"), (ids,)
    node.row, node.note = True, (WHOLE,)
    return node.ids


def at_each_step(trace: Trace, op: Op, ids: Ids) -> Ids:
    """Return what gives at each step the numbers of a row.

    Raises
    ------
    Refused
        If the row is of the steps, and known after the last of them only.
    """
    flat = ids.ravel()
    found = np.empty_like(flat)
    for node in trace.owners(flat):
        own = node.has(flat)
        found[own] = _node_at_each_step(trace, op, node)[flat[own] - node.start]
    return found.reshape(ids.shape)


def _node_at_each_step(trace: Trace, op: Op, node: Node) -> Ids:
    if node.note[:1] == (WHOLE,):
        return node.sources[0]
    if not node.row or node.layer is None or isinstance(node.layer, Pooling):
        raise Refused(
            "it repeats one row for all steps",
            "compute that before the network, or join it with the answer for all steps",
        )
    sources = [at_each_step(trace, op, ids) for ids in node.sources]
    return trace.layer(op, node.layer, sources, dict(node.tensors)).ids


def met(trace: Trace, op: Op, value: Value, other: Value) -> Value:
    """Return a row that meets each step of another tensor as it is at each, where that is known."""
    if value.time is not None or other.time is None:
        return value
    try:
        ids = at_each_step(trace, op, value.ids)
    except Refused:
        return value
    axis = other.time - len(other.shape) + len(value.shape)
    if axis >= 0 and value.shape[axis] != 1:
        return value
    shape = (*[1] * max(-axis, 0), *value.shape)
    return Value(ids.reshape(np.delete(shape, max(axis, 0))), max(axis, 0), other.length)
