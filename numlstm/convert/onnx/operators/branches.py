"""The operators of ONNX that have graphs of their own: If, Loop and Scan.

A loop over the steps of the sequence is walked once, as one step: what it carries are states.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from numlstm.convert.assembly import Refused
from numlstm.convert.onnx.operators.sequences import SEQUENCES, Steps
from numlstm.convert.onnx.operators.shapes import backwards, pooled
from numlstm.convert.onnx.trace import Inner, Op, Trace
from numlstm.convert.onnx.values import Ids, Value, roomy

_MOST_TURNS = 64  # of a loop that is not over the steps of the sequence, each of which is walked


def _if(trace: Trace, op: Op, scope: dict[str, Any]) -> tuple[Any, ...]:
    """Walk the branch that is taken; the condition must not depend on the input."""
    condition = op.inputs[0]
    if isinstance(condition, Value):
        names = sorted(node.label.removeprefix("input ") for node in trace.inputs_of(condition.ids))
        instead = "export the branch that is taken"
        if names:
            given = ", ".join(f"{name}: ..." for name in names)
            instead = f"if it is the same at every step, give it: constants={{{given}}}"
        raise Refused("its condition depends on the input, and a network has no branches", instead)
    taken = "then_branch" if np.ravel(op.constant(0))[0] else "else_branch"
    branch = op.attribute(taken)
    inner = trace.run(branch, scope)
    return tuple(inner[output.name] for output in branch.output)


# Loops --------------------------------------------------------------------------------------------


@contextmanager
def _one_step(trace: Trace) -> Iterator[None]:
    """Walk what is within as a graph of one step."""
    before = trace.length, trace.in_step
    trace.length, trace.in_step = 1, True
    try:
        yield
    finally:
        trace.length, trace.in_step = before


@dataclass
class _Carried:
    """What a loop over steps carries from one to the next.

    given   what the body reads
    state   the ids of a state, or None of what stays as it is, or grows
    """

    given: Any
    state: Ids | None = None


def _carried(trace: Trace, op: Op, value: Any, stays: bool) -> _Carried:
    """Return what a body reads of what is carried, which begins with a value."""
    if stays or isinstance(value, Steps) or (isinstance(value, np.ndarray) and not value.size):
        return _Carried(value)
    if isinstance(value, Value):
        if trace.kinds(value.ids) == {"constant"}:
            value = trace.numbers(value.ids)
        elif trace.kinds(value.ids) == {"state"}:
            return _Carried(value, value.ids)
        else:
            raise Refused(
                "what it carries begins with what is computed from the input",
                "begin with zeros, with constants, or with an input of the graph that is a state",
            )
    if value.dtype == bool:
        return _Carried(value)
    if np.issubdtype(value.dtype, np.integer) and value.size == 1:
        counter = trace.counter(op, int(value.ravel()[0]), value.shape)
        return _Carried(counter, counter.ids)
    node = trace.add("state", value.size, op.label)
    if value.any():
        node.numbers = np.asarray(value, np.float64).ravel()
    ids = node.ids.reshape(value.shape)
    return _Carried(Value(ids, None), ids)


def _close(trace: Trace, op: Op, carried: _Carried, after: Any, length: int) -> Any:
    """Say what a state is one step later; return what the loop gives of it."""
    if carried.state is None:
        if isinstance(after, Steps) and isinstance(carried.given, Steps):
            return after.ended(carried.given, length)
        same = isinstance(after, np.ndarray) and np.array_equal(after, carried.given)
        if not same and after is not carried.given:
            raise Refused("what it carries changes, which is neither a number of floats nor a list")
        return after
    state = carried.state
    if isinstance(after, np.ndarray):
        after = trace.constant(op, after)
    if not isinstance(after, Value) or after.time is not None or after.ids.size != state.size:
        raise Refused(f"what it carries has another shape one step later than {state.shape}")
    if trace.kinds(state) == {"counter"}:
        _, first = trace.step_of(state) or (0, 0)
        if trace.step_of(after.ids) != (1, first + 1):
            raise Refused("it carries a whole number that does not count the steps")
        return np.full(state.shape, first + length, np.int64)
    trace.carried.append((state.ravel(), after.ids.ravel()))
    last = pooled(trace, op, Value(after.ids, 0, length), "last")
    for node in trace.owners(last.ids):
        node.is_state = True
    return last


def _gives_over_time(op: Op, value: Any, axis: int, length: int) -> Any:
    """Return what a body gives at each step as a tensor over time."""
    if isinstance(value, np.ndarray):
        roomy(op.label, (value.size, length))
        return np.repeat(np.expand_dims(value, axis), length, axis)
    if not isinstance(value, Value) or value.time is not None:
        raise Refused("what it gives at each step is a sequence itself")
    return Value(value.ids, axis, length)


def _stays(body: Any, name: str, output: str) -> bool:
    """Tell whether what a body gives is what it was given, by name."""
    producers = {o: node for node in body.node for o in node.output}
    while output in producers and producers[output].op_type == "Identity":
        output = producers[output].input[0]
    return output == name


def _loop(trace: Trace, op: Op, scope: dict[str, Any]) -> tuple[Any, ...]:
    turns, condition, body = op.inputs[0], op.inputs[1], op.attribute("body")
    if isinstance(turns, Value) or isinstance(condition, Value):
        raise Refused(
            "how often it turns depends on the input",
            "loop over the steps of the sequence, for t in range(x.size(1))",
        )
    count = None if turns is None else int(np.ravel(turns)[0])
    if condition is not None and not np.ravel(condition)[0]:
        count = 0
    if count == trace.length > 1:
        return _over_steps(trace, op, scope, body, count)
    return _turned(trace, op, scope, body, count)


def _over_steps(
    trace: Trace, op: Op, scope: dict[str, Any], body: Any, count: int
) -> tuple[Any, ...]:
    """Walk the body of a loop over the steps once."""
    names = [info.name for info in body.input]
    outputs = [info.name for info in body.output]
    states = op.inputs[2:]
    carried = [
        _carried(trace, op, value, _stays(body, name, output))
        for value, name, output in zip(states, names[2:], outputs[1:], strict=False)
    ]
    own = {names[0]: trace.counter(op, 0, ()), names[1]: np.array(True)}
    own |= {name: c.given for name, c in zip(names[2:], carried, strict=True)}
    with _one_step(trace):
        inner = trace.run(body, scope | own)
    found = [inner[name] for name in outputs]
    if any(value is None for value in found):
        return ()
    goes_on = found[0]
    if not isinstance(goes_on, np.ndarray) or not np.ravel(goes_on)[0]:
        raise Refused("it may end before the last step", "loop over all steps of the sequence")
    kept = [
        _close(trace, op, c, after, count)
        for c, after in zip(carried, found[1 : 1 + len(carried)], strict=True)
    ]
    rest = found[1 + len(carried) :]
    return (*kept, *(_gives_over_time(op, value, 0, count) for value in rest))


def _turned(
    trace: Trace, op: Op, scope: dict[str, Any], body: Any, count: int | None
) -> tuple[Any, ...]:
    """Walk the body of a loop as often as it turns."""
    names = [info.name for info in body.input]
    outputs = [info.name for info in body.output]
    values = list(op.inputs[2:])
    rows: list[list[Any]] = [[] for _ in outputs[1 + len(values) :]]
    turn, goes_on = 0, count != 0
    while goes_on and (count is None or turn < count):
        if turn == _MOST_TURNS:
            raise Refused(
                f"it turns more than {_MOST_TURNS} times, and not over the steps of the sequence",
                "loop over the steps of the sequence, for t in range(x.size(1))",
            )
        own = {names[0]: np.array(turn), names[1]: np.array(True)}
        inner = trace.run(body, scope | own | dict(zip(names[2:], values, strict=True)))
        found = [inner[name] for name in outputs]
        if any(value is None for value in found):
            return ()
        if isinstance(found[0], Value):
            raise Refused(
                "whether it turns once more depends on the input",
                "loop over the steps of the sequence, or a number of times that is known",
            )
        goes_on = bool(np.ravel(found[0])[0])
        values = found[1 : 1 + len(values)]
        for own_rows, value in zip(rows, found[1 + len(values) :], strict=True):
            own_rows.append(value)
        turn += 1
    return (*values, *(_stacked(trace, op, own_rows) for own_rows in rows))


def _stacked(trace: Trace, op: Op, rows: Sequence[Any]) -> Any:
    """Return what each turn gave as one tensor."""
    if all(isinstance(row, np.ndarray) for row in rows):
        return np.stack(rows) if rows else np.zeros(0)
    values = [trace.constant(op, r) if isinstance(r, np.ndarray) else r for r in rows]
    if len({(v.time, v.length) for v in values}) > 1:
        raise Refused("its turns give sequences of different lengths")
    whole = np.stack([value.whole() for value in values])
    time = values[0].time
    return values[0].moved(whole, None if time is None else time + 1)


# Scan ---------------------------------------------------------------------------------------------


def _scan(trace: Trace, op: Op, scope: dict[str, Any]) -> tuple[Any, ...]:
    body, count = op.attribute("body"), op.attribute("num_scan_inputs")
    if op.opset < 9:
        raise Refused("Scan of opset 8", "export the model with opset 9 or later")
    num_states = len(op.inputs) - count
    num_given = len(body.output) - num_states
    in_axes = op.attribute("scan_input_axes") or [0] * count
    out_axes = op.attribute("scan_output_axes") or [0] * num_given
    backward = op.attribute("scan_input_directions") or [0] * count
    mirrored = op.attribute("scan_output_directions") or [0] * num_given
    names = [info.name for info in body.input]
    steps = [
        _scanned(trace, op, value, axis, bool(direction))
        for value, axis, direction in zip(op.inputs[num_states:], in_axes, backward, strict=True)
    ]
    outputs = [info.name for info in body.output]
    carried = [
        _carried(trace, op, value, _stays(body, name, output))
        for value, name, output in zip(
            op.inputs[:num_states], names[:num_states], outputs[:num_states], strict=True
        )
    ]
    given = [c.given for c in carried] + steps
    length = trace.length
    with _one_step(trace):
        inner = trace.run(body, scope | dict(zip(names, given, strict=True)))
    found = [inner[name] for name in outputs]
    if any(value is None for value in found):
        return ()
    kept = [
        _close(trace, op, c, after, length)
        for c, after in zip(carried, found[:num_states], strict=True)
    ]
    rows = []
    for value, axis, turned in zip(found[num_states:], out_axes, mirrored, strict=True):
        whole = _gives_over_time(op, value, axis + np.ndim(value) + 1 if axis < 0 else axis, length)
        rows.append(backwards(trace, op, whole) if turned else whole)
    return (*kept, *rows)


def _scanned(trace: Trace, op: Op, value: Any, axis: int, backward: bool) -> Any:
    """Return one step of what is scanned."""
    if isinstance(value, np.ndarray):
        one = value.take(0, axis)
        if not (value == np.expand_dims(one, axis)).all():
            raise Refused(
                "it scans a constant that differs from step to step",
                "give what differs as numbers of the input",
            )
        return one
    axis = axis % len(value.shape)
    if value.time != axis and not (trace.length == 1 and value.shape[axis] == 1):
        raise Refused(f"it scans axis {axis} of a tensor {value.shape}, not the steps")
    if value.time is None:
        return replace(value, ids=value.ids.squeeze(axis))
    value = backwards(trace, op, value) if backward else value
    return Value(value.ids, None)


INNER: dict[str, Inner] = {"If": _if, "Loop": _loop, "Scan": _scan, **SEQUENCES}
