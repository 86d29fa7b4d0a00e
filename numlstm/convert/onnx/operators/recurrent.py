"""RNN, GRU and LSTM of ONNX as layers: their options and tensors.

W, R, B, P have an axis of directions.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np

from numlstm.convert.assembly import Array, Refused
from numlstm.convert.gates import from_onnx
from numlstm.convert.onnx.operators.shapes import backwards, pooled
from numlstm.convert.onnx.trace import Handler, Node, Op, Trace
from numlstm.convert.onnx.values import Value
from numlstm.spec import GRU, LSTM, RNN, function_text

Recurrent: TypeAlias = RNN | GRU | LSTM

# What operators call a function: our name, the parameters it has, and their defaults.
_ACTIVATIONS: dict[str, tuple[str, tuple[float | None, ...]]] = {
    "relu": ("relu", ()),
    "tanh": ("tanh", ()),
    "sigmoid": ("sigmoid", ()),
    "softsign": ("softsign", ()),
    "softplus": ("softplus", ()),
    "leakyrelu": ("leaky_relu", (0.01,)),
    "thresholdedrelu": ("thresholded_relu", (1.0,)),
    "elu": ("elu", (1.0,)),
    "hardsigmoid": ("hard_sigmoid", (0.2, 0.5)),
    "scaledtanh": ("scaled_tanh", (None, None)),
    "affine": ("affine", (None, None)),
}
_DEFAULTS = {
    "RNN": ("Tanh",),
    "GRU": ("Sigmoid", "Tanh"),
    "LSTM": ("Sigmoid", "Tanh", "Tanh"),
}
_LAYERS: dict[str, type[Recurrent]] = {"RNN": RNN, "GRU": GRU, "LSTM": LSTM}
_COUNTS = {"forward": 1, "reverse": 1, "bidirectional": 2}

Attribute: TypeAlias = Callable[..., Any]


@dataclass(frozen=True)
class Direction:
    """One direction of an operator: its layer, and the layer's tensors."""

    layer: Recurrent
    tensors: dict[str, Array]


def directions(
    kind: str, attribute: Attribute, inputs: Mapping[str, Array | None]
) -> tuple[Direction, ...]:
    """Return the one or two directions of an operator, each as a layer that reads forward.

    Parameters
    ----------
    kind : "RNN", "GRU" or "LSTM"
    attribute : name, default -> value
    inputs : W (D, GH, I), R (D, GH, H), B (D, 2GH), P (D, 3H), and H0, C0 (D, H), or None

    Raises
    ------
    Refused
        If an option has no layer.
    """
    count = _COUNTS.get(attribute("direction", "forward"))
    w, r = inputs["W"], inputs["R"]
    if count is None:
        raise Refused(f"direction {attribute('direction')!r}")
    if w is None or r is None or w.ndim != 3 or r.ndim != 3 or len(w) != count:
        raise Refused("W and R, expected (directions, gates, size)")
    size = attribute("hidden_size", r.shape[2])
    if r.shape != (count, _LAYERS[kind](1, 1).num_gates * size, size) or w.shape[:2] != r.shape[:2]:
        raise Refused(f"W {w.shape} and R {r.shape} for hidden_size {size}")
    functions = _functions(kind, attribute, count)
    found = []
    for d in range(count):
        own = {name: None if a is None else a[d] for name, a in inputs.items()}
        found.append(_direction(kind, attribute, own, functions[d]))
    return tuple(found)


def _functions(kind: str, attribute: Attribute, count: int) -> list[tuple[str, ...]]:
    """Return the functions of each direction; alpha and beta go to those that have them."""
    each = len(_DEFAULTS[kind])
    given = attribute("activations") or [name.encode() for name in _DEFAULTS[kind] * count]
    names = [name.decode() for name in given]
    if len(names) != each * count:
        raise Refused(f"{len(names)} activations, expected {each * count}")
    left = {
        0: list(attribute("activation_alpha") or ()),
        1: list(attribute("activation_beta") or ()),
    }
    texts = []
    for name in names:
        if name.lower() not in _ACTIVATIONS:
            raise Refused(f"activation {name!r} is not known")
        ours, defaults = _ACTIVATIONS[name.lower()]
        parameters = []
        for n, default in enumerate(defaults):
            number = float(left[n].pop(0)) if left[n] else default
            if number is None:
                raise Refused(f"activation {name!r} without its {('alpha', 'beta')[n]}")
            parameters.append(float(number))
        texts.append(function_text(ours, *parameters))
    if left[0] or left[1]:
        raise Refused("more activation_alpha or activation_beta than the activations have")
    return [tuple(texts[d * each : (d + 1) * each]) for d in range(count)]


def _direction(
    kind: str,
    attribute: Attribute,
    own: Mapping[str, Array | None],
    functions: tuple[str, ...],
) -> Direction:
    w, r, b, p = own["W"], own["R"], own["B"], own["P"]
    assert w is not None
    assert r is not None
    tensors = from_onnx(w, r, b, p)
    h0, c0 = own["H0"], own["C0"]
    starts = any(state is not None and state.any() for state in (h0, c0))
    if starts:
        zeros = np.zeros(r.shape[1])
        tensors["initial_h"] = zeros if h0 is None else h0
        if kind == "LSTM":
            tensors["initial_c"] = zeros if c0 is None else c0
    clip = float(attribute("clip", 0.0)) or None
    options: dict[str, Any] = {"clip": clip, "initial_state": starts}
    sizes = (w.shape[1], r.shape[1], b is not None)
    if kind == "RNN":
        return Direction(RNN(*sizes, functions[0], **options), tensors)
    options |= {"recurrent_activation": functions[0], "activation": functions[1]}
    if kind == "GRU":
        after = bool(attribute("linear_before_reset", 0))
        return Direction(GRU(*sizes, reset_after=after, **options), tensors)
    options |= {"output_activation": functions[2], "peepholes": p is not None}
    coupled = bool(attribute("input_forget", 0))
    return Direction(LSTM(*sizes, coupled=coupled, **options), tensors)


# In a graph ---------------------------------------------------------------------------------------


def _recurrent(trace: Trace, op: Op) -> tuple[Value | None, ...]:
    kind, xs = op.kind, op.value()
    batch_major = bool(op.attribute("layout", 0))
    _check_input(trace, op, xs, 1 if batch_major else 0)
    inputs: dict[str, Array | None] = {
        "W": op.constant(1),
        "R": op.constant(2),
        "B": op.constant(3) if op.has(3) else None,
        "P": op.constant(7) if op.has(7) else None,
    }
    carried = {}
    for n, name in ((5, "H0"), (6, "C0")):
        inputs[name], carried[name] = _initial(trace, op, n, batch_major)
    found = directions(kind, op.attribute, inputs)
    names = list(op.proto.output) + [""] * 3
    wants_sequence = (names[0] and names[0] in trace.consumed) or not any(names[1:])
    layers = _merged(found, op.attribute("direction", "forward"))
    nodes = [
        _node(trace, op, layer, tensors, xs, "sequence" if wants_sequence else "last")
        for layer, tensors in layers
    ]
    h = _last(trace, op, nodes, xs)
    cell = trace.add("cell", h.size, op.label, is_state=True, row=trace.length > 1)
    for name, after in (("H0", h), ("C0", cell.ids)):
        before = carried[name]
        if before is not None:
            trace.carried.append((before.ravel(), after.ravel()))
    size = found[0].layer.hidden_size
    ys = np.concatenate([node.ids for node in nodes]) if wants_sequence else h
    return _outputs(xs, ys, (h, cell.ids), (len(found), size), batch_major)


def _outputs(
    xs: Value, ys: Array, states: Sequence[Array], shape: tuple[int, int], batch_major: bool
) -> tuple[Value, ...]:
    """Return Y, Y_h, Y_c in the shapes of the operator, with a batch of one."""
    count, size = shape
    if batch_major:
        of_sequence, of_state, time = (1, count, size), (1, count, size), 1
    else:
        of_sequence, of_state, time = (count, 1, size), (count, 1, size), 0
    if xs.time is None:
        axis = 1 if batch_major else 0
        y = Value(np.expand_dims(ys.reshape(of_sequence), axis), None)
    else:
        y = Value(ys.reshape(of_sequence), time, xs.length)
    return (y, *(Value(ids.reshape(of_state), None) for ids in states))


def _check_input(trace: Trace, op: Op, xs: Value, time: int) -> None:
    if len(xs.shape) != 3 or xs.ids.size != xs.shape[2]:
        raise Refused(f"X {xs.shape}, expected one row per step")
    if xs.time != time and (xs.time is not None or trace.length > 1):
        if xs.time == 1 - time and trace.fixed:
            raise Refused(
                f"axis {1 - time} of X {xs.shape} is that of the batch, which is {xs.length}; "
                "expected 1, or any size",
                "export the model with a batch of 1, or with dynamic axes",
            )
        raise Refused(f"axis {time} of X {xs.shape} is not that of time")
    if op.has(4):
        if isinstance(op.inputs[4], Value):
            raise Refused("sequence_lens is computed", "make the lengths an input of the graph")
        if (op.constant(4) != xs.length).any():
            raise Refused(f"sequence_lens {op.constant(4)}, expected the length of the input")


def _initial(trace: Trace, op: Op, n: int, batch_major: bool) -> tuple[Array | None, Array | None]:
    """Return an initial state (D, H) that is constant, or the ids of one that is an input."""
    if not op.has(n):
        return None, None
    state = op.inputs[n]
    if isinstance(state, Value):
        if trace.kinds(state.ids) != {"state"}:
            raise Refused(
                f"its initial state, input {n}, is computed from the input",
                "begin with zeros, with constants, or with an input of the graph that is a state",
            )
        numbers = trace.numbers(state.ids.ravel())
        rows = numbers.reshape(-1, state.ids.shape[-1]) if numbers.any() else None
        return rows, state.ids
    rows = op.constant(n).squeeze(0 if batch_major else 1)
    return rows, None


def _merged(found: Sequence[Direction], direction: str) -> list[tuple[Recurrent, dict[str, Array]]]:
    """Return one layer for both directions, or two where their functions differ."""
    if len(found) == 1:
        return [(replace(found[0].layer, direction=direction), found[0].tensors)]
    forward, reverse = found
    if forward.layer == reverse.layer:
        tensors = forward.tensors | {f"{n}_reverse": t for n, t in reverse.tensors.items()}
        return [(replace(forward.layer, direction="bidirectional"), tensors)]
    return [
        (forward.layer, forward.tensors),
        (replace(reverse.layer, direction="reverse"), reverse.tensors),
    ]


def _node(
    trace: Trace, op: Op, layer: Recurrent, tensors: dict[str, Array], xs: Value, outputs: str
) -> Node:
    last = outputs == "last" and layer.direction != "forward" and trace.length > 1
    layer = replace(layer, outputs="last") if last else layer
    return trace.layer(op, layer, [xs.ids], tensors, row=last)


def _last(trace: Trace, op: Op, nodes: Sequence[Node], xs: Value) -> Array:
    """Return the ids of what each direction gives at its own last step."""
    parts = []
    for node in nodes:
        layer = node.layer
        assert isinstance(layer, Recurrent)
        if node.row:
            parts.append(node.ids)
            continue
        size = layer.hidden_size
        halves = [(node.ids[:size], "forward"), (node.ids[size:], "reverse")]
        halves = halves if layer.direction == "bidirectional" else [(node.ids, layer.direction)]
        for ids, direction in halves:
            value = Value(ids, 0, xs.length)
            if direction == "reverse":
                value = backwards(trace, op, value)
            parts.append(pooled(trace, op, value, "last").ids)
    for ids in parts:
        state = trace.node_of(ids)
        if state is not None:
            state.is_state = True
    return np.concatenate([np.ravel(ids) for ids in parts])


RECURRENT: dict[str, Handler] = {"RNN": _recurrent, "GRU": _recurrent, "LSTM": _recurrent}
