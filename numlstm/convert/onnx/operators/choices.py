"""The operators of ONNX that choose: the larger of numbers, and one of two by a condition."""

from typing import Any

import numpy as np

from numlstm.convert.assembly import Refused
from numlstm.convert.onnx.operators.attention import STEPS_MEET_STEPS
from numlstm.convert.onnx.operators.elementwise import affine, applied, combined, in_order, noted
from numlstm.convert.onnx.trace import Handler, Op, Trace
from numlstm.convert.onnx.values import Ids, Value, of_each_step, roomy
from numlstm.network.functions import LARGEST
from numlstm.spec import Activation, Add, Multiply, function_text

_STEEP = 1e20  # a slope at which all numbers are on one side or the other
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
            number = float(np.clip(bound.ravel()[0], -LARGEST, LARGEST))
            if sign > 0 and number == 0.0:
                return applied(trace, op, left, "relu")
            text = (number, LARGEST) if sign > 0 else (-LARGEST, number)
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


def _step(trace: Trace, op: Op, value: Value) -> Value:
    """Return 1 where a number is above 0, else 0."""
    found = applied(trace, op, value, function_text("hard_sigmoid", _STEEP, 0.0))
    return noted(trace, found, "condition")


def _not(trace: Trace, op: Op, value: Value) -> Value:
    return affine(trace, op, value, np.array(-1.0), _ONE)


def _less(trace: Trace, op: Op, left: Any, right: Any) -> Value:
    """Return left - right, one of which may be a constant."""
    if isinstance(right, np.ndarray):
        return affine(trace, op, left, _ONE, -right.astype(np.float64))
    if isinstance(left, np.ndarray):
        return affine(trace, op, right, np.array(-1.0), left.astype(np.float64))
    return combined(trace, op, Add, left, affine(trace, op, right, np.array(-1.0), _NONE))


def _compared(trace: Trace, op: Op) -> Value:
    """Return 1 where a comparison is so, else 0."""
    left, right = op.inputs[:2]
    for value in (left, right):
        nodes = trace.owners(value.ids) if isinstance(value, Value) else []
        if any(node.kind in ("state", "counter") for node in nodes):
            raise Refused(
                f"it compares {nodes[0].label}, which no layer does",
                "if that is the same at every step, give it as a constant",
            )
    if op.kind in ("Less", "GreaterOrEqual"):
        left, right = right, left
    above = _step(trace, op, _less(trace, op, left, right))
    if op.kind == "Equal":
        below = _step(trace, op, _less(trace, op, right, left))
        return _not(trace, op, combined(trace, op, Add, above, below))
    return _not(trace, op, above) if op.kind.endswith("OrEqual") else above


def _logical(trace: Trace, op: Op) -> Any:
    """Return what is so of conditions, as 1 and 0."""
    if op.kind == "Not":
        return _not(trace, op, op.value())
    constant = next((n for n in (0, 1) if isinstance(op.inputs[n], np.ndarray)), None)
    if constant is not None:
        value, holds = op.value(1 - constant), op.floats(constant)
        is_and = op.kind == "And"
        return affine(trace, op, value, *((holds, _NONE) if is_and else (1.0 - holds, holds)))
    if op.kind == "And":
        return combined(trace, op, Multiply, op.value(0), op.value(1))
    either = combined(trace, op, Add, op.value(0), op.value(1))
    return applied(trace, op, either, function_text("clip", 0.0, 1.0))


def _sign(trace: Trace, op: Op) -> Value:
    above = _step(trace, op, op.value())
    negative = affine(trace, op, op.value(), np.array(-1.0), _NONE)
    return _less(trace, op, above, _step(trace, op, negative))


def _chosen(trace: Trace, op: Op, condition: Value, above: Any, below: Any) -> Value:
    """Return ``condition * above + (1 - condition) * below``."""
    softplus = _softplus(trace, above, below)
    if softplus is not None:
        return softplus
    sides = []
    for factor, side in ((condition, above), (_not(trace, op, condition), below)):
        if isinstance(side, np.ndarray):
            sides.append(affine(trace, op, factor, side.astype(np.float64), _NONE))
        else:
            sides.append(combined(trace, op, Multiply, factor, side))
    return combined(trace, op, Add, *sides)


def _softplus(trace: Trace, above: Any, below: Any) -> Value | None:
    """Return log(1 + exp(x)) where that is chosen, or x where x is so large that it is the same."""
    if not isinstance(above, Value) or not isinstance(below, Value):
        return None
    node = trace.node_of(below.ids)
    layer = node.layer if node is not None else None
    is_one = isinstance(layer, Activation) and layer.function == "softplus"
    same = node is not None and is_one and np.array_equal(node.sources[0], above.ids.ravel())
    return below if same else None


def _where(trace: Trace, op: Op) -> Any:
    if isinstance(op.inputs[0], Value):
        return _chosen(trace, op, op.value(0), op.inputs[1], op.inputs[2])
    condition = op.constant(0)
    if condition.all() or not condition.any():
        return _broadcast(trace, op, op.inputs[1 if condition.all() else 2])
    sides_of_input = [v for v in op.inputs[1:] if isinstance(v, Value)]
    if len({(v.time is None, v.length) for v in sides_of_input}) > 1:
        raise Refused(
            "it takes parts of one row for all steps and of each step",
            "compute that before the network, or join it with the answer for all steps",
        )
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
        ids, time = side.widened(len(wide.shape))
        if time not in (None, wide.time):
            raise Refused(*STEPS_MEET_STEPS)
        return ids
    return trace.constant(op, of_each_step(wide, np.asarray(side, np.float64))).ids


def _broadcast(trace: Trace, op: Op, side: Any) -> Any:
    """Return one side of a condition, in the shape that all three have together."""
    shape = np.broadcast_shapes(*(v.shape for v in op.inputs if v is not None))
    if isinstance(side, np.ndarray):
        return np.broadcast_to(side, roomy(op.label, shape))
    if side.shape == shape:
        return side
    if side.time is None and any(isinstance(v, Value) and v.time is not None for v in op.inputs):
        raise Refused(
            "it takes one row for all steps",
            "compute that before the network, or join it with the answer for all steps",
        )
    whole, time = side.widened(len(shape))
    one = shape if time is None else (*shape[:time], 1, *shape[time + 1 :])
    return side.moved(np.broadcast_to(whole, roomy(op.label, one)), time)


_COMPARISONS = ("Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual")

CHOICES: dict[str, Handler] = {
    "Max": _extreme,
    "Min": _extreme,
    "Abs": _abs,
    "Sign": _sign,
    "Where": _where,
    **dict.fromkeys(_COMPARISONS, _compared),
    **dict.fromkeys(("Not", "And", "Or"), _logical),
}
