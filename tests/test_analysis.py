"""The Jacobians of `numlstm.analysis`, against finite differences of the reference and PyTorch."""

import re
from functools import partial

import numpy as np
import pytest

import numlstm
from numlstm import analysis, reference, spec
from numlstm.spec import Network, Weights
from tests.cases import CELL_OPTIONS, NETWORKS, NOT_CAUSAL, Tolerance, random_input, random_weights
from tests.lazy import torch

NUMERIC = Tolerance(1e-7, 1e-6, "central differences of float64 with a step of 1e-5")
AUTOGRAD = Tolerance(1e-9, 1e-9, "two float64 computations of the same derivative")

CELLS = {
    "rnn": spec.RNN(3, 5),
    "rnn_softplus": spec.RNN(3, 5, nonlinearity="softplus", clip=0.5, initial_state=True),
    "gru": spec.GRU(3, 5),
    "gru_before": spec.GRU(3, 5, reset_after=False, initial_state=True),
    "gru_options": spec.GRU(
        3, 5, False, recurrent_activation="scaled_tanh(0.9, 0.4)", clip=0.6, activation="elu"
    ),
    "lstm": spec.LSTM(3, 5),
    "lstm_no_bias": spec.LSTM(3, 5, False, forget_bias=1.0),
    "lstm_coupled": spec.LSTM(3, 5, coupled=True, peepholes=True),
    "lstm_options": spec.LSTM(
        3,
        5,
        peepholes=True,
        proj_size=4,
        proj_clip=0.15,
        cell_clip=0.3,
        clip=0.7,
        forget_bias=0.5,
        initial_state=True,
        recurrent_activation="hard_sigmoid(0.3, 0.5)",
        activation="softsign",
        output_activation="silu",
    ),
    **CELL_OPTIONS,
}


def tensors_of(layer, seed=0):
    weights = random_weights(Network((layer,)), seed, scale=1.5)
    return {name: t.astype(np.float64) for name, t in weights.tensors.items()}


def states_of(layer, tensors, xs):
    """Return the flat states (T + 1, D) of a layer, h before c."""
    first = [
        tensors.get(f"layers.0.initial_{name}", np.zeros(n)) for name, n in layer.states.items()
    ]
    states = [np.concatenate(first)]
    for x in xs:
        states.append(step_of(layer, tensors, x, states[-1]))
    return np.array(states)


def step_of(layer, tensors, x, state):
    parts = np.split(state, np.cumsum(list(layer.states.values()))[:-1])
    given = {f"layers.0.{name}": part for name, part in zip(layer.states, parts, strict=True)}
    _, after = reference.run(Network((layer,)), tensors, x[None], states=given)
    return np.concatenate([after[name] for name in given])


@pytest.mark.parametrize("name", CELLS)
def test_a_step_is_that_of_finite_differences(name):
    layer, epsilon = CELLS[name], 1e-5
    tensors = tensors_of(layer)
    xs = random_input(Network((layer,)), 6).astype(np.float64)
    own = {key.removeprefix("layers.0."): t for key, t in tensors.items()}
    states = states_of(layer, tensors, xs)
    found = list(analysis.jacobians(layer, own, xs))
    assert len(found) == len(xs)
    for t, x in enumerate(xs):
        numeric = [
            (
                step_of(layer, tensors, x, states[t] + change)
                - step_of(layer, tensors, x, states[t] - change)
            )
            / (2 * epsilon)
            for change in epsilon * np.eye(states.shape[1])
        ]
        NUMERIC.check(found[t], np.transpose(numeric), f"{name}, step {t}")


@pytest.mark.parametrize("cell", ["RNN", "GRU", "LSTM"])
def test_many_steps_are_those_of_autograd(cell):
    """d state[T] / d state[0] of PyTorch, and so all the norms."""
    torch.manual_seed(0)
    net = getattr(torch.nn, cell)(3, 6).double()
    for param in net.parameters():
        param.data *= 1.5
    model = numlstm.from_torch(net.float())
    net = net.double()
    xs = random_input(model.network, 12)
    size = 12 if cell == "LSTM" else 6

    def last(k, state):
        parts = tuple(part[None] for part in state.split(6))
        answer = net(torch.from_numpy(xs).double()[:k], parts if cell == "LSTM" else parts[0])[1]
        return torch.cat([part[0] for part in answer]) if cell == "LSTM" else answer[0]

    found = analysis.horizon(model, xs, max_distance=12)
    (norms,) = found.norms.values()
    assert found.distances.tolist() == list(range(13))
    expected, first = [1.0], torch.zeros(size, dtype=torch.float64)
    for k in range(1, 13):
        jacobian = torch.autograd.functional.jacobian(partial(last, k), first)
        expected.append(float(torch.linalg.matrix_norm(jacobian, 2)))
    AUTOGRAD.check(norms, expected, cell)


def test_the_mean_is_over_starts_evenly_spread():
    model = numlstm.Model(random_weights(NETWORKS["gru_7"], seed=1))
    xs = random_input(model.network, 20)
    layer, weights = model.network.layers[0], model.weights.tensors
    own = {key: weights[f"layers.0.{key}"].astype(np.float64) for key in layer.tensors()}
    steps = list(analysis.jacobians(layer, own, xs))
    found = analysis.horizon(model, xs, max_distance=4, num_starts=3).norms["layers.0"]
    for k in range(5):
        products = [
            np.linalg.multi_dot([np.eye(7), *steps[s : s + k][::-1], np.eye(7)]) for s in (0, 8, 16)
        ]
        AUTOGRAD.check(found[k], np.mean([np.linalg.norm(p, 2) for p in products]), f"k = {k}")


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.99, 1.0], ids=str)
def test_the_norm_is_the_largest_singular_value(decay):
    """Of matrices whose singular values are one, fall slowly, fall fast, and are all equal."""
    generator = np.random.default_rng(0)
    q, _ = np.linalg.qr(generator.standard_normal((90, 90)))
    p, _ = np.linalg.qr(generator.standard_normal((90, 90)))
    for scale in (1e-200, 1.0, 1e200):
        matrix = scale * (q * decay ** np.arange(90.0)) @ p
        AUTOGRAD.check(analysis._norm(matrix) / scale, 1.0)
    assert analysis._norm(np.zeros((3, 3))) == 0.0
    assert analysis._norm(np.full((3, 3), np.inf)) == np.inf


def test_an_identity_remembers_and_a_half_forgets():
    for factor, half_life in ((1.0, None), (0.8, 4), (0.5, 2)):
        tensors = {
            "layers.0.weight_ih": np.zeros((3, 1), np.float32),
            "layers.0.weight_hh": factor * np.eye(3, dtype=np.float32),
        }
        network = Network((spec.RNN(1, 3, False, "linear"),))
        model = numlstm.Model(Weights(network, tensors))
        found = analysis.horizon(model, np.zeros((10, 1)), max_distance=9)
        factor = np.float64(np.float32(factor))
        AUTOGRAD.check(found.norms["layers.0"], factor ** np.arange(10))
        assert found.half_life == {"layers.0": half_life}


def test_both_directions_have_a_curve():
    """The reverse one is the forward one of the sequence turned round."""
    network = Network((spec.LSTM(5, 7, direction="bidirectional"),))
    weights = random_weights(network)
    xs = random_input(network, 15)
    found = analysis.horizon(numlstm.Model(weights), xs).norms
    assert list(found) == ["layers.0", "layers.0_reverse"]
    second = {
        name.removesuffix("_reverse"): tensor
        for name, tensor in weights.tensors.items()
        if name.endswith("_reverse")
    }
    turned = numlstm.Model(Weights(Network((spec.LSTM(5, 7),)), second))
    expected = analysis.horizon(turned, xs[::-1]).norms["layers.0"]
    AUTOGRAD.check(found["layers.0_reverse"], expected)


@pytest.mark.parametrize("name", ["tokens", "graph", "masked", "lstm_options", "gru_options"])
def test_networks_of_many_layers(name):
    """A layer's curve is that of the layer alone on what the reference gives it to read."""
    network = NETWORKS[name]
    model = numlstm.Model(random_weights(network))
    xs = random_input(network, 25)
    found = analysis.horizon(model, xs, max_distance=10)
    recurrent = [p for p, layer in network.named_layers() if isinstance(layer, spec.Recurrent)]
    assert list(found.norms) == recurrent
    for norms in found.norms.values():
        assert norms.shape == (11,)
        assert norms[0] == 1.0
        assert (norms[1:] > 0).all()


def test_the_weights_are_those_of_the_dtype():
    model = numlstm.Model(random_weights(NETWORKS["lstm_17"]))
    xs = random_input(model.network, 20)
    exact, rounded = (
        analysis.horizon(m, xs).norms["layers.0"] for m in (model, model.astype("int8"))
    )
    difference = np.abs(exact - rounded)
    assert 0 < difference.max() < 0.05


@pytest.mark.parametrize("function", analysis.DERIVATIVES)
def test_derivatives(function):
    assert set(analysis.DERIVATIVES) == set(spec.FUNCTIONS)
    xs = np.linspace(0.1, 3.1, 41) if function in ("log", "sqrt") else np.linspace(-3.1, 3, 41)
    name, parameters = spec.parse_function(function)
    low, high = (reference.FUNCTIONS[name](xs + e, *parameters) for e in (-1e-5, 1e-5))
    NUMERIC.check(analysis.DERIVATIVES[name](xs, *parameters), (high - low) / 2e-5, function)


def test_what_is_wrong_is_told():
    model = numlstm.Model(random_weights(NETWORKS["lstm_7"]))
    xs = np.zeros((5, 7))
    for arguments, message in (
        ((xs, 0), "max_distance is 0, expected 1 or more"),
        ((xs, 5, True), "num_starts is True, expected 1 or more"),
        ((xs[:0],), "xs has no steps"),
        ((np.full((2, 7), np.nan),), "is nan, expected finite"),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            analysis.horizon(model, *arguments)
    for name, message in (("pooled_input", "no recurrent layer"), ("feedback", "feedback")):
        other = numlstm.Model(random_weights(NETWORKS[name]))
        with pytest.raises(ValueError, match=message):
            analysis.horizon(other, random_input(other.network, 3))
    last = numlstm.Model(random_weights(NOT_CAUSAL["repeat"]))
    norms = analysis.horizon(last, random_input(last.network, 9)).norms
    assert [len(values) for values in norms.values()] == [10, 5]  # of 9 steps, and of 4


@pytest.mark.long
def test_the_plot_is_a_picture(tmp_path):
    model = numlstm.Model(random_weights(NETWORKS["lstm_7"]))
    found = analysis.horizon(model, random_input(model.network, 9))
    for suffix, magic in (("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")):
        found.plot(tmp_path / f"horizon.{suffix}")
        assert (tmp_path / f"horizon.{suffix}").read_bytes().startswith(magic)
    with pytest.raises(ValueError, match=r"does not end in .png"):
        found.plot(tmp_path / "horizon.txt")
