"""Loop and Scan of ONNX: what is over the steps is one step, whose states are carried."""

import warnings
from typing import Any

import numpy as np
import pytest

import numlstm
from numlstm.spec import WeightsError
from tests.convert.test_onnx import exported, holds, layers_of
from tests.lazy import Lazy, from_onnx, numpy_helper, onnx, torch

modules = Lazy("tests.convert.onnx_modules")


def scripted(net: Any, x: Any) -> Any:
    """Return what PyTorch writes of a loop that it has not unrolled."""
    with warnings.catch_warnings(action="ignore"):
        return exported(torch.jit.script(net), (x,), False, 1)


@pytest.mark.parametrize("name", ["listed", "last", "backward", "started", "delayed"])
def test_a_loop_over_the_steps(name):
    torch.manual_seed(0)
    make, expected = modules.LOOPS[name]
    net = make().eval()
    weights = holds(scripted(net, torch.randn(1, 7, 3)))
    assert layers_of(weights) == expected
    x = torch.randn(1, 30, 3)
    with torch.no_grad():
        answers = net(x).numpy()
    answers = answers.reshape(-1, answers.shape[-1])
    ys = numlstm.Model(weights).run(x[0].numpy())
    np.testing.assert_allclose(ys[-len(answers) :], answers, 0, 1e-6)


def test_a_loop_around_no_known_cell_keeps_its_states_by_feedback():
    torch.manual_seed(0)
    net = modules.Unusual().eval()
    weights = holds(scripted(net, torch.randn(1, 7, 3)))
    assert layers_of(weights).count("Feedback") == 2
    x = torch.randn(1, 40, 3)
    stream = numlstm.Model(weights).stream()
    found = [stream.step(row) for row in x[0].numpy()]
    with torch.no_grad():
        np.testing.assert_allclose(found, net(x)[0], 0, 1e-6)


# By hand ------------------------------------------------------------------------------------------

BODY = (
    "step (float[5] h, float[3] x_t) => (float[5] h2, float[5] o) "
    "{ a = MatMul (x_t, W) s = MatMul (h, U) p = Add (a, s) q = Add (p, b) h2 = Tanh (q) "
    "o = Mul (h2, h2) }"
)


def built(text: str, length: int | str = "t") -> "onnx.ModelProto":
    """Return a graph x (length, 3) -> y with constants of a cell of 5, W, U, b, and others."""
    generator = np.random.default_rng(0)
    shapes = {"W": (3, 5), "U": (5, 5), "b": (5,), "one": (5,), "V": (3, 3)}
    header = '<ir_version: 8, opset_import: ["" : 18]>'
    model = onnx.parser.parse_model(
        f"{header} g (float[{length}, 3] x) => (float[?, ?] y) {{ {text} }}"
    )
    arrays = {n: generator.uniform(-0.8, 0.8, s).astype(np.float32) for n, s in shapes.items()}
    arrays |= {"zero": np.zeros(5, np.float32), "none": np.zeros((1, 5), np.float32)}
    arrays |= {"two": np.array(2), "true": np.array(True), "axis": np.array([0])}
    for name, array in arrays.items():
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    return model


@pytest.mark.parametrize("first", ["zero", "one"])
@pytest.mark.parametrize("backward", [0, 1])
def test_scan(first, backward):
    options = f"scan_input_directions = [{backward}], scan_output_directions = [{backward}]"
    model = built(f"hT, y = Scan <num_scan_inputs = 1, {options}, body = {BODY}> ({first}, x)")
    layers = ["RNN", "Activation"]
    assert layers_of(holds(model)) == (["Reverse", *layers, "Reverse"] if backward else layers)


def test_a_loop_of_a_number_of_turns_is_walked_so_often():
    body = (
        "turn (int64 n, bool go, float[?, ?] z) => (bool go2, float[?, ?] z2) "
        "{ go2 = Identity (go) a = MatMul (z, V) z2 = Tanh (a) }"
    )
    model = built(f"y = Loop <body = {body}> (two, true, x)")
    assert layers_of(holds(model)) == ["Linear", "Linear"]


REFUSED = {
    "which_step": (
        "n = Shape (x) k = Gather (n, axis) m = Squeeze (k) y = Loop <body = g2 "
        "(int64 t, bool go, float[?] h) => (bool go2, float[?] h2) "
        "{ go2 = Identity (go) u = Mul (t, two) a = Gather (x, u) h2 = MatMul (a, W) }> "
        "(m, true, zero)",
        r"Gather 'a': at step t of a loop it takes step 2 \* t \+ 0; read x\[:, t\] in the loop",
    ),
    "a_start_that_is_computed": (
        "e = ReduceSum <keepdims = 0> (x, axis) h = MatMul (e, W) "
        f"hT, y = Scan <num_scan_inputs = 1, body = {BODY}> (h, x)",
        "what it carries begins with what is computed from the input; begin with zeros",
    ),
    "turns_of_the_input": (
        "e = ReduceSum <keepdims = 0> (x) m = Cast <to = 7> (e) y = Loop <body = g2 "
        "(int64 t, bool go, float[?, ?] h) => (bool go2, float[?, ?] h2) "
        "{ go2 = Identity (go) h2 = Tanh (h) }> (m, true, x)",
        "a cast to INT64",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    text, message = REFUSED[name]
    with pytest.raises(WeightsError, match=message):
        from_onnx.convert(built(text, 8))
