"""The operators of ONNX that compute over the numbers of a step or over the steps, as layers."""

from dataclasses import replace

import numpy as np

from numlstm.convert.assembly import Refused
from numlstm.convert.onnx.elementwise import ELEMENTWISE
from numlstm.convert.onnx.recurrent import RECURRENT
from numlstm.convert.onnx.shapes import SHAPES, axis_of, pooled, reshaped
from numlstm.convert.onnx.trace import Array, Handler, Node, Op, Trace, Value
from numlstm.spec import BatchNorm, Conv1d, LayerNorm, Linear, LogSoftmax, Softmax

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
    (dilation,), (stride,) = (op.attribute(n, [1]) for n in ("dilations", "strides"))
    if op.attribute("kernel_shape", [kernel_size]) != [kernel_size]:
        raise Refused(f"kernel_shape {op.attribute('kernel_shape')}, the kernel has {kernel_size}")
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
    **ELEMENTWISE,
    **dict.fromkeys(_MODES, _reduce),
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
