"""The operators of ONNX that compute element by element, and the layer norm made of them."""

from dataclasses import replace
from typing import Any

import numpy as np

from numlstm.convert.assembly import Array, Refused
from numlstm.convert.compositions import COMPOSED, Grow
from numlstm.convert.onnx.operators.attention import STEPS_MEET_STEPS, weighed
from numlstm.convert.onnx.operators.lengths import averaged
from numlstm.convert.onnx.operators.whole import met
from numlstm.convert.onnx.trace import Handler, Node, Op, Trace
from numlstm.convert.onnx.values import Ids, Value, of_each_step, roomy
from numlstm.network.functions import LARGEST
from numlstm.network.layer import SMALLEST
from numlstm.spec import (
    Activation,
    Add,
    BatchNorm,
    Conv1d,
    FrameConv1d,
    Layer,
    LayerNorm,
    Linear,
    Multiply,
    Pooling,
    function_text,
)

# Operators that are a function, with the names and defaults of its parameters.
_FUNCTIONS: dict[str, tuple[str, tuple[tuple[str, float], ...]]] = {
    "Relu": ("relu", ()),
    "Tanh": ("tanh", ()),
    "Sigmoid": ("sigmoid", ()),
    "Softsign": ("softsign", ()),
    "Softplus": ("softplus", ()),
    "Exp": ("exp", ()),
    "Erf": ("erf", ()),
    "LeakyRelu": ("leaky_relu", (("alpha", 0.01),)),
    "ThresholdedRelu": ("thresholded_relu", (("alpha", 1.0),)),
    "HardSigmoid": ("hard_sigmoid", (("alpha", 0.2), ("beta", 0.5))),
    "Elu": ("elu", (("alpha", 1.0),)),
    "Selu": ("selu", (("alpha", 1.67326319217681884765625), ("gamma", 1.05070102214813232421875))),
}


def in_order(*sources: Ids) -> tuple[list[Ids], Ids]:
    """Return numbers in the order in which the fewest layers are cut, and where each went.

    What a convolution within a step gives, place by place, is read channel by channel.
    """
    flat = [np.ravel(ids) for ids in sources]
    natural = np.arange(flat[0].size)
    orders = [natural, *(np.argsort(ids, kind="stable") for ids in flat)]

    def cuts(order: Ids) -> int:
        return sum(int((np.diff(ids[order]) != 1).sum()) for ids in flat)

    order = min(orders, key=cuts)
    places = np.empty_like(natural)
    places[order] = natural
    return [ids[order] for ids in flat], places


def pieces(trace: Trace, ids: Ids) -> list[Ids]:
    """Return numbers in parts, where each is all that a product gives, or as a whole.

    Such a product takes over a function of them, or a factor and a bias.
    """
    nodes = trace.owners(ids)
    if len(nodes) > 1 and all(
        isinstance(node.layer, Linear | Conv1d | FrameConv1d) for node in nodes
    ):
        parts = [node.ids for node in nodes]
        if np.array_equal(np.concatenate(parts), ids):
            return parts
    return [ids]


def applied(trace: Trace, op: Op, value: Value, function: str) -> Value:
    """Return a function of each number."""
    (ids,), places = in_order(value.ids)
    row = trace.is_row(value)
    found = np.concatenate(
        [
            trace.layer(op, Activation(part.size, function), [part], row=row).ids
            for part in pieces(trace, ids)
        ]
    )
    return replace(value, ids=found[places].reshape(value.ids.shape))


def _function(trace: Trace, op: Op) -> Value:
    name, parameters = _FUNCTIONS[op.kind]
    given = [float(op.attribute(parameter, default)) for parameter, default in parameters]
    return applied(trace, op, op.value(), function_text(name, *given))


def _log(trace: Trace, op: Op) -> Value:
    """Return the logarithm; that of 1 + exp(x) is a softplus."""
    value = op.value()
    (ids,), places = in_order(value.ids)
    node = trace.node_of(ids)
    if node is not None and node.note[:1] == ("affine",):
        _, scale, shift, source = node.note
        inner = trace.node_of(source)
        layer = inner.layer if inner is not None else None
        is_exp = isinstance(layer, Activation) and layer.function == "exp"
        if inner is not None and is_exp and (scale == 1).all() and (shift == 1).all():
            inside = inner.sources[0][places].reshape(value.ids.shape)
            return applied(trace, op, replace(value, ids=inside), "softplus")
    return applied(trace, op, value, "log")


def _clip(trace: Trace, op: Op) -> Value:
    value = op.value()
    low = float(op.constant(1)) if op.has(1) else float(op.attribute("min", -np.inf))
    high = float(op.constant(2)) if op.has(2) else float(op.attribute("max", np.inf))
    if high >= LARGEST and low <= -LARGEST:
        return value
    if high >= LARGEST and low == 0.0:
        return applied(trace, op, value, "relu")
    bounds = max(low, -LARGEST), min(high, LARGEST)
    return applied(trace, op, value, function_text("clip", *bounds))


def _prelu(trace: Trace, op: Op) -> Value:
    value, slopes = op.value(), of_each_step(op.value(), op.floats(1))
    if slopes.size and np.ptp(slopes) == 0:
        return applied(trace, op, value, function_text("leaky_relu", float(slopes.flat[0])))
    below = applied(trace, op, value, function_text("clip", -LARGEST, 0.0))
    below = affine(trace, op, below, slopes, np.array(0.0))
    return combined(trace, op, Add, applied(trace, op, value, "relu"), below)


def grown(trace: Trace, op: Op, row: bool = False) -> Grow:
    """Return what the functions of `compositions` add layers by: they read and return ids."""

    def grow(layer: Layer, reads: Any, tensors: Any = None) -> Ids:
        return trace.layer(op, layer, reads, tensors, row).ids

    return grow


def _composed(name: str, *defaults: tuple[str, float]) -> Handler:
    """Return a function of `COMPOSED`, with the names and defaults of its parameters."""

    def handler(trace: Trace, op: Op) -> Value:
        value = op.value()
        (ids,), places = in_order(value.ids)
        given = [float(op.attribute(parameter, default)) for parameter, default in defaults]
        found = COMPOSED[name](grown(trace, op, trace.is_row(value)), ids, ids.size, *given)
        return replace(value, ids=found[places].reshape(value.ids.shape))

    return handler


def _swish(trace: Trace, op: Op) -> Value:
    value, alpha = op.value(), float(op.attribute("alpha", 1.0))
    if alpha == 1.0:
        return applied(trace, op, value, "silu")
    inner = affine(trace, op, value, np.array(alpha), np.array(0.0))
    return combined(trace, op, Multiply, value, applied(trace, op, inner, "sigmoid"))


def _gelu(trace: Trace, op: Op) -> Value:
    kinds = {"none": "gelu", "tanh": "gelu_tanh"}
    kind = op.attribute("approximate", "none")
    if kind not in kinds:
        raise Refused(f"approximate={kind!r}, known: none, tanh")
    return applied(trace, op, op.value(), kinds[kind])


def _neg(trace: Trace, op: Op) -> Value:
    return affine(trace, op, op.value(), np.array(-1.0), np.array(0.0))


def affine(trace: Trace, op: Op, value: Value, scale: Array, shift: Array) -> Value:
    """Return scale * x + shift, as part of the layer before it where that can say it."""
    mean = None if shift.any() else averaged(trace, op, value, scale)
    if mean is not None:
        return mean
    scale, shift = np.broadcast_arrays(*(of_each_step(value, a) for a in (scale, shift)))
    whole, time = value.widened(max(len(value.shape), scale.ndim))
    shape = roomy(op.label, np.broadcast_shapes(whole.shape, scale.shape))
    whole = np.broadcast_to(whole, shape)
    scales, shifts = (np.broadcast_to(a, shape).ravel() for a in (scale, shift))
    if not scales.any() and value.time is None and not trace.is_row(value):
        return trace.constant(op, shifts.reshape(shape))
    if (scales == 1).all() and not shifts.any():
        return value.moved(whole, time)
    (ids,), places = in_order(whole)
    order = np.argsort(places)
    scales, shifts = scales[order], shifts[order]
    found, at = [], 0
    for part in pieces(trace, ids):
        own = slice(at, at := at + part.size)
        node = _affine_node(trace, op, replace(value, ids=part), scales[own], shifts[own])
        found.append(node.ids)
    return value.moved(np.concatenate(found)[places].reshape(shape), time)


def _affine_node(trace: Trace, op: Op, value: Value, scale: Array, shift: Array) -> Node:
    before = trace.node_of(value.ids)
    row = trace.is_row(value)
    if before is not None and before.note[:1] == ("affine",):
        _, first_scale, first_shift, source = before.note
        scale, shift = scale * first_scale, scale * first_shift + shift
        value, before = replace(value, ids=source), trace.node_of(source)
    layer = before.layer if before else None
    if before is not None and before.note[:1] == ("total",) and not shift.any():
        is_mean = np.allclose(scale * before.note[1], 1.0, 0.0, 1e-6)
        if is_mean:
            return trace.layer(op, Pooling(before.size, "mean"), before.sources, row=True)
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
    return trace.layer(op, BatchNorm(len(scale), SMALLEST), [value.ids], tensors, row, note)


def combined(trace: Trace, op: Op, kind: type[Add | Multiply], left: Value, right: Value) -> Value:
    """Return the sum or the product of two tensors, element by element."""
    left, right = met(trace, op, left, right), met(trace, op, right, left)
    if (left.time is None) != (right.time is None) or left.length != right.length:
        raise Refused(
            "it joins one row for all steps with each step, when a stream has not read them all",
            "compute that before the network, or join it with the answer for all steps",
        )
    rank = max(len(left.shape), len(right.shape))
    (a, time), (b, other_time) = left.widened(rank), right.widened(rank)
    if time != other_time:
        raise Refused(*STEPS_MEET_STEPS)
    roomy(op.label, np.broadcast_shapes(a.shape, b.shape))
    a, b = np.broadcast_arrays(a, b)
    if kind is Multiply and np.array_equal(a, b):
        ids = square(trace, op, left).ids
    else:
        layer = kind(a.size, inputs=("", ""))  # the names come when all layers are known
        sources, places = in_order(a, b)
        ids = trace.layer(op, layer, sources, row=trace.is_row(left)).ids[places]
    return left.moved(ids.reshape(a.shape), time)


def square(trace: Trace, op: Op, value: Value) -> Value:
    node = trace.node_of(value.ids)
    squares = applied(trace, op, value, "square")
    if node is not None and node.note[:1] == ("centred",):
        return noted(trace, squares, "squares", node.note[1])
    return squares


def _add(trace: Trace, op: Op) -> Value:
    for n, other in ((0, 1), (1, 0)):
        if isinstance(op.inputs[other], np.ndarray):
            value, shift = op.value(n), op.floats(other)
            node = trace.node_of(value.ids)
            found = affine(trace, op, value, np.array(1.0), shift)
            if node is not None and node.note[:1] == ("spread",) and shift.size == 1:
                return noted(trace, found, "variance", node.note[1], float(shift.ravel()[0]))
            return found
    return combined(trace, op, Add, op.value(0), op.value(1))


def _sub(trace: Trace, op: Op) -> Value:
    if isinstance(op.inputs[1], np.ndarray):
        return affine(trace, op, op.value(0), np.array(1.0), -op.floats(1))
    if isinstance(op.inputs[0], np.ndarray):
        return affine(trace, op, op.value(1), np.array(-1.0), op.floats(0))
    left, right = op.value(0), op.value(1)
    node = trace.node_of(right.ids)
    negative = affine(trace, op, right, np.array(-1.0), np.array(0.0))
    found = combined(trace, op, Add, left, negative)
    if node is not None and node.note[:1] == ("mean",) and same_ids(node.note[1], left):
        return noted(trace, found, "centred", node.note[1])
    return found


def _mul(trace: Trace, op: Op) -> Value:
    for n, other in ((0, 1), (1, 0)):
        if isinstance(op.inputs[other], np.ndarray):
            return affine(trace, op, op.value(n), op.floats(other), np.array(0.0))
    left, right = op.value(0), op.value(1)
    by_step = weighed(trace, op, left, right)
    if by_step is not None:
        return by_step
    for factor, below in ((left, right), (right, left)):
        node = trace.node_of(below.ids)
        if node is not None and node.note[:1] == ("inverse",):
            found = normalised(trace, op, factor, node)
            if found is not None:
                return found
    return combined(trace, op, Multiply, left, right)


def normalised(trace: Trace, op: Op, value: Value, below: Node) -> Value | None:
    """Return a layer norm, if a tensor is centred and this the deviation of the same numbers."""
    _, source, eps = below.note
    above = trace.node_of(value.ids)
    if above is None or above.note[:1] != ("centred",) or not np.array_equal(above.note[1], source):
        return None
    layer = LayerNorm(source.size, eps, False, False)
    node = trace.layer(op, layer, [source], row=trace.is_row(value))
    return replace(value, ids=node.ids.reshape(value.ids.shape))


def _sum(trace: Trace, op: Op) -> Value:
    total = op.value(0)
    for n in range(1, len(op.inputs)):
        total = combined(trace, op, Add, total, op.value(n))
    return total


def noted(trace: Trace, value: Value, *note: Any) -> Value:
    """Return a tensor with a note of what it is a part of."""
    node = trace.node_of(value.ids)
    if node is not None:
        node.note = note
    return value


def same_ids(ids: Array, value: Value) -> bool:
    return np.array_equal(np.ravel(ids), value.ids.ravel())


ELEMENTWISE: dict[str, Handler] = {
    **dict.fromkeys(_FUNCTIONS, _function),
    "Clip": _clip,
    "Log": _log,
    "PRelu": _prelu,
    "HardSwish": _composed("hard_swish"),
    "Mish": _composed("mish"),
    "Celu": _composed("celu", ("alpha", 1.0)),
    "Swish": _swish,
    "Gelu": _gelu,
    "Neg": _neg,
    "Add": _add,
    "Sub": _sub,
    "Mul": _mul,
    "Sum": _sum,
}
