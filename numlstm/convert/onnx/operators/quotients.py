"""Quotients, powers and norms of ONNX, and the layer norm that is made of them."""

import numpy as np

from numlstm.convert.assembly import Array, Refused
from numlstm.convert.onnx.operators.elementwise import (
    affine,
    applied,
    combined,
    normalised,
    noted,
    square,
)
from numlstm.convert.onnx.operators.products import linear
from numlstm.convert.onnx.operators.shapes import axis_of
from numlstm.convert.onnx.trace import Handler, Op, Trace
from numlstm.convert.onnx.values import Ids, Value, of_each_step, roomy
from numlstm.spec import Multiply


def _sqrt(trace: Trace, op: Op) -> Value:
    return _noting(trace, op, op.value(), "sqrt", "variance", "deviation")


def _reciprocal(trace: Trace, op: Op) -> Value:
    return inverse(trace, op, op.value())


def inverse(trace: Trace, op: Op, value: Value) -> Value:
    """Return 1 / x of each number."""
    return _noting(trace, op, value, "reciprocal", "deviation", "inverse")


def _noting(trace: Trace, op: Op, value: Value, function: str, before: str, after: str) -> Value:
    """Return a function of each number; of what has the note `before` it has the note `after`."""
    node = trace.node_of(value.ids)
    found = applied(trace, op, value, function)
    if node is not None and node.note[:1] == (before,):
        return noted(trace, found, after, *node.note[1:])
    return found


def _div(trace: Trace, op: Op) -> Value:
    if isinstance(op.inputs[1], np.ndarray):
        value, below = op.value(0), of_each_step(op.value(0), op.floats(1))
        if not below.all():
            raise Refused("it divides by 0")
        return affine(trace, op, value, 1 / below, np.array(0.0))
    right = op.value(1)
    if isinstance(op.inputs[0], np.ndarray):
        return affine(trace, op, inverse(trace, op, right), op.floats(0), np.array(0.0))
    left = op.value(0)
    node = trace.node_of(right.ids)
    if node is not None and node.note[:1] == ("deviation",):
        norm = normalised(trace, op, left, node)
        if norm is not None:
            return norm
    return combined(trace, op, Multiply, left, inverse(trace, op, right))


def _pow(trace: Trace, op: Op) -> Value:
    if isinstance(op.inputs[0], np.ndarray):
        base = np.unique(op.floats(0))
        if base.size != 1 or base[0] <= 0:
            raise Refused(f"powers of {base}, expected one number above 0")
        value = affine(trace, op, op.value(1), np.log(base), np.array(0.0))
        return applied(trace, op, value, "exp")
    value, power = op.value(0), np.unique(op.floats(1))
    if power.size != 1 or power[0] not in (-2, -1, -0.5, 0.5, 1, 2, 3, 4):
        raise Refused(f"the power {power}, known: -2, -1, -0.5, 0.5, 1, 2, 3, 4")
    of = abs(power[0])
    if of in (2, 4):
        found = square(trace, op, value)
        found = square(trace, op, found) if of == 4 else found
    elif of == 3:
        found = combined(trace, op, Multiply, value, square(trace, op, value))
    else:
        found = _sqrt(trace, op) if of == 0.5 else value
    return found if power[0] > 0 else inverse(trace, op, found)


# Norms --------------------------------------------------------------------------------------------


def summed(trace: Trace, op: Op, value: Value, axes: set[int], scale: float = 1.0) -> Value:
    """Return the sums over axes within a step, each kept with one number."""
    whole = value.whole()
    order = [n for n in range(whole.ndim) if n not in axes] + sorted(axes)
    groups = whole.transpose(order).reshape(-1, int(np.prod([whole.shape[n] for n in axes])))
    weight = np.full((1, groups.shape[1]), scale)
    if len(groups) == 1:
        found = linear(trace, op, groups[0], weight, row=trace.is_row(value)).ids
    else:
        read = np.unique(groups)
        matrix = np.zeros(roomy(op.label, (len(groups), len(read))))
        for n, group in enumerate(groups):
            np.add.at(matrix[n], np.searchsorted(read, group), scale)
        found = linear(trace, op, read, matrix, row=trace.is_row(value)).ids
    shape = [1 if n in axes else size for n, size in enumerate(whole.shape)]
    return value.moved(found.reshape(shape), value.time)


def _lp_norm(trace: Trace, op: Op) -> Value:
    value, p = op.value(), op.attribute("p", 2)
    axis = axis_of(value, op.attribute("axis", -1))
    if axis == value.time:
        raise Refused(
            "a norm over steps",
            "divide before the network, or by a norm over the numbers of a step",
        )
    norm = normed(trace, op, value, {axis}, p)
    return combined(trace, op, Multiply, value, inverse(trace, op, norm))


def normed(trace: Trace, op: Op, value: Value, axes: set[int], p: int) -> Value:
    """Return the sum of the magnitudes, or the root of that of the squares, over axes."""
    if p == 1:
        return summed(trace, op, applied(trace, op, value, "abs"), axes)
    if p != 2:
        raise Refused(f"p={p}, known: 1, 2")
    squares = summed(trace, op, square(trace, op, value), axes)
    return applied(trace, op, squares, "sqrt")


def rows_of(value: Value, axis: int) -> tuple[list[Ids], tuple[int, ...]]:
    """Return the numbers along an axis within a step, group by group, and the shape of that."""
    whole = np.moveaxis(value.whole(), axis, -1)
    return list(whole.reshape(-1, whole.shape[-1])), whole.shape


def from_rows(value: Value, axis: int, rows: list[Array], shape: tuple[int, ...]) -> Value:
    """Return what `rows_of` took apart."""
    whole = np.moveaxis(np.reshape(np.stack(rows), shape), -1, axis)
    return value.moved(whole, value.time)


QUOTIENTS: dict[str, Handler] = {
    "Sqrt": _sqrt,
    "Reciprocal": _reciprocal,
    "Div": _div,
    "Pow": _pow,
    "LpNormalization": _lp_norm,
}
