"""The operators of ONNX that choose: the larger of numbers, and one of two by a condition."""

from typing import Any

import numpy as np

from numlstm.convert.assembly import Refused
from numlstm.convert.onnx.elementwise import affine, applied, combined, in_order, of_each_step
from numlstm.convert.onnx.trace import Handler, Ids, Op, Trace, Value, roomy
from numlstm.spec import Activation, Add, function_text

_LARGEST = float(np.finfo(np.float32).max)
_ONE, _NONE = np.array(1.0), np.array(0.0)


def larger(trace: Trace, op: Op, a: Ids, b: Ids, row: bool) -> Ids:
    """Return the larger of two numbers each: ``a + relu(b - a)``."""
    if np.array_equal(a, b):
        return a
    (a, b), places = in_order(a, b)
    size = a.size
    negative = trace.layer(op, Activation(size, function_text("affine", -1.0, 0.0)), [a], row=row)
    more = trace.layer(op, Add(size, inputs=("", "")), [b, negative.ids], row=row)
    more = trace.layer(op, Activation(size, "relu"), [more.ids], row=row)
    found = trace.layer(op, Add(size, inputs=("", "")), [a, more.ids], row=row)
    return found.ids[places]


def _extreme(trace: Trace, op: Op) -> Any:
    """Return the largest, or the smallest, of all inputs."""
    found: Any = op.inputs[0]
    for other in op.inputs[1:]:
        found = _of_two(trace, op, found, other)
    return found


def _of_two(trace: Trace, op: Op, left: Any, right: Any) -> Any:
    sign = 1.0 if op.kind == "Max" else -1.0
    if isinstance(left, np.ndarray) and isinstance(right, np.ndarray):
        return np.maximum(left, right) if sign > 0 else np.minimum(left, right)
    if isinstance(left, np.ndarray):
        left, right = right, left
    if isinstance(right, np.ndarray):
        bound = of_each_step(left, right.astype(np.float64))
        if bound.size and np.ptp(bound) == 0:
            number = float(np.clip(bound.ravel()[0], -_LARGEST, _LARGEST))
            if sign > 0 and number == 0.0:
                return applied(trace, op, left, "relu")
            text = (number, _LARGEST) if sign > 0 else (-_LARGEST, number)
            return applied(trace, op, left, function_text("clip", *text))
        # x + relu(bound - x), or x - relu(x - bound)
        more = affine(trace, op, left, np.array(-sign), sign * bound)
        more = affine(trace, op, applied(trace, op, more, "relu"), np.array(sign), _NONE)
        return combined(trace, op, Add, left, more)
    less = affine(trace, op, left, np.array(-sign), _NONE)
    more = affine(trace, op, right, np.array(sign), _NONE)
    more = applied(trace, op, combined(trace, op, Add, more, less), "relu")
    return combined(trace, op, Add, left, affine(trace, op, more, np.array(sign), _NONE))


def _abs(trace: Trace, op: Op) -> Value:
    return applied(trace, op, op.value(), "abs")


# Conditions ---------------------------------------------------------------------------------------


def _compared(trace: Trace, op: Op) -> Value:
    """Refuse a comparison of what depends on the input."""
    values = [value for value in op.inputs if isinstance(value, Value)]
    given = {node.label for value in values for node in trace.owners(value.ids)}
    if len(given) == 1 and all(label.startswith("input ") for label in given):
        name = given.pop().removeprefix("input ").strip("'")
        raise Refused(
            f"it compares input {name!r}, which no layer does",
            f'if that is the same at every step, give it: constants={{"{name}": ...}}',
        )
    raise Refused(
        "it compares numbers that depend on the input, which no layer does",
        "compare after the network, or leave masks out where sequences are not padded",
    )


def _where(trace: Trace, op: Op) -> Any:
    if isinstance(op.inputs[0], Value):
        raise Refused("its condition depends on the input, and no layer chooses by that")
    condition = op.constant(0)
    if condition.all() or not condition.any():
        return _broadcast(trace, op, op.inputs[1 if condition.all() else 2])
    sides_of_input = [v for v in op.inputs[1:] if isinstance(v, Value)]
    if len({(v.time is None, v.length) for v in sides_of_input}) > 1:
        raise Refused("it takes parts of one row for all steps and of each step")
    like = max(sides_of_input, key=lambda v: len(v.shape))
    rank = max(len(v.shape) for v in op.inputs if v is not None)
    time = None if like.time is None else like.time + rank - len(like.shape)
    wide = Value(np.zeros((1,) * (rank if time is None else rank - 1), np.int64), time, like.length)
    sides = [_ids(trace, op, wide, side) for side in op.inputs[1:]]
    chosen = of_each_step(wide, condition)
    shape = np.broadcast_shapes(chosen.shape, *(ids.shape for ids in sides))
    roomy(op.label, shape)
    return like.moved(np.where(chosen, *sides), time)


def _ids(trace: Trace, op: Op, wide: Value, side: Any) -> Ids:
    """Return the ids of a tensor, or of constants, with a time axis of one step."""
    if isinstance(side, Value):
        whole = side.whole()
        lead = len(wide.shape) - whole.ndim
        if side.time is not None and side.time + lead != wide.time:
            raise Refused("the steps of one tensor meet the numbers of the other")
        return whole.reshape((1,) * lead + whole.shape)
    return trace.constant(op, of_each_step(wide, np.asarray(side, np.float64))).ids


def _broadcast(trace: Trace, op: Op, side: Any) -> Any:
    """Return one side of a condition, in the shape that all three have together."""
    shape = np.broadcast_shapes(*(v.shape for v in op.inputs if v is not None))
    if isinstance(side, np.ndarray):
        return np.broadcast_to(side, roomy(op.label, shape))
    if side.shape == shape:
        return side
    if side.time is None and any(isinstance(v, Value) and v.time is not None for v in op.inputs):
        raise Refused("it takes one row for all steps")
    lead = len(shape) - len(side.shape)
    time = None if side.time is None else side.time + lead
    whole = side.whole()
    whole = whole.reshape((1,) * lead + whole.shape)
    one = shape if time is None else (*shape[:time], 1, *shape[time + 1 :])
    return side.moved(np.broadcast_to(whole, roomy(op.label, one)), time)


_COMPARISONS = ("Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Not", "And", "Or")

CHOICES: dict[str, Handler] = {
    "Max": _extreme,
    "Min": _extreme,
    "Abs": _abs,
    "Where": _where,
    **dict.fromkeys((*_COMPARISONS, "Xor", "Sign", "IsNaN", "IsInf"), _compared),
}
