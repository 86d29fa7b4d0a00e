"""The operators of ONNX that compute element by element, and the layer norm made of them."""

from dataclasses import replace
from typing import Any

import numpy as np

from numlstm.convert.assembly import Refused
from numlstm.convert.onnx.trace import Array, Handler, Node, Op, Trace, Value, roomy
from numlstm.spec import (
    Activation,
    Add,
    BatchNorm,
    LayerNorm,
    Linear,
    Multiply,
    function_text,
)

_TINY = float(np.finfo(np.float32).tiny)  # an eps that adds nothing to 1

# Operators that are a function, with the names and defaults of its parameters.
_FUNCTIONS: dict[str, tuple[str, tuple[tuple[str, float], ...]]] = {
    "Relu": ("relu", ()),
    "Tanh": ("tanh", ()),
    "Sigmoid": ("sigmoid", ()),
    "Softsign": ("softsign", ()),
    "Softplus": ("softplus", ()),
    "Exp": ("exp", ()),
    "Log": ("log", ()),
    "LeakyRelu": ("leaky_relu", (("alpha", 0.01),)),
    "ThresholdedRelu": ("thresholded_relu", (("alpha", 1.0),)),
    "HardSigmoid": ("hard_sigmoid", (("alpha", 0.2), ("beta", 0.5))),
    "Elu": ("elu", (("alpha", 1.0),)),
    "Selu": ("selu", (("alpha", 1.67326319217681884765625), ("gamma", 1.05070102214813232421875))),
}


def _applied(trace: Trace, op: Op, value: Value, function: str) -> Value:
    layer = Activation(value.ids.size, function)
    node = trace.layer(op, layer, [value.ids], row=trace.is_row(value))
    return replace(value, ids=node.ids.reshape(value.ids.shape))


def _function(trace: Trace, op: Op) -> Value:
    name, parameters = _FUNCTIONS[op.kind]
    given = [float(op.attribute(parameter, default)) for parameter, default in parameters]
    return _applied(trace, op, op.value(), function_text(name, *given))


def _sqrt(trace: Trace, op: Op) -> Value:
    value = op.value()
    node = trace.node_of(value.ids)
    if node is not None and node.note[:1] == ("variance",):
        return _part(trace, op, value, ("deviation", *node.note[1:]))
    return _applied(trace, op, value, "sqrt")


def _clip(trace: Trace, op: Op) -> Value:
    value = op.value()
    low = float(op.constant(1)) if op.has(1) else float(op.attribute("min", -np.inf))
    high = float(op.constant(2)) if op.has(2) else float(op.attribute("max", np.inf))
    limit = float(np.finfo(np.float32).max)
    if high >= limit and low <= -limit:
        return value
    if high >= limit and low == 0.0:
        return _applied(trace, op, value, "relu")
    bounds = max(low, -limit), min(high, limit)
    return _applied(trace, op, value, function_text("clip", *bounds))


def _prelu(trace: Trace, op: Op) -> Value:
    slope = np.unique(op.floats(1))
    if slope.size != 1:
        raise Refused("its slopes differ")
    return _applied(trace, op, op.value(), function_text("leaky_relu", float(slope[0])))


def _hard_swish(trace: Trace, op: Op) -> Value:
    value = op.value()
    gate = _applied(trace, op, value, function_text("hard_sigmoid", 1 / 6, 0.5))
    return _combined(trace, op, Multiply, value, gate)


def _neg(trace: Trace, op: Op) -> Value:
    return _affine(trace, op, op.value(), np.array(-1.0), np.array(0.0))


def _affine(trace: Trace, op: Op, value: Value, scale: Array, shift: Array) -> Value:
    """Return scale * x + shift, as part of the layer before it where that can say it."""
    rank = max(len(value.shape), scale.ndim, shift.ndim)
    lead = rank - len(value.shape)
    whole = value.whole().reshape((1,) * lead + value.whole().shape)
    scale, shift = np.broadcast_arrays(scale, shift)
    roomy(op.label, scale.shape)
    if np.broadcast_shapes(whole.shape, scale.shape) != whole.shape:
        if np.broadcast_shapes(value.shape, scale.shape)[lead:] == value.shape:
            raise Refused("its constant differs from step to step")
        raise Refused(f"a constant {scale.shape} for a tensor {value.shape}")
    scales, shifts = (np.broadcast_to(a, whole.shape).ravel() for a in (scale, shift))
    node = _affine_node(trace, op, value, scales, shifts)
    time = None if value.time is None else value.time + lead
    return value.moved(node.ids.reshape(whole.shape), time)


def _affine_node(trace: Trace, op: Op, value: Value, scale: Array, shift: Array) -> Node:
    before = trace.node_of(value.ids)
    row = trace.is_row(value)
    if before is not None and before.note[:1] == ("affine",):
        _, first_scale, first_shift, source = before.note
        scale, shift = scale * first_scale, scale * first_shift + shift
        value, before = replace(value, ids=source), trace.node_of(source)
    layer = before.layer if before else None
    if before is not None and isinstance(layer, Linear) and layer.activation is None:
        weight = before.tensors["weight"].astype(np.float64) * scale[:, None]
        bias = before.tensors.get("bias", np.zeros(len(scale))) * scale + shift
        tensors: dict[str, Array] = {"weight": weight, "bias": bias}
        layer = replace(layer, bias=True)
        return trace.layer(op, layer, before.sources, tensors, row)
    if before is not None and type(layer) is LayerNorm:
        tensors = {
            "weight": before.tensors.get("weight", np.ones(len(scale))) * scale,
            "bias": before.tensors.get("bias", np.zeros(len(scale))) * scale + shift,
        }
        layer = replace(layer, weight=True, bias=True)
        return trace.layer(op, layer, before.sources, tensors, row)
    note = ("affine", scale, shift, value.ids.ravel())
    if np.ptp(scale) == 0 and np.ptp(shift) == 0:
        text = function_text("affine", float(scale[0]), float(shift[0]))
        return trace.layer(op, Activation(len(scale), text), [value.ids], None, row, note)
    ones = np.ones(len(scale))
    tensors = {"weight": scale, "bias": shift, "running_mean": 0 * ones, "running_var": ones}
    return trace.layer(op, BatchNorm(len(scale), _TINY), [value.ids], tensors, row, note)


def _combined(trace: Trace, op: Op, kind: type[Add | Multiply], left: Value, right: Value) -> Value:
    """Return the sum or the product of two tensors, element by element."""
    if (left.time is None) != (right.time is None) or left.length != right.length:
        raise Refused("it joins one row for all steps with each step")
    rank = max(len(left.shape), len(right.shape))
    wholes = [
        v.whole().reshape((1,) * (rank - len(v.shape)) + v.whole().shape) for v in (left, right)
    ]
    times = {None if v.time is None else v.time + rank - len(v.shape) for v in (left, right)}
    if len(times) > 1:
        raise Refused("the steps of one tensor meet the numbers of the other")
    roomy(op.label, np.broadcast_shapes(*(whole.shape for whole in wholes)))
    a, b = np.broadcast_arrays(*wholes)
    if kind is Multiply and np.array_equal(a, b):
        node = _square(trace, op, left)
    else:
        layer = kind(a.size, inputs=("", ""))  # the names come when all layers are known
        node = trace.layer(op, layer, [a, b], row=trace.is_row(left))
    return left.moved(node.ids.reshape(a.shape), times.pop())


def _square(trace: Trace, op: Op, value: Value) -> Node:
    node = trace.node_of(value.ids)
    if node is not None and node.note[:1] == ("centred",):
        return trace.part(op, ("squares", node.note[1]), node.size)
    layer = Activation(value.ids.size, "square")
    return trace.layer(op, layer, [value.ids], row=trace.is_row(value))


def _add(trace: Trace, op: Op) -> Value:
    for n, other in ((0, 1), (1, 0)):
        if isinstance(op.inputs[other], np.ndarray):
            value, shift = op.value(n), op.floats(other)
            node = trace.node_of(value.ids)
            if node is not None and node.note[:1] == ("spread",) and shift.size == 1:
                return _part(trace, op, value, ("variance", node.note[1], float(shift.ravel()[0])))
            return _affine(trace, op, value, np.array(1.0), shift)
    return _combined(trace, op, Add, op.value(0), op.value(1))


def _sub(trace: Trace, op: Op) -> Value:
    if isinstance(op.inputs[1], np.ndarray):
        return _affine(trace, op, op.value(0), np.array(1.0), -op.floats(1))
    if isinstance(op.inputs[0], np.ndarray):
        return _affine(trace, op, op.value(1), np.array(-1.0), op.floats(0))
    left, right = op.value(0), op.value(1)
    node = trace.node_of(right.ids)
    if node is not None and node.note[:1] == ("mean",) and _same_ids(node.note[1], left):
        return _part(trace, op, left, ("centred", node.note[1]))
    negative = _affine(trace, op, right, np.array(-1.0), np.array(0.0))
    return _combined(trace, op, Add, left, negative)


def _mul(trace: Trace, op: Op) -> Value:
    for n, other in ((0, 1), (1, 0)):
        if isinstance(op.inputs[other], np.ndarray):
            return _affine(trace, op, op.value(n), op.floats(other), np.array(0.0))
    return _combined(trace, op, Multiply, op.value(0), op.value(1))


def _div(trace: Trace, op: Op) -> Value:
    if isinstance(op.inputs[1], np.ndarray):
        return _affine(trace, op, op.value(0), 1 / op.floats(1), np.array(0.0))
    left, right = op.value(0), op.value(1)
    above, below = trace.node_of(left.ids), trace.node_of(right.ids)
    if above is None or below is None or below.note[:1] != ("deviation",):
        raise Refused("it divides by what depends on the input")
    _, source, eps = below.note
    if above.note[:1] != ("centred",) or not np.array_equal(above.note[1], source):
        raise Refused("a part of a layer norm, but not of the same numbers")
    layer = LayerNorm(source.size, eps, False, False)
    node = trace.layer(op, layer, [source], row=trace.is_row(left))
    return replace(left, ids=node.ids.reshape(left.ids.shape))


def _pow(trace: Trace, op: Op) -> Value:
    value, power = op.value(), np.unique(op.floats(1))
    if power.size == 1 and power[0] == 2:
        node = _square(trace, op, value)
        return replace(value, ids=node.ids.reshape(value.ids.shape))
    if power.size == 1 and power[0] == 0.5:
        return _sqrt(trace, op)
    raise Refused(f"the power {power}, known: 2, 0.5")


def _sum(trace: Trace, op: Op) -> Value:
    total = op.value(0)
    for n in range(1, len(op.inputs)):
        total = _combined(trace, op, Add, total, op.value(n))
    return total


def _part(trace: Trace, op: Op, value: Value, note: tuple[Any, ...]) -> Value:
    node = trace.part(op, note, value.ids.size)
    return replace(value, ids=node.ids.reshape(value.ids.shape))


def _same_ids(ids: Array, value: Value) -> bool:
    return np.array_equal(np.ravel(ids), value.ids.ravel())


ELEMENTWISE: dict[str, Handler] = {
    **dict.fromkeys(_FUNCTIONS, _function),
    "Sqrt": _sqrt,
    "Clip": _clip,
    "PRelu": _prelu,
    "HardSwish": _hard_swish,
    "Neg": _neg,
    "Add": _add,
    "Sub": _sub,
    "Mul": _mul,
    "Div": _div,
    "Pow": _pow,
    "Sum": _sum,
}
