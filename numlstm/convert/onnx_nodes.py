"""The operators of ONNX that compute, as layers."""

from dataclasses import replace
from typing import Any

import numpy as np

from numlstm.convert.onnx_recurrent import RECURRENT
from numlstm.convert.onnx_shapes import SHAPES, axis_of, pooled, reshaped
from numlstm.convert.onnx_trace import Array, Handler, Node, Op, Refused, Trace, Value
from numlstm.spec import (
    Activation,
    Add,
    BatchNorm,
    Conv1d,
    LayerNorm,
    Linear,
    LogSoftmax,
    Multiply,
    Softmax,
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


# Elementwise --------------------------------------------------------------------------------------


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


# Products -----------------------------------------------------------------------------------------


def _linear(trace: Trace, op: Op, value: Value, weight: Array, bias: Array | None = None) -> Node:
    tensors = {"weight": weight} | ({} if bias is None else {"bias": bias})
    layer = Linear(weight.shape[1], weight.shape[0], bias is not None)
    return trace.layer(op, layer, [value.ids], tensors, trace.is_row(value))


def _matmul(trace: Trace, op: Op) -> Value:
    if isinstance(op.inputs[0], np.ndarray):
        return _matmul_from_left(trace, op)
    value, weight = op.value(0), op.floats(1)
    weight = weight[:, None] if weight.ndim == 1 else weight
    if weight.ndim > 2 and weight.size == weight.shape[-1] * weight.shape[-2]:
        weight = weight.reshape(weight.shape[-2:])
    if weight.ndim != 2 or value.time == len(value.shape) - 1:
        raise Refused(f"a product of {value.shape} and {weight.shape}")
    if value.shape[-1] != len(weight) or value.ids.size != len(weight):
        raise Refused(f"a product of {value.shape} and {weight.shape}: expected one row per step")
    node = _linear(trace, op, value, weight.T)
    shape = value.ids.shape[:-1]
    shape = shape if op.constant(1).ndim == 1 else (*shape, node.size)
    return replace(value, ids=node.ids.reshape(shape))


def _matmul_from_left(trace: Trace, op: Op) -> Value:
    """Return W @ X, where each step is a column of X."""
    value, weight = op.value(1), op.floats(0)
    last = len(value.shape) - 1
    if weight.ndim != 2 or value.time != last or value.ids.size != weight.shape[1]:
        raise Refused(f"a product of {weight.shape} and {value.shape}")
    if value.shape[-2] != weight.shape[1]:
        raise Refused(f"a product of {weight.shape} and {value.shape}")
    node = _linear(trace, op, value, weight)
    return replace(value, ids=node.ids.reshape((*value.ids.shape[:-1], node.size)))


def _gemm(trace: Trace, op: Op) -> Value:
    value, weight = op.value(0), op.floats(1)
    if op.attribute("transA", 0):
        raise Refused("transA")
    weight = weight if op.attribute("transB", 0) else weight.T
    weight = weight * op.attribute("alpha", 1.0)
    if value.time == 1 or value.ids.size != weight.shape[1]:
        raise Refused(f"a product of {value.shape} and {weight.T.shape}: expected a row per step")
    bias = None
    if op.has(2):
        shape = (1, len(weight))
        bias = np.broadcast_to(op.floats(2) * op.attribute("beta", 1.0), shape).ravel()
    node = _linear(trace, op, value, weight, bias)
    return replace(value, ids=node.ids.reshape((*value.ids.shape[:-1], node.size)))


def _conv(trace: Trace, op: Op) -> Value:
    value = op.inputs[0]
    weight = op.floats(1)
    if not isinstance(value, Value):
        raise Refused("its input does not depend on the input of the network")
    if weight.ndim != 3 or value.time != 2 or value.ids.shape[0] != 1:
        if weight.ndim != 3 or value.time is not None or trace.length > 1:
            raise Refused(f"a kernel {weight.shape} for a tensor {value.shape}, not 1d over time")
        if weight.shape[2] != 1 or value.shape[2] != 1 or any(value.pads):
            raise Refused("a kernel of several steps in a graph of one step")
    size, kernel_size, groups = weight.shape[0], weight.shape[2], op.attribute("group", 1)
    dilation, stride = (op.attribute(n, [1])[0] for n in ("dilations", "strides"))
    reach = (kernel_size - 1) * dilation
    own = _auto_pads(op, reach, stride)
    pads = (own[0] + value.pads[0], own[1] + value.pads[1])
    options = {"dilation": dilation, "stride": stride, "groups": groups}
    padding = None if pads == (reach, 0) else pads
    layer = Conv1d(value.ids.size, size, kernel_size, op.has(2), padding=padding, **options)
    tensors = {"weight": weight} | ({"bias": op.floats(2)} if op.has(2) else {})
    if (kernel_size, stride, groups) == (1, 1, 1):
        node = _linear(trace, op, value, weight[:, :, 0], tensors.get("bias"))
    else:
        node = trace.layer(op, layer, [value.ids], tensors)
    length = (value.length + sum(pads) - reach - 1) // stride + 1
    if value.time is None:
        return Value(node.ids.reshape(1, size, 1), None)
    return Value(node.ids.reshape(1, size), 2, length)


def _auto_pads(op: Op, reach: int, stride: int) -> tuple[int, int]:
    match op.attribute("auto_pad", "NOTSET"):
        case "NOTSET":
            before, after = op.attribute("pads", [0, 0])
            return int(before), int(after)
        case "VALID":
            return 0, 0
        case "SAME_UPPER" if stride == 1:
            return reach // 2, reach - reach // 2
        case "SAME_LOWER" if stride == 1:
            return reach - reach // 2, reach // 2
    raise Refused(f"auto_pad {op.attribute('auto_pad')} with stride {stride}")


# Over the numbers of a step -----------------------------------------------------------------------


def _over_features(op: Op, value: Value, default: int) -> None:
    """Refuse a softmax or a norm that is not over all numbers of a step."""
    axis = axis_of(value, op.attribute("axis", default))
    old_softmax = op.kind.endswith("Softmax") and op.opset < 13  # over all axes from that one on
    size = np.prod(value.shape[axis:]) if old_softmax else value.shape[axis]
    with_time = value.time is not None and (
        value.time > axis if old_softmax else value.time == axis
    )
    if with_time or size != value.ids.size:
        raise Refused(f"axis {axis} of a tensor {value.shape}: known over the numbers of a step")


def _softmax(trace: Trace, op: Op) -> Value:
    value = op.value()
    _over_features(op, value, -1 if op.opset >= 13 else 1)
    kind = Softmax if op.kind == "Softmax" else LogSoftmax
    node = trace.layer(op, kind(value.ids.size), [value.ids], row=trace.is_row(value))
    return replace(value, ids=node.ids.reshape(value.ids.shape))


def _layer_norm(trace: Trace, op: Op) -> Value:
    value = op.value()
    _over_features(op, value, -1)
    tensors = {"weight": op.floats(1).ravel()}
    if op.has(2):
        tensors["bias"] = op.floats(2).ravel()
    eps = float(op.attribute("epsilon", 1e-5))
    layer = LayerNorm(value.ids.size, eps, True, op.has(2))
    node = trace.layer(op, layer, [value.ids], tensors, trace.is_row(value))
    return replace(value, ids=node.ids.reshape(value.ids.shape))


def _batch_norm(trace: Trace, op: Op) -> Value:
    value = op.value()
    if op.attribute("training_mode", 0):
        raise Refused("training_mode is on")
    if value.time == 1 or value.shape[1] != value.ids.size:
        raise Refused(f"a tensor {value.shape}, expected the numbers of a step on axis 1")
    names = ("weight", "bias", "running_mean", "running_var")
    tensors = {name: op.floats(n + 1) for n, name in enumerate(names)}
    layer = BatchNorm(value.ids.size, float(op.attribute("epsilon", 1e-5)))
    node = trace.layer(op, layer, [value.ids], tensors, trace.is_row(value))
    return replace(value, ids=node.ids.reshape(value.ids.shape))


_MODES = {"ReduceMean": "mean", "ReduceMax": "max", "ReduceSum": "sum"}


def _reduce(trace: Trace, op: Op) -> Value:
    value, mode = op.value(), _MODES[op.kind]
    given = op.ints(1, "axes")
    if not given:
        if op.attribute("noop_with_empty_axes", 0):
            return value
        given = list(range(len(value.shape)))
    axes = {axis_of(value, axis) for axis in given}
    keep = bool(op.attribute("keepdims", 1))
    over = [axis for axis in axes if axis != value.time and value.shape[axis] > 1]
    if over:
        value = _reduced_features(trace, op, value, over[0], mode)
    if value.time in axes:
        value = pooled(trace, op, value, mode, keep=True)
    shape = [size for axis, size in enumerate(value.shape) if keep or axis not in axes]
    return reshaped(value, shape)


def _reduced_features(trace: Trace, op: Op, value: Value, axis: int, mode: str) -> Value:
    size = value.ids.size
    if value.shape[axis] != size or mode == "max":
        raise Refused(f"over axis {axis} of a tensor {value.shape}: known over time")
    before = trace.node_of(value.ids)
    shape = value.restored((1,))
    shape = (*shape[:axis], 1, *shape[axis + 1 :])
    if before is not None and before.note[:1] == ("squares",) and mode == "mean":
        node = trace.part(op, ("spread", before.note[1]), 1)
        return value.moved(node.ids.reshape(shape), value.time)
    weight = np.full((1, size), 1 / size if mode == "mean" else 1.0)
    node = _linear(trace, op, value, weight)
    node.note = ("mean", value.ids.ravel()) if mode == "mean" else ()
    return value.moved(node.ids.reshape(shape), value.time)


def _global_pool(trace: Trace, op: Op) -> Value:
    value = op.value()
    if value.time != 2 or len(value.shape) != 3:
        raise Refused(f"a tensor {value.shape}: known over time")
    mode = "mean" if op.kind == "GlobalAveragePool" else "max"
    return pooled(trace, op, value, mode, keep=True)


HANDLERS: dict[str, Handler] = {
    **SHAPES,
    **RECURRENT,
    **dict.fromkeys(_FUNCTIONS, _function),
    **dict.fromkeys(_MODES, _reduce),
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
    "MatMul": _matmul,
    "Gemm": _gemm,
    "Conv": _conv,
    "Softmax": _softmax,
    "LogSoftmax": _softmax,
    "LayerNormalization": _layer_norm,
    "BatchNormalization": _batch_norm,
    "GlobalAveragePool": _global_pool,
    "GlobalMaxPool": _global_pool,
}
