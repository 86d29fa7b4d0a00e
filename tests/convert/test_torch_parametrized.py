"""Weights that training makes of others: weight norm, spectral norm, pruning, weight drop."""

import warnings

import numpy as np
import pytest

import numlstm
from numlstm import WeightsError
from tests.cases import TOLERANCES
from tests.lazy import Lazy, nn, torch

parametrized = Lazy("numlstm.convert.torch.parametrized")
utils = Lazy("torch.nn.utils")
parametrizations = Lazy("torch.nn.utils.parametrizations")
prune = Lazy("torch.nn.utils.prune")

# By a name: what makes a weight of others, of a module and the name of the weight.
WAYS = {
    "weight norm": lambda module, name: parametrizations.weight_norm(module, name),
    "weight norm, old": lambda module, name: utils.weight_norm(module, name),
    "weight norm of columns": lambda module, name: parametrizations.weight_norm(module, name, 1),
    "weight norm of columns, old": lambda module, name: utils.weight_norm(module, name, 1),
    "weight norm of all": lambda module, name: parametrizations.weight_norm(module, name, None),
    "weight norm of all, old": lambda module, name: utils.weight_norm(module, name, None),
    "spectral norm": lambda module, name: parametrizations.spectral_norm(module, name),
    "spectral norm, old": lambda module, name: utils.spectral_norm(module, name),
    "pruning": lambda module, name: prune.random_unstructured(module, name, 0.4),
    "orthogonal": lambda module, name: parametrizations.orthogonal(module, name),
}
FROM_TENSORS = [way for way in WAYS if way != "orthogonal"]


def _lstm(way):
    """Return an LSTM of which two weights are made in a way, as training leaves it."""
    torch.manual_seed(0)
    lstm = nn.LSTM(3, 5, bidirectional=True)
    with warnings.catch_warnings(action="ignore"):  # the old ones are deprecated
        for name in ("weight_hh_l0", "weight_ih_l0_reverse"):
            WAYS[way](lstm, name)
    for _ in range(3):  # spectral norm comes nearer with each step
        lstm(torch.randn(2, 3))
    return lstm.eval()


def _answer(module, xs):
    with torch.no_grad():
        ys = module(xs)
    return (ys[0] if isinstance(ys, tuple) else ys).numpy()


@pytest.mark.parametrize("way", FROM_TENSORS)
def test_weights_are_computed_from_their_parts(tmp_path, way):
    lstm = _lstm(way)
    xs = torch.randn(20, 3)
    expected = _answer(lstm, xs)
    path = tmp_path / "model.pt"
    torch.save({f"lstm.{name}": t for name, t in lstm.state_dict().items()}, path)
    model = numlstm.from_torch(path, layers="lstm:LSTM")
    TOLERANCES["output"].check(model.run(xs.numpy()), expected)


@pytest.mark.parametrize("way", WAYS)
def test_modules_are_converted_with_the_weights_that_they_make(way):
    lstm = _lstm(way)
    xs = torch.randn(20, 3)
    expected = _answer(lstm, xs)
    state = {name: tensor.clone() for name, tensor in lstm.state_dict().items()}
    TOLERANCES["output"].check(numlstm.from_torch(lstm).run(xs.numpy()), expected)
    assert np.array_equal(_answer(lstm, xs), expected)  # it is left as it was
    assert all(torch.equal(tensor, state[name]) for name, tensor in lstm.state_dict().items())


@pytest.mark.parametrize("way", FROM_TENSORS)
@pytest.mark.parametrize("make", [lambda: nn.Linear(3, 4), lambda: nn.Conv1d(3, 4, 3)])
def test_weights_of_other_layers_are_computed(way, make):
    torch.manual_seed(0)
    module = make()
    with warnings.catch_warnings(action="ignore"):
        WAYS[way](module, "weight")
    xs = torch.randn(3, 9) if isinstance(module, nn.Conv1d) else torch.randn(9, 3)
    expected = (module.train()(xs), module.eval()(xs))[1].detach()
    found, made = parametrized.without_parts(module.state_dict())
    assert set(found) == {"weight", "bias"}
    assert made == {"weight": way.removesuffix(", old").partition(" of ")[0]}
    module = make()
    module.load_state_dict(found)
    torch.testing.assert_close(module(xs).detach(), expected)


def test_what_is_pruned_twice_and_its_bias_are_computed():
    torch.manual_seed(0)
    module = nn.Linear(3, 4)
    prune.random_unstructured(module, "weight", 0.4)
    prune.l1_unstructured(module, "weight", 0.4)
    prune.l1_unstructured(module, "bias", 0.5)
    xs = torch.randn(9, 3)
    expected = _answer(module, xs)
    state = {f"a.{name}": tensor for name, tensor in module.state_dict().items()}
    TOLERANCES["output"].check(
        numlstm.from_torch(state, layers="a:Linear").run(xs.numpy()), expected
    )


@pytest.mark.parametrize(
    ("raw", "copy"),
    [
        ("rnn.weight_hh_l0_raw", "rnn.module.weight_hh_l0"),  # fastai
        ("rnn.module.weight_hh_l0_raw", None),  # AWD-LSTM
        ("rnn.weight_hh_l0_raw", None),
    ],
)
def test_of_a_weight_drop_the_weight_before_it_counts(raw, copy):
    torch.manual_seed(0)
    lstm = nn.LSTM(3, 5)
    prefix = "rnn" if copy is None and ".module." not in raw else "rnn.module"
    state = {f"{prefix}.{name}": tensor for name, tensor in lstm.state_dict().items()}
    state[raw] = state.pop(f"{prefix}.weight_hh_l0")
    if copy is not None:
        state[copy] = nn.functional.dropout(state[raw], 0.5)
    xs = torch.randn(9, 3)
    model = numlstm.from_torch(state, layers=f"{prefix}:LSTM")
    TOLERANCES["output"].check(model.run(xs.numpy()), _answer(lstm, xs))


def test_gates_whose_names_end_in_g_and_v_are_no_parts():
    state = {"a.weight_g": torch.ones(4, 3), "a.weight_v": torch.ones(4, 3)}
    state |= {"a.b_g": torch.ones(4), "a.b_v": torch.ones(4), "a.d_mask": torch.ones(2)}
    found, made = parametrized.without_parts(state)
    assert found == state
    assert made == {}


def test_parts_that_are_whole_numbers_are_refused():
    state = {"a.weight_g": torch.ones(2, 1), "a.weight_v": torch.ones(2, 2, dtype=torch.int8)}
    with pytest.raises(WeightsError, match=r"a.weight: a.weight_v is torch.int8, expected fl"):
        numlstm.from_torch(state, layers="a:Linear")


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        (
            {"a.weight_g": (4, 1), "a.weight_v": (5, 3)},
            "a.weight: g (4, 1) of weight norm does not go with v (5, 3)",
        ),
        (
            {"a.weight_orig": (4, 3), "a.weight_u": (5,), "a.weight_v": (3,)},
            "a.weight: u (5,) and v (3,) of spectral norm do not go with the weight (4, 3)",
        ),
        (
            {"a.weight_orig": (4, 3), "a.weight_mask": (4, 4)},
            "a.weight: the mask (4, 4) of pruning does not go with the weight (4, 3)",
        ),
        (
            {"a.parametrizations.weight.original": (3, 3)},
            "a.weight: it is made of original by a parametrization, which is code",
        ),
    ],
)
def test_parts_that_do_not_go_together_are_refused(tensors, words):
    state = {name: torch.ones(shape) for name, shape in tensors.items()}
    with pytest.raises(WeightsError) as error:
        numlstm.from_torch(state, layers="a:Linear")
    assert str(error.value).startswith(f"the state dict cannot be converted:\n  {words}; save ")
