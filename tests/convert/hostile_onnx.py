"""Hostile .onnx files; see `hostile`."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime  # so that it is there before a limit is
from onnx import helper, numpy_helper

FLOAT, INT64 = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64
Node = onnx.NodeProto


def _ints(name: str, *numbers: int) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(numbers, np.int64), name)


def _scalar(name: str, number: float) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(number, np.float32), name)


def _model(
    nodes: Iterable[Node],
    constants: Iterable[onnx.TensorProto] = (),
    shape: tuple[Any, ...] = ("t", 1, 4),
    output: str = "y",
    outputs: Iterable[Any] = (),
    functions: Iterable[Any] = (),
) -> onnx.ModelProto:
    graph = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info("x", FLOAT, shape)],
        list(outputs) or [helper.make_tensor_value_info(output, FLOAT, [None] * len(shape))],
        list(constants),
    )
    opsets = [helper.make_opsetid("", 17), *([helper.make_opsetid("f", 1)] if functions else [])]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8, functions=list(functions))


def _file(folder: Path, model: onnx.ModelProto) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def _added(folder: Path, *nodes: Node, constants: Iterable[onnx.TensorProto] = ()) -> Path:
    """Write a graph that adds the constant "c" to the input."""
    add = helper.make_node("Add", ["x", "c"], ["y"])
    return _file(folder, _model([*nodes, add], constants))


def _reduced(name: str) -> Node:
    return helper.make_node("ReduceMax", [name], ["c"], keepdims=0)


# Constants ----------------------------------------------------------------------------------------

_HUGE = 3 * 2**28  # numbers


def range_of_a_constant(folder: Path) -> Path:
    constants = [_scalar("a", 0), _scalar("b", _HUGE), _scalar("d", 1)]
    return _added(folder, helper.make_node("Range", ["a", "b", "d"], ["r"]), _reduced("r"),
                  constants=constants)  # fmt: skip


def pad_of_a_constant(folder: Path) -> Path:
    constants = [numpy_helper.from_array(np.ones(1, np.float32), "a"), _ints("p", 0, _HUGE)]
    return _added(folder, helper.make_node("Pad", ["a", "p"], ["r"]), _reduced("r"),
                  constants=constants)  # fmt: skip


def expand_of_a_constant(folder: Path) -> Path:
    return _added(folder, helper.make_node("Expand", ["a", "s"], ["r"]), _reduced("r"),
                  constants=[_scalar("a", 1), _ints("s", 3, 2**28)])  # fmt: skip


def tile_of_a_constant(folder: Path) -> Path:
    constants = [numpy_helper.from_array(np.ones(1, np.float32), "a"), _ints("s", _HUGE)]
    return _added(folder, helper.make_node("Tile", ["a", "s"], ["r"]), _reduced("r"),
                  constants=constants)  # fmt: skip


def constant_of_a_shape(folder: Path) -> Path:
    return _added(folder, helper.make_node("ConstantOfShape", ["s"], ["r"]), _reduced("r"),
                  constants=[_ints("s", 3, 2**28)])  # fmt: skip


def constants_that_double(folder: Path) -> Path:
    nodes = [helper.make_node("Concat", [f"c{n}"] * 2, [f"c{n + 1}"], axis=0) for n in range(40)]
    constants = [numpy_helper.from_array(np.ones(1, np.float32), "c0")]
    return _added(folder, *nodes, _reduced("c40"), constants=constants)


def sum_of_a_row_and_a_column(folder: Path) -> Path:
    nodes = [
        helper.make_node("ConstantOfShape", ["s"], ["a"]),
        helper.make_node("ConstantOfShape", ["t"], ["b"]),
        helper.make_node("Add", ["a", "b"], ["r"]),
    ]
    return _added(
        folder, *nodes, _reduced("r"), constants=[_ints("s", 2**16, 1), _ints("t", 2**16)]
    )


def gather_of_a_constant(folder: Path) -> Path:
    nodes = [
        helper.make_node("ConstantOfShape", ["s"], ["a"]),
        helper.make_node("ConstantOfShape", ["s2"], ["i"],
                         value=numpy_helper.from_array(np.zeros(1, np.int64))),
        helper.make_node("Gather", ["a", "i"], ["r"]),
    ]  # fmt: skip
    return _added(
        folder, *nodes, _reduced("r"), constants=[_ints("s", 1, 2**16), _ints("s2", 2**16)]
    )


def one_hot_of_a_constant(folder: Path) -> Path:
    constants = [_ints("i", *range(100)), _ints("d", 2**26),
                 numpy_helper.from_array(np.array([0, 1], np.float32), "v")]  # fmt: skip
    return _added(folder, helper.make_node("OneHot", ["i", "d", "v"], ["r"]), _reduced("r"),
                  constants=constants)  # fmt: skip


def resize_of_a_constant(folder: Path) -> Path:
    constants = [numpy_helper.from_array(np.ones((1, 1, 4), np.float32), "a"),
                 numpy_helper.from_array(np.array([1, 1, 2**28], np.float32), "s")]  # fmt: skip
    return _added(folder, helper.make_node("Resize", ["a", "", "s"], ["r"]), _reduced("r"),
                  constants=constants)  # fmt: skip


def product_of_constants(folder: Path) -> Path:
    """8 TFLOP of two matrices of whole numbers, which takes minutes."""
    value = numpy_helper.from_array(np.ones(1, np.int64))
    nodes = [
        helper.make_node("ConstantOfShape", ["s"], ["a"], value=value),
        helper.make_node("MatMul", ["a", "a"], ["p"]),
        helper.make_node("Cast", ["p"], ["r"], to=FLOAT),
    ]
    return _added(folder, *nodes, _reduced("r"), constants=[_ints("s", 2000, 2000)])


def many_products_of_constants(folder: Path) -> Path:
    value = numpy_helper.from_array(np.ones(1, np.int64))
    nodes = [helper.make_node("ConstantOfShape", ["s"], ["a0"], value=value)]
    nodes += [helper.make_node("MatMul", [f"a{n}", "a0"], [f"a{n + 1}"]) for n in range(400)]
    nodes += [helper.make_node("Cast", ["a400"], ["r"], to=FLOAT)]
    return _added(folder, *nodes, _reduced("r"), constants=[_ints("s", 500, 500)])


def loop_without_end(folder: Path) -> Path:
    body = helper.make_graph(
        [helper.make_node("Identity", ["on"], ["on2"]), helper.make_node("Exp", ["v"], ["v2"])],
        "body",
        [helper.make_tensor_value_info("n", INT64, []),
         helper.make_tensor_value_info("on", onnx.TensorProto.BOOL, []),
         helper.make_tensor_value_info("v", FLOAT, [])],
        [helper.make_tensor_value_info("on2", onnx.TensorProto.BOOL, []),
         helper.make_tensor_value_info("v2", FLOAT, [])],
    )  # fmt: skip
    loop = helper.make_node("Loop", ["m", "", "a"], ["c"], body=body)
    return _added(folder, loop, constants=[_ints("m", 2**62), _scalar("a", 0)])


def sparse_constant(folder: Path) -> Path:
    sparse = helper.make_sparse_tensor(
        numpy_helper.from_array(np.ones(1, np.float32)), _ints("", 3), [2**32]
    )
    return _added(
        folder, helper.make_node("Constant", [], ["r"], sparse_value=sparse), _reduced("r")
    )


def many_constants(folder: Path) -> Path:
    nodes = [helper.make_node("Neg", [f"a{n}"], [f"a{n + 1}"]) for n in range(20_000)]
    return _added(folder, *nodes, _reduced("a20000"), constants=[_scalar("a0", 1)])


# What depends on the input ------------------------------------------------------------------------


def numbers_that_double(folder: Path) -> Path:
    nodes = [helper.make_node("Concat", [f"x{n}"] * 2, [f"x{n + 1}"], axis=2) for n in range(40)]
    nodes[0].input[:] = ["x", "x"]
    return _file(folder, _model(nodes, output="x40"))


def expand_of_the_input(folder: Path) -> Path:
    node = helper.make_node("Expand", ["x", "s"], ["y"])
    return _file(folder, _model([node], [_ints("s", 1, 1, 2**30)], ("t", 1, 1)))


def tile_of_the_input(folder: Path) -> Path:
    node = helper.make_node("Tile", ["x", "s"], ["y"])
    return _file(folder, _model([node], [_ints("s", 1, 1, 2**28)]))


def gather_of_the_input(folder: Path) -> Path:
    value = numpy_helper.from_array(np.zeros(1, np.int64))
    nodes = [helper.make_node("ConstantOfShape", ["s"], ["i"], value=value),
             helper.make_node("Gather", ["x", "i"], ["z"], axis=2),
             helper.make_node("Gather", ["z", "i"], ["y"], axis=2)]  # fmt: skip
    return _file(folder, _model(nodes, [_ints("s", 2000, 1000)]))


def outer_product_of_the_input(folder: Path) -> Path:
    nodes = [helper.make_node("Transpose", ["x"], ["z"], perm=[0, 2, 1]),
             helper.make_node("Mul", ["x", "z"], ["y"])]  # fmt: skip
    return _file(folder, _model(nodes, shape=("t", 1, 2**16)))


def input_of_2_to_the_34(folder: Path) -> Path:
    return _file(folder, _model([helper.make_node("Tanh", ["x"], ["y"])], shape=("t", 1, 2**34)))


def input_of_2_to_the_31_steps(folder: Path) -> Path:
    nodes = [helper.make_node("Slice", ["x", "a", "b", "c", "d"], ["y"])]
    constants = [_ints("a", -1), _ints("b", -(2**40)), _ints("c", 0), _ints("d", -1)]
    return _file(folder, _model(nodes, constants, shape=(2**31, 1, 1)))


def numbers_in_reverse(folder: Path) -> Path:
    """Each is a part of its own, and a matrix would gather them."""
    nodes = [helper.make_node("Slice", ["x", "a", "b", "c", "d"], ["z"]),
             helper.make_node("Tanh", ["z"], ["y"])]  # fmt: skip
    constants = [_ints("a", -1), _ints("b", -(2**40)), _ints("c", 2), _ints("d", -1)]
    return _file(folder, _model(nodes, constants, shape=("t", 1, 2**16)))


def one_hot_of_2_to_the_31(folder: Path) -> Path:
    node = helper.make_node("OneHot", ["x", "d", "v"], ["y"])
    values = numpy_helper.from_array(np.array([0, 1], np.float32), "v")
    model = _model([node], [_ints("d", 2**31), values], ("t", 1))
    model.graph.input[0].type.tensor_type.elem_type = INT64
    return _file(folder, model)


def one_matrix_ten_thousand_times(folder: Path) -> Path:
    weight = numpy_helper.from_array(np.eye(256, dtype=np.float32), "w")
    nodes = [helper.make_node("MatMul", [f"x{n}", "w"], [f"x{n + 1}"]) for n in range(10_000)]
    nodes[0].input[0] = "x"
    return _file(folder, _model(nodes, [weight], ("t", 1, 256), "x10000"))


def many_nodes(folder: Path) -> Path:
    nodes = [helper.make_node("Tanh", [f"x{n}"], [f"x{n + 1}"]) for n in range(20_000)]
    nodes[0].input[0] = "x"
    return _file(folder, _model(nodes, output="x20000"))


def many_inputs_and_outputs(folder: Path) -> Path:
    names = [f"i{n}" for n in range(1000)]
    model = _model([helper.make_node("Identity", [n], [f"o{n}"]) for n in names], output="oi0")
    for tensors, prefix in ((model.graph.input, ""), (model.graph.output, "o")):
        del tensors[:]
        tensors.extend(helper.make_tensor_value_info(prefix + n, FLOAT, ("t", 1, 4)) for n in names)
    return _file(folder, model)


def input_of_many_axes(folder: Path) -> Path:
    node = helper.make_node("Tanh", ["x"], ["y"])
    return _file(folder, _model([node], shape=tuple(f"a{n}" for n in range(5000))))


def states_of_parts_of_parts(folder: Path) -> Path:
    """The initial state is found through 2^60 ways, or 60."""
    nodes = [helper.make_node("Concat", [f"h{n}"] * 2, [f"h{n + 1}"], axis=2) for n in range(60)]
    nodes[0].input[:] = ["x", "x"]
    nodes.append(helper.make_node("GRU", ["x", "w", "r", "", "", "h60"], ["y"], hidden_size=1))
    constants = [numpy_helper.from_array(np.ones((1, 3, 4), np.float32), "w"),
                 numpy_helper.from_array(np.ones((1, 3, 1), np.float32), "r")]  # fmt: skip
    return _file(folder, _model(nodes, constants))


def state_behind_many_nodes(folder: Path) -> Path:
    nodes = [helper.make_node("Identity", [f"h{n}"], [f"h{n + 1}"]) for n in range(5000)]
    nodes[0].input[0] = "x"
    nodes.append(helper.make_node("GRU", ["x", "w", "r", "", "", "h5000"], ["y"], hidden_size=1))
    constants = [numpy_helper.from_array(np.ones((1, 3, 4), np.float32), "w"),
                 numpy_helper.from_array(np.ones((1, 3, 1), np.float32), "r")]  # fmt: skip
    return _file(folder, _model(nodes, constants))


def stride_of_zero(folder: Path) -> Path:
    node = helper.make_node("Conv", ["x", "w"], ["y"], strides=[0], dilations=[2**40])
    weight = numpy_helper.from_array(np.ones((4, 4, 3), np.float32), "w")
    return _file(folder, _model([node], [weight], (1, 4, "t")))


def _written(
    folder: Path, text: str, *constants: onnx.TensorProto, x: str = "float[t, 4] x"
) -> Path:
    """Write a graph x -> y as the parser of onnx reads it."""
    header = '<ir_version: 8, opset_import: ["" : 18]>'
    model = onnx.parser.parse_model(f"{header} g ({x}) => (float[?, ?] y) {{ {text} }}")
    model.graph.initializer.extend(constants)
    return _file(folder, model)


def reflections_without_end(folder: Path) -> Path:
    text = 'p = Pad <mode = "edge"> (x, pads) y = Tanh (p)'
    return _written(folder, text, _ints("pads", 0, 0, 0, 2**40))


def windows_of_a_wide_row(folder: Path) -> Path:
    kernel = numpy_helper.from_array(np.ones((4, 1, 3, 3), np.float32), "k")
    text = "a = Reshape (x, to) c = Conv (a, k) y = Flatten (c)"
    return _written(folder, text, kernel, _ints("to", 0, 1, 2**15, 2**15), x=f"float[t, {2**30}] x")


def means_of_a_wide_row(folder: Path) -> Path:
    text = (
        "a = Unsqueeze (x, one) p = AveragePool <kernel_shape = [2], strides = [4096]> (a) "
        "y = Flatten (p)"
    )
    return _written(folder, text, _ints("one", 1), x=f"float[t, {2**20}] x")


def loops_in_loops(folder: Path) -> Path:
    body = "zz = Tanh (z)"
    for n in range(12):
        inner = f"b{n} (int64 i{n}, bool c{n}, float[?, ?] z) => (bool d{n}, float[?, ?] zz)"
        body = f"zz = Loop <body = {inner} {{ d{n} = Identity (c{n}) {body} }}> (many, true, z)"
    numbers = [_ints("m", 60), numpy_helper.from_array(np.array(True), "true")]
    text = "many = Squeeze (m) z = Identity (x) " + body + " y = Identity (zz)"
    return _written(folder, text, *numbers)


def scan_of_2_to_the_31_steps(folder: Path) -> Path:
    text = (
        "h, y = Scan <num_scan_inputs = 1, body = s (float[4] h0, float[4] a) => "
        "(float[4] h1, float[4] b) { h1 = Add (h0, a) b = Identity (a) }>"
        " (zero, x)"
    )
    zero = numpy_helper.from_array(np.zeros(4, np.float32), "zero")
    return _written(folder, text, zero, x=f"float[{2**31 - 1}, 4] x")


def state_of_a_million(folder: Path) -> Path:
    size = 2**20
    text = (
        "h0 = ConstantOfShape (n) e = Expand (x, n) h, y = Scan <num_scan_inputs = 1, "
        "body = s (float[?] a, float[?] b) => (float[?] c, float[?] d) "
        "{ t = Add (a, b) c = Tanh (t) d = Identity (c) }> (h0, e)"
    )
    return _written(folder, text, _ints("n", size), x="float[t, 1] x")


def rows_of_any_size_that_never_fit(folder: Path) -> Path:
    kernel = numpy_helper.from_array(np.ones((1, 1, 2), np.float32), "k")
    text = "a = Unsqueeze (x, one) " + "".join(f"a{n} = Tanh (a) " for n in range(2000))
    text += "c = Conv (a, k) d = Sin (c) y = Flatten (d)"
    return _written(folder, text, kernel, _ints("one", 1), x="float[N, S] x")


def many_branches(folder: Path) -> Path:
    node = helper.make_node("Identity", ["x"], ["b"])
    branch = helper.make_graph(
        [node], "b", [], [helper.make_tensor_value_info("b", FLOAT, [None] * 3)]
    )
    nodes = [helper.make_node("If", ["on"], [f"y{n}"], then_branch=branch, else_branch=branch)
             for n in range(300)]  # fmt: skip
    constants = [numpy_helper.from_array(np.array(True), "on")]
    return _file(folder, _model(nodes, constants, output="y299"))


# Functions ----------------------------------------------------------------------------------------


def functions_that_call_functions_twice(folder: Path) -> Path:
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("f", 1)]
    functions = [
        helper.make_function(
            "f", f"f{n}", ["a"], ["b"],
            [helper.make_node(f"f{n + 1}" if n < 39 else "Tanh", [i], [o],
                              domain="f" if n < 39 else "") for i, o in (("a", "m"), ("m", "b"))],
            opsets,
        )
        for n in range(40)
    ]  # fmt: skip
    node = helper.make_node("f0", ["x"], ["y"], domain="f")
    return _file(folder, _model([node], functions=functions))


def function_that_calls_itself(folder: Path) -> Path:
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("f", 1)]
    call = helper.make_node("f0", ["a"], ["b"], domain="f")
    function = helper.make_function("f", "f0", ["a"], ["b"], [call], opsets)
    node = helper.make_node("f0", ["x"], ["y"], domain="f")
    return _file(folder, _model([node], functions=[function]))


# Tensors ------------------------------------------------------------------------------------------


def _external(folder: Path, location: str, dims: tuple[int, ...] = (4,), **entries: int) -> Path:
    tensor = onnx.TensorProto(name="c", data_type=FLOAT, dims=dims)
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=str(value))
    return _added(folder, constants=[tensor])


def data_at_an_absolute_path(folder: Path) -> Path:
    return _external(folder, "/etc/hostname", length=16)


def data_above_the_folder(folder: Path) -> Path:
    inner = folder / "inner"
    inner.mkdir()
    (folder / "secret").write_bytes(bytes(16))
    return _external(inner, "../secret", length=16)


def data_behind_a_link(folder: Path) -> Path:
    inner = folder / "inner"
    inner.mkdir()
    (folder / "secret").write_bytes(bytes(16))
    (inner / "data").symlink_to(folder / "secret")
    return _external(inner, "data", length=16)


def data_without_end(folder: Path) -> Path:
    (folder / "data").symlink_to("/dev/zero")
    return _external(folder, "data")


def data_in_a_pipe(folder: Path) -> Path:
    os.mkfifo(folder / "data")
    return _external(folder, "data")


def data_beyond_the_file(folder: Path) -> Path:
    (folder / "data").write_bytes(bytes(16))
    return _external(folder, "data", offset=8, length=16)


def data_before_the_file(folder: Path) -> Path:
    (folder / "data").write_bytes(bytes(16))
    return _external(folder, "data", offset=-8, length=16)


def data_in_a_hole(folder: Path) -> Path:
    with (folder / "data").open("wb") as file:
        file.truncate(_HUGE * 4)
    return _external(folder, "data", (_HUGE,))


def data_of_a_folder(folder: Path) -> Path:
    return _external(folder, ".")


def data_of_bytes(folder: Path) -> bytes:
    """There is no folder: the file would be one of the process's own."""
    return _external(folder, "pyproject.toml", length=16).read_bytes()


def data_in_an_attribute(folder: Path) -> bytes:
    tensor = onnx.TensorProto(name="c", data_type=FLOAT, dims=(4,))
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="pyproject.toml")
    tensor.external_data.add(key="length", value="16")
    node = helper.make_node("Constant", [], ["c"], value=tensor)
    return _added(folder, node).read_bytes()


def dims_that_do_not_fit(folder: Path) -> Path:
    return _added(folder, constants=[
        onnx.TensorProto(name="c", data_type=FLOAT, dims=(2**40, 2**20), raw_data=bytes(16))
    ])  # fmt: skip


def dims_below_zero(folder: Path) -> Path:
    return _added(folder, constants=[
        onnx.TensorProto(name="c", data_type=FLOAT, dims=(-4,), raw_data=bytes(16))
    ])  # fmt: skip


def dims_of_zero_and_huge(folder: Path) -> Path:
    return _added(folder, constants=[
        onnx.TensorProto(name="c", data_type=FLOAT, dims=(0, 2**40), raw_data=b"")
    ])  # fmt: skip


def tensors_of_other_types(folder: Path) -> Path:
    texts = helper.make_tensor("c", onnx.TensorProto.STRING, (2,), [b"\xff", b"b"])
    return _added(folder, constants=[texts])


def type_of_none(folder: Path) -> Path:
    return _added(folder, constants=[onnx.TensorProto(name="c", data_type=99, dims=(1,))])


# Integers and halves ------------------------------------------------------------------------------


def _rounded(folder: Path, node: Node, *constants: onnx.TensorProto) -> Path:
    """Write a graph of a node of ONNX Runtime that reads the input."""
    node.domain = "com.microsoft"
    model = _model([node], constants)
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return _file(folder, model)


def _integers(name: str, *shape: int) -> onnx.TensorProto:
    return numpy_helper.from_array(np.ones(shape, np.uint8), name)


def four_bits_of_blocks_without_end(folder: Path) -> Path:
    options = {"K": 2**40, "N": 2, "bits": 4, "block_size": 2**40}
    node = helper.make_node("MatMulNBits", ["x", "q", "s"], ["y"], **options)
    scale = numpy_helper.from_array(np.ones(2, np.float32), "s")
    return _rounded(folder, node, _integers("q", 2, 1, 16), scale)


def scales_that_make_a_matrix(folder: Path) -> Path:
    node = helper.make_node("DequantizeLinear", ["q", "s"], ["y"], axis=0)
    constants = [_integers("q", 1, 2**14), numpy_helper.from_array(np.ones(2**14, "f4"), "s")]
    return _rounded(folder, node, *constants)


def weights_of_another_layer(folder: Path) -> Path:
    reads = ["x", "w", "r", "", "", "", "", "", "s", "", "s", ""]
    node = helper.make_node("DynamicQuantizeLSTM", reads, ["y"], hidden_size=2**30)
    scale = numpy_helper.from_array(np.ones(7, np.float32), "s")
    return _rounded(folder, node, _integers("w", 1, 4, 8), _integers("r", 3, 8), scale)


def a_range_of_nothing(folder: Path) -> Path:
    node = helper.make_node("QuantizeLinear", ["x", "s", "z"], ["y"])
    scale = numpy_helper.from_array(np.zeros((0, 3), np.float32), "s")
    return _rounded(folder, node, scale, _integers("z", 0, 3))


def integers_above_the_folder(folder: Path) -> Path:
    inner = folder / "inner"
    inner.mkdir()
    (folder / "secret").write_bytes(bytes(16))
    tensor = onnx.TensorProto(name="q", data_type=onnx.TensorProto.INT8, dims=(4, 4))
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../secret")
    node = helper.make_node("DynamicQuantizeMatMul", ["x", "q", "s"], ["y"])
    return _rounded(inner, node, tensor, _scalar("s", 1.0))


def integers_in_a_hole(folder: Path) -> Path:
    with (folder / "data").open("wb") as file:
        file.truncate(_HUGE)
    tensor = onnx.TensorProto(name="q", data_type=onnx.TensorProto.INT8, dims=(4, _HUGE // 4))
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="data")
    node = helper.make_node("DynamicQuantizeMatMul", ["x", "q", "s"], ["y"])
    return _rounded(folder, node, tensor, _scalar("s", 1.0))


def halves_that_do_not_fit(folder: Path) -> Path:
    half = onnx.TensorProto.FLOAT16
    return _added(folder, constants=[
        onnx.TensorProto(name="c", data_type=half, dims=(2**40, 2**20), raw_data=bytes(16))
    ])  # fmt: skip


def nodes_in_a_ring(folder: Path) -> Path:
    nodes = [helper.make_node("Add", [f"n{n}", "x"], [f"n{(n + 1) % 3000}"]) for n in range(3000)]
    return _file(folder, _model(nodes, output="n1"))


# Bytes --------------------------------------------------------------------------------------------


def messages_in_messages(folder: Path) -> Path:
    data = b""
    for _ in range(2000):  # graph -> node -> attribute -> graph
        for field in (0x32, 0x2A, 0x0A):
            size, length = len(data), b""
            while True:
                length += bytes([size & 127 | (128 if size > 127 else 0)])
                size >>= 7
                if not size:
                    break
            data = bytes([field]) + length + data
    path = folder / "model.onnx"
    path.write_bytes(b"\x3a" + data[1:])
    return path


def messages_of_nothing(folder: Path) -> Path:
    inner = b"\x0a\x00" * 2**20
    path = folder / "model.onnx"
    path.write_bytes(b"\x3a\x80\x80\x80\x01" + inner)
    return path


def nothing(folder: Path) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(b"")
    return path


assert onnxruntime.__version__
