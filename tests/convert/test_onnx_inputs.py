"""ONNX graphs with several inputs and outputs: lengths, masks, static numbers, states, resets.

Each is held to what the module of PyTorch that was exported answers.
"""

import io
import logging
import warnings
from typing import Any

import numpy as np
import pytest

import numlstm
from numlstm.spec import WeightsError
from tests.lazy import Lazy, helper, numpy_helper, onnx, torch

modules = Lazy("tests.convert.onnx_inputs")

BATCH_TIME, BATCH = {0: "batch", 1: "time"}, {0: "batch"}
CLOSE = 1e-6


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def exported(net: Any, inputs: dict[str, Any], outputs: dict[str, Any], opset: int = 17) -> Any:
    """Return what torch.onnx.export writes; names with (tensor, free axes), and with free axes."""
    file = io.BytesIO()
    logging.disable(logging.WARNING)
    with warnings.catch_warnings(action="ignore"):
        torch.onnx.export(
            net.eval(), tuple(tensor for tensor, _ in inputs.values()), file, dynamo=False,
            input_names=list(inputs), output_names=list(outputs), opset_version=opset,
            dynamic_axes={name: axes for name, (_, axes) in inputs.items()} | outputs,
        )  # fmt: skip
    logging.disable(logging.NOTSET)
    return onnx.load_from_string(file.getvalue())


def sequence(size: int = 5, length: int = 20) -> np.ndarray:
    return np.random.default_rng(size).standard_normal((length, size)).astype(np.float32)


def answer(net: Any, *inputs: Any) -> np.ndarray:
    """Return what a module answers to one sequence, without the axis of the batch."""
    tensors = [torch.as_tensor(np.asarray(part))[None] for part in inputs]
    with torch.no_grad():
        found = net(*tensors)
    parts = found if isinstance(found, tuple) else (found,)
    return torch.cat(parts, -1)[0].numpy()


# Lengths and masks --------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["index", "gather", "mean", "clamped", "by_length", "max"])
@pytest.mark.parametrize(("name", "batch"), [("lengths", 2), ("seq_len", 1)])
def test_the_length_of_one_sequence_is_that_of_the_sequence(how, name, batch):
    net = modules.Picked(how)
    axes = (BATCH_TIME, BATCH) if batch == 2 else ({1: "time"}, {})
    x, lengths = torch.randn(batch, 6, 5), torch.tensor([6, 4][:batch])
    model = numlstm.from_onnx(
        exported(net, {"x": (x, axes[0]), name: (lengths, axes[1])}, {"y": {}})
    )
    xs = sequence()
    np.testing.assert_allclose(model.run(xs)[-1], answer(net, xs, 20), 0, CLOSE)
    assert (model.inputs, model.outputs) == ((), ())


@pytest.mark.parametrize("opset", [11, 13, 16, 20])
def test_lengths_at_any_opset(opset):
    net = modules.Picked("mean", "GRU")
    inputs = {"x": (torch.randn(2, 6, 5), BATCH_TIME), "x_lengths": (torch.tensor([6, 4]), BATCH)}
    model = numlstm.from_onnx(exported(net, inputs, {"y": BATCH}, opset))
    xs = sequence()
    np.testing.assert_allclose(model.run(xs)[-1], answer(net, xs, 20), 0, CLOSE)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_packed_sequence(bidirectional):
    net = modules.Packed(bidirectional)
    inputs = {"x": (torch.randn(2, 6, 5), BATCH_TIME), "lengths": (torch.tensor([6, 4]), BATCH)}
    model = numlstm.from_onnx(exported(net, inputs, {"y": BATCH_TIME}))
    xs = sequence()
    np.testing.assert_allclose(model.run(xs), answer(net, xs, 20), 0, CLOSE)


@pytest.mark.parametrize("dtype", ["float32", "bool", "int64"])
def test_a_mask_is_all_ones(dtype, caplog):
    dtype = getattr(torch, dtype)
    net = modules.Masked()
    inputs = {
        "x": (torch.randn(2, 6, 5), BATCH_TIME),
        "attention_mask": (torch.ones(2, 6, dtype=dtype), BATCH_TIME),
    }
    with caplog.at_level(logging.INFO, "numlstm"):
        model = numlstm.from_onnx(exported(net, inputs, {"y": BATCH}))
    said = "input 'attention_mask' is taken for all 1, and is none of the network"
    assert said in caplog.messages
    xs = sequence()
    expected = answer(net, xs, np.ones(20, np.float32))
    np.testing.assert_allclose(model.run(xs)[-1], expected, 0, CLOSE)


def test_what_uses_the_length_otherwise_depends_on_it():
    length = helper.make_node("Cast", ["lengths"], ["length"], to=1)
    model = by_hand([length, helper.make_node("Mul", ["x", "length"], ["y"])], x=(1, "t", 4))
    model.graph.input.append(helper.make_tensor_value_info("lengths", 7, ["n"]))
    with pytest.raises(WeightsError, match="'x': the network that is found depends on the length"):
        numlstm.from_onnx(model)


# Numbers of the whole sequence --------------------------------------------------------------------


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("how", ["head", "steps", "gate"])
@pytest.mark.parametrize("is_fixed", [False, True])
def test_numbers_of_the_whole_sequence(how, bidirectional, is_fixed):
    net = modules.Static(how, bidirectional)
    axes = ({}, {}) if is_fixed else (BATCH_TIME, BATCH)
    inputs = {
        "x": (torch.randn(1, 20, 5), axes[0]),
        "static": (torch.randn(1, 3), axes[1]),
    }
    model = numlstm.from_onnx(exported(net, inputs, {"y": {}}))
    assert model.inputs == (("x", 5), ("static", 3))
    xs, static = sequence(), np.float32([0.3, -1, 2])
    ys, expected = model.run(model.joined(x=xs, static=static)), answer(net, xs, static)
    np.testing.assert_allclose(ys if how == "gate" else ys[-1], expected, 0, CLOSE)


def test_numbers_of_the_whole_are_no_state_where_the_answer_has_their_shape():
    net = modules.Static("head", answers=3)
    inputs = {"x": (torch.randn(1, 20, 5), BATCH_TIME), "static": (torch.randn(1, 3), BATCH)}
    model = numlstm.from_onnx(exported(net, inputs, {"y": BATCH}))
    xs, static = sequence(), np.float32([0.3, -1, 2])
    ys = model.run(model.joined(x=xs, static=static))
    np.testing.assert_allclose(ys[-1], answer(net, xs, static), 0, CLOSE)


def test_two_sequences_and_two_answers():
    net = modules.TwoSequences()
    inputs = {
        "x": (torch.randn(2, 6, 5), BATCH_TIME),
        "z": (torch.randn(2, 6, 2), BATCH_TIME),
    }
    file = exported(net, inputs, {"a": BATCH_TIME, "b": BATCH_TIME})
    model = numlstm.from_onnx(file)
    assert model.inputs == (("x", 5), ("z", 2))
    assert model.outputs == (("a", 3), ("b", 1))
    xs, zs = sequence(5), sequence(2)
    rows = model.joined(x=xs, z=zs)
    np.testing.assert_allclose(model.run(rows), answer(net, xs, zs), 0, CLOSE)
    for names, columns in ((["b"], [3]), (["b", "a"], [3, 0, 1, 2])):
        chosen = numlstm.from_onnx(file, outputs=names)
        np.testing.assert_allclose(chosen.run(rows), answer(net, xs, zs)[:, columns], 0, CLOSE)
        assert [name for name, _ in chosen.outputs] == (names if len(names) > 1 else [])


def test_a_row_for_each_step_beside_one_for_all():
    nodes = [
        helper.make_node("GRU", ["x", "W", "R"], ["hs", "h"], hidden_size=4),
        helper.make_node("Squeeze", ["hs", "one"], ["ys"]),
        helper.make_node("ReduceMean", ["ys"], ["mean"], axes=[0], keepdims=0),
    ]
    model = by_hand(nodes, x=("t", 1, 4), outputs={"ys": ("t", 1, 4), "mean": (1, 4)})
    found = numlstm.from_onnx(model)
    assert found.outputs == (("ys", 4), ("mean", 4))
    ys = found.run(sequence(4))
    np.testing.assert_allclose(ys[-1, 4:], ys[:, :4].mean(0), 0, CLOSE)
    model.graph.node[0].attribute.append(helper.make_attribute("direction", "reverse"))
    with pytest.raises(WeightsError, match=r"'ys' \(rows\), 'mean' \(row\); choose some with out"):
        numlstm.from_onnx(model)


# States -------------------------------------------------------------------------------------------


def test_all_at_once():
    net = modules.All()
    state = (torch.zeros(1, 2, 8), {1: "batch"})
    inputs = {
        "c0": state,
        "static": (torch.randn(2, 3), BATCH),
        "x": (torch.randn(2, 6, 5), BATCH_TIME),
        "lengths": (torch.tensor([6, 4]), BATCH),
        "h0": state,
    }
    model = numlstm.from_onnx(exported(net, inputs, {"cn": {1: "batch"}, "y": BATCH, "hn": {}}))
    assert (model.inputs, model.outputs) == ((("static", 3), ("x", 5)), ())
    xs, static, zeros = sequence(), np.float32([0.3, -1, 2]), torch.zeros(1, 1, 8)
    with torch.no_grad():
        lengths = torch.tensor([20])
        _, y, _ = net(zeros, torch.tensor(static)[None], torch.tensor(xs)[None], lengths, zeros)
    rows = model.joined(x=xs, static=static)
    np.testing.assert_allclose(model.run(rows)[-1], y[0], 0, CLOSE)


@pytest.mark.parametrize(
    ("reset", "name"), [("start", "episode_starts"), ("start", "dones"), ("mask", "masks")]
)
def test_a_policy_whose_states_are_reset(reset, name, caplog):
    net = modules.Policy(reset)
    inputs = {
        "obs": (torch.randn(3, 4), BATCH),
        "h_in": (torch.zeros(2, 3, 6), {1: "batch"}),
        "c_in": (torch.zeros(2, 3, 6), {1: "batch"}),
        name: (torch.zeros(3), BATCH),
    }
    outputs = dict.fromkeys(("action", "logits", "value"), BATCH)
    with caplog.at_level(logging.INFO, "numlstm"):
        model = numlstm.from_onnx(exported(net, inputs, outputs | {"h_out": {}, "c_out": {}}))
    assert model.outputs == (("logits", 2), ("value", 1))
    left_out = (
        "output 'action' is left out: whole numbers; those that they are chosen by are to be one"
    )
    keep = 1.0 if reset == "mask" else 0.0
    given = f"input {name!r} is taken for all {keep:.0f}, and is none of the network"
    assert {left_out, given} <= set(caplog.messages)
    stream, h, c = model.stream(), torch.zeros(2, 1, 6), torch.zeros(2, 1, 6)
    for obs in torch.randn(30, 1, 4):
        with torch.no_grad():
            _, logits, value, h, c = net(obs, h, c, torch.full((1,), keep))
        expected = torch.cat([logits, value], -1)[0]
        np.testing.assert_allclose(stream.step(obs[0].numpy()), expected, 0, CLOSE)


def test_a_policy_of_which_no_name_says_anything():
    net = modules.Policy("start")
    args = (torch.randn(3, 4), torch.zeros(2, 3, 6), torch.zeros(2, 3, 6), torch.zeros(3))
    inputs = {
        f"input.{n}": (tensor, {tensor.ndim - 2 if tensor.ndim > 1 else 0: "batch"})
        for n, tensor in enumerate(args)
    }
    model = numlstm.from_onnx(exported(net, inputs, {f"o{n}": {} for n in range(5)}))
    assert (model.inputs, model.outputs) == ((), (("o1", 2), ("o2", 1)))
    stream, state = model.stream(), torch.zeros(2, 1, 6)
    obs = torch.randn(1, 4)
    with torch.no_grad():
        _, logits, value, *_ = net(obs, state, state, torch.zeros(1))
    expected = torch.cat([logits, value], -1)[0]
    np.testing.assert_allclose(stream.step(obs[0].numpy()), expected, 0, CLOSE)


@pytest.mark.parametrize("batch", [1, 3])
def test_states_are_known_by_name_where_all_shapes_are_one(batch):
    net = modules.Continuous()
    axes = BATCH if batch > 1 else {}
    inputs = {name: (torch.randn(batch, 4), axes) for name in ("obs", "hx", "cx")}
    inputs["done"] = (torch.zeros(batch, dtype=torch.bool), axes)
    model = numlstm.from_onnx(exported(net, inputs, {"cy": {}, "hy": {}, "mean": {}}))
    stream, h, c = model.stream(), torch.zeros(1, 4), torch.zeros(1, 4)
    for obs in torch.randn(30, 1, 4):
        with torch.no_grad():
            c, h, mean = net(obs, h, c, torch.zeros(1, dtype=torch.bool))
        np.testing.assert_allclose(stream.step(obs[0].numpy()), mean[0], 0, CLOSE)


# What a caller says -------------------------------------------------------------------------------


def by_hand(
    nodes: Any,
    x: tuple[Any, ...] = ("t", 1, 4),
    outputs: dict[str, Any] | None = None,
    others: dict[str, tuple[int, tuple[Any, ...]]] | None = None,
) -> Any:
    """Return a graph of nodes with constants: W, R of a GRU 4 -> 4, one; other inputs by type."""
    generator = np.random.default_rng(3)
    info = helper.make_tensor_value_info
    weights = {
        "W": generator.uniform(-0.8, 0.8, (1, 12, 4)).astype(np.float32),
        "R": generator.uniform(-0.8, 0.8, (1, 12, 4)).astype(np.float32),
        "one": np.array([1], np.int64),
        "rate": np.array(16000, np.int64),
    }
    inputs = {"x": (1, x), **(others or {})}
    read = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes, "g", [info(name, *kind) for name, kind in inputs.items()],
        [info(name, 1, shape) for name, shape in (outputs or {"y": [None] * len(x)}).items()],
        [numpy_helper.from_array(a, n) for n, a in weights.items() if n in read - set(inputs)],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def gru(wants: str = "hs", **options: Any) -> list[Any]:
    return [helper.make_node("GRU", ["x", "W", "R"], [wants], hidden_size=4, **options)]


def with_rate() -> Any:
    """Return a graph that halves its input at one rate, and doubles it at others."""
    cast = {"to": 1}
    nodes = [
        helper.make_node("Cast", ["sr"], ["real"], **cast),
        helper.make_node("Cast", ["rate"], ["other"], **cast),
        helper.make_node("Div", ["real", "other"], ["factor"]),
        helper.make_node("Mul", ["x", "factor"], ["y"]),
    ]
    return by_hand(nodes, others={"sr": (7, ())})


def test_an_input_that_is_the_same_for_every_run():
    for value in (8000, np.int64(8000), [8000]):
        model = numlstm.from_onnx(with_rate(), constants={"sr": value})
        np.testing.assert_allclose(model.run(np.ones((2, 4))), 0.5, 0, CLOSE)


def test_weights_that_are_inputs_are_given_as_constants():
    weights = np.random.default_rng(0).uniform(-0.5, 0.5, (2, 1, 12, 4)).astype(np.float32)
    others = dict.fromkeys(("W", "R"), (1, (1, 12, 4)))
    model = by_hand(gru("y"), outputs={"y": ("t", 1, 1, 4)}, others=others)
    found = numlstm.from_onnx(model, constants=dict(zip(("W", "R"), weights, strict=True)))
    np.testing.assert_array_equal(
        found.weights.tensors["layers.0.weight_hh"][4:8], weights[1, 0, :4]
    )


def test_sizes_that_the_file_calls_free():
    nodes = [helper.make_node("ReduceMean", ["x"], ["y"], axes=[1])]
    model = by_hand(nodes, x=("a", "b", 4), outputs={"y": ("a", 1, 4)})
    with pytest.raises(WeightsError, match="can be read in 2 ways"):
        numlstm.from_onnx(model)
    xs = sequence(4)
    for shape, expected in (((1, None, 4), xs.mean(0)), ((None, 1, 4), xs[-1])):
        ys = numlstm.from_onnx(model, shapes={"x": shape}).run(xs)
        np.testing.assert_allclose(ys[-1], expected, 0, CLOSE)


def test_options_that_do_not_fit_the_graph():
    for options, error, message in (
        ({"constants": [1]}, TypeError, "constants is list, expected a dict by names of inputs"),
        ({"constants": {"rate": 1}}, WeightsError, "'rate' is no input of the graph; it has x, sr"),
        ({"constants": {"sr": "a"}}, WeightsError, "'sr' is str, expected numbers (int64)"),
        ({"constants": {"sr": 0.5}}, WeightsError, "'sr' is 0.5, expected int64"),
        ({"constants": {"sr": [1, 2]}}, WeightsError, "'sr' has shape (2,), expected ()"),
        ({"constants": {"x": np.nan}}, WeightsError, "'x' has numbers that are not finite"),
        ({"shapes": {"z": (1,)}}, WeightsError, "shapes: 'z' is no input of the graph"),
        ({"shapes": {"x": (1, 4)}}, WeightsError, "'x' is (1, 4), expected (any, 1, 4)"),
        ({"shapes": {"x": (1, 2, 4)}}, WeightsError, "'x' is (1, 2, 4), expected (any, 1, 4)"),
        ({"shapes": {"x": (0, 1, 4)}}, WeightsError, "expected sizes, or None of those"),
        ({"outputs": "y"}, TypeError, "outputs is a str, expected a list of str"),
        ({"outputs": ["z"]}, WeightsError, "'z' is no output of the graph; it has y"),
        ({"outputs": ["y", "y"]}, WeightsError, "outputs: y, y, expected each once"),
    ):
        with pytest.raises(error) as caught:
            numlstm.from_onnx(with_rate(), **options)
        assert message in str(caught.value)


def test_what_is_left_out_may_be_what_no_layer_gives():
    nodes = [*gru(), helper.make_node("CumSum", ["hs", "one"], ["odd"])]
    model = by_hand(nodes, outputs={"hs": ("t", 1, 1, 4), "odd": ("t", 1, 1, 4)})
    with pytest.raises(WeightsError) as caught:
        numlstm.from_onnx(model)
    assert "output 'odd': what it is made of is refused; outputs=['hs'] leaves it out" in str(
        caught.value
    )
    assert numlstm.from_onnx(model, outputs=["hs"]).output_size == 4


# The sizes of an output that a tool left open -----------------------------------------------------


OPEN = """<ir_version: 8, opset_import: ["" : 17]>
g (float[n, 3] x, float[2, n, 4] state) => (float[n, 2] y, float[{sizes}] {name}) {{
    zero = Constant <value_ints = [0]> () one = Constant <value_ints = [1]> ()
    g0 = Gather <axis = 0> (state, zero) h = Squeeze (g0, zero)
    g1 = Gather <axis = 0> (state, one) s = Squeeze (g1, zero)
    a = MatMul (x, w) b = MatMul (h, r) c = Add (a, b) new = Tanh (c)
    d = Mul (s, half) sum = Add (d, new)
    y = MatMul (sum, v)
    e = Unsqueeze (new, zero) f = Unsqueeze (sum, zero) {name} = Concat <axis = 0> (e, f)
}}"""


def open_graph(sizes: str, name: str) -> "onnx.ModelProto":
    model = onnx.parser.parse_model(OPEN.format(sizes=sizes, name=name))
    generator = np.random.default_rng(0)
    shapes = {"w": (3, 4), "r": (4, 4), "v": (4, 2), "half": ()}
    model.graph.initializer.extend(
        onnx.numpy_helper.from_array(np.float32(generator.standard_normal(shape) * 0.5), n)
        for n, shape in shapes.items()
    )
    return model


@pytest.mark.parametrize("sizes", ["2, n, 4", "a, n, b", "2, n, b", "a, b, c"])
def test_a_state_goes_on_as_the_output_of_its_name_whatever_sizes_that_leaves_open(sizes):
    model = numlstm.from_onnx(open_graph(sizes, "stateN"), shapes={"x": (1, 3)})
    expected = numlstm.from_onnx(open_graph("2, n, 4", "stateN"), shapes={"x": (1, 3)})
    assert (model.input_size, model.output_size) == (3, 2)
    xs = np.random.default_rng(1).standard_normal((7, 3)).astype(np.float32)
    assert model.run(xs).tobytes() == expected.run(xs).tobytes()
    assert np.abs(model.run(xs)[-1] - model.run(xs[-1:])[0]).max() > 0.1  # it remembers
