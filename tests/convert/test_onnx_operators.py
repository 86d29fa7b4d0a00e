"""Operators of ONNX beyond the recurrent ones: windows within a step, choices, cells written out.

Each network is held to ONNX Runtime by `convert`, and the engine to its probes.
"""

from typing import Any

import numpy as np
import pytest

import numlstm
from numlstm.spec import WeightsError
from tests.convert.test_onnx import exported, graph, holds, layers_of
from tests.lazy import Lazy, from_onnx, functional, numpy_helper, onnx, torch

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


# Over time ----------------------------------------------------------------------------------------

OVER_TIME: dict[str, tuple[Any, list[str]]] = {
    "attention": (
        lambda net, y: (torch.softmax(net.score(y), 1) * y).sum(1),
        ["Linear", "AttentionPooling", "Slice"],
    ),
    "attention_by_a_product": (
        lambda net, y: torch.bmm(torch.softmax(net.score(torch.tanh(y)), 1).transpose(1, 2), y),
        ["Activation", "Linear", "AttentionPooling", "Slice"],
    ),
    "two_heads": (
        lambda net, y: (torch.softmax(net.two(y), 1).transpose(1, 2) @ y).flatten(1),
        ["Linear", "Slice", "AttentionPooling", "Slice", "Slice", "AttentionPooling", "Slice"],
    ),
    "largest_of_three": (
        lambda net, y: functional.max_pool1d(y.transpose(1, 2), 3, 2, 1).transpose(1, 2),
        ["Pool1d"],
    ),
    "mean_of_two": (
        lambda net, y: functional.avg_pool1d(y.transpose(1, 2), 2).transpose(1, 2),
        ["Pool1d"],
    ),
    "mean_that_counts_padding": (
        lambda net, y: functional.avg_pool1d(y.transpose(1, 2), 3, 1, 1).transpose(1, 2),
        ["Pool1d", "Activation"],
    ),
    "differences": (lambda net, y: y - functional.pad(y, (0, 0, 1, 0))[:, :-1], ["Conv1d", "Add"]),
    "one_step_later": (
        lambda net, y: torch.cat([torch.zeros_like(y[:, :1]), y[:, :-1]], 1),
        ["Conv1d"],
    ),
    "smallest": (lambda net, y: y.amin(1), ["Activation", "Pooling", "Activation"]),
}


@pytest.mark.parametrize("name", OVER_TIME)
def test_over_time(name):
    torch.manual_seed(3)
    function, expected = OVER_TIME[name]
    net = modules.Around(function).eval()
    weights = holds(exported(net, (torch.randn(1, 9, 3),), False, 1))
    layers = layers_of(weights)
    assert layers[0] == "LSTM"
    assert [layer for layer in layers[1:] if layer != "Concat"] == expected
    x = torch.randn(1, 25, 3)
    with torch.no_grad():
        answers = net(x).numpy()
    ys = numlstm.Model(weights).run(x[0].numpy())
    answers = answers.reshape(-1, ys.shape[1])
    np.testing.assert_allclose(ys[-len(answers) :], answers, 0, 2e-6)


# Number by number ---------------------------------------------------------------------------------

EACH: dict[str, Any] = {
    "gelu": lambda y: functional.gelu(y),
    "gelu_tanh": lambda y: functional.gelu(y, approximate="tanh"),
    "mish": lambda y: functional.mish(y),
    "hard_swish": lambda y: functional.hardswish(4 * y),
    "celu": lambda y: functional.celu(y, 0.5),
    "softplus": lambda y: functional.softplus(4 * y),
    "chosen": lambda y: torch.where(y > 0.1, y, -0.5 * y),
    "masked": lambda y: y.masked_fill(torch.arange(6) < 2, 0.5),
    "sign": lambda y: y.sign(),
    "between": lambda y: ((y > -0.1) & ~(y >= 0.2)).float(),
    "powers": lambda y: y**3 + (y**2 + 1).rsqrt() - 1 / (y + 3),
    "larger_and_smaller": lambda y: torch.maximum(y, torch.tanh(2 * y)) + y.clamp(max=0.1),
    "unit_vector": lambda y: functional.normalize(y, dim=-1),
    "sum_of_magnitudes": lambda y: functional.normalize(y, p=1, dim=-1),
    "over_their_sum": lambda y: y.exp() / y.exp().sum(-1, keepdim=True),
    "softmax_in_groups": lambda y: torch.softmax(y.reshape(1, -1, 2, 3), -1).reshape(1, -1, 6),
    "root_mean_square": lambda y: y * (y.pow(2).mean(-1, keepdim=True) + 1e-6).rsqrt(),
    "mixture": lambda y: torch.cat([torch.softmax(y[..., :3], -1), y[..., 3:].exp()], -1),
    "gated": lambda y: functional.glu(y, -1),
    "product": lambda y: torch.einsum("bth,oh->bto", y, torch.arange(12.0).reshape(2, 6) / 9),
    "largest": lambda y: y.amax(-1, keepdim=True),
}


@pytest.mark.parametrize("name", EACH)
def test_number_by_number(name):
    torch.manual_seed(3)
    net = modules.Around(lambda _, y: EACH[name](y)).eval()
    weights = holds(exported(net, (torch.randn(1, 9, 3),), False, 1))
    x = torch.randn(1, 25, 3)
    with torch.no_grad():
        answers = net(x)[0].numpy()
    stream = numlstm.Model(weights).stream()
    ys = [stream.step(row) for row in x[0].numpy()]
    np.testing.assert_allclose(ys, answers, 2e-6, 4e-6)


WORDS: dict[str, tuple[Any, str]] = {
    "places": (lambda y: y.argmax(-1), "it gives places, not numbers; leave it out of the export"),
    "running_sum": (lambda y: y.cumsum(2), "it sums up to each of its numbers; over time x.sum"),
    "angles": (lambda y: torch.sin(y), "no layer has this function; compute it before the network"),
    "rounded": (lambda y: torch.round(y), "no layer rounds numbers; leave it out of the export"),
    "last_two": (lambda y: y[:, -2:], "it takes steps 9 to 11 of 11, which no layer does"),
    "normalised_over_time": (
        lambda y: functional.instance_norm(y.transpose(1, 2)).transpose(1, 2),
        "its mean and variance are over all steps, which a stream has not read; train with",
    ),
    "less_the_mean_over_time": (
        lambda y: y - y.mean(1, keepdim=True),
        "it joins one row for all steps with each step, when a stream has not read them all; ",
    ),
    "attention_of_each_to_all": (
        lambda y: y @ y.transpose(1, 2) @ y,
        r"a product of two tensors that depend on the input, .* of attention, only a softmax",
    ),
    "repeated_edges": (
        lambda y: functional.pad(y.transpose(1, 2), (2, 0), mode="replicate").transpose(1, 2),
        "mode 'edge' over time: it repeats steps, which a stream has not read yet; pad with zeros",
    ),
    "longer": (
        lambda y: functional.conv_transpose1d(
            y.transpose(1, 2), torch.ones(6, 1, 2), stride=2
        ).transpose(1, 2),
        "it gives more steps than it reads; a stream gives at most one answer per step",
    ),
}


@pytest.mark.parametrize("name", WORDS)
def test_what_is_refused_says_what_to_do_instead(name):
    function, message = WORDS[name]
    model = exported(modules.Around(lambda _, y: function(y)), (torch.randn(1, 9, 3),), False, 1)
    with pytest.raises(WeightsError, match=message):
        from_onnx.convert(model)
