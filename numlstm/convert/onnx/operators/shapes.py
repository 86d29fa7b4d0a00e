"""The operators of ONNX that move numbers, and those over the axis of time."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx

from numlstm.convert.assembly import Refused
from numlstm.convert.onnx.operators.whole import at_each_step
from numlstm.convert.onnx.trace import Handler, Op, Trace
from numlstm.convert.onnx.values import Ids, Value, roomy
from numlstm.spec import Conv1d, Embedding, Flatten, OneHot, Pooling, Reverse

_SOME_STEPS = "known are all, the first, the last; take others of the answers of all"
_FLOATS = {onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE}
_INTEGERS = {onnx.TensorProto.INT32, onnx.TensorProto.INT64}


def axis_of(value: Value, axis: int) -> int:
    """Return an axis counted from the front."""
    rank = len(value.shape)
    if not -rank <= axis < rank:
        raise Refused(f"axis {axis} of a tensor {value.shape}")
    return axis % rank


def reshaped(value: Value, shape: Sequence[int]) -> Value:
    """Return the numbers in another shape, in which time is an axis again."""
    shape = tuple(shape)
    if np.prod(shape, dtype=float) != np.prod(value.shape, dtype=float):
        raise Refused(f"a tensor {value.shape} does not fit {shape}")
    if value.time is None:
        return Value(value.ids.reshape(shape), None)
    before = int(np.prod(value.shape[: value.time]))
    for k, size in enumerate(shape):
        if size == value.length and int(np.prod(shape[:k])) == before:
            ids = value.ids.reshape((*shape[:k], *shape[k + 1 :]))
            return Value(ids, k, value.length)
    raise Refused(f"a tensor {value.shape} to {shape} joins steps with numbers of a step")


def pooled(trace: Trace, op: Op, value: Value, mode: str, keep: bool = False) -> Value:
    """Return the last, mean or largest value, or the sum, over time."""
    note = ("pooled", value.length)
    node = trace.layer(op, Pooling(value.ids.size, mode), [value.ids], row=True, note=note)
    if mode == "last":
        node.label = "last step"
    if mode == "sum":
        node.note = ("total", value.length)
    return Value(node.ids.reshape(value.restored((1,) if keep else ())), None)


def backwards(trace: Trace, op: Op, value: Value) -> Value:
    """Return the steps from the last to the first."""
    node = trace.layer(op, Reverse(value.ids.size), [value.ids])
    return replace(value, ids=node.ids.reshape(value.ids.shape))


def steps_of(trace: Trace, op: Op, value: Value, steps: Sequence[int], keep: bool) -> Value:
    """Return some of the steps, by their numbers."""
    total = value.length + sum(value.pads)
    every = range(total)
    taken = _as_range(steps, total)
    if taken == every:
        return value
    if taken and not any(value.pads):
        if taken == every[::-1]:
            return backwards(trace, op, value)
        if taken == every[-1:]:
            return pooled(trace, op, value, "last", keep)
        if taken == every[:1]:
            return pooled(trace, op, backwards(trace, op, value), "last", keep)
        if taken.step == 1 and taken[-1] < total:
            return _trimmed(trace, op, value, taken[0], total - 1 - taken[-1])
    if taken and taken.step == 1 and len(taken) == value.length:
        return delayed(trace, op, value, value.pads[0] - taken[0])
    raise Refused(f"it takes {len(steps)} of {total} steps, which no layer does", _SOME_STEPS)


def _as_range(steps: Sequence[int], total: int) -> range | None:
    """Return steps, which may be counted from the last one, as a range, or None."""
    if isinstance(steps, range):
        return steps
    steps = [step % total if -total <= step < total else total for step in steps]
    if not steps:
        return range(0)
    stride = -1 if len(steps) > 1 and steps[1] < steps[0] else 1
    taken = range(steps[0], steps[0] + stride * len(steps), stride)
    return taken if list(taken) == steps else None


def _trimmed(trace: Trace, op: Op, value: Value, first: int, last: int) -> Value:
    """Return what a convolution gives with fewer steps of padding."""
    node = trace.node_of(value.ids)
    layer = node.layer if node else None
    if node is None or not isinstance(layer, Conv1d) or layer.stride != 1:
        total = value.length
        if not first:
            return replace(value, pads=(0, -last))
        taken = f"it takes steps {first} to {total - last} of {total}, which no layer does"
        raise Refused(taken, _SOME_STEPS)
    before, after = layer.pads
    if first > before or last > after:
        raise Refused(f"it drops {(first, last)} steps, more than the padding {layer.pads}")
    trimmed = replace(layer, padding=(before - first, after - last))
    other = trace.layer(op, trimmed, node.sources, dict(node.tensors))
    return Value(other.ids.reshape(value.ids.shape), value.time, value.length - first - last)


def delayed(trace: Trace, op: Op, value: Value, steps: int) -> Value:
    """Return each step as what it was some steps before, or after; zeros beyond the ends."""
    size, reach = value.ids.size, abs(steps)
    if not steps:
        return replace(value, pads=(0, 0))
    weight = np.zeros((size, 1, reach + 1))
    weight[:, :, 0 if steps > 0 else reach] = 1.0
    padding = None if steps > 0 else (0, reach)
    layer = Conv1d(size, size, reach + 1, False, groups=size, padding=padding)
    node = trace.layer(op, layer, [value.ids], {"weight": weight})
    return Value(node.ids.reshape(value.ids.shape), value.time, value.length)


# Shapes -------------------------------------------------------------------------------------------


def _same(trace: Trace, op: Op) -> Value:
    return op.value()


def _dropout(trace: Trace, op: Op) -> Value:
    if op.has(2) and bool(op.constant(2)):
        raise Refused("training_mode is on", "export the model after net.eval()")
    return op.value()


def _cast(trace: Trace, op: Op) -> Value:
    value, to = op.value(), op.attribute("to")
    whole = to in _INTEGERS or to == onnx.TensorProto.BOOL
    if to in _FLOATS or (whole and _is_whole(trace, value)):
        return value
    raise Refused(
        f"a cast to {onnx.TensorProto.DataType.Name(to)}",
        "leave it out of the export, and apply it to the answer",
    )


def _is_whole(trace: Trace, value: Value) -> bool:
    """Tell whether numbers are whole ones anyway."""
    return (
        trace.kinds(value.ids) <= {"input", "counter"}
        or trace.step_of(value.ids) is not None
        or all(node.note[:1] == ("condition",) for node in trace.owners(value.ids))
    )


def _shape(trace: Trace, op: Op) -> Any:
    shape = np.array(_value_with_pads(op).shape, np.int64)
    return shape[slice(op.attribute("start", 0), op.attribute("end", len(shape)))]


def _size(trace: Trace, op: Op) -> Any:
    return np.array(np.prod(op.value().shape), np.int64)


def _value_with_pads(op: Op) -> Value:
    value = op.inputs[0]
    return value if isinstance(value, Value) else op.value()


def _transpose(trace: Trace, op: Op) -> Value:
    value = _value_with_pads(op)
    perm = op.attribute("perm") or list(range(len(value.shape)))[::-1]
    time = None if value.time is None else list(perm).index(value.time)
    return value.moved(value.whole().transpose(perm), time)


def _squeeze(trace: Trace, op: Op) -> Value:
    value = op.value()
    axes = op.ints(1, "axes")
    if axes is None:
        axes = [n for n, size in enumerate(value.shape) if size == 1]
    dropped = {axis_of(value, axis) for axis in axes}
    if any(value.shape[axis] != 1 for axis in dropped):
        raise Refused(f"axes {axes} of a tensor {value.shape}, expected axes of one")
    return reshaped(value, [s for n, s in enumerate(value.shape) if n not in dropped])


def _unsqueeze(trace: Trace, op: Op) -> Value:
    value = op.value()
    axes = op.ints(1, "axes") or []
    rank = len(value.shape) + len(axes)
    new = {axis % rank for axis in axes}
    rest = iter(value.shape)
    return reshaped(value, [1 if n in new else next(rest) for n in range(rank)])


def _end_to_end(trace: Trace, op: Op, value: Value, shape: Sequence[int]) -> Value:
    """Return the numbers in another shape; all steps end to end where that joins them."""
    try:
        return reshaped(value, shape)
    except Refused:
        rest = [size for size in shape if size != 1]
        if value.time is None or len(rest) != 1 or rest[0] != value.ids.size * value.length:
            raise
    node = trace.layer(op, Flatten(value.ids.size, value.length), [value.ids], row=True)
    whole = node.ids.reshape(value.length, *value.ids.shape)
    return Value(np.moveaxis(whole, 0, value.time).reshape(shape), None)


def _reshape(trace: Trace, op: Op) -> Value:
    value = op.value()
    given = op.ints(1, "shape") or []
    if not op.attribute("allowzero", 0):
        given = [value.shape[n] if size == 0 else size for n, size in enumerate(given)]
    if -1 in given:
        rest = int(np.prod([size for size in given if size != -1]))
        given = [int(np.prod(value.shape)) // max(rest, 1) if s == -1 else s for s in given]
    return _end_to_end(trace, op, value, given)


def _flatten(trace: Trace, op: Op) -> Value:
    value, axis = op.value(), op.attribute("axis", 1)
    axis = axis + len(value.shape) if axis < 0 else axis
    shape = [int(np.prod(value.shape[:axis])), int(np.prod(value.shape[axis:]))]
    return _end_to_end(trace, op, value, shape)


def _expand(trace: Trace, op: Op) -> Value:
    value = op.value()
    shape = np.broadcast_shapes(value.shape, tuple(op.ints(1, "shape") or ()))
    if value.time is None:
        if trace.length in shape and trace.length > 1:
            return _repeated(trace, op, value, shape)
        return Value(np.broadcast_to(value.ids, roomy(op.label, shape)), None)
    time = len(shape) - len(value.shape) + value.time
    whole = roomy(op.label, (*shape[:time], 1, *shape[time + 1 :]))
    return value.moved(np.broadcast_to(value.whole(), whole), time)


def _repeated(trace: Trace, op: Op, value: Value, shape: tuple[int, ...]) -> Value:
    """Return one row for all steps at each of them, where an axis of one is now that of time."""
    lead = len(shape) - len(value.shape)
    own = (*[1] * lead, *value.shape)
    fits = [n for n, size in enumerate(shape) if size == trace.length and own[n] == 1]
    if not fits:
        return Value(np.broadcast_to(value.ids, roomy(op.label, shape)), None)
    ids = at_each_step(trace, op, value.ids).reshape(own)
    whole = roomy(op.label, (*shape[: fits[0]], 1, *shape[fits[0] + 1 :]))
    every = np.broadcast_to(ids, whole).reshape(np.delete(whole, fits[0]))
    return Value(every, fits[0], trace.length)


def _tile(trace: Trace, op: Op) -> Value:
    value = op.value()
    repeats = op.ints(1, "repeats") or []
    if value.time is None and trace.is_row(value) and trace.length in repeats:
        return _repeated(trace, op, value, tuple(np.multiply(value.shape, repeats).tolist()))
    if value.time is not None and repeats[value.time] != 1:
        raise Refused("it repeats steps", "repeat them before the network")
    roomy(op.label, (value.ids.size, *repeats))
    return value.moved(np.tile(value.whole(), repeats), value.time)


# Parts --------------------------------------------------------------------------------------------


def _slice(trace: Trace, op: Op) -> Value:
    value = _value_with_pads(op)
    if any(isinstance(other, Value) for other in op.inputs[1:]):
        return _sliced_step(trace, op, value)
    starts, ends = op.ints(1, "starts") or [], op.ints(2, "ends") or []
    axes = op.ints(3, "axes") or list(range(len(starts)))
    strides = op.ints(4, "steps") or [1] * len(starts)
    for start, end, axis, stride in zip(starts, ends, axes, strides, strict=True):
        axis = axis_of(value, axis)
        numbers = range(*slice(start, end, stride).indices(value.shape[axis]))
        if axis == value.time:
            value = steps_of(trace, op, value, numbers, keep=True)
        else:
            value = value.moved(value.whole().take(list(numbers), axis), value.time)
    return value


def _sliced_step(trace: Trace, op: Op, value: Value) -> Value:
    """Return x[:, t : t + 1] in a loop over the steps t."""
    start, end = op.inputs[1], op.inputs[2]
    axes = op.ints(3, "axes") or [0]
    if len(axes) == 1 and isinstance(start, Value) and isinstance(end, Value):
        first, last = trace.step_of(start.ids), trace.step_of(end.ids)
        axis = axis_of(value, axes[0])
        if first == (1, 0) and last == (1, 1) and axis == value.time:
            return Value(np.expand_dims(value.ids, axis), None)
    raise Refused(
        "which of its numbers it takes depends on the input",
        "take places that are known, as the last step",
    )


def _gather(trace: Trace, op: Op) -> Value:
    if isinstance(op.inputs[0], np.ndarray):
        return _embedding(trace, op)
    value = op.value()
    axis = axis_of(value, op.attribute("axis", 0))
    if isinstance(op.inputs[1], Value):
        return _own_step(trace, op, value, axis, op.inputs[1])
    where = op.constant(1)
    if axis == value.time:
        if where.size == 1 and where.ndim > 1:
            raise Refused(f"indices {where.shape} of steps")
        return steps_of(trace, op, value, [int(i) for i in where.ravel()], keep=where.ndim > 0)
    size = value.shape[axis]
    if where.size and not -size <= where.min() <= where.max() < size:
        raise Refused(f"indices {where.min()} to {where.max()} of {size}")
    time = value.time
    time = time if time is None or time < axis else time - 1 + where.ndim
    roomy(op.label, (value.ids.size // max(size, 1), where.size))
    return value.moved(value.whole().take(where % size, axis), time)


def _own_step(trace: Trace, op: Op, value: Value, axis: int, where: Value) -> Value:
    """Return the step of a tensor that a loop over the steps is at, from either end."""
    found = trace.step_of(where.ids)
    if found is None or axis != value.time or where.ids.ndim > 1:
        raise Refused(
            "which of its numbers it takes depends on the input",
            "take places that are known, as the last step",
        )
    if found == (-1, value.length - 1):
        value = backwards(trace, op, value)
    elif found != (1, 0):
        a, b = found
        raise Refused(
            f"at step t of a loop it takes step {a:g} * t + {b:g}",
            "read x[:, t] in the loop, and earlier steps by a state that it carries",
        )
    return Value(np.expand_dims(value.ids, axis) if where.ids.ndim else value.ids, None)


def _is_token(trace: Trace, value: Value) -> bool:
    """Tell whether these are all the numbers of a step of the input, which is one."""
    node = trace.node_of(value.ids)
    return node is not None and node.kind == "input" and node.size == 1


def _embedding(trace: Trace, op: Op) -> Value:
    table, token = op.floats(0), op.value(1)
    if not _is_token(trace, token):
        raise Refused(
            "its indices are not the input of the network",
            "make the token ids an input of the graph",
        )
    if op.attribute("axis", 0) != 0 or table.ndim != 2:
        raise Refused(f"a table {table.shape} over axis {op.attribute('axis', 0)}")
    node = trace.layer(op, Embedding(*table.shape), [token.ids], {"weight": table})
    return _with_axis(token, len(token.shape), node.ids)


def _one_hot(trace: Trace, op: Op) -> Value:
    token, depth, values = op.value(0), int(op.constant(1).ravel()[0]), op.floats(2)
    axis = op.attribute("axis", -1) % (len(token.shape) + 1)
    if not _is_token(trace, token) or list(values) != [0.0, 1.0]:
        raise Refused("not 0 and 1 of the input of the network")
    node = trace.layer(op, OneHot(depth, depth), [token.ids])
    return _with_axis(token, axis, node.ids)


def _with_axis(token: Value, axis: int, ids: Ids) -> Value:
    """Return a tensor with one more axis, of the numbers of a step."""
    shape = (*token.whole().shape[:axis], ids.size, *token.whole().shape[axis:])
    time = token.time
    return token.moved(ids.reshape(shape), time if time is None or time < axis else time + 1)


SHAPES: dict[str, Handler] = {
    "Identity": _same,
    "Dropout": _dropout,
    "Cast": _cast,
    "Shape": _shape,
    "Size": _size,
    "Transpose": _transpose,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Expand": _expand,
    "Tile": _tile,
    "Slice": _slice,
    "Gather": _gather,
    "OneHot": _one_hot,
}
