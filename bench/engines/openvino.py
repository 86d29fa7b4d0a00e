"""OpenVINO: the same ONNX file, two requests whose state tensors swap roles."""

from pathlib import Path

import numpy as np
import openvino

from bench.engines import Engine, onnx_graph
from bench.engines.cases import Case, Floats
from bench.engines.onnx_graph import in_order, output_name, output_shape, state_names, state_shape

save = onnx_graph.save


class OpenVINO(Engine):
    """Each step infers one request, which reads the tensors that the other one wrote."""

    precision = "f32"

    def __init__(self, case: Case, folder: Path) -> None:
        super().__init__(case)
        settings = {
            "INFERENCE_NUM_THREADS": case.num_threads,
            "INFERENCE_PRECISION_HINT": self.precision,
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
        }
        compiled = openvino.Core().compile_model(folder / onnx_graph.FILE, "CPU", settings)
        self.y = np.zeros(output_shape(case), np.float32)
        names = state_names(case)
        # Kept: a tensor that shares an array's memory does not keep the array.
        self.buffers = buffers = [
            {name: np.zeros(state_shape(case), np.float32) for name in names} for _ in range(2)
        ]
        self.next, self.after = (
            self._request(compiled, before, after) for before, after in (buffers, buffers[::-1])
        )

    def _request(
        self,
        compiled: openvino.CompiledModel,
        before: dict[str, Floats],
        after: dict[str, Floats],
    ) -> tuple[openvino.InferRequest, Floats]:
        """Return a request, and the array where its output comes."""
        request = compiled.create_infer_request()
        outputs = {f"next_{name}": after[name] for name in before}
        last = output_name(self.case)
        if last not in outputs:
            outputs[last] = self.y
        for name, array in {"x": self.input, **before, **outputs}.items():
            request.set_tensor(name, openvino.Tensor(array, shared_memory=True))
        return request, outputs[last]

    def step(self, x: Floats, out: Floats) -> None:
        self.next[0].infer()
        self.next, self.after = self.after, self.next

    def output(self) -> Floats:
        return in_order(self.case, self.after[1]).copy()


class Bfloat16(OpenVINO):
    """The same, at liberty to compute in bfloat16."""

    precision = "bf16"
