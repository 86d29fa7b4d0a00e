"""ONNX Runtime's dynamic quantisation: int8 weights, activations of 8 bits scaled at each step."""

import logging
from pathlib import Path

from bench.engines import onnx_graph
from bench.engines.cases import Case, Floats
from bench.engines.onnxruntime import Binding

_FILE = "model.int8.onnx"


def save(case: Case, tensors: dict[str, Floats], folder: Path) -> None:
    """Write the graph, and have it quantised."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    onnx_graph.save(case, tensors, folder)
    logging.getLogger().setLevel(logging.ERROR)  # it recommends a preparation for other graphs
    quantize_dynamic(folder / onnx_graph.FILE, folder / _FILE, weight_type=QuantType.QInt8)


class Int8(Binding):
    """I/O binding of the quantised graph."""

    file = _FILE
