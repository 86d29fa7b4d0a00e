"""ONNX models -> `Weights`: every option of the operators, and what exporters write.

`convert` holds every network to ONNX Runtime before it returns it; here the engine is, too.
"""

import io
import itertools
import logging
import warnings
from typing import Any

import numpy as np
import pytest

import numlstm
from numlstm import spec
from numlstm.spec import WeightsError
from tests.lazy import Lazy, from_onnx, helper, nn, numpy_helper, onnx, torch

own = Lazy("tests.convert.modules")

INPUTS, H = 3, 5
GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
RUNTIME = "answered by onnxruntime"


def holds(model: Any, answered_by: str = RUNTIME) -> spec.Weights:
    """Convert; the reference agreed in there, the engine must here."""
    weights = from_onnx.convert(model)
    assert answered_by in weights.origin
    verification = numlstm.Model(weights).verify()
    assert verification.ok, verification
    assert verification.num_outputs > 0
    return weights


def layers_of(weights: spec.Weights) -> list[str]:
    return [type(layer).__name__ for layer in weights.network.layers]


# Operators ----------------------------------------------------------------------------------------


def operator(
    kind: str,
    *,
    inputs: tuple[str, ...] = ("B",),
    wants: tuple[str, ...] = ("Y",),
    opset: int = 14,
    length: int | str = "t",
    **attributes: Any,
) -> "onnx.ModelProto":
    """Return a graph of one operator with random weights; `inputs` are the optional ones."""
    generator = np.random.default_rng(7)
    gates, two = GATES[kind], attributes.get("direction") == "bidirectional"
    d = 2 if two else 1
    shapes: dict[str, tuple[int, ...]] = {
        "W": (d, gates * H, INPUTS),
        "R": (d, gates * H, H),
        "B": (d, 2 * gates * H),
        "initial_h": (d, 1, H),
        "initial_c": (d, 1, H),
        "P": (d, 3 * H),
    }
    order = ["X", "W", "R", "B", "sequence_lens", "initial_h"]
    order += ["initial_c", "P"] if kind == "LSTM" else []
    present = {"X", "W", "R", *inputs}
    layout = attributes.get("layout", 0)
    constants = [
        numpy_helper.from_array(
            generator.uniform(-0.8, 0.8, shape).astype(np.float32).swapaxes(0, layout)
            if name.startswith("initial")
            else generator.uniform(-0.8, 0.8, shape).astype(np.float32),
            name,
        )
        for name, shape in shapes.items()
        if name in present and name in order
    ]
    outputs = ["Y", "Y_h", "Y_c"][: 3 if kind == "LSTM" else 2]
    node = helper.make_node(
        kind,
        [name if name in present else "" for name in order],
        [name if name in wants else "" for name in outputs],
        name="cell",
        hidden_size=H,
        **attributes,
    )
    x_shape = (1, length, INPUTS) if layout else (length, 1, INPUTS)
    graph_inputs = [helper.make_tensor_value_info("X", onnx.TensorProto.FLOAT, x_shape)]
    if "sequence_lens" in present:
        graph_inputs.append(
            helper.make_tensor_value_info("sequence_lens", onnx.TensorProto.INT32, [1])
        )
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [node],
        "operator",
        graph_inputs,
        [info(name, onnx.TensorProto.FLOAT, [None] * (4 if name == "Y" else 3)) for name in wants],
        constants,
    )
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


OPTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "rnn": ("RNN", {}),
    "rnn_no_bias": ("RNN", {"inputs": ()}),
    "rnn_relu_clip": ("RNN", {"activations": ["Relu"], "clip": 0.7}),
    "rnn_affine": (
        "RNN",
        {"activations": ["Affine"], "activation_alpha": [0.5], "activation_beta": [0.1]},
    ),
    "rnn_initial": ("RNN", {"inputs": ("B", "initial_h")}),
    "gru": ("GRU", {}),
    "gru_no_bias": ("GRU", {"inputs": ()}),
    "gru_linear_before_reset": ("GRU", {"linear_before_reset": 1}),
    "gru_clip": ("GRU", {"clip": 0.3, "linear_before_reset": 1}),
    "gru_hard_sigmoid_leaky": (
        "GRU",
        {
            "activations": ["HardSigmoid", "LeakyRelu"],
            "activation_alpha": [0.3, 0.2],
            "activation_beta": [0.4],
        },
    ),
    "gru_initial": ("GRU", {"inputs": ("initial_h",)}),
    "lstm": ("LSTM", {}),
    "lstm_no_bias": ("LSTM", {"inputs": ()}),
    "lstm_peepholes": ("LSTM", {"inputs": ("B", "P")}),
    "lstm_peepholes_initial": ("LSTM", {"inputs": ("B", "P", "initial_h", "initial_c")}),
    "lstm_initial_c": ("LSTM", {"inputs": ("B", "initial_c")}),
    "lstm_coupled": ("LSTM", {"input_forget": 1}),
    "lstm_clip": ("LSTM", {"clip": 0.3}),
    "lstm_clip_peepholes": ("LSTM", {"clip": 0.3, "inputs": ("B", "P")}),
    "lstm_elu_softsign": (
        "LSTM",
        {"activations": ["Sigmoid", "Elu", "Softsign"], "activation_alpha": [0.5]},
    ),
    "lstm_scaled_tanh": (
        "LSTM",
        {
            "activations": ["HardSigmoid", "ScaledTanh", "ThresholdedRelu"],
            "activation_alpha": [0.25, 1.5, 0.1],
            "activation_beta": [0.5, 0.6],
        },
    ),
}
EACH = {"forward": 1, "reverse": 1, "bidirectional": 2}


@pytest.mark.parametrize("direction", EACH)
@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_of_the_operators(name, direction):
    kind, options = OPTIONS[name]
    repeated = {
        key: value * EACH[direction] if key.startswith("activation") else value
        for key, value in options.items()
    }
    weights = holds(operator(kind, direction=direction, **repeated))
    assert layers_of(weights) == [kind]
    assert weights.network.layers[0].direction == direction


@pytest.mark.parametrize("kind", GATES)
def test_directions_with_other_functions_are_two_layers(kind):
    names = {"RNN": ["Tanh"], "GRU": ["Sigmoid", "Tanh"], "LSTM": ["Sigmoid", "Tanh", "Tanh"]}[kind]
    other = [name.replace("Tanh", "Relu") for name in names]
    model = operator(kind, direction="bidirectional", activations=names + other)
    assert layers_of(holds(model)) == [kind, kind, "Concat"]


@pytest.mark.parametrize("direction", EACH)
@pytest.mark.parametrize("kind", GATES)
def test_layout_1_by_the_evaluator_of_onnx(kind, direction):
    model = operator(kind, direction=direction, layout=1, inputs=("B", "initial_h"))
    assert layers_of(holds(model, "the evaluator of onnx")) == [kind]


@pytest.mark.parametrize("kind", GATES)
def test_layout_1_and_clip_are_run_by_none_and_held_to_the_reference(kind):
    holds(operator(kind, layout=1, clip=0.5), "reference.py")


@pytest.mark.parametrize("direction", EACH)
@pytest.mark.parametrize("kind", GATES)
def test_the_last_h_alone(kind, direction):
    weights = holds(operator(kind, direction=direction, wants=("Y_h",)))
    assert layers_of(weights) == [kind]
    assert weights.probes[0].ys.shape[0] == (
        len(weights.probes[0].xs) if direction == "forward" else 1
    )


def test_states_among_the_outputs_are_left_out():
    weights = holds(operator("LSTM", wants=("Y", "Y_h", "Y_c")))
    assert weights.network.output_size == H


def test_a_length_that_is_an_input_is_left_out():
    holds(operator("GRU", inputs=("B", "sequence_lens"), direction="bidirectional"))


def test_a_fixed_length():
    for length, direction in itertools.product((1, 7, 40), ("forward", "bidirectional")):
        weights = holds(operator("GRU", length=length, direction=direction))
        assert len(weights.probes[0].xs) <= length


def test_peepholes_alone_as_c_is_read_is_refused():
    model = operator("LSTM", wants=("Y_c",))
    with pytest.raises(WeightsError, match="outputs that are no states: none"):
        from_onnx.convert(model)


@pytest.mark.parametrize("opset", [7, 9, 11, 13, 14, 22, "newest"])
def test_opsets(opset):
    opset = onnx.defs.onnx_opset_version() if opset == "newest" else opset
    holds(operator("LSTM", opset=opset, inputs=("B", "P")))


# Exports of PyTorch -------------------------------------------------------------------------------


def exported(module: "nn.Module", args: tuple[Any, ...], dynamo: bool, time: Any) -> Any:
    """Return what torch.onnx.export writes; `time` is the axis of the first input, or None."""
    logging.disable(logging.WARNING)  # the exporter's, on every call
    with warnings.catch_warnings(action="ignore"):
        if dynamo:
            lengths = {} if time is None else {time: torch.export.Dim("t", min=2, max=4096)}
            shapes = (lengths, *({} for _ in args[1:]))
            program = torch.onnx.export(
                module.eval(), args, dynamo=True, dynamic_shapes=shapes, verbose=False
            )
            model = program.model_proto
        else:
            file = io.BytesIO()
            axes = {} if time is None else {"x0": {time: "t"}}
            names = [f"x{n}" for n in range(len(args))]
            torch.onnx.export(
                module.eval(), args, file, dynamo=False, input_names=names, dynamic_axes=axes
            )
            model = onnx.load_from_string(file.getvalue())
    logging.disable(logging.NOTSET)
    return model


PICKS = ("sequence", "last", "mean", "max", "h")
CASES = [
    *((k, p, True, {"num_layers": 2, "bidirectional": True}) for k in GATES for p in PICKS),
    *((k, "sequence", False, {"bias": False}) for k in GATES),
    *((k, "last", False, {"num_layers": 3}) for k in GATES),
    ("RNN", "mean", True, {"nonlinearity": "relu"}),
    ("LSTM", "h", True, {}),
]


@pytest.mark.parametrize(("kind", "pick", "tokens", "options"), CASES)
def test_torch_exports(kind, pick, tokens, options):
    torch.manual_seed(1)
    net = own.Stack(kind, pick, tokens, **options)
    x = torch.randint(11, (1, 7)) if tokens else torch.randn(1, 7, 4)
    weights = holds(exported(net, (x,), False, 1))
    long = torch.randint(11, (1, 30)) if tokens else torch.randn(1, 30, 4)
    with torch.no_grad():
        expected = net(long)[0].reshape(-1, 3)
    xs = long[0].numpy().astype(np.int32 if tokens else np.float32)
    ys = numlstm.Model(weights).run(xs)[-len(expected) :]
    np.testing.assert_allclose(ys, expected, 0, 1e-6)


@pytest.mark.long
@pytest.mark.parametrize(("kind", "time"), [("GRU", None), ("LSTM", 1)])
def test_torch_exports_of_dynamo(kind, time):
    net = own.Stack(kind, "last", True, num_layers=2, bidirectional=True)
    weights = holds(exported(net, (torch.randint(11, (1, 7)),), True, time))
    assert layers_of(weights) == ["Embedding", kind, kind, "Pooling", "Linear", "Softmax"]


@pytest.mark.long
def test_a_loop_that_an_exporter_wrote_out_is_refused():
    # The dynamo exporter has no RNN operator: it writes each step of nn.RNN, of a fixed length.
    model = exported(own.Stack("RNN", "last", True), (torch.randint(11, (1, 4)),), True, 1)
    with pytest.raises(WeightsError, match=r"Slice 'node_Slice_\d+': it takes steps 1 to 2 of 4"):
        from_onnx.convert(model)


@pytest.mark.parametrize("dynamo", [False, True])
def test_a_state_that_goes_in_and_out(dynamo):
    model = exported(own.Streaming(), (torch.randn(7, 3), torch.zeros(1, 6)), dynamo, 0)
    weights = holds(model)
    assert layers_of(weights) == ["Conv1d", "LayerNorm", "GRU", "Linear"]
    assert weights.network.is_causal


@pytest.mark.parametrize("dynamo", [False, True])
def test_a_cell_of_one_step_keeps_its_state_by_feedback(dynamo):
    net = own.Cell(3, 4)
    args = (torch.randn(1, 3), torch.zeros(1, 4), torch.zeros(1, 4))
    weights = holds(exported(net, args, dynamo, None))
    xs = torch.randn(20, 1, 3)
    h = c = torch.zeros(1, 4)
    rows = []
    with torch.no_grad():
        for x in xs:
            y, h, c = net(x, h, c)
            rows.append(y[0].numpy())
    ys = numlstm.Model(weights).run(xs[:, 0].numpy())
    np.testing.assert_allclose(ys, rows, 0, 1e-6)


@pytest.mark.parametrize("inputs", [3, 4])
def test_which_input_is_the_state_is_not_guessed(inputs):
    args = (torch.randn(1, inputs), (torch.zeros(1, 4), torch.zeros(1, 4)))
    model = exported(nn.LSTMCell(inputs, 4), args, False, None)
    if inputs == 3:  # only x is not of the shape of a state; the answer is h
        assert holds(model).network.output_size == 4
        return
    with pytest.raises(WeightsError, match=r"can be read in 3 ways: the data is x0 .*, x1 .*, "):
        from_onnx.convert(model)


# Graphs by hand -----------------------------------------------------------------------------------


def graph(text: str, opset: int = 18, x: str = "float[1, t, 4] x") -> "onnx.ModelProto":
    """Return a graph x -> y with constants: w (4, 6), u (6), a (4), b (4), r, B of a GRU 4 -> 4."""
    generator = np.random.default_rng(3)
    shapes = {"w": (4, 6), "u": (6,), "a": (4,), "b": (4,), "k": (5, 4, 3), "positive": (4,)}
    shapes |= {"W": (1, 12, 4), "R": (1, 12, 4), "s": ()}
    constants = []
    for name, shape in shapes.items():
        array = generator.uniform(0.1 if name == "positive" else -0.8, 0.8, shape)
        constants.append(numpy_helper.from_array(array.astype(np.float32), name))
    integers = {"zero": [0], "one": [1], "two": [2], "minus": [-1], "order": [2, 0, 3, 1]}
    integers |= {"four": [4], "least": [-(2**31)], "flat": [-1, 4], "back": [1, -1, 4]}
    integers |= {"pads": [0, 0, 2, 0, 0, 0], "first": 0, "last": -1}
    constants += [
        numpy_helper.from_array(np.array(value, np.int64), name) for name, value in integers.items()
    ]
    header = f'<ir_version: 8, opset_import: ["" : {opset}]>'
    model = onnx.parser.parse_model(f"{header} g ({x}) => (float[?, ?, ?] y) {{ {text} }}")
    used = {name for node in model.graph.node for name in node.input}
    model.graph.initializer.extend(c for c in constants if c.name in used)
    return model


NORM = """
    m = ReduceMean <axes = [-1]> (x) d = Sub (x, m) q = {square} e = ReduceMean <axes = [-1]> (q)
    f = Add (e, eps) g = Sqrt (f) n = Div (d, g) h = Mul (n, a) y = Add (h, b)
"""
GRAPHS: dict[str, tuple[str, list[str]]] = {
    "functions": (
        "c = Relu (x) d = LeakyRelu <alpha = 0.3> (c) e = Tanh (d) f = Softplus (e) g = Sqrt (f) "
        "h = Log (g) i = Exp (h) j = Softsign (i) k1 = HardSigmoid <alpha = 0.3> (j) y = Elu (k1)",
        ["Activation"] * 10,
    ),
    "more_functions": (
        "c = Selu (x) d = ThresholdedRelu <alpha = 0.1> (c) e = HardSwish (d) f = Neg (e) "
        "y = Sigmoid (f)",
        ["Activation", "Activation", "Activation", "Multiply", "Activation", "Activation"],
    ),
    "affine": ("c = Mul (x, a) d = Add (c, b) e = Div (d, a) y = Sub (e, b)", ["BatchNorm"]),
    "affine_scalar": ("c = Mul (x, s) d = Sub (s, c) y = Tanh (d)", ["Activation", "Activation"]),
    "linear_with_all": (
        "c = MatMul (x, w) d = Add (u, c) e = Mul (d, s) y = Relu (e)",
        ["Linear"],
    ),
    "flattened_linear": (
        "c = Reshape (x, flat) d = MatMul (c, w) e = Unsqueeze (d, zero) y = Softmax (e)",
        ["Linear", "Softmax"],
    ),
    "residual": (
        "c = Tanh (x) d = Add (x, c) e = Mul (d, x) y = Sub (e, c)",
        ["Activation", "Add", "Multiply", "Activation", "Add"],
    ),
    "square": ("c = Mul (x, x) d = Relu (x) y = Add (c, d)", ["Activation", "Activation", "Add"]),
    "order": ("c = Gather <axis = 2> (x, order) y = MatMul (c, w)", ["Linear"]),
    "order_of_the_answer": (
        "c = Tanh (x) y = Gather <axis = 2> (c, order)",
        ["Activation", "Slice", "Slice", "Slice", "Slice", "Concat"],
    ),
    "parts": (
        "c, d = Split <axis = 2, num_outputs = 2> (x) e = Tanh (c) y = Concat <axis = 2> (d, e)",
        ["Slice", "Slice", "Activation", "Concat"],
    ),
    "convolution": (
        "c = Transpose <perm = [0, 2, 1]> (x) d = Conv <pads = [1, 1]> (c, k) e = Relu (d) "
        "y = Transpose <perm = [0, 2, 1]> (e)",
        ["Conv1d"],
    ),
    "causal_convolution": (
        "c = Transpose <perm = [0, 2, 1]> (x) d = Pad (c, pads) e = Conv (d, k) "
        "y = Transpose <perm = [0, 2, 1]> (e)",
        ["Conv1d"],
    ),
    "batch_norm": (
        "c = Transpose <perm = [0, 2, 1]> (x) d = BatchNormalization (c, a, b, a, positive) "
        "y = Transpose <perm = [0, 2, 1]> (d)",
        ["BatchNorm"],
    ),
    "averaged": (
        "c = Transpose <perm = [0, 2, 1]> (x) d = GlobalAveragePool (c) "
        "y = Transpose <perm = [0, 2, 1]> (d)",
        ["Pooling"],
    ),
    "half_a_layer_norm": (
        "m = ReduceMean <axes = [2]> (x) c = Sub (x, m) y = Tanh (c)",
        ["Linear", "Concat", "Add", "Activation"],
    ),
    "backwards": (
        "c = Slice (x, minus, least, one, minus) y = Tanh (c)",
        ["Reverse", "Activation"],
    ),
    "first_step": (
        "c = Slice (x, zero, one, one) y = Tanh (c)",
        ["Reverse", "Pooling", "Activation"],
    ),
    "mean_of_the_numbers": ("c = ReduceMean <axes = [2]> (x) y = Tanh (c)", ["Linear"]),
    "branch": (
        "c = Shape (x) d = Gather (c, first) e = Equal (d, one) f = Squeeze (e) "
        "y = If (f) <then_branch = g1 () => (z1) { z1 = Tanh (x) }, "
        "else_branch = g2 () => (z2) { z2 = Relu (x) }>",
        ["Activation"],
    ),
    "clips": (
        "lo = Constant <value = float {0.0}> () hi = Constant <value = float {0.5}> () "
        "c = Clip (x, lo, hi) d = Clip (c, lo) y = Clip (d)",
        ["Activation", "Activation"],
    ),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_nodes(name):
    text, expected = GRAPHS[name]
    opset = 17 if "ReduceMean" in text else 18
    assert layers_of(holds(graph(text, opset))) == expected


@pytest.mark.parametrize("square", ["Mul (d, d)", "Pow (d, half)"])
def test_a_layer_norm_that_is_written_out(square):
    model = graph(NORM.format(square=square), 17)
    for name, value in (("eps", 1e-6), ("half", 2.0)):
        tensor = numpy_helper.from_array(np.array(value, np.float32), name)
        if any(name in node.input for node in model.graph.node):
            model.graph.initializer.append(tensor)
    weights = holds(model)
    (layer,) = weights.network.layers
    assert layer == spec.LayerNorm(4, float(np.float32(1e-6)), True, True)


# Refusals -----------------------------------------------------------------------------------------


def test_all_that_is_refused_is_listed_by_name():
    model = graph(
        "c = Sin (x) d = CumSum (x, one) e = Tanh (x) f = InstanceNormalization (e, a, b) "
        "g = Round (x) h = Add (c, d) i = Add (h, f) y = Add (g, i)",
        20,
    )
    for n, node in enumerate(model.graph.node):
        node.name = f"node_{n}"
    with pytest.raises(WeightsError) as caught:
        from_onnx.convert(model)
    text = str(caught.value)
    assert [line.split(":")[0].strip() for line in text.splitlines()[1:]] == [
        "Sin 'node_0'",
        "CumSum 'node_1'",
        "InstanceNormalization 'node_3'",
        "Round 'node_4'",
    ]


REFUSED: dict[str, tuple[Any, str]] = {
    "some_steps": (
        lambda: graph("c = Slice (x, zero, two, one) y = Tanh (c)"),
        "steps 0 to 2 of 11",
    ),
    "steps_in_a_row": (
        lambda: graph("c = Flatten (x) d = Tanh (c) y = Unsqueeze (d, zero)"),
        "depends on the length of the sequence; export it with a sequence of one length",
    ),
    "softmax_over_time": (
        lambda: graph("y = Softmax <axis = 1> (x)"),
        "Softmax 'y': weights of all steps are read; known is what sums the steps",
    ),
    "a_mean_joined_with_each_step": (
        lambda: graph("c = ReduceMean <axes = [1]> (x) y = Add (x, c)", 17),
        "one row for all steps with each step",
    ),
    "a_product_of_two": (
        lambda: graph("c = Transpose <perm = [0, 2, 1]> (x) d = MatMul (x, c) y = Tanh (d)"),
        "MatMul .* two tensors that depend on the input",
    ),
    "batch_of_two": (
        lambda: graph(
            "c = Transpose <perm = [1, 0, 2]> (x) d = GRU <hidden_size = 4> (c, W, R) "
            "y = Squeeze (d, one)",
            x="float[2, t, 4] x",
        ),
        "axis 1 of X .* is that of the batch, which is 2",
    ),
    "what_is_no_batch": (
        lambda: graph(
            "c = Unsqueeze (x, zero) d = Softmax <axis = 1> (c) y = Squeeze (d, zero)",
            x="float[t, 4] x",
        ),
        "axis 0 of 'x' is no batch",
    ),
    "old_opset": (lambda: graph("y = Tanh (x)", 6), "opset 6, expected 7 to"),
    "stranger": (
        lambda: _with_domain(graph("y = Tanh (x)")),
        "operators of 'com.acme' are not known",
    ),
    "random": (
        lambda: graph("c = RandomNormal <shape = [4]> () y = Add (x, c)"),
        "RandomNormal .* random numbers",
    ),
}


def _with_domain(model: "onnx.ModelProto") -> "onnx.ModelProto":
    model.graph.node[0].domain = "com.acme"
    model.opset_import.append(helper.make_opsetid("com.acme", 1))
    return model


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    make, message = REFUSED[name]
    with pytest.raises(WeightsError, match=message):
        from_onnx.convert(make())


def test_options_that_are_refused():
    for options, message in (
        ({"activations": ["Sigmoid", "Gelu"]}, "activation 'Gelu' is not known"),
        ({"activations": ["Sigmoid", "Affine"]}, "'Affine' without its alpha"),
        ({"activation_alpha": [0.5]}, "more activation_alpha"),
    ):
        with pytest.raises(WeightsError, match=message):
            from_onnx.convert(operator("GRU", **options))


# Files --------------------------------------------------------------------------------------------


def test_paths_bytes_and_models_are_read_alike(tmp_path):
    model = operator("GRU")
    onnx.save(model, tmp_path / "whole.onnx")
    onnx.save(
        onnx.load(tmp_path / "whole.onnx"),
        tmp_path / "parts.onnx",
        save_as_external_data=True,
        size_threshold=0,
        location="parts.data",
    )
    sources = [model, model.SerializeToString(), tmp_path / "whole.onnx", tmp_path / "parts.onnx"]
    prints = {from_onnx.convert(source).fingerprint for source in [*sources, str(sources[2])]}
    assert len(prints) == 1
    (tmp_path / "parts.data").unlink()
    with pytest.raises(WeightsError, match=r"parts\.onnx"):
        from_onnx.convert(tmp_path / "parts.onnx")


def test_damaged_files_are_refused(tmp_path):
    whole = operator("LSTM").SerializeToString()
    path = tmp_path / "damaged.onnx"
    for size in range(0, len(whole), 97):
        path.write_bytes(whole[:size])
        with pytest.raises(WeightsError, match=r"damaged\.onnx: is not a model"):
            from_onnx.convert(path)
    with pytest.raises(WeightsError, match="the model: is not a model in ONNX"):
        from_onnx.convert(b"no protocol buffer")
    with pytest.raises(WeightsError, match="source is int"):
        from_onnx.convert(3)
    with pytest.raises(FileNotFoundError):
        from_onnx.convert(tmp_path / "nowhere.onnx")


@pytest.mark.long
def test_bytes_that_changed_give_a_network_or_a_weights_error():
    generator = np.random.default_rng(0)
    whole = operator("LSTM", inputs=("B", "P"), direction="reverse").SerializeToString()
    refused = 0
    for _ in range(300):
        changed = bytearray(whole)
        changed[generator.integers(len(whole))] = generator.integers(256)
        try:
            from_onnx.convert(bytes(changed))
        except WeightsError:
            refused += 1
    assert 0 < refused < 300


def test_labels_and_the_public_function():
    labels = [f"label {n}" for n in range(H)]
    model = numlstm.from_onnx(operator("GRU"), labels=labels)
    assert model.labels == tuple(labels)
    with pytest.raises(WeightsError, match="1 labels for an output of 5"):
        numlstm.from_onnx(operator("GRU"), labels=["one"])


def test_a_network_that_answers_otherwise_is_refused(monkeypatch):
    from numlstm.convert import gates

    monkeypatch.setitem(gates.ONNX, 3, "rzn")
    with pytest.raises(WeightsError, match="does not answer as onnxruntime"):
        from_onnx.convert(operator("GRU"))


def test_without_onnxruntime_the_evaluator_of_onnx_answers(monkeypatch):
    from numlstm.convert.onnx import source

    monkeypatch.setattr(source, "onnxruntime", None)
    holds(operator("LSTM", inputs=("B", "P"), direction="bidirectional"), "the evaluator of onnx")
