"""ONNX Runtime: `run` with arrays fed back, and I/O binding with buffers that swap roles."""

from pathlib import Path

import numpy as np
import onnxruntime

from bench.engines import Engine, onnx_graph
from bench.engines.cases import Case, Floats
from bench.engines.onnx_graph import in_order, output_name, output_shape, state_names, state_shape

save = onnx_graph.save


def _session(case: Case, path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = case.num_threads
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


class Run(Engine):
    """`InferenceSession.run`, its outputs fed back as inputs."""

    def __init__(self, case: Case, folder: Path) -> None:
        super().__init__(case)
        self.run = _session(case, folder / onnx_graph.FILE).run
        self.names = state_names(case)
        self.feed = {"x": self.input}
        for name in self.names:
            self.feed[name] = np.zeros(state_shape(case), np.float32)
        self.last_h = f"h{case.num_layers - 1}"

    def step(self, x: Floats, out: Floats) -> None:
        self.feed.update(zip(self.names, self.run(None, self.feed), strict=True))

    def output(self) -> Floats:
        return in_order(self.case, self.feed[self.last_h]).copy()


class Binding(Engine):
    """Two sets of state buffers; each step reads one and writes the other, no copies."""

    file = onnx_graph.FILE

    def __init__(self, case: Case, folder: Path) -> None:
        super().__init__(case)
        session = _session(case, folder / self.file)
        self.run = session.run_with_iobinding
        self.y = np.zeros(output_shape(case), np.float32)
        names = state_names(case)
        buffers = [
            {name: np.zeros(state_shape(case), np.float32) for name in names} for _ in range(2)
        ]
        self.next, self.after = (
            self._bind(session, before, after) for before, after in (buffers, buffers[::-1])
        )

    def _bind(
        self,
        session: onnxruntime.InferenceSession,
        before: dict[str, Floats],
        after: dict[str, Floats],
    ) -> tuple[onnxruntime.IOBinding, Floats]:
        """Return a binding, and the array where its output comes."""
        # On the CPU an OrtValue of an array shares its memory.
        value = onnxruntime.OrtValue.ortvalue_from_numpy
        binding = session.io_binding()
        binding.bind_ortvalue_input("x", value(self.input))
        outputs = {f"next_{name}": after[name] for name in before}
        last = output_name(self.case)
        if last not in outputs:
            outputs[last] = self.y
        for name in before:
            binding.bind_ortvalue_input(name, value(before[name]))
        for name, array in outputs.items():
            binding.bind_ortvalue_output(name, value(array))
        return binding, outputs[last]

    def step(self, x: Floats, out: Floats) -> None:
        self.run(self.next[0])
        self.next, self.after = self.after, self.next

    def output(self) -> Floats:
        return in_order(self.case, self.after[1]).copy()
