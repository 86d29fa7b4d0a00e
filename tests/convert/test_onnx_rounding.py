"""Graphs in ONNX that round, and those that were fused: what they are in float32.

Each is held in there to its own weights in float32; here, what it says of itself to what ONNX
Runtime answers, and the network to the float weights.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import numlstm
from numlstm.quantize import encoded
from numlstm.spec import WeightsError
from tests.lazy import Lazy, from_onnx, helper, numpy_helper, onnx, onnxruntime

quantization = Lazy("onnxruntime.quantization")

MS = "com.microsoft"
I, H, O = 5, 8, 3  # noqa: E741
F32, F16, I8, U8, I32 = 1, 10, 3, 2, 6


def numbers(*shape: int, seed: int = 0, scale: float = 0.6) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, scale, shape).astype(np.float32)


def rounded(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-128, 128, shape).astype(np.int8)


def model(
    nodes: list[Callable[[], Any]],
    constants: dict[str, np.ndarray],
    *,
    opset: int = 17,
    kind: int = F32,
    size: int | None = I,
) -> "onnx.ModelProto":
    """Return a graph from x (t, 1, size), or token ids (t, 1), to y."""
    shape = ["t", 1] if size is None else ["t", 1, size]
    info = helper.make_tensor_value_info
    tensors = [numpy_helper.from_array(np.asarray(a), name) for name, a in constants.items()]
    graph = helper.make_graph(
        [make() for make in nodes],
        "g",
        [info("x", 7 if size is None else kind, shape)],
        [info("y", kind, None)],
        tensors,
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid(MS, 1)]
    found = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    found.graph.output[0].CopyFrom(info("y", kind, [None] * rank_of(found)))
    return found


def rank_of(graph: Any) -> int:
    """Return how many axes the answer has, as ONNX Runtime infers them."""
    try:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        session = onnxruntime.InferenceSession(graph.SerializeToString(), options)
    except Exception:  # a graph that is to be refused
        return 3
    return len(session.get_outputs()[0].shape or [None] * 3)


def node(
    kind: str, reads: str, gives: str, domain: str = "", **options: Any
) -> Callable[[], "onnx.NodeProto"]:
    """Return what makes a node, as tables may not import onnx."""
    names = [[n if n != "-" else "" for n in text.split()] for text in (reads, gives)]
    return lambda: helper.make_node(kind, *names, name=gives, domain=domain, **options)


LSTM = {"W": numbers(1, 4 * H, I), "R": numbers(1, 4 * H, H, seed=1), "B": numbers(1, 8 * H)}


def own_answers(graph: Any, xs: np.ndarray) -> np.ndarray:
    options = onnxruntime.SessionOptions()  # or it would round once more, where that is faster
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(graph.SerializeToString(), options)
    (y,) = session.run(None, {"x": xs})
    return y.reshape(len(xs), -1)


def converted(graph: Any, allowed: float) -> numlstm.Model:
    """Convert; what it answers is what ONNX Runtime answers, up to rounding."""
    found = numlstm.from_onnx(graph)
    token = graph.graph.input[0].type.tensor_type.elem_type == 7
    generator = np.random.default_rng(3)
    if token:
        xs = generator.integers(0, 9, (20, 1))
        ours = found.run(xs[:, 0].astype(np.int32))
    else:
        xs = generator.standard_normal((20, 1, I)).astype(np.float32)
        ours = found.run(xs[:, 0])
    kind = graph.graph.input[0].type.tensor_type.elem_type
    theirs = own_answers(graph, xs.astype(np.float16) if kind == F16 else xs)
    assert np.abs(ours - theirs).max() < allowed
    return found


def layers_of(found: numlstm.Model) -> list[str]:
    return [type(layer).__name__ for layer in found.weights.network.layers]


# Weights ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("opset", "per_row"),
    [(10, False), (13, False), (17, False), (21, False), (13, True), (19, True), (21, True)],
)
def test_weights_behind_dequantize_linear(opset, per_row):
    constants, nodes = {"B": LSTM["B"]}, []
    for name, width in (("W", I), ("R", H)):
        count = 4 * H if per_row else 1
        scale = np.random.default_rng(2).uniform(0.002, 0.004, count).astype(np.float32)
        zero = np.random.default_rng(4).integers(-3, 4, count).astype(np.int8)
        constants |= {
            f"{name}q": rounded(1, 4 * H, width),
            f"{name}s": scale if per_row else scale[0],
            f"{name}z": zero if per_row else zero[0],
        }
        options = {"axis": 1} if per_row else {}
        nodes.append(node("DequantizeLinear", f"{name}q {name}s {name}z", name, **options))
    nodes += [node("LSTM", "x W R B", "ys", hidden_size=H), node("Squeeze", "ys a", "y")]
    if opset < 13:
        nodes[-1] = node("Squeeze", "ys", "y", axes=[1])
    else:
        constants["a"] = np.array([1])
    found = converted(model(nodes, constants, opset=opset), 1e-5)
    (name,) = (n for n in found.weights.tensors if n.endswith("weight_ih"))
    expected = constants["Wq"][0] - np.reshape(constants["Wz"], (-1, 1)).astype(np.float32)
    expected = expected * np.reshape(constants["Ws"], (-1, 1))  # i o f c -> i f c o
    i, o, f, c = np.split(expected, 4)
    assert np.array_equal(found.weights.tensors[name], np.concatenate([i, f, c, o]))


def test_weights_of_blocks():
    q = np.random.default_rng(0).integers(-8, 8, (I + 1, O)).astype(np.int8)
    constants = {"q": q, "s": numbers(2, O, scale=0.1)}
    nodes = [
        node("DequantizeLinear", "q s", "w", axis=0, block_size=3),
        node("Slice", "w zero five axis", "w5"),
        node("MatMul", "x w5", "y"),
    ]
    constants |= {"zero": np.array([0]), "five": np.array([I]), "axis": np.array([0])}
    found = converted(model(nodes, constants, opset=21), 1e-5)
    weight = q * np.repeat(constants["s"], 3, 0)
    (tensor,) = found.weights.tensors.values()
    assert np.array_equal(tensor, weight[:I].T.astype(np.float32))


def test_a_table_of_which_rows_are_taken_before_they_are_numbers():
    constants = {"q": rounded(9, I).view(np.uint8), "s": np.float32(0.01), "z": np.uint8(129)}
    nodes = [
        node("Gather", "q x", "rows"),
        node("Transpose", "rows", "turned", perm=[1, 0, 2]),
        node("DequantizeLinear", "turned s z", "turned_back"),
        node("Transpose", "turned_back", "e", perm=[1, 0, 2]),
        node("LSTM", "e W R B", "y", hidden_size=H),
    ]
    found = converted(model(nodes, constants | LSTM, size=None), 1e-5)
    assert layers_of(found) == ["Embedding", "LSTM"]


def test_a_weight_that_is_rounded_in_the_graph_is_rounded():
    constants = {"w": numbers(I, O), "s": np.float32(0.05), "z": np.int8(3)}
    nodes = [
        node("QuantizeLinear", "w s z", "q"),
        node("DequantizeLinear", "q s z", "v"),
        node("MatMul", "x v", "y"),
    ]
    found = converted(model(nodes, constants), 1e-5)
    (tensor,) = found.weights.tensors.values()
    assert np.allclose(tensor / 0.05, np.rint(tensor / 0.05), atol=1e-4)


def test_four_bits_of_a_product_by_onnxruntime():
    rows, columns, size = 7, 64, 32
    generator = np.random.default_rng(0)
    packed = generator.integers(0, 256, (rows, columns // size, size // 2)).astype(np.uint8)
    constants = {
        "q": packed,
        "s": generator.uniform(0.01, 0.03, rows * columns // size).astype(np.float32),
        "v": numbers(I, columns),
    }
    options = {"K": columns, "N": rows, "bits": 4, "block_size": size}
    nodes = [node("MatMul", "x v", "h"), node("MatMulNBits", "h q s", "y", MS, **options)]
    converted(model(nodes, constants), 1e-4)


# Products -----------------------------------------------------------------------------------------

STATIC = {"xs": np.float32(0.03), "xz": np.uint8(128), "ys": np.float32(0.05), "yz": np.uint8(120)}
OF_W = {"ws": np.float32(0.01), "wz": np.int8(0)}
PRODUCTS: dict[str, tuple[list[Any], dict[str, np.ndarray], float]] = {
    "MatMulInteger": (
        [
            node("DynamicQuantizeLinear", "x", "q s z"),
            node("MatMulInteger", "q w z wz", "p"),
            node("Cast", "p", "f", to=F32),
            node("Mul", "s ws", "both"),
            node("Mul", "f both", "y"),
        ],
        {"w": rounded(I, O), **OF_W},
        0.1,
    ),
    "MatMulIntegerToFloat": (
        [
            node("DynamicQuantizeLinear", "x", "q s z"),
            node("MatMulIntegerToFloat", "q w s ws z wz b", "y", MS),
        ],
        {"w": rounded(I, O), **OF_W, "b": numbers(O)},
        0.1,
    ),
    "DynamicQuantizeMatMul": (
        [node("DynamicQuantizeMatMul", "x w ws wz b", "y", MS)],
        {"w": rounded(I, O), **OF_W, "b": numbers(O)},
        0.1,
    ),
    "DynamicQuantizeLSTM": (
        [node("DynamicQuantizeLSTM", "x w r B - - - - ws wz rs rz", "y", MS, hidden_size=H)],
        {
            "w": rounded(1, I, 4 * H),
            "r": rounded(1, H, 4 * H),
            "B": LSTM["B"],
            "ws": np.array([0.005], np.float32),
            "wz": np.array([0], np.int8),
            "rs": np.array([0.004], np.float32),
            "rz": np.array([0], np.int8),
        },
        0.1,
    ),
    "DynamicQuantizeLSTM per column": (
        [node("DynamicQuantizeLSTM", "x w r B - - - - ws wz rs rz", "y", MS, hidden_size=H)],
        {
            "w": rounded(1, I, 4 * H),
            "r": rounded(1, H, 4 * H),
            "B": LSTM["B"],
            "ws": np.linspace(0.003, 0.006, 4 * H).astype(np.float32)[None],
            "wz": np.zeros((1, 4 * H), np.int8),
            "rs": np.linspace(0.006, 0.003, 4 * H).astype(np.float32)[None],
            "rz": np.zeros((1, 4 * H), np.int8),
        },
        0.1,
    ),
    "QLinearMatMul": (
        [
            node("QuantizeLinear", "x xs xz", "q"),
            node("QLinearMatMul", "q xs xz w ws wz ys yz", "p"),
            node("DequantizeLinear", "p ys yz", "y"),
        ],
        {"w": rounded(I, O), **OF_W, **STATIC},
        0.15,
    ),
    "QGemm": (
        [
            node("Reshape", "x flat", "x2"),
            node("QuantizeLinear", "x2 xs xz", "q"),
            node("QGemm", "q xs xz w ws wz b ys yz", "p", MS, transB=1),
            node("DequantizeLinear", "p ys yz", "y"),
        ],
        {
            "w": rounded(O, I),
            **OF_W,
            **STATIC,
            "b": np.array([9, -80, 200], np.int32),
            "flat": np.array([-1, I]),
        },
        0.15,
    ),
    "QLinearConv": (
        [
            node("Transpose", "x", "c", perm=[1, 2, 0]),
            node("QuantizeLinear", "c xs xz", "q"),
            node("QLinearConv", "q xs xz w ws wz ys yz b", "p", pads=[2, 0]),
            node("DequantizeLinear", "p ys yz", "d"),
            node("Transpose", "d", "y", perm=[2, 0, 1]),
        ],
        {
            "w": rounded(O, I, 3),
            "ws": np.array([0.01, 0.004, 0.006], np.float32),
            "wz": np.zeros(3, np.int8),
            **STATIC,
            "b": np.array([90, -80, 200], np.int32),
        },
        0.2,
    ),
    "ConvInteger": (
        [
            node("Transpose", "x", "c", perm=[1, 2, 0]),
            node("DynamicQuantizeLinear", "c", "q s z"),
            node("ConvInteger", "q w z", "p", pads=[2, 0]),
            node("Cast", "p", "f", to=F32),
            node("Mul", "s ws", "both"),
            node("Mul", "f both", "d"),
            node("Transpose", "d", "y", perm=[2, 0, 1]),
        ],
        {"w": rounded(O, I, 3), "ws": np.float32(0.01)},
        0.2,
    ),
    "a relu that rounding is": (
        [
            node("MatMul", "x w", "h"),
            node("QuantizeLinear", "h ys zero", "q"),
            node("DequantizeLinear", "q ys zero", "y"),
        ],
        {"w": numbers(I, O), "ys": np.float32(0.05), "zero": np.uint8(0)},
        0.03,
    ),
    "integers that are moved": (
        [
            node("QuantizeLinear", "x xs xz", "q"),
            node("Transpose", "q", "t", perm=[1, 0, 2]),
            node("Reshape", "t shape", "u"),
            node("DequantizeLinear", "u xs xz", "d"),
            node("MatMul", "d w", "y"),
        ],
        {"w": numbers(I, O), "shape": np.array([-1, I]), **STATIC},
        0.1,
    ),
    "a sum and a sigmoid of integers": (
        [
            node("MatMul", "x w", "h"),
            node("QuantizeLinear", "h xs xz", "q"),
            node("QLinearAdd", "q xs xz q xs xz ys yz", "s", MS),
            node("QLinearSigmoid", "s ys yz one zero", "g", MS),
            node("DequantizeLinear", "g one zero", "y"),
        ],
        {"w": numbers(I, O), "one": np.float32(1 / 255), "zero": np.uint8(0), **STATIC},
        0.05,
    ),
    "an answer in integers": (
        [node("MatMul", "x w", "h"), node("QuantizeLinear", "h ys yz", "y")],
        {"w": numbers(I, O), **STATIC},
        0.51,
    ),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_products_of_rounded_numbers(name):
    nodes, constants, allowed = PRODUCTS[name]
    graph = model(nodes, constants)
    if name == "an answer in integers":
        graph.graph.output[0].type.tensor_type.elem_type = U8
    found = converted(graph, allowed)
    assert "in float32; the file's own answers" in found.weights.origin


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("static", [None, "QDQ", "QOperator"])
def test_what_the_quantizer_of_onnxruntime_writes(tmp_path, static, per_channel):
    nodes = [
        node("LSTM", "x W R B", "ys", hidden_size=H),
        node("Squeeze", "ys a", "h"),
        node("MatMul", "h V", "v"),
        node("Add", "v b", "vb"),
        node("Relu", "vb", "r"),
        node("MatMul", "r V2", "y"),
    ]
    constants = {
        **LSTM,
        "a": np.array([1]),
        "V": numbers(H, 6),
        "b": numbers(6),
        "V2": numbers(6, O),
    }
    path, quantized = tmp_path / "float.onnx", tmp_path / "int8.onnx"
    onnx.save(model(nodes, constants), path)
    if static is None:
        quantization.quantize_dynamic(path, quantized, per_channel=per_channel)
    else:
        batches = iter([{"x": numbers(20, 1, I, seed=n, scale=1.0)} for n in range(4)])
        own = {"get_next": lambda self: next(batches, None)}
        reader = type("Reader", (quantization.CalibrationDataReader,), own)()
        form = quantization.QuantFormat[static]
        options = {"quant_format": form, "per_channel": per_channel}
        quantization.quantize_static(path, quantized, reader, **options)
    found = converted(onnx.load(quantized), 0.1)
    exact = numlstm.from_onnx(path)
    xs = numbers(20, I, seed=9, scale=1.0)
    # Beyond what the quantizer saw, a static graph ends where its integers do.
    assert np.abs(found.run(xs) - exact.run(xs)).max() < (0.02 if static is None else 0.15)


ROWS = rounded(I, O).clip(-127, 127)
ROWS[0] = [127, -127, 127]
SCALES = np.array([0.01, 0.0043, 0.0077], np.float32)


@pytest.mark.parametrize("symmetric", [True, False])
def test_rows_in_int8_stay_in_int8(symmetric):
    """Each integer as the file has it, where each row has a scale; else float32, exactly."""
    zero = np.array([0, 0, 0 if symmetric else 1], np.int8)
    nodes = [node("DynamicQuantizeMatMul", "x w s z", "y", MS)]
    found = numlstm.from_onnx(model(nodes, {"w": ROWS, "s": SCALES, "z": zero}))
    (matrix,) = encoded(found.weights).values()
    if symmetric:
        assert np.array_equal(matrix.numbers, ROWS.T)
        assert np.abs(matrix.scale / SCALES - 1).max() <= 2.0**-15
        assert found.weights.origin.endswith("; rows in int8 as they are: layers.0")
    else:
        assert np.array_equal(matrix, ((ROWS - zero.astype(np.float32)) * SCALES).T)
        assert found.weights.origin.endswith("; float32: layers.0")


def test_rows_in_int8_that_are_multiplied_in_float32_are_float32():
    nodes = [node("DequantizeLinear", "w s", "v", axis=1), node("MatMul", "x v", "y")]
    found = converted(model(nodes, {"w": ROWS, "s": SCALES}), 1e-5)
    (matrix,) = encoded(found.weights).values()
    assert np.array_equal(matrix, (ROWS * SCALES).T)
    assert "; float32 until astype('int8') keeps rows: layers.0" in found.weights.origin
    (matrix,) = encoded(found.astype("int8").weights).values()
    assert np.array_equal(matrix.numbers, ROWS.T)


# Halves -------------------------------------------------------------------------------------------


def in_type(graph: Any, kind: int, keep: bool = False) -> Any:
    """Return a graph with all floats of a type; `keep` casts at its border."""
    found = onnx.ModelProto()
    found.CopyFrom(graph)
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    for tensor in found.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.dtype == np.float32:
            tensor.CopyFrom(numpy_helper.from_array(array.astype(dtype), tensor.name))
    if keep:
        for own in found.graph.node:
            own.input[:] = ["x16" if name == "x" else name for name in own.input]
            own.output[:] = ["y16" if name == "y" else name for name in own.output]
            own.name += "16"
        # As converters write them: behind all others, whatever they give.
        casts = node("Cast", "x", "x16", to=kind), node("Cast", "y16", "y", to=1)
        found.graph.node.extend(make() for make in casts)
        return found
    for info in (*found.graph.input, *found.graph.output):
        info.type.tensor_type.elem_type = kind
    return found


def head() -> Any:
    nodes = [node("LSTM", "x W R B", "ys", hidden_size=H), node("MatMul", "ys V", "y")]
    return model(nodes, {**LSTM, "V": numbers(H, O)})


@pytest.mark.parametrize("keep", [False, True])
def test_half_precision(keep):
    graph = in_type(head(), F16, keep)
    found = converted(graph, 0.02)
    assert "float16" in found.weights.origin
    exact = numlstm.from_onnx(in_type(graph, F32) if not keep else head())
    xs = numbers(20, I, seed=9, scale=1.0)
    assert np.abs(found.run(xs) - exact.run(xs)).max() < (1e-6 if not keep else 5e-3)


@pytest.mark.parametrize("kind", ["DOUBLE", "BFLOAT16"])
def test_other_floats(kind):
    found = numlstm.from_onnx(in_type(head(), getattr(onnx.TensorProto, kind)))
    assert {"DOUBLE": "float64", "BFLOAT16": "bfloat16"}[kind] in found.weights.origin
    weight = found.weights.tensors["layers.1.weight"]
    error = 0.0 if kind == "DOUBLE" else 2.0**-8
    assert np.abs(weight - numbers(H, O).T).max() <= error * 3


# Fused nodes --------------------------------------------------------------------------------------

NORM = {"g": numbers(O), "b": numbers(O)}
FUSED: dict[str, tuple[list[Any], dict[str, np.ndarray]]] = {
    "FusedMatMul": (
        [node("FusedMatMul", "x w", "y", MS, transB=1, alpha=0.5)], {"w": numbers(O, I)},
    ),
    "FusedGemm": (
        [
            node("Reshape", "x flat", "x2"),
            node("FusedGemm", "x2 w b", "y", MS, activation="LeakyRelu", activation_alpha=0.2),
        ],
        {"w": numbers(I, O), "b": numbers(O), "flat": np.array([-1, I])},
    ),
    "FusedConv": (
        [
            node("Transpose", "x", "c", perm=[1, 2, 0]),
            node(
                "FusedConv", "c w b", "d", MS, pads=[2, 0], activation="Clip",
                activation_params=[-0.5, 0.75],
            ),
            node("Transpose", "d", "y", perm=[2, 0, 1]),
        ],
        {"w": numbers(O, I, 3), "b": numbers(O)},
    ),
    "FastGelu": ([node("MatMul", "x w", "h"), node("FastGelu", "h b", "y", MS)],
                 {"w": numbers(I, O), "b": numbers(O)}),
    "QuickGelu": ([node("MatMul", "x w", "h"), node("QuickGelu", "h", "y", MS, alpha=1.5)],
                  {"w": numbers(I, O)}),
    "SkipLayerNormalization": (
        [
            node("MatMul", "x w", "h"),
            node("MatMul", "x v", "k"),
            node("SkipLayerNormalization", "h k g b c", "n - - s", MS, epsilon=1e-3),
            node("Add", "n s", "y"),
        ],
        {"w": numbers(I, O), "v": numbers(I, O, seed=5), "c": numbers(O, seed=6), **NORM},
    ),
    "LayerNormalization before opset 17": (
        [node("MatMul", "x w", "h"), node("LayerNormalization", "h g b", "y", epsilon=1e-3)],
        {"w": numbers(I, O), **NORM},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FUSED)
def test_fused_nodes_are_what_they_were(name):
    nodes, constants = FUSED[name]
    found = converted(model(nodes, constants, opset=14), 1e-5)
    assert "own answers" not in found.weights.origin


@pytest.mark.parametrize("level", ["EXTENDED", "ALL"])
def test_what_the_optimizer_of_onnxruntime_writes(tmp_path, level):
    path = tmp_path / "optimized.onnx"
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(path)
    options.log_severity_level = 4
    options.graph_optimization_level = getattr(
        onnxruntime.GraphOptimizationLevel, f"ORT_ENABLE_{level}"
    )
    onnxruntime.InferenceSession(
        head().SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    converted(onnx.load(path), 1e-5)


# What is refused ----------------------------------------------------------------------------------

QUANTIZED_LSTM = PRODUCTS["DynamicQuantizeLSTM"]
REFUSALS: dict[str, tuple[list[Any], dict[str, np.ndarray], str]] = {
    "attention": (
        [node("Attention", "x w b", "y", MS, num_heads=1)],
        {"w": numbers(I, 3 * I), "b": numbers(3 * I)},
        "Attention 'y': a part of transformers, for which numlstm has no layer; export the "
        "recurrent part of the model by itself",
    ),
    "weights that are computed": (
        [
            node("DynamicQuantizeLinear", "x", "w s z"),
            node("DynamicQuantizeLSTM", "x w w B - - - - s z s z", "y", MS, hidden_size=H),
        ],
        {"B": LSTM["B"]},
        "DynamicQuantizeLSTM 'y': 'w' is computed, expected a tensor of the file",
    ),
    "rows of activations": (
        [
            node("QuantizeLinear", "x s z", "q", axis=2),
            node("DequantizeLinear", "q s z", "y", axis=2),
        ],
        {"s": np.full(I, 0.1, np.float32), "z": np.zeros(I, np.uint8)},
        "QuantizeLinear 'q': a scale for each row of what is computed",
    ),
    "scales that do not fit": (
        [node("DequantizeLinear", "w s", "v", axis=0), node("MatMul", "x v", "y")],
        {"w": rounded(I, O), "s": np.full(O, 0.1, np.float32)},
        "DequantizeLinear 'v': scales (3,) along axis 0 of a tensor (5, 3)",
    ),
    "three bits": (
        [node("MatMulNBits", "x q s", "y", MS, K=I, N=O, bits=8, block_size=32)],
        {"q": np.zeros((O, 1, 32), np.uint8), "s": np.ones(O, np.float32)},
        "MatMulNBits 'y': 8 bits, or g_idx, expected 4 bits in order",
    ),
    "a factor that is turned": (
        [node("FusedMatMul", "x w", "y", MS, transA=1)],
        {"w": numbers(I, O)},
        "FusedMatMul 'y': transA",
    ),
    "blocks that do not fit": (
        [node("DequantizeLinear", "w s", "v", axis=0, block_size=2), node("MatMul", "x v", "y")],
        {"w": rounded(I, O), "s": numbers(2, O)},
        "DequantizeLinear 'v': 2 blocks of 2 for 5 numbers",
    ),
    "pools of a device": (
        [
            node("QuantizeLinear", "x s z", "q"),
            node("QLinearGlobalAveragePool", "q s z s z", "p", MS, channels_last=1),
            node("DequantizeLinear", "p s z", "y"),
        ],
        {"s": np.float32(0.1), "z": np.uint8(9)},
        "QLinearGlobalAveragePool 'p': channels_last; optimise the model for no device, or not at",
    ),
    "parts of other scales": (
        [
            node("QuantizeLinear", "x a z", "q"),
            node("QuantizeLinear", "x b z", "r"),
            node("Concat", "q r", "c", axis=2),
            node("DequantizeLinear", "c a z", "y"),
        ],
        {"a": np.float32(0.1), "b": np.float32(0.2), "z": np.uint8(9)},
        "Concat 'c': the scales of its parts differ",
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_refused(name):
    nodes, constants, words = REFUSALS[name]
    with pytest.raises(WeightsError) as error:
        from_onnx.convert(model(nodes, constants, opset=21 if "blocks" in name else 17))
    assert words in str(error.value)


def test_a_rounding_that_is_another_network_is_refused(monkeypatch):
    """Were a node misread, the answers of the file itself would tell."""
    from numlstm.convert.onnx.rounding import quantized

    right = quantized._of_directions
    wrong = lambda array, count: 9 * right(array, count)  # noqa: E731
    monkeypatch.setattr(quantized, "_of_directions", wrong)
    nodes, constants, _ = QUANTIZED_LSTM
    with pytest.raises(WeightsError, match="the graph in float32 does not answer as the file does"):
        from_onnx.convert(model(nodes, constants))


def test_int8_weights_in_another_file_are_beside_the_model(tmp_path):
    """Data of a folder is read; what leads out of it is not, also of integers."""
    nodes, constants, _ = QUANTIZED_LSTM
    path = tmp_path / "inner" / "model.onnx"
    path.parent.mkdir()
    onnx.save(
        model(nodes, constants),
        path,
        save_as_external_data=True,
        location="w.bin",
        size_threshold=0,
    )
    assert numlstm.from_onnx(path).output_size == H
    document = onnx.load(path, load_external_data=False)
    Path(path.parent / "w.bin").rename(tmp_path / "w.bin")
    for tensor in document.graph.initializer:
        for entry in tensor.external_data:
            entry.value = "../w.bin" if entry.key == "location" else entry.value
    onnx.save(document, path)
    with pytest.raises(
        WeightsError, match=r"tensor '.*': '\.\./w\.bin' leads out of the folder; copy"
    ):
        numlstm.from_onnx(path)
