"""What a graph does with the length of a sequence, which is a constant of one walk.

Two walks have two lengths. So a divisor that is the length in both is the length.
"""

import numpy as np

from numlstm.convert.assembly import Array, Refused
from numlstm.convert.onnx.operators.shapes import axis_of, pooled, steps_of
from numlstm.convert.onnx.trace import Handler, Op, Trace
from numlstm.convert.onnx.values import Value
from numlstm.spec import Pooling


def averaged(trace: Trace, op: Op, value: Value, scale: Array) -> Value | None:
    """Return the mean over time, if a sum over time is scaled by one over how many steps it has."""
    node = trace.node_of(value.ids)
    if node is None or not isinstance(node.layer, Pooling) or node.layer.mode != "sum":
        return None
    if node.note[:1] != ("pooled",) or not scale.size:
        return None
    if not np.allclose(scale * node.note[1], 1.0, 1e-6, 0.0):
        return None
    steps = Value(node.sources[0], 0, node.note[1])
    return value.moved(pooled(trace, op, steps, "mean").ids.reshape(value.ids.shape), None)


def _gather_nd(trace: Trace, op: Op) -> Value:
    """Take one step: of ys[range(batch), lengths - 1] the last."""
    value, where = op.value(), op.constant(1)
    if op.attribute("batch_dims", 0):
        if where.ndim < 2 or where.shape[0] != 1 or value.shape[0] != 1:
            raise Refused(f"indices {where.shape} of a batch of {value.shape[0]}")
        where = np.concatenate([np.zeros_like(where[..., :1]), where], -1)
    places = where.reshape(-1, where.shape[-1])
    if len(places) != 1:
        raise Refused(f"it takes {len(places)} parts of {value.shape}, expected one")
    shape = where.shape[:-1]
    for axis, place in reversed(list(enumerate(places[0].tolist()))):
        value = _one(trace, op, value, axis, place)
    return value.moved(value.whole().reshape(shape + value.whole().shape), _later(value, shape))


def _later(value: Value, shape: tuple[int, ...]) -> int | None:
    return None if value.time is None else value.time + len(shape)


def _one(trace: Trace, op: Op, value: Value, axis: int, place: int) -> Value:
    """Return one entry of an axis, without the axis."""
    if axis == value.time:
        return steps_of(trace, op, value, [place], keep=False)
    size = value.shape[axis]
    if not -size <= place < size:
        raise Refused(f"index {place} of {size}")
    time = value.time if value.time is None or value.time < axis else value.time - 1
    return value.moved(value.whole().take([place], axis).squeeze(axis), time)


def _gather_elements(trace: Trace, op: Op) -> Value:
    """Take one step of all numbers: of ys.gather(1, lengths - 1) the last."""
    value, where = op.value(), op.constant(1)
    axis = axis_of(value, op.attribute("axis", 0))
    rest = [n for n in range(len(value.shape)) if n != axis]
    if axis != value.time or where.size == 0 or (where != where.flat[0]).any():
        raise Refused(f"indices {where.shape} that differ, or not over steps")
    if where.shape[axis] != 1 or any(where.shape[n] != value.shape[n] for n in rest):
        raise Refused(f"indices {where.shape} of a tensor {value.shape}, expected one step of it")
    return steps_of(trace, op, value, [int(where.flat[0])], keep=True)


LENGTHS: dict[str, Handler] = {"GatherND": _gather_nd, "GatherElements": _gather_elements}
