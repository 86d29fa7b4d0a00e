"""`reference.py` against PyTorch in float64: the first link of the chain."""

import numpy as np
import pytest
import torch
from torch import nn

from numlstm import reference, spec
from numlstm.spec import Network
from tests.cases import CASES, TOLERANCES
from tests.test_torch import torch_of

FLOAT64 = TOLERANCES["float64"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
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


def _mean(xs):
    return torch.stack([xs[: t + 1].mean(0) for t in range(len(xs))])


def _max(xs):
    return torch.stack([xs[: t + 1].amax(0) for t in range(len(xs))])


LAYERS = {
    "linear": (spec.Linear(7, 5), nn.Linear(7, 5)),
    "linear_no_bias": (spec.Linear(7, 5, bias=False), nn.Linear(7, 5, bias=False)),
    "linear_tanh": (
        spec.Linear(7, 5, activation="tanh"), nn.Sequential(nn.Linear(7, 5), nn.Tanh()),
    ),
    "layer_norm": (spec.LayerNorm(7), nn.LayerNorm(7)),
    "layer_norm_eps": (spec.LayerNorm(7, 0.25), nn.LayerNorm(7, 0.25)),
    "layer_norm_no_bias": (spec.LayerNorm(7, bias=False), nn.LayerNorm(7, bias=False)),
    "layer_norm_bare": (
        spec.LayerNorm(7, 1e-5, False, False), nn.LayerNorm(7, elementwise_affine=False),
    ),
    "tanh": (spec.Activation(7, "tanh"), torch.tanh),
    "relu": (spec.Activation(7, "relu"), torch.relu),
    "sigmoid": (spec.Activation(7, "sigmoid"), torch.sigmoid),
    "softmax": (spec.Softmax(7), nn.Softmax(dim=-1)),
    "last": (spec.Pooling(7, "last"), lambda xs: xs),
    "mean": (spec.Pooling(7, "mean"), _mean),
    "max": (spec.Pooling(7, "max"), _max),
}  # fmt: skip


@pytest.mark.parametrize("scale", [1.0, 30.0])
@pytest.mark.parametrize("name", LAYERS)
def test_layers_are_those_of_torch(name, scale):
    layer, module = LAYERS[name]
    torch.manual_seed(0)
    xs = scale * torch.randn(20, 7, dtype=torch.float64)
    tensors = {}
    if isinstance(module, nn.Module):
        module = module.double()
        names = [name.removeprefix("0.") for name in module.state_dict()]
        arrays = [tensor.numpy() for tensor in module.state_dict().values()]
        tensors = {f"layers.0.{name}": a for name, a in zip(names, arrays, strict=True)}
    with torch.no_grad():
        expected = module(xs).numpy()
    ys, states = reference.run(Network((layer,)), tensors, xs.numpy())
    FLOAT64.check(ys, expected)
    assert states == {}


def test_embedding_is_a_row_of_its_table():
    table = np.arange(12.0).reshape(4, 3)
    ys, _ = reference.run(
        Network((spec.Embedding(4, 3),)), {"embedding.weight": table}, np.array([3, 0, 3])
    )
    np.testing.assert_array_equal(ys, table[[3, 0, 3]])


def test_sigmoid_and_relu_at_the_edges():
    xs = np.array([-np.inf, -800.0, -0.0, 0.0, 800.0, np.inf, np.nan])
    np.testing.assert_array_equal(reference.sigmoid(xs), [0, 0, 0.5, 0.5, 1, 1, np.nan])
    np.testing.assert_array_equal(reference.relu(xs), [0, 0, 0, 0, 800, np.inf, np.nan])
