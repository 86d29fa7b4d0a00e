"""The ONNX file that ONNX Runtime and OpenVINO read."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.engines.cases import Case, Floats

FILE, INT8_FILE = "model.onnx", "model.int8.onnx"
# PyTorch's gates in the order of the ONNX operators: i o f g, and z r n.
_GATES = {"LSTM": (0, 3, 1, 2), "GRU": (1, 0, 2)}
_PARTS = {"LSTM": ("h", "c"), "GRU": ("h",)}


def state_names(case: Case) -> list[str]:
    """Return the inputs of the state; an output is called ``next_`` and the name."""
    if case.is_anew:
        return []
    return [f"{part}{n}" for n in range(case.num_layers) for part in _PARTS[case.cell]]


def state_shape(case: Case) -> tuple[int, int, int]:
    """(D, S, H)."""
    return case.num_directions, case.num_streams, case.hidden_size


def output_name(case: Case) -> str:
    """Return the output of the network: y, or the last h."""
    return "y" if case.vocab_size or case.is_anew else f"next_h{case.num_layers - 1}"


def output_shape(case: Case) -> tuple[int, ...]:
    """(T, D, S, H) as the operators have it, or (1, S, V) of logits."""
    if case.vocab_size:
        return case.output_shape
    return (case.num_steps, *state_shape(case)) if case.is_anew else state_shape(case)


def in_order(case: Case, y: Floats) -> Floats:
    """Return an output as (T, S, O)."""
    if case.is_anew:
        y = y.transpose(0, 2, 1, 3)
    return y.reshape(case.output_shape)


def save(case: Case, tensors: dict[str, Floats], folder: Path, all_steps: bool = False) -> None:
    """Write a graph: x (T, S, I) and the state in; the next state, y or both out.

    In one step a layer's h (1, S, H), directions first, is the next layer's input (1, S, I), time
    first, so nothing stands between the layers; but what an operator answers of all steps, without
    its axis of directions, if ``all_steps``: MNN loses a state that a layer reads.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    def reordered(tensor: Floats) -> Floats:
        return np.concatenate([np.split(tensor, len(order))[gate] for gate in order])

    def stacked(n: int, name: str) -> Floats:
        suffixes = ("", "_reverse")[: case.num_directions]
        return np.stack([reordered(tensors[f"layers.{n}.{name}{suffix}"]) for suffix in suffixes])

    def value(name: str, shape: tuple[int, ...], dtype: int = TensorProto.FLOAT) -> Any:
        return helper.make_tensor_value_info(name, dtype, shape)

    if case.is_anew and case.num_layers > 1:
        raise ValueError(f"{case} over {case.num_steps} steps: only one layer is written")
    order = _GATES[case.cell]
    options: dict[str, Any] = {"hidden_size": case.hidden_size}
    if case.cell == "GRU":
        options["linear_before_reset"] = 1
    if case.num_directions == 2:
        options["direction"] = "bidirectional"
    nodes: list[Any] = []
    weights: dict[str, NDArray[Any]] = {}
    x = "x"
    if case.vocab_size:
        weights["embedding"] = tensors["embedding.weight"]
        nodes.append(helper.make_node("Gather", ["embedding", "x"], ["embedded"]))
        x = "embedded"
    for n in range(case.num_layers):
        weights[f"w{n}"] = stacked(n, "weight_ih")
        weights[f"r{n}"] = stacked(n, "weight_hh")
        biases = [stacked(n, "bias_ih"), stacked(n, "bias_hh")]
        weights[f"b{n}"] = np.concatenate(biases, axis=1)
        state = [] if case.is_anew else [f"{part}{n}" for part in _PARTS[case.cell]]
        inputs = [x, f"w{n}", f"r{n}", f"b{n}", *(["", *state] if state else [])]
        is_read = all_steps and n + 1 < case.num_layers
        ys = f"ys{n}" if is_read else ""
        outputs = ["y"] if case.is_anew else [ys, *(f"next_{name}" for name in state)]
        nodes.append(helper.make_node(case.cell, inputs, outputs, **options))
        x = outputs[-1] if case.is_anew else outputs[1]
        if is_read:
            x = f"x{n + 1}"
            weights["axis"] = np.array([1])
            nodes.append(helper.make_node("Squeeze", [ys, "axis"], [x]))
    if case.vocab_size:
        n = case.num_layers
        weights["w"] = np.ascontiguousarray(tensors[f"layers.{n}.weight"].T)
        weights["b"] = tensors[f"layers.{n}.bias"]
        nodes.append(helper.make_node("MatMul", [x, "w"], ["product"]))
        nodes.append(helper.make_node("Add", ["product", "b"], ["y"]))
    names = state_names(case)
    dtype = TensorProto.INT64 if case.vocab_size else TensorProto.FLOAT
    ins = [value("x", case.input_shape, dtype)]
    ins += [value(name, state_shape(case)) for name in names]
    outs = [value(f"next_{name}", state_shape(case)) for name in names]
    if output_name(case) == "y":
        outs.append(value("y", output_shape(case)))
    initial = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, str(case), ins, outs, initial)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, str(folder / FILE))
