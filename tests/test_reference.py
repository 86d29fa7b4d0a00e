"""`reference.py` against PyTorch in float64: the first link of the chain."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from numlstm import reference, spec
from numlstm.spec import Network
from tests.cases import CELL_OPTIONS, TOLERANCES, random_weights
from tests.convert.test_torch import TORCH_CASES, own, torch_of
from tests.lazy import functional, nn, torch, torch_cells

FLOAT64 = TOLERANCES["float64"]


@pytest.mark.parametrize("case", TORCH_CASES, ids=lambda case: case.id)
def test_cells_are_those_of_torch(case):
    module = torch_of(case).double()
    xs = torch.randn(40, case.size, dtype=torch.float64)
    with torch.no_grad():
        expected, last = module(xs)
    tensors = {}
    for name, tensor in module.state_dict().items():
        kind, n = name.rsplit("_l", 1)
        tensors[f"layers.{n}.{kind}"] = tensor.numpy()
    ys, states = reference.run(case.network, tensors, xs.numpy())
    FLOAT64.check(ys, expected.numpy(), "h of every step")
    h, c = last if case.cell == "lstm" else (last, None)
    for n in range(case.num_layers):
        FLOAT64.check(states.pop(f"layers.{n}.h"), h[n].numpy(), "last h")
        if c is not None:
            FLOAT64.check(states.pop(f"layers.{n}.c"), c[n].numpy(), "last c")
    assert states == {}


@pytest.mark.parametrize("name", CELL_OPTIONS)
def test_other_cells_are_those_of_their_authors(name):
    layer = CELL_OPTIONS[name]
    weights = random_weights(Network((layer,)), scale=3.0)
    xs = torch.randn(40, layer.input_size, dtype=torch.float64)
    with torch.no_grad():
        expected, last = torch_cells.cell_of(layer, own_tensors(weights))(xs)
    ys, states = reference.run(weights.network, weights.tensors, xs.numpy())
    FLOAT64.check(ys, expected.numpy(), "h of every step")
    assert set(states) == {f"layers.0.{letter}" for letter in last}
    for letter, value in last.items():
        FLOAT64.check(states[f"layers.0.{letter}"], value.numpy(), f"last {letter}")


# Layers of torch ----------------------------------------------------------------------------------

# What `spec.FUNCTIONS` names, with its defaults and with other parameters, in torch.
FUNCTIONS: dict[str, Any] = {
    "linear": lambda x: x,
    "tanh": lambda x: torch.tanh(x),
    "sigmoid": lambda x: torch.sigmoid(x),
    "relu": lambda x: torch.relu(x),
    "affine": lambda x: x,
    "affine(2.0, -0.5)": lambda x: 2 * x - 0.5,
    "leaky_relu": lambda x: functional.leaky_relu(x),
    "leaky_relu(0.3)": lambda x: functional.leaky_relu(x, 0.3),
    "thresholded_relu": lambda x: functional.threshold(x, 1.0, 0.0),
    "thresholded_relu(0.5)": lambda x: functional.threshold(x, 0.5, 0.0),
    "scaled_tanh": lambda x: torch.tanh(x),
    "scaled_tanh(1.7, 0.6)": lambda x: 1.7 * torch.tanh(0.6 * x),
    "hard_sigmoid": lambda x: (0.2 * x + 0.5).clamp(0, 1),
    f"hard_sigmoid({1 / 6!r}, 0.5)": lambda x: functional.hardsigmoid(x),
    "elu": lambda x: functional.elu(x),
    "elu(0.5)": lambda x: functional.elu(x, 0.5),
    "selu": lambda x: functional.selu(x),
    "selu(1.5, 0.8)": lambda x: 0.8 * functional.elu(x, 1.5),
    "softsign": lambda x: functional.softsign(x),
    "softplus": lambda x: functional.softplus(x, threshold=1000.0),
    "silu": lambda x: functional.silu(x),
    "clip": lambda x: x.clamp(-1, 1),
    "clip(0.0, 6.0)": lambda x: functional.relu6(x),
    "exp": lambda x: torch.exp(x),
    "log": lambda x: torch.log(x),
    "sqrt": lambda x: torch.sqrt(x),
    "square": lambda x: torch.square(x),
    "linear_sigmoid": lambda x: torch.where(x >= 0, x + 0.5, torch.sigmoid(x)),
    "abs": lambda x: x.abs(),
    "reciprocal": lambda x: x.reciprocal(),
    "gelu": lambda x: functional.gelu(x),
    "gelu_tanh": lambda x: functional.gelu(x, approximate="tanh"),
    "erf": lambda x: torch.erf(x),
}


def test_every_function_is_held_against_torch():
    assert {spec.parse_function(text)[0] for text in FUNCTIONS} == set(spec.FUNCTIONS)


@pytest.mark.parametrize("text", FUNCTIONS)
def test_functions_are_those_of_torch(text):
    xs = torch.cat([torch.linspace(-40, 40, 1601), torch.randn(400)]).double()
    if text in ("log", "sqrt"):
        xs = xs.abs() + 1e-3
    if text == "reciprocal":
        xs = xs + 1e-3
    expected = FUNCTIONS[text](xs).numpy()
    FLOAT64.check(reference.apply(text, xs.numpy()), expected)


def _prefixes(pool):
    return lambda xs: torch.stack([pool(xs[: t + 1]) for t in range(len(xs))])


def _over_time(module):
    return lambda xs: module(xs.T).T


def _batch_norm(*args: Any, **options: Any) -> "nn.BatchNorm1d":
    module = nn.BatchNorm1d(*args, **options)
    module.running_mean.uniform_(0.5, 2.0)
    module.running_var.uniform_(0.5, 2.0)
    return module.eval()


LAYERS: dict[str, tuple[spec.Layer, Callable[[], Any]]] = {
    "linear": (spec.Linear(7, 5), lambda: nn.Linear(7, 5)),
    "linear_no_bias": (spec.Linear(7, 5, bias=False), lambda: nn.Linear(7, 5, bias=False)),
    "linear_tanh": (
        spec.Linear(7, 5, activation="tanh"),
        lambda: nn.Sequential(nn.Linear(7, 5), nn.Tanh()),
    ),
    "layer_norm": (spec.LayerNorm(7), lambda: nn.LayerNorm(7)),
    "layer_norm_eps": (spec.LayerNorm(7, 0.25), lambda: nn.LayerNorm(7, 0.25)),
    "layer_norm_no_bias": (spec.LayerNorm(7, bias=False), lambda: nn.LayerNorm(7, bias=False)),
    "layer_norm_bare": (
        spec.LayerNorm(7, 1e-5, False, False),
        lambda: nn.LayerNorm(7, elementwise_affine=False),
    ),
    "batch_norm": (spec.BatchNorm(7), lambda: _batch_norm(7)),
    "batch_norm_eps": (spec.BatchNorm(7, 0.25), lambda: _batch_norm(7, 0.25)),
    "batch_norm_bare": (
        spec.BatchNorm(7, 1e-5, False, False),
        lambda: _batch_norm(7, affine=False),
    ),
    "conv_causal": (spec.Conv1d(7, 5, 3), lambda: own.Conv(7, 5, 3, pads=(2, 0))),
    "conv_dilated": (
        spec.Conv1d(7, 5, 3, dilation=4),
        lambda: own.Conv(7, 5, 3, dilation=4, pads=(8, 0)),
    ),
    "conv_kernel_1": (spec.Conv1d(7, 5, 1, bias=False), lambda: own.Conv(7, 5, 1, bias=False)),
    "conv_valid": (spec.Conv1d(7, 5, 4, padding=(0, 0)), lambda: own.Conv(7, 5, 4)),
    "conv_padded": (spec.Conv1d(7, 5, 4, padding=(1, 2)), lambda: own.Conv(7, 5, 4, pads=(1, 2))),
    "conv_stride": (
        spec.Conv1d(7, 5, 4, stride=3, padding=(2, 1)),
        lambda: own.Conv(7, 5, 4, stride=3, pads=(2, 1)),
    ),
    "conv_causal_stride": (
        spec.Conv1d(7, 5, 4, stride=2),
        lambda: own.Conv(7, 5, 4, stride=2, pads=(3, 0)),
    ),
    "conv_depthwise": (
        spec.Conv1d(7, 14, 3, groups=7),
        lambda: own.Conv(7, 14, 3, groups=7, pads=(2, 0)),
    ),
    "conv_relu": (
        spec.Conv1d(7, 5, 2, activation="relu"),
        lambda: nn.Sequential(own.Conv(7, 5, 2, pads=(1, 0)), nn.ReLU()),
    ),
    "frames": (spec.FrameConv1d(7, 1, 3, 4), lambda: own.FrameConv(1, 3, 4)),
    "frames_padded": (
        spec.FrameConv1d(7, 1, 3, 4, False, stride=2, padding=(3, 1)),
        lambda: own.FrameConv(1, 3, 4, bias=False, stride=2, pads=(3, 1)),
    ),
    "frames_padded_on_all_sides": (
        spec.FrameConv1d(7, 7, 3, 3, activation="tanh", padding=(2, 2)),
        lambda: nn.Sequential(own.FrameConv(7, 3, 3, pads=(2, 2)), nn.Tanh()),
    ),
    "leaky": (spec.Activation(7, "leaky_relu(0.3)"), lambda: nn.LeakyReLU(0.3)),
    "softmax": (spec.Softmax(7), lambda: nn.Softmax(dim=-1)),
    "log_softmax": (spec.LogSoftmax(7), lambda: nn.LogSoftmax(dim=-1)),
}

# Those without tensors.
FUNCTIONS_OF_ROWS: dict[str, tuple[spec.Layer, Callable[["torch.Tensor"], "torch.Tensor"]]] = {
    "tanh": (spec.Activation(7, "tanh"), lambda xs: xs.tanh()),
    "last": (spec.Pooling(7, "last"), lambda xs: xs),
    "mean": (spec.Pooling(7, "mean"), _prefixes(lambda xs: xs.mean(0))),
    "max": (spec.Pooling(7, "max"), _prefixes(lambda xs: xs.amax(0))),
    "sum": (spec.Pooling(7, "sum"), _prefixes(lambda xs: xs.sum(0))),
    "max_pool": (
        spec.Pool1d(7, 4, stride=3, padding=(2, 2)),
        _over_time(lambda x: nn.MaxPool1d(4, 3, 2)(x)),
    ),
    "max_pool_causal": (
        spec.Pool1d(7, 3),
        _over_time(lambda x: functional.max_pool1d(functional.pad(x, (2, 0), value=-1e30), 3, 1)),
    ),
    "max_pool_ceil": (
        spec.Pool1d(7, 4, stride=3, padding=(0, 0), ceil_mode=True),
        _over_time(lambda x: nn.MaxPool1d(4, 3, ceil_mode=True)(x)),
    ),
    "max_pool_ceil_padded": (
        spec.Pool1d(7, 3, stride=4, padding=(1, 1), ceil_mode=True),
        _over_time(lambda x: nn.MaxPool1d(3, 4, 1, ceil_mode=True)(x)),
    ),
    "mean_pool": (
        spec.Pool1d(7, 4, "mean", stride=3, padding=(2, 2)),
        _over_time(lambda x: nn.AvgPool1d(4, 3, 2, count_include_pad=False)(x)),
    ),
    "mean_pool_ceil": (
        spec.Pool1d(7, 6, "mean", stride=5, padding=(0, 0), ceil_mode=True),
        _over_time(lambda x: nn.AvgPool1d(6, 5, ceil_mode=True)(x)),
    ),
    "sum_pool": (
        spec.Pool1d(7, 4, "sum", padding=(2, 2)),
        _over_time(lambda x: 4 * functional.avg_pool1d(x, 4, 1, 2)),
    ),
    "flatten": (
        spec.Flatten(7, 3),
        _prefixes(lambda xs: functional.pad(xs, (0, 0, 2, 0))[-3:].flatten()),
    ),
    "reverse": (spec.Reverse(7), lambda xs: xs.flip(0)),
    "repeat": (spec.Repeat(7, 5), lambda xs: xs[-1:].expand(5, 7)),
    "concat": (spec.Concat(7), lambda xs: xs),
    "slice": (spec.Slice(7, 2, 5), lambda xs: xs[:, 2:5]),
}


@pytest.mark.parametrize("scale", [1.0, 30.0])
@pytest.mark.parametrize("name", LAYERS)
def test_layers_are_those_of_torch(name, scale):
    layer, make = LAYERS[name]
    torch.manual_seed(0)
    module = make().double()
    xs = scale * torch.randn(20, 7, dtype=torch.float64)
    state = {n.removeprefix("0."): tensor.numpy() for n, tensor in module.state_dict().items()}
    tensors = {f"layers.0.{n}": a for n, a in state.items() if n != "num_batches_tracked"}
    with torch.no_grad():
        expected = module(xs).numpy()
    ys, states = reference.run(Network((layer,)), tensors, xs.numpy())
    FLOAT64.check(ys, expected)
    assert states == {}


@pytest.mark.parametrize("scale", [1.0, 30.0])
@pytest.mark.parametrize("name", FUNCTIONS_OF_ROWS)
def test_layers_without_tensors_are_functions_of_torch(name, scale):
    layer, function = FUNCTIONS_OF_ROWS[name]
    torch.manual_seed(0)
    xs = scale * torch.randn(20, 7, dtype=torch.float64)
    ys, states = reference.run(Network((layer,)), {}, xs.numpy())
    FLOAT64.check(ys, function(xs).numpy())
    assert states == {}


def test_a_convolution_longer_than_its_input_gives_no_row():
    network = Network((spec.Conv1d(3, 5, 4, padding=(0, 0)),))
    ys, _ = reference.run(network, random_weights(network).tensors, np.zeros((3, 3)))
    assert ys.shape == (0, 5)


def test_embedding_is_a_row_of_its_table():
    table = np.arange(12.0).reshape(4, 3)
    ys, _ = reference.run(
        Network((spec.Embedding(4, 3),)), {"embedding.weight": table}, np.array([3, 0, 3])
    )
    np.testing.assert_array_equal(ys, table[[3, 0, 3]])


def test_one_hot_of_an_id_beyond_the_size_is_zeros():
    ys, _ = reference.run(Network((spec.OneHot(4, 3),)), {}, np.array([2, 0, 3]))
    np.testing.assert_array_equal(ys, [[0, 0, 1], [1, 0, 0], [0, 0, 0]])


def test_sigmoid_and_relu_at_the_edges():
    xs = np.array([-np.inf, -800.0, -0.0, 0.0, 800.0, np.inf, np.nan])
    np.testing.assert_array_equal(reference.sigmoid(xs), [0, 0, 0.5, 0.5, 1, 1, np.nan])
    np.testing.assert_array_equal(reference.relu(xs), [0, 0, 0, 0, 800, np.inf, np.nan])


# Cells with any function, directions, states ------------------------------------------------------


def own_tensors(weights: spec.Weights) -> dict[str, Any]:
    """Return the tensors of the first layer by their names within it, in float64."""
    return {
        name.removeprefix("layers.0."): tensor.astype(np.float64)
        for name, tensor in weights.tensors.items()
    }


@pytest.mark.parametrize("nonlinearity", ["sigmoid", "elu", "softsign", "elu(0.5)"])
def test_an_rnn_has_any_function(nonlinearity):
    weights = random_weights(Network((spec.RNN(3, 4, nonlinearity=nonlinearity, clip=0.7),)))
    own = {name: torch.from_numpy(a) for name, a in own_tensors(weights).items()}
    xs = torch.randn(12, 3, dtype=torch.float64)
    h, rows = torch.zeros(4, dtype=torch.float64), []
    for x in xs:
        pre = own["weight_ih"] @ x + own["bias_ih"] + own["weight_hh"] @ h + own["bias_hh"]
        h = FUNCTIONS[nonlinearity](pre.clamp(-0.7, 0.7))
        rows.append(h)
    ys, _ = reference.run(weights.network, weights.tensors, xs.numpy())
    FLOAT64.check(ys, torch.stack(rows).numpy())


MERGES = {
    "concat": lambda a, b: np.hstack([a, b]),
    "sum": lambda a, b: a + b,
    "mul": lambda a, b: a * b,
    "ave": lambda a, b: (a + b) / 2,
}


def _alone(weights: spec.Weights, xs: np.ndarray, suffix: str = "") -> np.ndarray:
    """Run one direction as a forward layer of its own, over what it reads first to last."""
    layer = weights.network.layers[0]
    own = own_tensors(weights)
    forward = Network((spec.GRU(layer.input_size, layer.hidden_size),))
    tensors = {f"layers.0.{n}": own[n + suffix] for n in forward.layers[0].tensors()}
    return reference.run(forward, tensors, xs)[0]


@pytest.mark.parametrize("shared", [False, True], ids=["own", "shared"])
@pytest.mark.parametrize("merge", MERGES)
def test_two_directions_are_two_layers(merge, shared):
    layer = spec.GRU(3, 4, direction="bidirectional", merge=merge, shared=shared)
    weights = random_weights(Network((layer,)))
    xs = np.random.default_rng(1).standard_normal((12, 3))
    forward = _alone(weights, xs)
    back = _alone(weights, xs[::-1], "" if shared else "_reverse")
    ys, states = reference.run(weights.network, weights.tensors, xs)
    FLOAT64.check(ys, MERGES[merge](forward, back[::-1]))
    assert states == {}
    last = spec.GRU(3, 4, direction="bidirectional", merge=merge, shared=shared, outputs="last")
    ys, _ = reference.run(Network((last,)), weights.tensors, xs)
    FLOAT64.check(ys, MERGES[merge](forward[-1:], back[-1:]))


def test_a_reverse_layer_answers_in_the_order_of_its_input():
    weights = random_weights(Network((spec.GRU(3, 4, direction="reverse"),)))
    xs = np.random.default_rng(1).standard_normal((12, 3))
    back = _alone(weights, xs[::-1])
    FLOAT64.check(reference.run(weights.network, weights.tensors, xs)[0], back[::-1])
    last = Network((spec.GRU(3, 4, direction="reverse", outputs="last"),))
    FLOAT64.check(reference.run(last, weights.tensors, xs)[0], back[-1:])


def test_initial_states_are_tensors_and_given_states_replace_them():
    network = Network((spec.LSTM(3, 4, initial_state=True), spec.GRU(4, 2)))
    weights = random_weights(network)
    xs = np.random.default_rng(1).standard_normal((12, 3))
    module = nn.LSTM(3, 4).double()
    own = own_tensors(weights)
    module.load_state_dict({f"{n}_l0": torch.from_numpy(own[n]) for n in spec.LSTM(3, 4).tensors()})
    state = tuple(torch.from_numpy(own[f"initial_{n}"])[None] for n in "hc")
    with torch.no_grad():
        expected = module(torch.from_numpy(xs), state)[0].numpy()
    first = Network(network.layers[:1])
    tensors = {n: weights.tensors[n] for n in first.tensor_shapes()}
    FLOAT64.check(reference.run(first, tensors, xs)[0], expected)

    whole, end = reference.run(network, weights.tensors, xs)
    half, states = reference.run(network, weights.tensors, xs[:5])
    assert set(states) == {"layers.0.h", "layers.0.c", "layers.1.h"}
    rest, last = reference.run(network, weights.tensors, xs[5:], states=states)
    FLOAT64.check(np.vstack([half, rest]), whole)
    for name in states:
        FLOAT64.check(last[name], end[name], name)
