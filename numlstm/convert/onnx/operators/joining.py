"""Concat and Split of ONNX: numbers of a step end to end, and steps that zeros make later."""

from dataclasses import replace
from typing import Any

import numpy as np

from numlstm.convert.assembly import Refused
from numlstm.convert.onnx.operators.shapes import axis_of, delayed
from numlstm.convert.onnx.trace import Handler, Op, Trace
from numlstm.convert.onnx.values import Value, of_each_step, roomy


def _joining(trace: Trace, op: Op, value: Any, like: Value) -> Value:
    """Return what is joined with a tensor; constants as they are at each step."""
    if isinstance(value, Value):
        value.check_steps()
        return value
    if value.ndim != len(like.shape):
        raise Refused(f"it joins {value.shape} and {like.shape}")
    one = trace.constant(op, of_each_step(like, np.asarray(value, np.float64)))
    if like.time is None:
        return one
    if value.shape[like.time] != like.length:
        raise Refused(
            "it joins steps of constants with the steps",
            "join them before the network; zeros before all but the last steps shift them",
        )
    return Value(one.ids.squeeze(like.time), like.time, like.length)


def _shifted(trace: Trace, op: Op) -> Value | None:
    """Return the steps later by some, zeros first: zeros joined with all but the last steps."""
    zeros, value = op.inputs if len(op.inputs) == 2 else (None, None)
    if not isinstance(zeros, np.ndarray) or zeros.any() or not isinstance(value, Value):
        return None
    if value.time is None or value.pads[1] >= 0:
        return None
    axis, missing = axis_of(value, op.attribute("axis", 1)), -value.pads[1]
    if axis != value.time or zeros.shape[axis] != missing:
        return None
    return delayed(trace, op, replace(value, pads=(0, 0)), missing)


def _concat(trace: Trace, op: Op) -> Value:
    shifted = _shifted(trace, op)
    if shifted is not None:
        return shifted
    like = next(v for v in op.inputs if isinstance(v, Value))
    values = [_joining(trace, op, v, like) for v in op.inputs]
    first = values[0]
    if any((v.time, v.length) != (first.time, first.length) for v in values):
        raise Refused(
            "it joins tensors whose steps do not fit each other",
            "cut both to the same steps before the network",
        )
    axis = axis_of(first, op.attribute("axis", 1))
    if axis == first.time and len(values) > 1:
        raise Refused(
            "it joins sequences one after the other",
            "join them before the network, or shift by F.pad(x, (0, 0, 1, 0))[:, :-1]",
        )
    roomy(op.label, (sum(v.ids.size for v in values),))
    return first.moved(np.concatenate([v.whole() for v in values], axis), first.time)


def _split(trace: Trace, op: Op) -> tuple[Value, ...]:
    value = op.value()
    axis = axis_of(value, op.attribute("axis", 0))
    count = len(op.proto.output)
    if axis == value.time:
        raise Refused("it splits steps", "split the sequence before the network")
    if op.attribute("num_outputs", count) != count:
        raise Refused(f"num_outputs {op.attribute('num_outputs')}, expected {count}")
    sizes = op.ints(1, "split")
    each = -(-value.shape[axis] // count)
    at = np.cumsum(sizes)[:-1] if sizes else np.arange(1, count) * each
    return tuple(value.moved(part, value.time) for part in np.split(value.whole(), at, axis))


JOINING: dict[str, Handler] = {"Concat": _concat, "Split": _split}
