"""Operators of ONNX beyond the recurrent ones: windows within a step, choices, cells written out.

Each network is held to ONNX Runtime by `convert`, and the engine to its probes.
"""

from typing import Any

import numpy as np
import pytest

import numlstm
from numlstm.spec import WeightsError
from tests.convert.test_onnx import exported, graph, holds, layers_of
from tests.lazy import Lazy, from_onnx, numpy_helper, onnx, torch

modules = Lazy("tests.convert.onnx_modules")

# Windows within a step ----------------------------------------------------------------------------


def framed(text: str, size: int = 24, **constants: Any) -> "onnx.ModelProto":
    """Return a graph x (t, size) -> y, time first, with constants by name."""
    header = '<ir_version: 8, opset_import: ["" : 18]>'
    model = onnx.parser.parse_model(
        f"{header} g (float[t, {size}] x) => (float[?, ?] y) {{ {text} }}"
    )
    generator = np.random.default_rng(5)
    for name, value in constants.items():
        array = np.asarray(value)
        if isinstance(value, tuple):
            array = generator.uniform(-0.8, 0.8, value).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    return model


ONE, FLAT = np.array([1]), np.array([0, -1])


@pytest.mark.parametrize("mode", ["reflect", "edge", "constant", "wrap"])
def test_a_step_is_padded_by_its_own_numbers(mode):
    text = f'p = Pad <mode = "{mode}"> (x, pads) y = MatMul (p, w)'
    model = framed(text, pads=np.array([0, 3, 0, 2]), w=(29, 4))
    assert len(layers_of(holds(model))) == 1


@pytest.mark.parametrize(("pads", "stride", "dilation"), [(0, 1, 1), (2, 3, 1), (1, 2, 2)])
def test_a_convolution_along_a_step(pads, stride, dilation):
    model = framed(
        f"a = Unsqueeze (x, one) c = Conv <pads = [{pads}, {pads}], strides = [{stride}], "
        f"dilations = [{dilation}]> (a, k, b) r = Relu (c) d = Conv <pads = [1, 1]> (r, k2) "
        "y = Reshape (d, flat)",
        one=ONE, flat=FLAT, k=(5, 1, 3), b=(5,), k2=(2, 5, 3),
    )  # fmt: skip
    layers = layers_of(holds(model))
    assert layers.count("FrameConv1d") == 1 + (dilation == 1)


def test_a_spectrum_of_frames_as_silero_vad_has_it():
    model = framed(
        'p = Pad <mode = "reflect"> (x, pads) a = Unsqueeze (p, one) '
        "c = Conv <strides = [4]> (a, k) re, im = Split <axis = 1, num_outputs = 2> (c) "
        "re2 = Pow (re, two) im2 = Mul (im, im) s = Add (re2, im2) m = Sqrt (s) "
        "d = Conv <pads = [1, 1], strides = [2]> (m, k2) r = Relu (d) y = Reshape (r, flat)",
        pads=np.array([0, 0, 0, 4]), one=ONE, two=np.float32(2), flat=FLAT,
        k=(6, 1, 8), k2=(4, 3, 3),
    )  # fmt: skip
    layers = layers_of(holds(model))
    assert layers.count("FrameConv1d") == 2
    # The frame that reads what is reflected, and what puts the answer channel by channel.
    assert layers.count("Linear") == 2


def test_groups_and_two_dimensions():
    model = framed(
        "a = Reshape (x, to) c = Conv <group = 2, pads = [1, 0, 1, 0]> (a, k) "
        "y = Reshape (c, flat)",
        to=np.array([0, 2, 3, 4]), k=(4, 1, 3, 2), flat=FLAT,
    )  # fmt: skip
    holds(model)


def test_a_kernel_over_time_and_numbers():
    model = graph(
        "e = Unsqueeze (x, one) c = Conv <pads = [1, 1, 1, 1]> (e, k2) "
        "d = Transpose <perm = [0, 2, 1, 3]> (c) y = Reshape (d, back3)"
    )
    kernel = np.random.default_rng(0).uniform(-1, 1, (3, 1, 3, 3)).astype(np.float32)
    model.graph.initializer.append(numpy_helper.from_array(kernel, "k2"))
    back = np.array([1, -1, 12], np.int64)
    model.graph.initializer.append(numpy_helper.from_array(back, "back3"))
    assert layers_of(holds(model)).count("Conv1d") == 4


@pytest.mark.parametrize("kind", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize("options", ["", ", pads = [1, 1]", ", ceil_mode = 1, strides = [3]"])
def test_pooling_along_a_step(kind, options):
    text = f"a = Unsqueeze (x, one) c = {kind} <kernel_shape = [2]{options}> (a) "
    holds(framed(text + "d = Squeeze (c, one) y = Tanh (d)", size=7, one=ONE))


def test_padding_over_time_that_a_stream_cannot_have_is_refused():
    text = 'c = Transpose <perm = [0, 2, 1]> (x) d = Pad <mode = "{}"> (c, pads) e = Conv (d, k) '
    text += "y = Transpose <perm = [0, 2, 1]> (e)"
    with pytest.raises(WeightsError, match="mode 'reflect' over time: it repeats steps"):
        from_onnx.convert(graph(text.format("reflect")))


# Cells --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("dynamo", [False, True])
def test_a_cell_that_is_written_out_is_a_layer(kind, dynamo):
    torch.manual_seed(2)
    net = modules.Step(kind, 5, 6)
    states = [torch.zeros(1, 6) for _ in range(1 + (kind == "LSTM"))]
    weights = holds(exported(net, (torch.randn(1, 5), *states), dynamo, None))
    assert layers_of(weights) == ["Activation", kind, "Linear"]
    xs = torch.randn(40, 1, 5)
    rows = []
    with torch.no_grad():
        for x in xs:
            y, *states = net(x, *states)
            rows.append(y[0].numpy())
    stream = numlstm.Model(weights).stream()
    found = [stream.step(x[0].numpy()) for x in xs]
    np.testing.assert_allclose(found, rows, 0, 2e-6)
