"""The operators of ONNX that compute over the numbers of a step or over the steps, as layers."""

from dataclasses import replace

import numpy as np

from numlstm.convert.assembly import Refused
from numlstm.convert.onnx.operators.attention import summed_steps, weights_of_steps
from numlstm.convert.onnx.operators.choices import CHOICES, larger
from numlstm.convert.onnx.operators.elementwise import ELEMENTWISE, affine, applied, noted, square
from numlstm.convert.onnx.operators.joining import JOINING
from numlstm.convert.onnx.operators.lengths import LENGTHS
from numlstm.convert.onnx.operators.padding import PADDING
from numlstm.convert.onnx.operators.products import MOST_ROWS, PRODUCTS
from numlstm.convert.onnx.operators.quotients import QUOTIENTS, from_rows, normed, rows_of, summed
from numlstm.convert.onnx.operators.recurrent import RECURRENT
from numlstm.convert.onnx.operators.shapes import SHAPES, axis_of, pooled, reshaped
from numlstm.convert.onnx.operators.windows import WINDOWS
from numlstm.convert.onnx.trace import Handler, Op, Trace
from numlstm.convert.onnx.values import Ids, Value
from numlstm.spec import BatchNorm, LayerNorm, LogSoftmax, Softmax

# Over the numbers of a step -----------------------------------------------------------------------


def _rows(op: Op, value: Value, axis: int) -> tuple[list[Ids], tuple[int, ...]]:
    """Return the groups of numbers over which a softmax or a norm is."""
    if axis == value.time:
        raise Refused(
            f"axis {axis} of a tensor {value.shape} is that of time, and a stream reads on",
            "known are a Softmax over time by which steps are summed, and one over their numbers",
        )
    rows, shape = rows_of(value, axis)
    _check_groups(len(rows))
    return rows, shape


def _check_groups(count: int) -> None:
    if count > MOST_ROWS:
        raise Refused(
            f"{count} groups in each step, expected at most {MOST_ROWS}, each of which is a layer"
        )


def _softmax(trace: Trace, op: Op) -> Value:
    value = op.value()
    axis = axis_of(value, op.attribute("axis", -1 if op.opset >= 13 else 1))
    if op.opset < 13 and axis < len(value.shape) - 1:  # over all axes from that one on
        later = [n for n in range(axis, len(value.shape)) if value.shape[n] > 1]
        if len(later) > 1 or (value.time is not None and value.time >= axis):
            raise Refused(f"over axes {axis} to {len(value.shape) - 1} of a tensor {value.shape}")
        axis = later[0] if later else axis
    if axis == value.time and op.kind == "Softmax":
        return weights_of_steps(trace, op, value)
    kind = Softmax if op.kind == "Softmax" else LogSoftmax
    groups, shape = _rows(op, value, axis)
    row = trace.is_row(value)
    found = [trace.layer(op, kind(ids.size), [ids], row=row).ids for ids in groups]
    return from_rows(value, axis, found, shape)


def _layer_norm(trace: Trace, op: Op) -> Value:
    value = op.value()
    axis = axis_of(value, op.attribute("axis", -1))
    if value.time is not None and value.time >= axis:
        raise Refused(f"axis {axis} of a tensor {value.shape}: with that of time")
    whole = value.whole()
    groups = whole.reshape(-1, int(np.prod(whole.shape[axis:])))
    _check_groups(len(groups))
    size = groups.shape[1]
    tensors = {"weight": np.broadcast_to(op.floats(1), whole.shape[axis:]).ravel()}
    if op.has(2):
        tensors["bias"] = np.broadcast_to(op.floats(2), whole.shape[axis:]).ravel()
    layer = LayerNorm(size, float(op.attribute("epsilon", 1e-5)), True, op.has(2))
    row = trace.is_row(value)
    found = [trace.layer(op, layer, [ids], tensors, row).ids for ids in groups]
    return value.moved(np.stack(found).reshape(whole.shape), value.time)


def _instance_norm(trace: Trace, op: Op) -> Value:
    """Return a norm of each channel over the axes behind; of numbers of a step only."""
    value = op.value()
    if op.kind == "InstanceNormalization" and not value.time:
        whole = value.whole()
        size = int(np.prod(whole.shape[2:]))
        groups = whole.reshape(-1, size)
        _check_groups(len(groups))
        layer = LayerNorm(size, float(op.attribute("epsilon", 1e-5)), False, False)
        row = trace.is_row(value)
        found = np.stack([trace.layer(op, layer, [ids], None, row).ids for ids in groups])
        normed = value.moved(found.reshape(whole.shape), value.time)
        shape = (-1, *([1] * (whole.ndim - 2)))
        scale, shift = (np.broadcast_to(op.floats(n), whole.shape[1:2]) for n in (1, 2))
        return affine(trace, op, normed, scale.reshape(shape), shift.reshape(shape))
    raise Refused(
        "its mean and variance are over all steps, which a stream has not read",
        "train with LayerNorm or BatchNorm over the numbers of a step",
    )


def _batch_norm(trace: Trace, op: Op) -> Value:
    value = op.value()
    if op.attribute("training_mode", 0):
        raise Refused("training_mode is on", "export the model after net.eval()")
    if value.time == 1 or len(value.shape) < 2:
        raise Refused(f"a tensor {value.shape}, expected the numbers of a step on axis 1")
    names = ("weight", "bias", "running_mean", "running_var")
    tensors = {name: op.floats(n + 1) for n, name in enumerate(names)}
    eps = float(op.attribute("epsilon", 1e-5))
    if value.shape[1] != value.ids.size:
        scale = tensors["weight"] / np.sqrt(tensors["running_var"] + eps)
        shift = tensors["bias"] - tensors["running_mean"] * scale
        shape = (-1, *([1] * (len(value.shape) - 2)))
        return affine(trace, op, value, scale.reshape(shape), shift.reshape(shape))
    layer = BatchNorm(value.ids.size, eps)
    node = trace.layer(op, layer, [value.ids], tensors, trace.is_row(value))
    return replace(value, ids=node.ids.reshape(value.ids.shape))


_MODES = {"ReduceMean": "mean", "ReduceMax": "max", "ReduceSum": "sum"}
_NORMS = {"ReduceL1": 1, "ReduceL2": 2, "ReduceSumSquare": 2}


def _reduced_axes(op: Op, value: Value) -> tuple[set[int], bool]:
    """Return over which axes a node reduces, none for all that it leaves, and whether it keeps."""
    given = op.ints(1, "axes")
    if not given and op.attribute("noop_with_empty_axes", 0):
        given = []
    elif not given:
        given = list(range(len(value.shape)))
    return {axis_of(value, axis) for axis in given}, bool(op.attribute("keepdims", 1))


def _without(value: Value, axes: set[int], keep: bool) -> Value:
    shape = [size for axis, size in enumerate(value.shape) if keep or axis not in axes]
    return reshaped(value, shape)


def _reduce(trace: Trace, op: Op) -> Value:
    value, mode = op.value(), _MODES.get(op.kind, "min")
    axes, keep = _reduced_axes(op, value)
    over = {axis for axis in axes if axis != value.time and value.shape[axis] > 1}
    if mode == "min":
        value = affine(trace, op, value, np.array(-1.0), np.array(0.0))
    if over and mode in ("max", "min"):
        value = _largest(trace, op, value, over)
    elif over:
        value = _reduced_features(trace, op, value, over, mode)
    if value.time in axes:
        attended = summed_steps(trace, op, value) if mode == "sum" else None
        if attended is None:
            attended = pooled(trace, op, value, "max" if mode == "min" else mode)
        value = Value(np.expand_dims(attended.ids, value.time), None)
    if mode == "min":
        value = affine(trace, op, value, np.array(-1.0), np.array(0.0))
    return _without(value, axes, keep)


def _largest(trace: Trace, op: Op, value: Value, axes: set[int]) -> Value:
    """Return the largest number over axes within a step, in pairs."""
    whole = value.whole()
    order = [n for n in range(whole.ndim) if n not in axes] + sorted(axes)
    count = int(np.prod([whole.shape[n] for n in axes]))
    ids = whole.transpose(order).reshape(-1, count)
    while ids.shape[1] > 1:
        half = -(-ids.shape[1] // 2)
        first, second = ids[:, :half], ids[:, -half:]
        ids = larger(trace, op, first.ravel(), second.ravel(), trace.is_row(value))
        ids = ids.reshape(-1, half)
    return value.moved(
        ids.reshape([1 if n in axes else size for n, size in enumerate(whole.shape)]), value.time
    )


def _reduced_features(trace: Trace, op: Op, value: Value, axes: set[int], mode: str) -> Value:
    count = int(np.prod([value.shape[axis] for axis in axes]))
    before = trace.node_of(value.ids)
    found = summed(trace, op, value, axes, 1 / count if mode == "mean" else 1.0)
    if count != value.ids.size or mode != "mean":
        return found
    if before is not None and before.note[:1] == ("squares",):
        return noted(trace, found, "spread", before.note[1])
    return noted(trace, found, "mean", value.ids.ravel())


def _reduce_norm(trace: Trace, op: Op) -> Value:
    value = op.value()
    axes, keep = _reduced_axes(op, value)
    if value.time in axes:
        squares = square(trace, op, value) if op.kind != "ReduceL1" else None
        value = applied(trace, op, value, "abs") if squares is None else squares
        over = {axis for axis in axes if axis != value.time}
        value = pooled(trace, op, summed(trace, op, value, over), "sum", keep=True)
        value = applied(trace, op, value, "sqrt") if op.kind == "ReduceL2" else value
    elif op.kind == "ReduceSumSquare":
        value = summed(trace, op, square(trace, op, value), axes)
    else:
        value = normed(trace, op, value, axes, _NORMS[op.kind])
    return _without(value, axes, keep)


def _log_sum_exp(trace: Trace, op: Op) -> Value:
    value = op.value()
    axes, keep = _reduced_axes(op, value)
    if value.time in axes:
        raise Refused(
            "it is over steps",
            "over time the mean, the sum, the largest and the smallest are known",
        )
    found = summed(trace, op, applied(trace, op, value, "exp"), axes)
    return _without(applied(trace, op, found, "log"), axes, keep)


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
    **PRODUCTS,
    **QUOTIENTS,
    **CHOICES,
    **JOINING,
    **WINDOWS,
    **PADDING,
    **LENGTHS,
    **dict.fromkeys((*_MODES, "ReduceMin"), _reduce),
    **dict.fromkeys(_NORMS, _reduce_norm),
    "ReduceLogSumExp": _log_sum_exp,
    "Softmax": _softmax,
    "LogSoftmax": _softmax,
    "LayerNormalization": _layer_norm,
    "BatchNormalization": _batch_norm,
    "InstanceNormalization": _instance_norm,
    "GroupNormalization": _instance_norm,
    "GlobalAveragePool": _global_pool,
    "GlobalMaxPool": _global_pool,
}

_AFTER = "leave it out of the export, and apply it to the answer"
# Of operators that exporters write, why no layer is what they are, and what to do instead.
UNKNOWN: dict[str, tuple[str, str]] = {
    **dict.fromkeys(("ArgMax", "ArgMin", "TopK"), ("it gives places, not numbers", _AFTER)),
    **dict.fromkeys(
        ("CumSum", "CumProd"),
        (
            "it sums up to each of its numbers",
            "over time x.sum(1) gives a stream the sum of all steps so far; over the numbers of a "
            "step multiply with a triangular matrix",
        ),
    ),
    **dict.fromkeys(
        ("Round", "Floor", "Ceil", "Mod", "Trunc"), ("no layer rounds numbers", _AFTER)
    ),
    **dict.fromkeys(
        ("Sin", "Cos", "Tan", "Asin", "Acos", "Atan", "Sinh", "Cosh", "Asinh", "Acosh", "Atanh"),
        ("no layer has this function", "compute it before the network, or of the answer"),
    ),
    "ConvTranspose": (
        "it gives more steps than it reads",
        "a stream gives at most one answer per step: use a Linear of the frames, and lay them over",
    ),
    "Resize": ("it gives another number of steps", "repeat steps before the network, or after"),
    **dict.fromkeys(
        ("NonZero", "Unique", "Compress", "NonMaxSuppression"),
        ("how many numbers it gives depends on the input", _AFTER),
    ),
    **dict.fromkeys(
        ("DFT", "STFT", "MelWeightMatrix"),
        ("no layer is a Fourier transform", "give the network the spectrum, or export it as Conv"),
    ),
    **dict.fromkeys(
        ("Attention", "RotaryEmbedding"),
        ("each step attends to all", "of attention, a softmax over time that pools is known"),
    ),
    **dict.fromkeys(
        ("IsNaN", "IsInf"),
        ("it looks for numbers that are not finite", "a stream refuses those: leave it out"),
    ),
    "ScatterND": ("it writes into a tensor", "join parts by torch.cat, or choose by torch.where"),
    "ScatterElements": (
        "it writes into a tensor",
        "join parts by torch.cat, or choose by torch.where",
    ),
}
