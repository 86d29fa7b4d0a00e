"""Keras layers and operations that move numbers: Flatten, Reshape, slices, axes of size 1.

A network has rows of numbers, one for each step. What a step has beyond one row (32 embedded
letters of a word) stands in it as a table, end to end.
"""

from dataclasses import replace
from typing import Any

import numpy as np

from numlstm import spec
from numlstm.budget import spend
from numlstm.convert.assembly import Misfit, Refused
from numlstm.convert.keras.call import SEQUENCE, TOKENS, VECTOR, Call, Value
from numlstm.convert.keras.windows import cropped

_NAME_THE_LENGTH = "name the length in the shape of the input"


def shape_of(value: Value) -> list[int | None]:
    """Return the shape of a value in Keras, without the axis of the batch; None is not known."""
    width = 1 if value.ids else value.size // (value.table or 1)
    rows: list[int | None] = [value.table] if value.table else []
    columns: list[int | None] = [] if value.ids or value.flat else [width]
    return ([value.steps] if value.kind == SEQUENCE else []) + rows + columns


def _total(shape: list[int | None]) -> int | None:
    return None if None in shape else int(np.prod([n for n in shape if n is not None]))


def _target(options: Any, value: Value) -> list[int | None]:
    """Return the shape that Reshape makes; -1 is what is left, None if that is not known."""
    target = options.take("target_shape")
    if not isinstance(target, list) or not all(type(n) is int and n >= -1 for n in target):
        raise Refused(f"target_shape={target!r}, expected a list of whole numbers")
    before, known = _total(shape_of(value)), int(np.prod([n for n in target if n != -1]))
    if target.count(-1) > 1 or (before is not None and known and before % known):
        raise Misfit(f"target_shape={target!r} of {_spelled(value)}")
    left = None if before is None or not known else before // known
    return [left if n == -1 else n for n in target]


def _spelled(value: Value) -> str:
    shape = ", ".join("steps" if n is None else str(n) for n in shape_of(value))
    return f"{value.kind} ({shape})"


def flatten(call: Call) -> Value:
    """Flatten."""
    options = call.options
    options.expect("data_format", "channels_last", None)
    options.end()
    value = call.any_one()
    return _reshaped(call, value, [_total(shape_of(value))])


def reshape(call: Call) -> Value:
    """Reshape."""
    options = call.options
    value = call.any_one()
    target = _target(options, value)
    options.end()
    return _reshaped(call, value, target)


def reshaped_to(call: Call, target: list[Any]) -> Value:
    """Reshape to a shape of which the first axis is the batch, as an operation does."""
    value = call.inputs[0]
    call.item = call.item | {"config": {"target_shape": target[1:]}}
    return _reshaped(call, value, _target(call.options, value))


def _reshaped(call: Call, value: Value, target: list[int | None]) -> Value:
    shape = shape_of(value)
    if value.ids or value.kind == TOKENS:
        raise Misfit(f"reads {value.described}, expected them embedded")
    if target == shape:
        return value
    if value.masked:
        raise Misfit("reads a sequence with a mask")
    if value.flat:
        if len(target) == 2 and target[1] == 1 and target[0] in (None, value.steps):
            return replace(value, flat=False)
        raise Misfit(f"{_spelled(value)} -> {target}: each number is a step, expected (steps, 1)")
    if value.kind == VECTOR:
        return _of_a_vector(value, target)
    if value.table and len(target) == 2 and target[0] in (None, value.steps):
        return replace(value, table=0)
    if len(target) == 3 and target[0] in (None, value.steps) and target[1]:
        return replace(value, table=target[1])
    if len(target) == 1 and value.steps is None:
        raise Misfit(f"{_spelled(value)} of unknown length", _NAME_THE_LENGTH)
    if None in shape:
        raise Misfit(f"{_spelled(value)} of unknown length -> {target}", _NAME_THE_LENGTH)
    if len(target) == 1:
        return flattened(call, value)
    if len(target) == 2 and target[0] == 1:
        return replace(flattened(call, value), table=1)
    if len(target) == 2 and target[0] and value.steps and value.steps % target[0] == 0:
        return _grouped(call, value, value.steps // target[0])
    raise Misfit(f"{_spelled(value)} -> {target}: features would become steps")


def _of_a_vector(value: Value, target: list[int | None]) -> Value:
    if len(target) == 1:
        return replace(value, table=0)
    if len(target) == 2 and target[0]:
        return replace(value, table=target[0])
    raise Misfit(f"{_spelled(value)} -> {target}: expected a vector or a table")


def flattened(call: Call, value: Value) -> Value:
    """Return all steps of a sequence of known length, end to end."""
    if value.steps is None:
        raise Misfit(f"{_spelled(value)} of unknown length", _NAME_THE_LENGTH)
    if value.steps == 1:
        return replace(value, kind=VECTOR, steps=None)
    spend(f"the steps of {call.name}", 8 * value.size * value.steps, value.size * value.steps)
    layer = call.add(spec.Flatten, value.size, value.steps, reads=[value])
    return replace(call.whole(value, layer), table=0)


def _grouped(call: Call, value: Value, count: int) -> Value:
    """Return each so many steps as one: a pyramid. A convolution with a single 1 per output."""
    size = value.size
    spend(f"the weights of {call.name}", 8 * count**2 * size**2, count**2 * size**2)
    weight = np.eye(count * size, dtype=np.float32).reshape(count * size, count, size)
    layer = call.add(
        spec.Conv1d, size, count * size, count, False, reads=[value],
        tensors={"weight": weight.transpose(0, 2, 1)}, stride=count, padding=(0, 0),
    )  # fmt: skip
    assert value.steps is not None
    return call.then(value, layer, steps=value.steps // count)


def permute(call: Call) -> Value:
    """Permute, where it changes nothing or makes one step of all."""
    options = call.options
    dims = options.take("dims")
    options.end()
    value = call.any_one()
    if isinstance(dims, list) and dims == sorted(dims):
        return value
    if value.kind == SEQUENCE and value.size == 1 and dims == [2, 1] and not value.masked:
        return replace(flattened(call, value), table=1)
    raise Misfit(
        f"dims={dims}: steps would become features, and features steps",
        "a network reads one row per step; transpose the input, and start the model behind",
    )


def repeat(call: Call) -> Value:
    """RepeatVector."""
    options = call.options
    count = options.size("n")
    options.end()
    value = call.one(VECTOR)
    if value.fixed:  # it stands in every row as it is
        return replace(value, kind=SEQUENCE, steps=count)
    layer = call.add(spec.Repeat, value.size, count, reads=[value])
    return call.then(value, layer, kind=SEQUENCE, steps=count)


def expand_dims(call: Call, axis: Any) -> Value:
    """Add an axis of size 1."""
    value = call.any_one()
    if value.flat and axis in (2, -1):
        return replace(value, flat=False)
    if value.kind == VECTOR and not value.table and axis in (1, 2, -1):
        return replace(value, table=1 if axis == 1 else value.size)
    if value.kind == SEQUENCE and value.table == 0 and axis in (2, -2):
        return replace(value, table=1)
    raise Misfit(f"an axis {axis!r} of {_spelled(value)}: expected steps and features")


def squeeze(call: Call, axis: Any) -> Value:
    """Take an axis of size 1 away."""
    value = call.any_one()
    axis = axis[0] if isinstance(axis, list) and len(axis) == 1 else axis
    shape: list[int | None] = [None, *shape_of(value)]
    if type(axis) is not int or not -len(shape) < axis < len(shape) or shape[axis] != 1:
        raise Misfit(f"axis {axis!r} of {_spelled(value)}, expected one of size 1")
    axis %= len(shape)
    if axis == len(shape) - 1 and value.kind == SEQUENCE and not value.table:
        return replace(value, flat=True)
    if value.table and value.size > 1:
        return replace(value, table=0)
    if value.kind == SEQUENCE and axis == 1 and not value.table:
        return flattened(call, value)
    raise Misfit(f"axis {axis!r} of {_spelled(value)}")


# Slices -------------------------------------------------------------------------------------------


def get_item(call: Call, index: Any) -> Value:
    """``x[index]``, of which the first axis is the batch."""
    value = call.any_one()
    if value.ids or value.kind == TOKENS:
        raise Misfit(f"slices {value.described}, expected them embedded")
    shape = shape_of(value)
    _, *parts = _parts(index, len(shape) + 1)
    if value.kind == SEQUENCE:
        value = _of_steps(call, value, parts.pop(0))
    if not parts or all(part == slice(None) for part in parts):
        return value
    if len(parts) == 2:
        rows, columns = parts
        if columns != slice(None):
            raise Refused(f"{_written(columns)} of the columns of {value.described}")
        return _of_rows(call, value, rows)
    start, stop = _range(parts[0], value.size)
    if isinstance(parts[0], int) and value.kind != SEQUENCE:
        raise Refused("gives one number without an axis", f"write x[:, {start}:{stop}]")
    found = _part(call, value, start, stop)
    return replace(found, flat=isinstance(parts[0], int))


def _part(call: Call, value: Value, start: int, stop: int) -> Value:
    draft = call.assembly.part(value.draft, value.size, start, stop, call.name)
    return replace(value, draft=draft, size=stop - start)


def _of_rows(call: Call, value: Value, rows: Any) -> Value:
    """Return some rows of a table."""
    start, stop = _range(rows, value.table)
    width = value.size // value.table
    found = _part(call, value, start * width, stop * width)
    return replace(found, table=0 if isinstance(rows, int) else stop - start)


def _parts(index: Any, rank: int) -> list[Any]:
    """Return an index as one slice or whole number for each axis."""
    parts = [_read_part(part) for part in (index if isinstance(index, list) else [index])]
    if Ellipsis in parts:
        at = parts.index(Ellipsis)
        parts[at : at + 1] = [slice(None)] * (rank - len(parts) + 1)
    parts += [slice(None)] * (rank - len(parts))
    if len(parts) != rank or parts[0] != slice(None):
        written = ", ".join(_written(part) for part in parts)
        raise Misfit(f"x[{written}] of an array with {rank} axes, expected x[:, ...]")
    return parts


def _read_part(part: Any) -> Any:
    """Return a slice, whole number or Ellipsis as Keras 2 and 3 write them."""
    if type(part) is int:
        return part
    if isinstance(part, dict):
        kind, config = part.get("class_name"), part.get("config", part)
        if kind == "__ellipsis__":
            return Ellipsis
        if isinstance(config, dict) and kind in ("__slice__", None):
            bounds = [config.get(name) for name in ("start", "stop", "step")]
            if all(bound is None or type(bound) is int for bound in bounds):
                return slice(*bounds)
    if part == "...":
        return Ellipsis
    raise Refused(f"an index {str(part)[:60]}, expected slices and whole numbers")


def _written(part: Any) -> str:
    if not isinstance(part, slice):
        return "..." if part is Ellipsis else str(part)
    ends = [part.start, part.stop] + ([part.step] if part.step is not None else [])
    return ":".join("" if end is None else str(end) for end in ends)


def _range(part: Any, size: int) -> tuple[int, int]:
    """Return from where to where a slice or a whole number is of so many."""
    if isinstance(part, int):
        if not -size <= part < size:
            raise Misfit(f"{part} is outside {size}")
        return part % size, part % size + 1
    start, stop, step = part.indices(size)
    if step != 1 or start >= stop:
        raise Misfit(f"{_written(part)} of {size}, expected neighbours")
    return start, stop


def _of_steps(call: Call, value: Value, part: Any) -> Value:
    """Return some steps of a sequence, or one as a vector."""
    if value.steps is not None and isinstance(part, slice):
        part = _shortest(part, value.steps)
    if part == slice(None):
        return value
    if isinstance(part, int) and part == (value.steps or 0) - 1:
        part = -1
    last = part in (-1, slice(-1, None))
    if value.masked and not (last and value.holds):
        raise Misfit(f"x[:, {_written(part)}] of a sequence with a mask: the step may be masked")
    if last:
        found = call.whole(value, call.add(spec.Pooling, value.size, "last", reads=[value]))
        return found if part == -1 else replace(found, table=1)
    if isinstance(part, int) and part < 0:
        return _of_steps(call, cropped(call, value, 0, -1 - part), -1)
    if part == slice(None, None, -1) or isinstance(part, int):
        backwards = call.then(value, call.add(spec.Reverse, value.size, reads=[value]))
        return backwards if isinstance(part, slice) else _of_steps(call, backwards, -1 - part)
    return _between(call, value, part)


def _shortest(part: slice, steps: int) -> slice:
    """Return a slice of so many steps with what it leaves out at the end, as far as it is one."""
    if part.step not in (None, 1):
        return part
    start, stop, _ = part.indices(steps)
    if start >= stop:
        raise Misfit(f"{_written(part)} of {steps} steps leaves none")
    if start == steps - 1:
        return slice(-1, None)
    return slice(start or None, stop - steps or None)


def _between(call: Call, value: Value, part: slice) -> Value:
    start, stop, step = part.start or 0, part.stop, part.step or 1
    if start < 0 or (stop or 0) > 0:
        raise Misfit(f"x[:, {_written(part)}] of a sequence of unknown length", _NAME_THE_LENGTH)
    if step < 1:
        raise Refused(f"x[:, {_written(part)}], expected a step above 0")
    value = cropped(call, value, start, -(stop or 0))
    if step == 1:
        return value
    layer = call.add(spec.Pool1d, value.size, 1, "max", reads=[value], stride=step, padding=(0, 0))
    steps = None if value.steps is None else -(-value.steps // step)
    return call.then(value, layer, steps=steps)


def flip(call: Call, axis: Any) -> Value:
    """Turn the steps round."""
    axis = axis[0] if isinstance(axis, list) and len(axis) == 1 else axis
    if axis != 1:
        raise Refused(f"axis={axis!r}, expected 1, that of the steps")
    call.one(SEQUENCE)
    return get_item(call, [slice_of(None), slice_of(None, None, -1)])


def slice_of(start: int | None = None, stop: int | None = None, step: int | None = None) -> Any:
    """Return a slice as Keras writes it."""
    return {"class_name": "__slice__", "config": {"start": start, "stop": stop, "step": step}}
