"""ONNX Runtime: `run` with arrays fed back, and I/O binding with buffers that swap roles."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from bench.cases import Case, Floats
from bench.engines import Engine

_FILE = "model.onnx"
# PyTorch's gates in the order of the ONNX operators: i o f g, and z r n.
_GATES = {"LSTM": (0, 3, 1, 2), "GRU": (1, 0, 2)}
_PARTS = {"LSTM": ("h", "c"), "GRU": ("h",)}


def _state_names(case: Case) -> list[str]:
    return [f"{part}{n}" for n in range(case.num_layers) for part in _PARTS[case.cell]]


def save(case: Case, tensors: dict[str, Floats], folder: Path) -> None:
    """Write a graph of one step: x and the state in, the next state out.

    Its output is the last layer's h. A layer's h (1, 1, H), directions first, is the next layer's
    input (1, 1, I), time first, so nothing stands between the layers.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    def reordered(tensor: Floats) -> Floats:
        return np.concatenate([np.split(tensor, len(order))[gate] for gate in order])

    def values(names: list[str]) -> list[Any]:
        shape = [1, 1, case.hidden_size]
        return [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in names]

    order = _GATES[case.cell]
    options: dict[str, Any] = {"linear_before_reset": 1} if case.cell == "GRU" else {}
    nodes, weights = [], []
    x = "x"
    for n in range(case.num_layers):
        own = {
            name: reordered(tensors[f"layers.{n}.{name}"])
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        }
        bias = np.concatenate([own["bias_ih"], own["bias_hh"]])
        for name, array in (("w", own["weight_ih"]), ("r", own["weight_hh"]), ("b", bias)):
            weights.append(numpy_helper.from_array(array[None], f"{name}{n}"))
        state = [f"{part}{n}" for part in _PARTS[case.cell]]
        inputs = [x, f"w{n}", f"r{n}", f"b{n}", "", *state]
        outputs = ["", *(f"next_{name}" for name in state)]
        nodes.append(
            helper.make_node(case.cell, inputs, outputs, hidden_size=case.hidden_size, **options)
        )
        x = outputs[1]
    names = _state_names(case)
    graph = helper.make_graph(
        nodes, str(case), values(["x", *names]), values([f"next_{n}" for n in names]), weights
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, str(folder / _FILE))


def _session(folder: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(
        str(folder / _FILE), options, providers=["CPUExecutionProvider"]
    )


class Run(Engine):
    """`InferenceSession.run`, its outputs fed back as inputs."""

    def __init__(self, case: Case, folder: Path) -> None:
        super().__init__(case)
        self.run = _session(folder).run
        self.names = _state_names(case)
        self.feed = {"x": self.input.reshape(1, 1, -1)}
        for name in self.names:
            self.feed[name] = np.zeros((1, 1, case.hidden_size), np.float32)
        self.last_h = f"h{case.num_layers - 1}"

    def step(self, x: Floats, out: Floats) -> None:
        self.feed.update(zip(self.names, self.run(None, self.feed), strict=True))

    def output(self) -> Floats:
        return self.feed[self.last_h].reshape(-1).copy()


class Binding(Engine):
    """Two sets of state buffers; each step reads one and writes the other, no copies."""

    def __init__(self, case: Case, folder: Path) -> None:
        super().__init__(case)
        session = _session(folder)
        self.run = session.run_with_iobinding
        x = onnxruntime.OrtValue.ortvalue_from_numpy(self.input.reshape(1, 1, -1))
        shape = (1, 1, case.hidden_size)
        names = _state_names(case)
        buffers = [{name: np.zeros(shape, np.float32) for name in names} for _ in range(2)]
        last_h = f"h{case.num_layers - 1}"
        self.next, self.after = (
            (self._bind(session, x, before, after), after[last_h])
            for before, after in (buffers, buffers[::-1])
        )

    @staticmethod
    def _bind(
        session: onnxruntime.InferenceSession,
        x: onnxruntime.OrtValue,
        before: dict[str, Floats],
        after: dict[str, Floats],
    ) -> onnxruntime.IOBinding:
        # On the CPU an OrtValue of an array shares its memory.
        binding = session.io_binding()
        binding.bind_ortvalue_input("x", x)
        value = onnxruntime.OrtValue.ortvalue_from_numpy
        for name in before:
            binding.bind_ortvalue_input(name, value(before[name]))
            binding.bind_ortvalue_output(f"next_{name}", value(after[name]))
        return binding

    def step(self, x: Floats, out: Floats) -> None:
        self.run(self.next[0])
        self.next, self.after = self.after, self.next

    def output(self) -> Floats:
        return self.after[1].reshape(-1).copy()
