"""numlstm against PyTorch: every cell of the table, every convertible module, every refusal."""

import re
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import numlstm
from numlstm import WeightsError, reference, spec
from tests.cases import CASES, SEQ_LEN, TOLERANCES, Case, Tolerance, with_tensor
from tests.lazy import Lazy, from_torch, nn, torch

own = Lazy("tests.convert.modules")

REFERENCE = Tolerance(1e-10, 1e-10, "two float64 computations of up to 40 steps and 6 layers")

MODULES: dict[str, Any] = {
    "rnn_tanh": lambda *sizes, **options: nn.RNN(*sizes, nonlinearity="tanh", **options),
    "rnn_relu": lambda *sizes, **options: nn.RNN(*sizes, nonlinearity="relu", **options),
    "gru": lambda *sizes, **options: nn.GRU(*sizes, **options),
    "lstm": lambda *sizes, **options: nn.LSTM(*sizes, **options),
}


TORCH_CASES = [case for case in CASES if case.cell in MODULES]


def torch_of(case: Case) -> "nn.RNNBase":
    torch.manual_seed(case.size)
    return MODULES[case.cell](case.size, case.size, case.num_layers, bias=case.bias)


@pytest.mark.parametrize("case", TORCH_CASES, ids=lambda case: case.id)
def test_every_step_and_the_last_state_are_those_of_torch(case):
    module = torch_of(case)
    xs = torch.randn(SEQ_LEN, case.size)
    with torch.no_grad():
        expected, last = module(xs)
    h, c = last if case.cell == "lstm" else (last, None)

    model = numlstm.from_torch(module)
    stream = model.stream()
    ys = stream.run(xs.numpy())

    TOLERANCES["h"].check(ys, expected.numpy(), "h of every step")
    names = {"h": h} if c is None else {"h": h, "c": c}
    assert set(stream.state) == {
        f"layers.{n}.{name}" for n in range(case.num_layers) for name in names
    }
    for name, values in names.items():
        for n in range(case.num_layers):
            found = stream.state[f"layers.{n}.{name}"]
            assert found.dtype == np.float32
            TOLERANCES[name].check(found, values[n].numpy(), f"last {name} of layer {n}")


def test_state_is_a_copy():
    stream = numlstm.from_torch(nn.LSTM(3, 4)).stream()
    stream.run(np.ones((5, 3)))
    before = stream.save_state()
    for values in stream.state.values():
        values[:] = 9.0
    assert stream.save_state() == before


# Stacks -------------------------------------------------------------------------------------------


def _prefixes(pool: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda ys: torch.stack([pool(ys[: t + 1]) for t in range(len(ys))])


POOLINGS = {
    "last": lambda ys: ys,
    "mean": _prefixes(lambda ys: ys.mean(0)),
    "max": _prefixes(lambda ys: ys.amax(0)),
    "sum": _prefixes(lambda ys: ys.sum(0)),
}

STACKS: dict[str, Callable[[], list[Any]]] = {
    "embedding": lambda: [nn.Embedding(9, 5), nn.GRU(5, 6)],
    "padding_idx": lambda: [nn.Embedding(9, 5, padding_idx=0), nn.Linear(5, 2)],
    "dropout": lambda: [
        nn.Linear(4, 8),
        nn.Dropout(0.9),
        nn.LSTM(8, 3, 2, dropout=0.9),
        nn.Identity(),
    ],
    "layer_norm": lambda: [nn.LSTM(4, 7), nn.LayerNorm(7), nn.Linear(7, 2)],
    "layer_norm_eps": lambda: [nn.Linear(4, 7), nn.LayerNorm(7, eps=0.5)],
    "layer_norm_without_weight": lambda: [nn.LayerNorm(4, elementwise_affine=False), nn.RNN(4, 3)],
    "layer_norm_without_bias": lambda: [nn.LayerNorm(4, bias=False), nn.RNN(4, 3)],
    "batch_norm": lambda: [
        nn.BatchNorm1d(4),
        nn.LSTM(4, 7),
        nn.BatchNorm1d(7, eps=0.1, affine=False),
    ],
    "linear_without_bias": lambda: [nn.Linear(4, 33, bias=False)],
    "linear_tanh": lambda: [nn.Linear(4, 5), nn.Tanh()],
    "linear_relu": lambda: [nn.Linear(4, 5), nn.ReLU(inplace=True)],
    "linear_sigmoid": lambda: [nn.Linear(4, 5), nn.Sigmoid()],
    "two_activations": lambda: [nn.Linear(4, 5), nn.ReLU(), nn.Tanh()],
    "activation_of_a_cell": lambda: [nn.GRU(4, 17), nn.ReLU(), nn.Linear(17, 2)],
    "softmax": lambda: [nn.LSTM(4, 5), nn.Linear(5, 17), nn.Softmax(dim=-1)],
    "log_softmax": lambda: [nn.LSTM(4, 5), nn.Linear(5, 17), nn.LogSoftmax(dim=-1)],
    "last": lambda: [nn.LSTM(4, 5), "last", nn.Linear(5, 2)],
    "mean": lambda: [nn.LSTM(4, 17), "mean", nn.Linear(17, 2)],
    "max": lambda: [nn.LSTM(4, 17), "max", nn.Linear(17, 2)],
    "sum": lambda: [nn.LSTM(4, 17), "sum", nn.Linear(17, 2)],
    "final": lambda: [nn.LSTM(4, 17, 2), nn.Dropout(), "final", nn.Linear(17, 2)],
    "words": lambda: [nn.LSTM(4, 5), "relu", nn.Linear(5, 3), "leaky_relu(0.1)", "softmax"],
    "sequential": lambda: [
        nn.Sequential(nn.Linear(4, 5), nn.Sequential(nn.ReLU(), nn.Linear(5, 3)))
    ],
    "batch_first": lambda: [nn.LSTM(4, 5, batch_first=True), nn.GRU(5, 2, batch_first=True)],
    "projection": lambda: [nn.LSTM(4, 17, 3, proj_size=6), nn.LSTM(6, 5, bias=False, proj_size=1)],
    "cells": lambda: [
        nn.LSTMCell(4, 17),
        nn.GRUCell(17, 6, bias=False),
        nn.RNNCell(6, 5, True, "relu"),
    ],
    "bidirectional": lambda: [nn.LSTM(4, 17, 2, bidirectional=True), nn.Linear(34, 2)],
    "bidirectional_projection": lambda: [nn.LSTM(4, 17, 3, bidirectional=True, proj_size=5)],
    "bidirectional_gru": lambda: [
        nn.GRU(4, 6, 3, bidirectional=True, bias=False, batch_first=True)
    ],
    "bidirectional_rnn": lambda: [nn.RNN(4, 6, 2, bidirectional=True, nonlinearity="relu")],
    **{
        f"bidirectional_{word}": lambda word=word: [
            nn.LSTM(4, 6, 2, bidirectional=True),
            word,
            nn.Linear(12, 2),
        ]
        for word in (*POOLINGS, "final")
    },
    "final_of_a_forward_layer": lambda: [
        nn.GRU(4, 6, bidirectional=True),
        nn.LSTM(12, 5, 2),
        "final",
        nn.Tanh(),
        nn.Linear(5, 2),
    ],
    "two_finals": lambda: [
        nn.GRU(4, 6, bidirectional=True),
        "final",
        nn.GRU(12, 5, bidirectional=True),
        "final",
    ],
    "conv_valid": lambda: [nn.Conv1d(4, 6, 5, dilation=2), nn.ReLU(), nn.LSTM(6, 3)],
    "conv_kernel_1": lambda: [nn.Conv1d(4, 6, 1), nn.Tanh(), nn.GRU(6, 3), "mean"],
    "conv_padded": lambda: [
        nn.Conv1d(4, 6, 3, padding=1, groups=2),
        nn.BatchNorm1d(6),
        nn.GRU(6, 3),
    ],
    "conv_same": lambda: [nn.Conv1d(4, 6, 4, padding="same", bias=False), "max", nn.Linear(6, 3)],
    "conv_stride": lambda: [nn.Conv1d(4, 6, 3, stride=2, padding=1), nn.Conv1d(6, 7, 3, stride=3)],
    "conv_causal": lambda: [
        nn.ZeroPad1d((6, 0)),
        nn.Conv1d(4, 6, 4, dilation=2),
        nn.LSTM(6, 3),
        "mean",
    ],
    "conv_padded_apart": lambda: [nn.ConstantPad1d((1, 2), 0.0), nn.Conv1d(4, 6, 5, padding=1)],
    "conv_padded_twice": lambda: [nn.ZeroPad1d((1, 0)), nn.ZeroPad1d((1, 1)), nn.Conv1d(4, 6, 5)],
    "conv_longer_than_a_probe": lambda: [nn.Conv1d(4, 6, 31), nn.Conv1d(6, 6, 3, stride=2)],
    "many": lambda: [
        nn.Sequential(nn.Embedding(20, 8), nn.Dropout(0.5)),
        nn.GRU(8, 16, 2, dropout=0.3),
        nn.LayerNorm(16),
        nn.LSTM(16, 30),
        "mean",
        nn.Sequential(nn.Linear(30, 12), nn.Tanh(), nn.Linear(12, 4), nn.Softmax(dim=-1)),
    ],
    "tagger": lambda: [nn.Embedding(20, 8), nn.LSTM(8, 6, bidirectional=True), nn.Linear(12, 5)],
}

FUNCTIONS = (
    "LeakyReLU()", "LeakyReLU(0.3)", "ELU()", "ELU(0.5)", "SELU()", "SiLU()", "Softsign()",
    "Softplus()", "Hardsigmoid()", "Hardtanh()", "Hardtanh(-0.5, 2.0)", "ReLU6()",
    "Threshold(0.5, 0.0)", "Tanh()", "Sigmoid()", "ReLU()",
)  # fmt: skip


def module_of(text: str) -> "nn.Module":
    """Return the module that a text such as "Hardtanh(-0.5, 2.0)" describes."""
    kind, numbers = text.removesuffix(")").split("(")
    return getattr(nn, kind)(*(float(number) for number in numbers.split(",") if number))


STACKS |= {
    text: lambda text=text: [nn.GRU(4, 7), module_of(text), nn.Linear(7, 7), module_of(text)]
    for text in FUNCTIONS
}

WORDS: dict[str, Callable[[], Any]] = {
    "softmax": lambda: nn.Softmax(-1),
    "log_softmax": lambda: nn.LogSoftmax(-1),
    "relu": lambda: nn.ReLU(),
    "leaky_relu(0.1)": lambda: nn.LeakyReLU(0.1),
}


def flatten(modules: list[Any]) -> list[Any]:
    flat = []
    for module in modules:
        flat += flatten(list(module)) if isinstance(module, nn.Sequential) else [module]
    return [WORDS[module]() if module in WORDS else module for module in flat]


def torch_run(modules: list[Any], xs: "torch.Tensor", is_causal: bool = True) -> np.ndarray:
    """Run modules in eval mode on a sequence (T, ...), and leave them in train mode."""
    h_n = xs
    for module in flatten(modules):
        if isinstance(module, str):
            xs = xs if module == "final" else POOLINGS[module](xs)
            xs = xs if is_causal else h_n if module == "final" else xs[-1:]
            continue
        module.eval()
        # PyTorch warns where another of its paths would be faster.
        with torch.no_grad(), warnings.catch_warnings(action="ignore"):
            match module:
                case nn.RNNBase():
                    xs, last = module(xs)
                    last = last[0] if isinstance(module, nn.LSTM) else last
                    h_n = torch.hstack(list(last[-1 - module.bidirectional :]))[None]
                case nn.RNNCellBase():
                    states = [None]
                    for x in xs:
                        states.append(module(x, states[-1]))
                    rows = [s[0] if isinstance(s, tuple) else s for s in states[1:]]
                    xs = torch.stack(rows)
                case nn.Conv1d() | nn.ConstantPad1d():
                    xs = module(xs.T).T
                case _:
                    xs = module(xs.clone())
        module.train()
    return xs.numpy()


def torch_input(modules: list[Any], seq_len: int = 40) -> "torch.Tensor":
    first = flatten(modules)[0]
    if isinstance(first, nn.Embedding):
        return torch.randint(first.num_embeddings, (seq_len,))
    return torch.randn(seq_len, 4)


@pytest.mark.parametrize("name", STACKS)
def test_stacks_of_modules_in_train_mode_give_what_torch_gives(name):
    torch.manual_seed(0)
    modules = STACKS[name]()
    for module in flatten(modules):
        if isinstance(module, nn.BatchNorm1d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2.0)
    xs = torch_input(modules)
    model = numlstm.from_torch(*modules)
    expected = torch_run(modules, xs, model.network.is_causal)
    TOLERANCES["output"].check(model.run(xs.numpy()), expected)
    ys, _ = reference.run(model.network, model.weights.tensors, xs.numpy())
    TOLERANCES["output"].check(ys, expected, "reference")
    assert all(module.training for module in flatten(modules) if isinstance(module, nn.Module))


def test_what_a_stack_becomes():
    """The layers, not only their answers: activations join, causal convolutions stream."""
    causal = numlstm.from_torch(*STACKS["conv_causal"]()).network
    assert causal.is_causal
    assert causal.layers[0] == spec.Conv1d(4, 6, 4, dilation=2)
    assert numlstm.from_torch(*STACKS["linear_relu"]()).network.layers == (
        spec.Linear(4, 5, activation="relu"),
    )
    final = numlstm.from_torch(*STACKS["bidirectional_final"]()).network.layers[1]
    assert (final.direction, final.outputs) == ("bidirectional", "last")
    same = numlstm.from_torch(*STACKS["conv_same"]()).network.layers[0]
    assert same.padding == (1, 2)


# The engine and the reference against any stack ---------------------------------------------------


@st.composite
def stacks(draw: Any) -> list[Any]:
    """Draw recurrent modules, perhaps with a pooling and a head, as torch initialises them."""
    torch.manual_seed(draw(st.integers(0, 2**31)))
    size = draw(st.integers(1, 40))
    modules: list[Any] = []
    for _ in range(draw(st.integers(1, 2))):
        cell = draw(st.sampled_from(sorted(MODULES)))
        hidden_size = draw(st.integers(1, 40))
        options: dict[str, Any] = {
            "bias": draw(st.booleans()),
            "bidirectional": draw(st.booleans()),
        }
        if cell == "lstm" and hidden_size > 1:
            options["proj_size"] = draw(st.integers(0, hidden_size - 1))
        modules.append(MODULES[cell](size, hidden_size, draw(st.integers(1, 3)), **options))
        size = options.get("proj_size") or hidden_size
        size *= 2 if options["bidirectional"] else 1
    pooling = draw(st.sampled_from([None, *POOLINGS, "final"]))
    return [*modules, pooling, nn.Linear(size, 3)] if pooling else modules


@pytest.mark.long
@settings(max_examples=60)
@given(stacks(), st.integers(1, 40), st.integers(0, 2**31))
def test_any_stack_is_that_of_torch(modules, seq_len, seed):
    model = numlstm.from_torch(*modules)
    network, tensors = model.network, model.weights.tensors
    xs = torch.randn(
        seq_len, network.input_size, generator=torch.Generator().manual_seed(seed)
    ).double()
    doubles = [m.double() if isinstance(m, nn.Module) else m for m in modules]
    expected = torch_run(doubles, xs, network.is_causal)
    ys, _ = reference.run(network, tensors, xs.numpy())
    REFERENCE.check(ys, expected, "reference")
    TOLERANCES["output"].check(model.run(xs.numpy()), expected, "engine")


def test_what_the_conversion_keeps_is_its_own():
    module = nn.Linear(4, 2)
    xs = np.ones((1, 4), np.float32)
    model = numlstm.from_torch(module, labels=("no", "yes"))
    before = model.run(xs)
    with torch.no_grad():
        module.weight.zero_()
    np.testing.assert_array_equal(model.run(xs), before)
    assert model.labels == ("no", "yes")


@pytest.mark.parametrize("dtype", ["float64", "bfloat16", "float16"])
def test_modules_of_other_dtypes_are_converted_to_float32(dtype):
    torch.manual_seed(0)
    module = nn.LSTM(4, 5).to(getattr(torch, dtype))
    expected = nn.LSTM(4, 5)
    expected.load_state_dict(module.state_dict())
    xs = torch.randn(9, 4)
    TOLERANCES["output"].check(
        numlstm.from_torch(module).run(xs.numpy()), torch_run([expected], xs)
    )


# Refusals -----------------------------------------------------------------------------------------


def test_everything_that_cannot_be_converted_is_listed_at_once():
    with pytest.raises(WeightsError) as caught:
        numlstm.from_torch(
            nn.Embedding(9, 4, max_norm=1.0),
            nn.LayerNorm((2, 2)),
            nn.Conv1d(4, 4, 3, padding_mode="reflect"),
            nn.Conv1d(4, 4, 3, padding=4),
            nn.Linear(4, 4),
            nn.Softmax(dim=0),
            nn.BatchNorm1d(4, track_running_stats=False),
            nn.Flatten(),
            nn.ConvTranspose1d(4, 4, 3),
            nn.Softplus(threshold=5.0),
            nn.Threshold(0.5, 1.0),
            "final",
        )
    message = str(caught.value)
    expected = [
        r"0: Embedding: max_norm",
        r"1: LayerNorm: normalized_shape=\(2, 2\)",
        r"2: Conv1d: padding_mode='reflect'",
        r"3: Conv1d: .*padding \(4, 4\) is more than the kernel reaches, 2",
        r"5: Softmax: dim=0",
        r"6: BatchNorm1d: track_running_stats=False",
        r"7: Flatten: would join the steps",
        r"8: ConvTranspose1d: is not a layer numlstm knows",
        r"9: Softplus: .*threshold=5.0",
        r"10: Threshold: .*value=1.0",
        r"11: final: is of a recurrent layer, before it is Linear",
    ]
    assert [line for line in expected if not re.search(line, message)] == []


def not_finite() -> "nn.Linear":
    module = nn.Linear(2, 2).requires_grad_(False)
    module.weight[0, 0] = float("nan")
    return module


REFUSALS: dict[str, tuple[Callable[[], tuple[Any, ...]], str]] = {
    "nothing": (lambda: (), "no layers"),
    "own module": (lambda: (own.Net(),), "Net: is not a layer numlstm knows"),
    "subclass of a cell": (lambda: (own.MyLSTM(2, 2),), "MyLSTM: is not a layer numlstm knows"),
    "padding alone": (lambda: (nn.Linear(2, 2), nn.ZeroPad1d(1)), "ZeroPad1d: has no Conv1d"),
    "padding of a cell": (lambda: (nn.ZeroPad1d(1), nn.GRU(2, 2)), "GRU: comes after a ZeroPad1d"),
    "padding of a function": (
        lambda: (nn.Linear(2, 2), nn.ZeroPad1d(1), "sigmoid", nn.Conv1d(2, 2, 3)),
        "2: sigmoid: comes after a ZeroPad1d",
    ),
    "padding with ones": (
        lambda: (nn.ConstantPad1d(1, 1.0), nn.Conv1d(2, 2, 3)),
        "0: ConstantPad1d",
    ),
    "padding too long": (lambda: (nn.Conv1d(2, 2, 3, padding=3),), "more than the kernel reaches"),
    "final first": (lambda: ("final", nn.GRU(2, 2)), "0: final: has nothing before it"),
    "final of a head": (
        lambda: (nn.GRU(2, 2), nn.Linear(2, 2), "final"),
        "2: final: is of a recurrent",
    ),
    "unknown pooling": (lambda: (nn.Linear(2, 2), "median"), "'median': is neither"),
    "no module": (lambda: (nn.Linear(2, 2), 3), "int: is neither"),
    "pooling first": (lambda: ("mean", nn.Linear(2, 2)), "0: mean: has nothing before it"),
    "activation first": (lambda: (nn.Tanh(),), "0: Tanh: has nothing before it"),
    "softmax over time": (lambda: (nn.Linear(2, 2), nn.Softmax(dim=1)), "Softmax: dim=1"),
    "softmax without dim": (lambda: (nn.Linear(2, 2), nn.Softmax()), "Softmax: dim=None"),
    "embedding inside": (
        lambda: (nn.Linear(2, 2), nn.Embedding(2, 2)),
        "must be the first layer: Embedding",
    ),
    "sizes": (
        lambda: (nn.LSTM(3, 4), nn.Linear(5, 2)),
        "input_size is 5, the layer before gives 4",
    ),
    "not finite": (lambda: (not_finite(),), "not finite"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_refusal_says_which_module_and_why(name):
    modules, message = REFUSALS[name]
    with pytest.raises(WeightsError, match=message):
        numlstm.from_torch(*modules())


def test_labels_must_fit_the_output():
    with pytest.raises(WeightsError, match="3 labels for an output of 2"):
        numlstm.from_torch(nn.Linear(4, 2), labels=("a", "b", "c"))


# The conversion is checked ------------------------------------------------------------------------


def _swap_gates(name, a, b):
    def swap(weights):
        tensor = weights.tensors[name].copy()
        size = len(tensor) // weights.network.layers[0].num_gates
        rows = {gate: slice(gate * size, (gate + 1) * size) for gate in (a, b)}
        tensor[rows[a]], tensor[rows[b]] = tensor[rows[b]].copy(), tensor[rows[a]].copy()
        return with_tensor(weights, name, tensor)

    return swap


def _change(name, change):
    def mistake(weights):
        changed = np.ascontiguousarray(change(weights.tensors[name]), np.float32)
        return with_tensor(weights, name, changed)

    return mistake


MISTAKES = {
    "lstm: i and f swapped": ("LSTM", _swap_gates("layers.0.weight_hh", 0, 1)),
    "lstm: g and o swapped": ("LSTM", _swap_gates("layers.0.weight_ih", 2, 3)),
    "gru: r and z swapped": ("GRU", _swap_gates("layers.0.weight_hh", 0, 1)),
    "gru: a bias lost": ("GRU", _change("layers.0.bias_hh", lambda b: b * 0)),
    "rnn: transposed": ("RNN", _change("layers.0.weight_hh", np.transpose)),
    "head: a bias wrong by 1e-3": ("RNN", _change("layers.1.bias", lambda b: b + 1e-3)),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_a_wrong_conversion_is_caught(name, monkeypatch):
    cell, mistake = MISTAKES[name]
    convert = from_torch.convert
    monkeypatch.setattr(
        "numlstm.convert.torch.convert",
        lambda *args, **options: mistake(convert(*args, **options)),
    )
    torch.manual_seed(0)
    with pytest.raises(WeightsError, match="differs from torch"):
        numlstm.from_torch(getattr(nn, cell)(5, 5), nn.Linear(5, 2))


def test_the_largest_difference_is_logged_and_verify_repeats_it(messages):
    torch.manual_seed(0)
    model = numlstm.from_torch(nn.LSTM(4, 16), nn.Linear(16, 2))
    verification = model.verify()
    assert verification.ok
    assert verification.num_probes >= 1
    assert 0 < verification.largest_difference < 1e-5
    assert f"{verification.largest_difference:.1e}" in messages[-1]
    assert f"torch {torch.__version__}" in messages[-1]


def test_verify_fails_for_other_tensors():
    weights = from_torch.convert([nn.Linear(4, 2)])
    other = _change("layers.0.bias", lambda b: b + 1)(weights)
    verification = numlstm.Model(other).verify()
    assert not verification.ok
    assert verification.largest_difference == pytest.approx(1, abs=1e-5)


def test_a_module_that_overflows_is_refused_without_a_warning():
    modules = [nn.Linear(4, 4), nn.Linear(4, 2)]
    for module in modules:
        nn.init.constant_(module.weight, 1e30)
    with pytest.raises(WeightsError, match=r"nan|inf|not finite|overflow"):
        numlstm.from_torch(*modules)


def test_verify_fails_for_a_probe_that_is_nan():
    weights = from_torch.convert([nn.Linear(4, 2)])
    probe = replace(weights.probes[0], ys=np.full_like(weights.probes[0].ys, np.nan))
    verification = numlstm.Model(replace(weights, probes=(probe,))).verify()
    assert not verification.ok
    assert np.isnan(verification.largest_difference)


def test_a_chaotic_network_is_converted_with_a_probe_that_ends_before_the_chaos():
    torch.manual_seed(0)
    net = nn.LSTM(64, 128)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(20)
    model = numlstm.from_torch(net)
    lengths = [len(probe.xs) for probe in model.weights.probes]
    assert all(1 <= length < 24 for length in lengths)
    assert model.verify().ok
    calm = numlstm.from_torch(nn.LSTM(64, 128))
    assert [len(probe.xs) for probe in calm.weights.probes] == [24, 24, 24]


def _hooked() -> "nn.Sequential":
    module = nn.Sequential(nn.Linear(2, 2))
    module.register_forward_hook(lambda module, args, output: 2 * output)
    return module


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (lambda: own.Residual(nn.Linear(2, 2)), "Residual"),
        (_hooked, "Sequential: has hooks"),
        (lambda: nn.Linear(2, 2, dtype=torch.complex64), "Linear: has weights of torch.complex64"),
        (lambda: nn.Linear(2, 2, device="meta"), "Linear: has weights of no data"),
    ],
    ids=["subclass", "hooks", "complex", "meta"],
)
def test_what_the_check_could_not_see_is_refused(module, message):
    with pytest.raises(WeightsError, match=message):
        numlstm.from_torch(module())


def test_labels_and_tokenizers_that_are_none_are_refused():
    module = nn.Linear(2, 2)
    with pytest.raises(TypeError, match="labels is a str"):
        numlstm.from_torch(module, labels="ab")
    with pytest.raises(WeightsError, match="expected strings"):
        numlstm.from_torch(module, labels=[0, 1])
    with pytest.raises(WeightsError, match="tokenizer cannot be read"):
        numlstm.from_torch(nn.Embedding(3, 2), tokenizer="{}")
