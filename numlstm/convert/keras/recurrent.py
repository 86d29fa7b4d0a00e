"""Recurrent layers of Keras: cells, RNN of cells, and both directions."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from numlstm import spec
from numlstm.budget import spend
from numlstm.convert.assembly import Array, Misfit, Refused
from numlstm.convert.keras.call import SEQUENCE, STATE, Call, Value
from numlstm.convert.keras.config import Key, class_of, config_of
from numlstm.convert.keras.options import Options, elementwise
from numlstm.convert.keras.tensors import tensors_of
from numlstm.spec import Layer

_OPEN = 50.0  # of which a sigmoid is 1 in float32
# What to do about an encoder and a decoder in one model.
APART = (
    "convert the two as models of their own: the stream of the second is given "
    "stream.state = the state of the first"
)


@dataclass(frozen=True)
class Cell:
    """One recurrent layer, without its direction."""

    kind: type[Layer]
    hidden_size: int
    bias: bool
    options: tuple[tuple[str, Any], ...]
    arrays: tuple[Array, ...] = ()

    def is_like(self, other: "Cell") -> bool:
        return replace(self, arrays=()) == replace(other, arrays=())


@dataclass(frozen=True)
class Recurrence:
    """The cells of one recurrent layer of Keras, one upon the other, and how they run."""

    cells: tuple[Cell, ...]
    sequences: bool
    backwards: bool
    states: bool


def _recurrence(item: Any, key: Key, call: Call) -> Recurrence:
    """Read one of LSTM, GRU, SimpleRNN, their cuDNN forms, and RNN of cells."""
    kind = class_of(item)
    _expect_one_word(item, call)
    options = Options(config_of(item), call.major)
    sequences, backwards = options.flag("return_sequences"), options.flag("go_backwards")
    states = options.flag("return_state")
    options.flag("stateful")  # what a stream is
    zeros = options.flag("zero_output_for_mask")
    options.flag("time_major")
    if kind == "RNN":
        cell = options.take("cell") or {}
        options.end()
        inner = config_of(cell).get("cells", []) if class_of(cell) == "StackedRNNCells" else None
        if inner is None:
            cells: tuple[Cell, ...] = (_cell(cell, (*key, "cell"), call),)
        else:
            keyed = ((one, (*key, "cell", str(n))) for n, one in enumerate(inner))
            cells = tuple(_cell(one, place, call) for one, place in keyed)
    elif kind in ("LSTM", "GRU", "SimpleRNN", "CuDNNLSTM", "CuDNNGRU"):
        cells = (_cell(item | {"config": options.rest, "then": ()}, key, call),)
    else:
        raise Refused(f"{kind or 'nothing'} as a recurrent layer")
    if zeros and not sequences and call.inputs[0].masked:
        raise Refused(
            "zero_output_for_mask=True", "without it the last answer that counts is given"
        )
    return Recurrence(cells, sequences, backwards, states)


def _expect_one_word(item: Any, call: Call) -> None:
    """Refuse a class of a user that is several layers, where one is run in a direction."""
    if item is not call.item and isinstance(item, dict) and item.get("then"):
        raise Refused(
            f"{item.get('written_as')} is several layers within another",
            "one word of custom can stand there",
        )


def _cell(item: Any, key: Key, call: Call) -> Cell:
    kind = class_of(item).removesuffix("Cell")
    _expect_one_word(item, call)
    options = Options(config_of(item), call.major)
    size = options.size("units", "output_dim")
    bias = options.flag("use_bias", "bias", default=True)
    arrays = tuple(call.arrays.get(key, []))
    if kind in ("CuDNNLSTM", "CuDNNGRU"):
        options.end()
        if call.inputs[0].masked:
            raise Misfit("reads a sequence with a mask, which cuDNN layers do not know")
        given: tuple[tuple[str, Any], ...] = (("reset_after", True),) if kind == "CuDNNGRU" else ()
        return Cell(spec.GRU if given else spec.LSTM, size, bias, given, arrays)
    if kind not in ("LSTM", "GRU", "SimpleRNN"):
        raise Refused(f"{class_of(item) or 'nothing'} as a cell")
    function = elementwise(options.take("activation", default="tanh"), call.major)
    if kind == "SimpleRNN":
        options.end()
        return Cell(spec.RNN, size, bias, (("nonlinearity", function),), arrays)
    gates = options.take("recurrent_activation", "inner_activation")
    gates = elementwise(_default_gates(call.version) if gates is None else gates, call.major)
    found = {"activation": function, "recurrent_activation": gates}
    if kind == "LSTM":
        options.end()
        found["output_activation"] = function
        return Cell(spec.LSTM, size, bias, tuple(found.items()), arrays)
    reset_after = options.take("reset_after")
    options.end()
    if bias and len(arrays) == 3:
        reset_after = arrays[2].size == 6 * size
    if reset_after is None:
        reset_after = _default_reset(call.major)
    return Cell(spec.GRU, size, bias, (*found.items(), ("reset_after", reset_after)), arrays)


def _default_gates(version: str) -> str:
    """Return what gates were before the option was in the config, by the version of Keras."""
    numbers = [int(n) for n in version.partition("-")[0].split(".") if n.isdigit()]
    if numbers >= [2, 3]:
        return "sigmoid"
    if numbers and "-" not in version:
        return "hard_sigmoid"
    raise Refused("no recurrent_activation, and its default is not known")


def _default_reset(major: int | None) -> bool:
    if major is None or major == 2:
        raise Refused("no reset_after, and its default is not known")
    return major >= 3


def _chain(
    call: Call, recurrence: Recurrence, value: Value, direction: str, sequences: bool
) -> Value:
    """Add the cells of a recurrence, one upon the other, in one direction."""
    last = len(recurrence.cells) - 1
    for n, cell in enumerate(recurrence.cells):
        layer = call.add(
            cell.kind,
            value.size,
            cell.hidden_size,
            cell.bias,
            reads=[value],
            arrays=cell.arrays,
            direction=direction,
            outputs="sequence" if sequences or n < last else "last",
            **dict(cell.options),
        )
        value = call.then(value, layer)
    return value


def _sequence(call: Call) -> Value:
    """Return the sequence that is read; what begins from states of others is refused."""
    if len(call.inputs) > 1:
        raise Refused("begins with the state of another layer", APART)
    return call.one(SEQUENCE)


def recurrent(call: Call) -> list[Value]:
    recurrence = _recurrence(call.item, call.key, call)
    value = _sequence(call)
    direction = "reverse" if recurrence.backwards else "forward"
    found = _chain(call, recurrence, value, direction, recurrence.sequences)
    if not recurrence.sequences:
        last = call.whole(found, found.draft)
        return [last, *_with_c(call, recurrence, value, found, _states(recurrence, last))]
    if not recurrence.backwards:
        found = replace(found, holds=value.masked, mixed=False)
        states = _states(recurrence, _last(call, found)) if recurrence.states else []
        return [found, *_with_c(call, recurrence, value, found, states)]
    if value.masked:
        raise Misfit("go_backwards gives a sequence in reverse, the mask stays as it was")
    # Keras leaves the answers in the order in which they came.
    found = turned_round(call, found)
    return [found, *(_states(recurrence, _last(call, found)) if recurrence.states else [])]


def turned_round(call: Call, value: Value) -> Value:
    """Return the steps from the last to the first; turned twice they are as they were."""
    draft = value.draft
    if draft is not None and isinstance(draft.layer, spec.Reverse):
        return replace(value, draft=draft.reads[0])
    return call.then(value, call.add(spec.Reverse, value.size, reads=[value]))


def _last(call: Call, value: Value) -> Value:
    return call.whole(value, call.add(spec.Pooling, value.size, "last", reads=[value]))


def _states(recurrence: Recurrence, h: Value) -> list[Value]:
    """Return the states that a layer gives beside its output: h, and the c that nobody may read."""
    if not recurrence.states:
        return []
    if len(recurrence.cells) > 1:
        return [replace(h, kind=STATE)] * 2 * len(recurrence.cells)
    is_lstm = recurrence.cells[0].kind is spec.LSTM
    return [h, replace(h, kind=STATE)] if is_lstm else [h]


def _with_c(
    call: Call, recurrence: Recurrence, value: Value, rows: Value, states: list[Value]
) -> list[Value]:
    """Return the states of one forward LSTM with its c, as a layer gives it.

    It is an LSTM that reads x and the h of the other one a step before, with an output gate that is
    open: h' = 1 * c'.
    """
    (cell, *more), gates = recurrence.cells, dict(recurrence.cells[0].options)
    opens = str(gates.get("recurrent_activation", "")).partition("(")[0]
    is_open = opens in ("sigmoid", "hard_sigmoid")
    if len(states) != 2 or more or recurrence.backwards or not is_open or rows.draft is None:
        return states
    size = cell.hidden_size
    own = tensors_of(spec.LSTM(value.size, size, cell.bias), cell.arrays)
    spend(f"the c of {call.name}", 40 * size * (value.size + size), 10 * size * (value.size + size))
    weight = np.hstack([own["weight_ih"], own["weight_hh"]])
    bias = own.get("bias_ih", np.zeros(4 * size, np.float32)).copy()
    weight[3 * size :], bias[3 * size :] = 0.0, _OPEN
    tensors = {
        "weight_ih": weight, "weight_hh": np.zeros((4 * size, size), np.float32),
        "bias_ih": bias, "bias_hh": own.get("bias_hh", 0 * bias) * (np.arange(4 * size) < 3 * size),
    }  # fmt: skip
    options = gates | {"output_activation": "linear"}
    layer = spec.LSTM(value.size + size, size, inputs=("", ""), **options)
    before = call.assembly.grow(spec.Feedback(size, "h"), [], None, call.name, source=rows.draft)
    draft = call.assembly.grow(layer, [value.draft, before], tensors, call.name)
    return [states[0], call.whole(value, draft)]


_MERGES = {"concat": spec.Concat, "sum": spec.Add, "mul": spec.Multiply, "ave": spec.Add}


def bidirectional(call: Call) -> list[Value]:
    options = call.options
    forward_item, backward_item = options.take("layer"), options.take("backward_layer")
    merge = options.take("merge_mode")
    options.end()
    if merge is not None and merge not in _MERGES:
        raise Refused(f"merge_mode={merge!r}")
    forward = _recurrence(forward_item, (*call.key, "forward"), call)
    backward = _recurrence(backward_item or forward_item, (*call.key, "backward"), call)
    if forward.backwards or (backward_item and not backward.backwards):
        raise Refused("go_backwards of the layers: expected forward, then backward")
    if forward.sequences != backward.sequences:
        raise Refused("layers of which one returns sequences")
    value = _sequence(call)
    one, *more = forward.cells
    is_one = not more and len(backward.cells) == 1 and one.is_like(backward.cells[0])
    if is_one and merge is not None and not forward.states:
        layer = call.add(
            one.kind,
            value.size,
            one.hidden_size,
            one.bias,
            reads=[value],
            arrays=one.arrays + backward.cells[0].arrays,
            direction="bidirectional",
            merge=merge,
            outputs="sequence" if forward.sequences else "last",
            **dict(one.options),
        )
        found = call.then(value, layer, holds=False, mixed=False)
        return [found if forward.sequences else call.whole(found, layer)]
    return _two_directions(call, forward, backward, value, merge)


def _two_directions(
    call: Call, forward: Recurrence, backward: Recurrence, value: Value, merge: str | None
) -> list[Value]:
    """Add two layers, one of each direction, and what joins them; all that they give."""
    directions = (("forward", forward), ("reverse", backward))
    both = [_chain(call, one, value, direction, one.sequences) for direction, one in directions]
    both = [replace(v, holds=False, mixed=False) for v in both]
    states = [_states_of(call, one, v) for (_, one), v in zip(directions, both, strict=True)]
    if not forward.sequences:
        both = [call.whole(v, v.draft) for v in both]
    if merge is None:
        return [*both, *states[0], *states[1]]
    size = sum(v.size for v in both) if merge == "concat" else both[0].size
    found = call.then(both[0], call.add(_MERGES[merge], size, reads=both))
    if merge == "ave":
        found = call.affine(found, 0.5)
    return [found, *states[0], *states[1]]


def _states_of(call: Call, recurrence: Recurrence, rows: Value) -> list[Value]:
    """Return the states of one of two directions, whose answers are in the order of the input."""
    if not recurrence.states:
        return []
    if not recurrence.sequences:
        return _states(recurrence, call.whole(rows, rows.draft))
    if rows.draft is not None and getattr(rows.draft.layer, "direction", "") == "reverse":
        rows = turned_round(call, rows)
    return _states(recurrence, _last(call, rows))
