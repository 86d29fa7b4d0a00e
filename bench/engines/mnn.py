"""MNN: the ONNX file in its converter's terms, one module whose outputs are its next inputs."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from MNN import expr, nn

from bench.engines import Engine, onnx_graph
from bench.engines.cases import Case, Floats
from bench.engines.onnx_graph import in_order, output_name, state_names, state_shape

# `MNN.tools` would install a package, to report how it is used.
_CONVERT = "import sys, _tools; _tools.mnnconvert(sys.argv)"
_FILES = {"float32": "model.mnn", "int8": "model.int8.mnn"}


def save(case: Case, tensors: dict[str, Floats], folder: Path) -> None:
    """Write the graph, and have it converted, with int8 weights too."""
    onnx_graph.save(case, tensors, folder, all_steps=True)
    for dtype, name in _FILES.items():
        arguments = ["-f", "ONNX", "--modelFile", str(folder / onnx_graph.FILE)]
        arguments += ["--MNNModel", str(folder / name)]
        if case.is_anew:
            # Its loop of small operators is wrong over many steps, or ends the process; for one it
            # is the faster way, and the only one in int8.
            arguments.append("--useOriginRNNImpl")
        if dtype == "int8":
            arguments += ["--weightQuantBits", "8"]
        command = [sys.executable, "-c", _CONVERT, *arguments]
        subprocess.run(command, capture_output=True, check=True)  # it prints a page


class MNN(Engine):
    """`Module.forward` of variables; those of the state that come back are given as they are."""

    dtype = "float32"

    def __init__(self, case: Case, folder: Path) -> None:
        super().__init__(case)
        config = {"backend": "CPU", "numThread": case.num_threads, "precision": "high"}
        states = state_names(case)
        outputs = [f"next_{name}" for name in states]
        last = output_name(case)
        if last not in outputs:
            outputs = [last]
        self.last = outputs.index(last)
        self.module = nn.load_module_from_file(
            str(folder / _FILES[self.dtype]),
            ["x", *states],
            outputs,
            runtime_manager=nn.create_runtime_manager((config,)),
            shape_mutable=False,
        )
        self.variable = expr.placeholder(list(case.input_shape), expr.NCHW)
        self.state = [expr.placeholder(list(state_shape(case)), expr.NCHW) for _ in states]
        for each in self.state:
            each.write(np.zeros(state_shape(case), np.float32))
        self.y: Floats = self.out

    def step(self, x: Any, out: Floats) -> None:
        self.variable.write(x)
        found = self.module.forward([self.variable, *self.state])
        self.y = found[self.last].read()
        if self.state:
            self.state = found

    def output(self) -> Floats:
        return in_order(self.case, self.y).copy()


class Int8(MNN):
    """`weightQuantBits`: weights of int8; its LSTM multiplies them in float32."""

    dtype = "int8"
