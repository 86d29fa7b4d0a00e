"""Lists of tensors in ONNX: of the steps of a sequence, and what a loop appends step by step."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from numlstm.convert.assembly import Refused
from numlstm.convert.onnx.operators.shapes import axis_of
from numlstm.convert.onnx.trace import Inner, Op, Trace
from numlstm.convert.onnx.values import Value, roomy


@dataclass(frozen=True)
class Steps:
    """A list of tensors.

    items     one by one
    value     of each step the same, over all: what a loop has appended, or a tensor split up
    pending   what a loop appends at each step, while it is walked
    """

    items: tuple[Any, ...] = ()
    value: Value | None = None
    pending: Value | None = None

    def ended(self, before: "Steps", length: int) -> "Steps":
        """Return the list after a loop that has appended to it at each step."""
        if self == before:
            return self
        if self.pending is None or before.items or before.value is not None:
            raise Refused("a list that a loop begins with is not empty, or is not appended to")
        return Steps(value=Value(self.pending.ids, 0, length))

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.value.length if self.value is not None else len(self.items),)


def _empty(trace: Trace, op: Op, scope: dict[str, Any]) -> Steps:
    return Steps()


def _construct(trace: Trace, op: Op, scope: dict[str, Any]) -> Steps:
    return Steps(tuple(op.inputs))


def _list(op: Op) -> Steps:
    if not isinstance(op.inputs[0], Steps):
        raise Refused("its input 0 is no list")
    return op.inputs[0]


def _insert(trace: Trace, op: Op, scope: dict[str, Any]) -> Steps:
    before, item = _list(op), op.inputs[1]
    if op.has(2):
        raise Refused("it inserts at a position", "append to the end of the list")
    if trace.in_step:
        if before != Steps() or not isinstance(item, Value) or item.time is not None:
            raise Refused("a loop appends more than one tensor to a list at each step")
        return Steps(pending=item)
    if before.value is not None:
        raise Refused("it appends to what a loop has given")
    return Steps((*before.items, item))


def _split(trace: Trace, op: Op, scope: dict[str, Any]) -> Steps:
    value = op.value()
    axis, keeps = axis_of(value, op.attribute("axis", 0)), bool(op.attribute("keepdims", 1))
    keeps = keeps or op.has(1)
    sizes = np.ravel(op.constant(1)).tolist() if op.has(1) else [1]
    if set(sizes) != {1}:
        raise Refused(f"parts of {sizes[0]}, expected one by one")
    if axis == value.time:
        ids = np.expand_dims(value.ids, axis) if keeps else value.ids
        return Steps(value=Value(ids, 0, value.length))
    parts = np.split(value.whole(), value.shape[axis], axis)
    items = [value.moved(part, value.time) for part in parts]
    if not keeps:
        time = value.time if value.time is None or value.time < axis else value.time - 1
        items = [item.moved(item.whole().squeeze(axis), time) for item in items]
    return Steps(tuple(items))


def _length(trace: Trace, op: Op, scope: dict[str, Any]) -> np.ndarray[Any, Any]:
    return np.array(_list(op).shape[0])


def _at(trace: Trace, op: Op, scope: dict[str, Any]) -> Any:
    steps, where = _list(op), op.inputs[1]
    if isinstance(where, Value):
        if steps.value is None or trace.step_of(where.ids) != (1, 0):
            raise Refused("which tensor of the list it takes depends on the input")
        return Value(steps.value.ids, None)
    place = int(np.ravel(op.constant(1))[0])
    if steps.value is not None or not -len(steps.items) <= place < len(steps.items):
        raise Refused(f"tensor {place} of a list of {steps.shape[0]}, which a loop gave")
    return steps.items[place]


def _joined(trace: Trace, op: Op, scope: dict[str, Any]) -> Any:
    steps, axis, new = _list(op), op.attribute("axis"), bool(op.attribute("new_axis", 0))
    value = steps.value
    if value is None:
        return _concatenated(trace, op, steps.items, axis, new)
    rank = value.ids.ndim + new
    axis = axis % rank
    if not new and value.ids.shape[axis] != 1:
        raise Refused(f"it joins {value.ids.shape[axis]} rows of each step, expected one")
    ids = value.ids if new else value.ids.squeeze(axis)
    return Value(ids, axis, value.length)


def _concatenated(trace: Trace, op: Op, items: tuple[Any, ...], axis: int, new: bool) -> Any:
    if not items:
        raise Refused("an empty list")
    if all(isinstance(item, np.ndarray) for item in items):
        return np.stack(items, axis) if new else np.concatenate(items, axis)
    values = [trace.constant(op, i) if isinstance(i, np.ndarray) else i for i in items]
    first = values[0]
    if len({(v.time, v.length) for v in values}) > 1:
        raise Refused("it joins tensors whose steps do not fit each other")
    axis = axis % (len(first.shape) + new)
    if axis == first.time and not new:
        raise Refused("it joins sequences one after the other")
    roomy(op.label, (sum(v.ids.size for v in values),))
    whole = [v.whole() for v in values]
    time = first.time
    if new and time is not None and time >= axis:
        time += 1
    found = np.stack(whole, axis) if new else np.concatenate(whole, axis)
    return replace(first.moved(found, time))


SEQUENCES: dict[str, Inner] = {
    "SequenceEmpty": _empty,
    "SequenceConstruct": _construct,
    "SequenceInsert": _insert,
    "SequenceLength": _length,
    "SequenceAt": _at,
    "SplitToSequence": _split,
    "ConcatFromSequence": _joined,
}
