"""ONNX Runtime's dynamic quantisation: int8 weights, activations of 8 bits scaled at each step."""

import logging
from pathlib import Path

from bench.engines import onnx_graph
from bench.engines.cases import Case, Floats
from bench.engines.onnxruntime import Binding


def save(case: Case, tensors: dict[str, Floats], folder: Path) -> None:
    """Write the graph, and have it quantised."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    from numlstm.kernels.cpu import LEVEL

    onnx_graph.save(case, tensors, folder)
    # Without VNNI its sums of pairs of products saturate: outputs were wrong by 0.08 to 0.3.
    saturates = LEVEL.machine == "x86_64" and "vnni" not in LEVEL.name
    logging.getLogger().setLevel(logging.ERROR)  # it recommends a preparation for other graphs
    quantize_dynamic(
        folder / onnx_graph.FILE,
        folder / onnx_graph.INT8_FILE,
        weight_type=QuantType.QInt8,
        reduce_range=saturates,
    )


class Int8(Binding):
    """I/O binding of the quantised graph."""

    file = onnx_graph.INT8_FILE
