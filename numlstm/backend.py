"""The standard interface of ONNX backends: `prepare`, `run_model`, `run_node`.

A graph that is one RNN, GRU or LSTM runs with all its inputs (weights too) and outputs, for any
batch; any other graph as `numlstm.from_onnx` converts it, if it has no states.

Examples
--------
>>> prepared = numlstm.backend.prepare(onnx.load("model.onnx"))
>>> (ys,) = prepared.run([xs])
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numlstm.errors import listed
from numlstm.model import Model
from numlstm.spec import Network, Weights, WeightsError

try:
    import onnx
    from onnx.backend.base import Backend, BackendRep, namedtupledict
except ImportError as error:
    raise ImportError("numlstm.backend needs onnx: pip install 'numlstm[onnx]'") from error

Array = NDArray[Any]

_KINDS = ("RNN", "GRU", "LSTM")


class _OperatorRep(BackendRep):
    """One RNN, GRU or LSTM: a stream per direction and entry of the batch."""

    def __init__(self, model: onnx.ModelProto) -> None:
        graph = model.graph
        self._node = graph.node[0]
        self._kind = self._node.op_type
        self._constants = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
        self._inputs = [i.name for i in graph.input if i.name not in self._constants]
        self._outputs = [output.name for output in graph.output]
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in self._node.attribute}
        self._attributes = {
            name: value.decode() if isinstance(value, bytes) else value
            for name, value in attributes.items()
        }
        self._built: tuple[Any, list[Model]] | None = None

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Return the outputs of the graph for its inputs: in their order, or by name."""
        values = self._constants | _named(self._inputs, inputs)
        given = dict(zip(_INPUTS, (values.get(name) for name in self._node.input), strict=False))
        found = dict(zip(self._node.output, self._evaluate(given), strict=False))
        outputs = namedtupledict("Outputs", self._outputs)
        return outputs(*(found[name] for name in self._outputs))

    def _evaluate(self, given: Mapping[str, Array | None]) -> tuple[Array, Array, Array]:
        """Return Y (T, D, N, H), Y_h and Y_c (D, N, H), or with the batch first."""
        batch_major = bool(self._attributes.get("layout", 0))
        models = self._models(given)
        xs, h, c = given.get("X"), given.get("initial_h"), given.get("initial_c")
        if xs is None or xs.ndim != 3 or xs.dtype != np.float32:
            raise ValueError(f"X is {_described(xs)}, expected float32 (steps, batch, numbers)")
        if batch_major:
            xs = xs.swapaxes(0, 1)
            h, c = (None if a is None else a.swapaxes(0, 1) for a in (h, c))
        size, (length, batch, _) = models[0].output_size, xs.shape
        lengths = given.get("sequence_lens")
        lengths = np.full(batch, length) if lengths is None else lengths
        if lengths.shape != (batch,) or lengths.min() < 0 or lengths.max() > length:
            raise ValueError(f"sequence_lens {lengths}, expected {batch} from 0 to {length}")
        y: Array = np.zeros((length, len(models), batch, size), np.float32)
        state: dict[str, Array] = {
            name: np.zeros((len(models), batch, size), np.float32) if a is None else np.array(a)
            for name, a in (("h", h), ("c", c))
        }
        direction = self._attributes.get("direction", "forward")
        for d, model in enumerate(models):
            order = slice(None, None, -1 if direction == "reverse" or d else 1)
            for n in range(batch):
                steps = xs[: lengths[n], n][order]
                rows, after = _run(model, steps, {k: a[d, n] for k, a in state.items()})
                y[: lengths[n], d, n] = rows[order]
                for name, row in after.items():
                    state[name][d, n] = row
        if batch_major:
            y = y.transpose(2, 0, 1, 3)
            state = {name: a.swapaxes(0, 1) for name, a in state.items()}
        return y, state["h"], state["c"]

    def _models(self, given: Mapping[str, Array | None]) -> list[Model]:
        """Return a model for each direction, those of the last call if the weights are its."""
        from numlstm.convert.onnx.operators.recurrent import directions

        weights = {name: given.get(name) for name in "WRBP"}
        key = [None if a is None else (a.shape, a.tobytes()) for a in weights.values()]
        if self._built is None or self._built[0] != key:
            found = directions(
                self._kind, self._attributes.get, {**weights, "H0": None, "C0": None}
            )
            self._built = key, [_model(d.layer, d.tensors) for d in found]
        return self._built[1]


_INPUTS = ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P")


def _model(layer: Any, tensors: Mapping[str, Array]) -> Model:
    named = {
        f"layers.0.{name}": np.ascontiguousarray(tensor, np.float32)
        for name, tensor in tensors.items()
    }
    return Model(Weights(Network((layer,)), named))


def _run(model: Model, xs: Array, state: dict[str, Array]) -> tuple[Array, dict[str, Array]]:
    """Return the answers of one sequence and the h (and c) after it."""
    stream = model.stream()
    names = {name.rpartition(".")[2]: name for name in stream.state}
    stream.state = {name: state[short] for short, name in names.items()}
    if not len(xs):  # as in ONNX Runtime: no answer is a state of zeros
        none = np.zeros((0, model.output_size), np.float32)
        return none, {short: np.zeros_like(state[short]) for short in names}
    rows = stream.run(np.ascontiguousarray(xs))
    after = stream.state
    return rows, {short: after[name] for short, name in names.items()}


def _named(names: Sequence[str], inputs: Any) -> dict[str, Array]:
    """Return inputs by name that are given by name, in order, or alone."""
    if isinstance(inputs, Mapping):
        found = {name: np.asarray(value) for name, value in inputs.items()}
    else:
        values = inputs if isinstance(inputs, list | tuple) else [inputs]
        if len(values) != len(names):
            raise ValueError(f"{len(values)} inputs, expected {len(names)}: {', '.join(names)}")
        found = {name: np.asarray(value) for name, value in zip(names, values, strict=True)}
    if found.keys() != set(names):
        raise ValueError(f"inputs {', '.join(found)}, expected {', '.join(names)}")
    return found


def _described(array: Array | None) -> str:
    return "missing" if array is None else f"{array.dtype} {array.shape}"


# Whole graphs -------------------------------------------------------------------------------------


class _GraphRep(BackendRep):
    """A graph as one network, run for each entry of the batch."""

    def __init__(self, model: onnx.ModelProto) -> None:
        from numlstm.convert.onnx import convert, find
        from numlstm.convert.onnx.files import read

        found = find(read(model))
        outputs = [output.name for output in model.graph.output]
        answer = found.answers[0].name
        problems = [f"input {state.name!r} is a state" for state in found.roles.states]
        problems += [f"output {name!r} is another one" for name in outputs if name != answer]
        others = [part.name for part in found.roles.data[1:]]
        problems += [f"input {name!r} is a second one" for name in others]
        if problems:
            raise WeightsError(
                "the graph has more than one sequence and its answer; use numlstm.from_onnx:"
                + listed(problems)
            )
        self._found, self._answer = found, found.answers[0]
        self._model = Model(convert(model))
        self._outputs = outputs
        self._inputs = [found.roles.main.name, *(given.input.name for given in found.roles.given)]

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Return the output of the graph for its inputs: in their order, or by name."""
        roles, data = self._found.roles, self._found.roles.main
        values = _named(self._inputs, inputs)
        x = values.pop(data.name)
        if x.ndim != len(data.input.shape):
            raise ValueError(f"{data.name} {x.shape}, expected {len(data.input.shape)} axes")
        axes = [n for n in (data.time, data.features) if n is not None]
        rest = [n for n in range(x.ndim) if n not in axes]
        entries = np.transpose(x, [*rest, *axes]).reshape(-1, *(x.shape[n] for n in axes))
        steps = 1 if data.time is None else x.shape[data.time]
        for given in roles.given:
            found, of_length = values[given.input.name], given.value == "length"
            expected = steps if of_length else given.value
            if (found != expected).any():
                why = "the length of the input" if of_length else "as nothing is padded or reset"
                raise ValueError(f"{given.input.name} {found}, expected {expected}, {why}")
        rows = [self._one(entry, steps) for entry in entries]
        shape = rows[0].shape
        singles = [n for n, size in enumerate(shape) if size == 1 and n != self._answer.time]
        if len(rows) > 1 and not singles:
            raise ValueError(f"the answer {shape} of one entry has no axis for {len(rows)}")
        outputs = namedtupledict("Outputs", self._outputs)
        return outputs(np.concatenate(rows, singles[0]) if len(rows) > 1 else rows[0])

    def _one(self, entry: Array, steps: int) -> Array:
        """Return the answer to one entry of the batch, in the shape of the output."""
        network, answer = self._model.network, self._answer
        if network.reads_tokens:
            xs = entry.reshape(steps).astype(np.int32)
        else:
            xs = np.ascontiguousarray(entry.reshape(steps, -1), np.float32)
        ys: Array = self._model.run(xs)
        if answer.time is None:
            return np.asarray(ys[-1].reshape(answer.shape))
        return np.asarray(np.moveaxis(ys.reshape(len(ys), *answer.shape), 0, answer.time))


# The interface ------------------------------------------------------------------------------------


class NumlstmBackend(Backend):
    """Runs models with RNN, GRU and LSTM on the CPU."""

    @classmethod
    def is_compatible(cls, model: onnx.ModelProto, device: str = "CPU", **kwargs: Any) -> bool:
        """Tell whether `prepare` would succeed."""
        try:
            cls.prepare(model, device, **kwargs)
        except ValueError:
            return False
        return True

    @classmethod
    def prepare(cls, model: onnx.ModelProto, device: str = "CPU", **kwargs: Any) -> BackendRep:
        """Return the model, ready to run.

        Raises
        ------
        ValueError
            If the device is not the CPU, or (`WeightsError`) if the model cannot be converted.
        """
        if not cls.supports_device(device):
            raise ValueError(f"device {device!r}, expected 'CPU'")
        super().prepare(model, device, **kwargs)
        nodes = model.graph.node
        if len(nodes) == 1 and nodes[0].op_type in _KINDS and not nodes[0].domain:
            return _OperatorRep(model)
        return _GraphRep(model)

    @classmethod
    def run_node(
        cls,
        node: onnx.NodeProto,
        inputs: Any,
        device: str = "CPU",
        outputs_info: Any = None,
        **kwargs: Any,
    ) -> tuple[Any, ...]:
        """Run one RNN, GRU or LSTM."""
        super().run_node(node, inputs, device, outputs_info, **kwargs)
        if node.op_type not in _KINDS:
            raise ValueError(f"operator {node.op_type}, expected one of {', '.join(_KINDS)}")
        info = onnx.helper.make_tensor_value_info
        graph = onnx.helper.make_graph(
            [node],
            "node",
            [info(name, onnx.TensorProto.FLOAT, None) for name in node.input if name],
            [info(name, onnx.TensorProto.FLOAT, None) for name in node.output if name],
        )
        return _OperatorRep(onnx.helper.make_model(graph)).run(inputs)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """Tell whether a device is the CPU."""
        return device.partition(":")[0].upper() == "CPU"


is_compatible = NumlstmBackend.is_compatible
prepare = NumlstmBackend.prepare
run_model = NumlstmBackend.run_model
run_node = NumlstmBackend.run_node
supports_device = NumlstmBackend.supports_device
