"""Recurrent layers of Keras: cells, RNN of cells, and both directions."""

from dataclasses import dataclass, replace
from typing import Any

from numlstm import spec
from numlstm.convert.assembly import Misfit, Refused
from numlstm.convert.keras.call import SEQUENCE, VECTOR, Call, Value
from numlstm.convert.keras.config import Key, class_of, config_of
from numlstm.convert.keras.hdf5 import Array
from numlstm.convert.keras.options import Options, elementwise
from numlstm.spec import Layer


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
    time_major: bool


def _recurrence(item: Any, key: Key, call: Call) -> Recurrence:
    """Read one of LSTM, GRU, SimpleRNN, their cuDNN forms, and RNN of cells."""
    kind = class_of(item)
    options = Options(config_of(item), call.major)
    sequences, backwards = options.flag("return_sequences"), options.flag("go_backwards")
    options.flag("return_state")  # whoever reads the states is refused
    options.flag("stateful")  # what a stream is
    zeros = options.flag("zero_output_for_mask")
    time_major = options.flag("time_major")
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
        cells = (_cell(item | {"config": options.rest}, key, call),)
    else:
        raise Refused(f"{kind or 'nothing'} as a recurrent layer")
    if zeros and not sequences and call.inputs[0].masked:
        raise Refused("zero_output_for_mask=True")
    return Recurrence(cells, sequences, backwards, time_major)


def _cell(item: Any, key: Key, call: Call) -> Cell:
    kind = class_of(item).removesuffix("Cell")
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


def recurrent(call: Call) -> Value:
    recurrence = _recurrence(call.item, call.key, call)
    value = call.one(SEQUENCE)
    direction = "reverse" if recurrence.backwards else "forward"
    found = _chain(call, recurrence, value, direction, recurrence.sequences)
    if not recurrence.sequences:
        return replace(found, kind=VECTOR, steps=None, masked=False)
    if recurrence.backwards:
        if value.masked:
            raise Misfit("go_backwards gives a sequence in reverse, the mask stays as it was")
        # Keras leaves the answers in the order in which they came.
        return call.then(found, call.add(spec.Reverse, found.size, reads=[found]))
    return found


_MERGES = {"concat": spec.Concat, "sum": spec.Add, "mul": spec.Multiply, "ave": spec.Add}


def bidirectional(call: Call) -> Value:
    options = call.options
    forward_item, backward_item = options.take("layer"), options.take("backward_layer")
    merge = options.take("merge_mode")
    options.end()
    if merge not in _MERGES:
        raise Refused(f"merge_mode={merge!r}")
    forward = _recurrence(forward_item, (*call.key, "forward"), call)
    backward = _recurrence(backward_item or forward_item, (*call.key, "backward"), call)
    if forward.backwards or (backward_item and not backward.backwards):
        raise Refused("go_backwards of the layers: expected forward, then backward")
    if forward.sequences != backward.sequences:
        raise Refused("layers of which one returns sequences")
    value = call.one(SEQUENCE)
    one, *more = forward.cells
    if not more and len(backward.cells) == 1 and one.is_like(backward.cells[0]):
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
        found = call.then(value, layer)
    else:
        both = [
            _chain(call, forward, value, "forward", forward.sequences),
            _chain(call, backward, value, "reverse", forward.sequences),
        ]
        size = sum(v.size for v in both) if merge == "concat" else both[0].size
        found = call.then(value, call.add(_MERGES[merge], size, reads=both))
        if merge == "ave":
            found = call.function(found, spec.function_text("affine", 0.5, 0.0))
    if forward.sequences:
        return found
    return replace(found, kind=VECTOR, steps=None, masked=False)
