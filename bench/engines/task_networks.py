"""The bundled networks run by other engines, with the face of a `Model` that pipelines look at."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

import numlstm
from numlstm import spec
from numlstm.spec import parse_function

Floats = NDArray[np.float32]
Ids = NDArray[np.int32]
State = list[Any]


class Network(Protocol):
    """A network whose state is carried by hand."""

    def initial(self) -> State:
        """Return the state before the first step."""
        ...

    def __call__(
        self, xs: NDArray[Any], memory: Floats | None, ids: Ids | None, state: State
    ) -> Any:
        """Return ys (T, O) of xs, and the state after them."""
        ...


class TorchNetwork:
    """PyTorch."""

    def __init__(self, model: numlstm.Model, last_only: bool) -> None:
        import torch

        from weights.scores.pytorch import TorchNetwork

        self._tensor = torch.from_numpy
        self._net = TorchNetwork(model.weights, last_only)
        self.initial = self._net.initial

    def __call__(
        self, xs: NDArray[Any], memory: Floats | None, ids: Ids | None, state: State
    ) -> Any:
        given = (None if each is None else self._tensor(each) for each in (memory, ids))
        ys, state = self._net(self._tensor(xs), *given, state=state)
        return ys.numpy(), state


class OnnxNetwork:
    """ONNX Runtime, one thread."""

    def __init__(self, model: numlstm.Model, last_only: bool) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        graph, self._initial = onnx_graph(model.weights, last_only)
        self._session = onnxruntime.InferenceSession(
            graph, options, providers=["CPUExecutionProvider"]
        )
        self._names = {each.name for each in self._session.get_inputs()}

    def initial(self) -> State:
        return list(self._initial)

    def __call__(
        self, xs: NDArray[Any], memory: Floats | None, ids: Ids | None, state: State
    ) -> Any:
        given = {"xs": xs, "memory": memory, "ids": ids}
        inputs = {name: value for name, value in given.items() if name in self._names}
        inputs |= {f"state{n}": value for n, value in enumerate(state)}
        ys, *state = self._session.run(None, inputs)
        return ys, state


def onnx_graph(weights: numlstm.Weights, last_only: bool) -> tuple[bytes, list[Floats]]:
    """Return a graph of xs, state, and a memory and its ids if it reads them; its first state."""
    from onnx import TensorProto, helper, numpy_helper

    nodes: list[Any] = []
    initial: dict[str, NDArray[Any]] = {}
    state: list[Floats] = []
    outputs: list[str] = []
    last_only = last_only or not weights.network.is_causal

    def add(kind: str, *inputs: str, num: int = 1, **attributes: Any) -> Any:
        names = [f"v{len(nodes)}_{n}" for n in range(num)]
        nodes.append(helper.make_node(kind, list(inputs), names, **attributes))
        return names if num > 1 else names[0]

    def constant(value: NDArray[Any]) -> str:
        name = f"w{len(initial)}"
        initial[name] = np.ascontiguousarray(value)
        return name

    def ints(*values: int) -> str:
        return constant(np.array(values, np.int64))

    def carried(value: Floats) -> str:
        state.append(value)
        return f"state{len(state) - 1}"

    def lstm(layer: numlstm.LSTM, own: dict[str, Floats], x: str) -> str:
        suffixes = ("", "_reverse")[: 1 + (layer.direction == "bidirectional")]

        def stacked(name: str) -> Floats:
            gates = [np.split(own[name + suffix], 4) for suffix in suffixes]
            return np.stack([np.concatenate([g[0], g[3], g[1], g[2]]) for g in gates])

        size = layer.hidden_size
        zeros = np.zeros((len(suffixes), 1, size), np.float32)
        hs, h, c = add(
            "LSTM",
            add("Unsqueeze", x, ints(1)),
            constant(stacked("weight_ih")),
            constant(stacked("weight_hh")),
            constant(np.concatenate([stacked("bias_ih"), stacked("bias_hh")], axis=1)),
            "",
            carried(zeros),
            carried(zeros),
            num=3,
            hidden_size=size,
            direction="forward" if len(suffixes) == 1 else "bidirectional",
        )
        outputs.extend([h, c])
        if layer.outputs == "last":
            return str(add("Reshape", h, ints(1, -1)))
        return str(add("Reshape", add("Transpose", hs, perm=(0, 2, 1, 3)), ints(0, -1)))

    values = {-1: "xs"}
    for n, (prefix, layer) in enumerate(weights.network.named_layers()):
        own = {name: weights.tensors[f"{prefix}.{name}"] for name in layer.tensors()}
        sources = [values[source] for source in weights.network.sources(n)]
        x = sources[0] if len(sources) == 1 else add("Concat", *sources, axis=1)
        match layer:
            case numlstm.Embedding():
                values[n] = add("Gather", constant(own["weight"]), x)
            case numlstm.LSTM():
                values[n] = lstm(layer, own, x)
            case numlstm.Linear():
                y = add("MatMul", x, constant(own["weight"].T))
                y = add("Add", y, constant(own["bias"])) if layer.bias else y
                values[n] = add(layer.activation.title(), y) if layer.activation else y
            case numlstm.Pooling(mode="max"):
                assert last_only, "a maximum after every step is not written"
                so_far = carried(np.full((1, layer.input_size), -np.inf, np.float32))
                values[n] = add("Max", so_far, add("ReduceMax", x, axes=(0,), keepdims=1))
                outputs.append(values[n])
            case numlstm.BatchNorm():
                scale = own.get("weight", 1) / np.sqrt(own["running_var"] + layer.eps)
                shift = own.get("bias", 0) - own["running_mean"] * scale
                values[n] = add("Add", add("Mul", x, constant(scale)), constant(shift))
            case numlstm.Attention(score="dot", memory=""):
                scores = add("MatMul", x, add("Transpose", "memory", perm=(1, 0)))
                values[n] = add("MatMul", add("Softmax", scores, axis=1), "memory")
            case numlstm.Copy():
                written, gate, query = sources
                scores = add("MatMul", query, add("Transpose", "memory", perm=(1, 0)))
                copies = add("Sub", constant(np.ones(1, np.float32)), gate)
                shares = add("Mul", copies, add("Softmax", scores, axis=1))
                ids = add("Cast", "ids", to=TensorProto.INT64)
                ids = add("Expand", ids, add("Shape", shares))
                written = add("Mul", gate, written)
                values[n] = add("ScatterElements", written, ids, shares, axis=1, reduction="add")
            case numlstm.Activation():
                match parse_function(layer.function):
                    case "affine", (alpha, beta):
                        scaled = add("Mul", x, constant(np.array([alpha], np.float32)))
                        values[n] = add("Add", scaled, constant(np.array([beta], np.float32)))
                    case "log", ():
                        values[n] = add("Log", x)
            case numlstm.Softmax():
                values[n] = add("Softmax", x, axis=1)
            case numlstm.LogSoftmax():
                values[n] = add("LogSoftmax", x, axis=1)
            case numlstm.Concat():
                values[n] = x
            case spec.Layer():
                raise TypeError(f"{layer} is in no bundled network")
    nodes.append(helper.make_node("Identity", [values[len(values) - 2]], ["ys"]))

    def value(name: str, shape: tuple[Any, ...], dtype: int = TensorProto.FLOAT) -> Any:
        return helper.make_tensor_value_info(name, dtype, shape)

    network = weights.network
    is_tokens = network.reads_tokens
    ins = [
        value("xs", ("T",), TensorProto.INT32)
        if is_tokens
        else value("xs", ("T", network.input_size))
    ]
    ins += [value(f"state{n}", each.shape) for n, each in enumerate(state)]
    if network.memory_size is not None:
        ins.append(value("memory", ("M", network.memory_size)))
    if network.memory_vocab_size is not None:
        ins.append(value("ids", ("M",), TensorProto.INT32))
    outs = [value("ys", ("N", network.output_size))]
    outs += [value(name, each.shape) for name, each in zip(outputs, state, strict=True)]
    stored = [numpy_helper.from_array(array, name) for name, array in initial.items()]
    graph = helper.make_graph(nodes, "network", ins, outs, stored)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return proto.SerializeToString(), state


class PeerModel:
    """A `Model` whose network is run by another engine; all else is that of numlstm's model."""

    def __init__(
        self, model: numlstm.Model, make: Callable[[numlstm.Model, bool], Network], last_only: bool
    ) -> None:
        self._model = model
        self.engine = make(model, last_only)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def run(self, xs: ArrayLike) -> Floats:
        """Return ys (T, O) of a whole sequence."""
        return self.stream().run(xs)

    def stream(
        self,
        lookahead: None = None,
        memory: Floats | None = None,
        memory_ids: Ids | None = None,
    ) -> "PeerStream":
        """Return a sequence in progress."""
        return PeerStream(self, memory, memory_ids)


class PeerStream:
    """A `Stream` of another engine: what the pipelines call of it."""

    def __init__(self, model: PeerModel, memory: Floats | None, ids: Ids | None) -> None:
        self.model = model
        self.memory, self.ids = memory, ids
        self.reset()

    def reset(self) -> None:
        """Return to the initial state."""
        self.kept: State = self.model.engine.initial()

    @property
    def state(self) -> dict[str, Floats]:
        """H of the first layer, to be set."""
        return {"layers.0.h": np.asarray(self.kept[0]).reshape(-1)}

    @state.setter
    def state(self, values: dict[str, Floats]) -> None:
        first = self.kept[0]
        given = values["layers.0.h"].reshape(tuple(first.shape))
        self.kept[0] = given if isinstance(first, np.ndarray) else first.new_tensor(given)

    def run(self, xs: ArrayLike) -> Floats:
        """Take T steps."""
        dtype = np.int32 if self.model.vocab_size else np.float32
        ys, self.kept = self.model.engine(np.asarray(xs, dtype), self.memory, self.ids, self.kept)
        found: Floats = ys
        return found

    def step(self, x: ArrayLike) -> Floats:
        """Take one step."""
        ys: Floats = self.run(np.asarray(x)[None])[0]
        return ys

    def tokens(self, first_id: int, stop: Iterable[int] = (), **how: Any) -> Iterator[int]:
        """Yield the likeliest tokens, one by one."""
        if how["temperature"]:
            raise ValueError("the peers take the likeliest token: temperature must be 0")
        token, ends = first_id, set(stop)
        while True:
            token = int(self.step(token).argmax())
            yield token
            if token in ends:
                return

    def copy(self) -> Self:
        """Return a new stream that continues from here on its own."""
        twin = type(self).__new__(type(self))
        twin.__dict__ |= self.__dict__
        twin.kept = list(self.kept)
        return twin


ENGINES: dict[str, Callable[[numlstm.Model, bool], Network]] = {
    "torch": TorchNetwork,
    "onnxruntime": OnnxNetwork,
}
