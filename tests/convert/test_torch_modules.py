"""Modules around recurrent layers, run by PyTorch on a batch (1, T, F), as in a model's forward."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import numlstm
from numlstm.errors import WeightsError
from tests.cases import TOLERANCES, assert_same_bits
from tests.lazy import functional, nn, torch

SIZE, STEPS = 4, 12


def lstm(size: int = 6) -> Any:
    return nn.LSTM(SIZE, size, batch_first=True)


def over_time(module: Any, xs: Any) -> Any:
    """Run a module of (N, C, L) on (N, T, F)."""
    return module(xs.transpose(1, 2)).transpose(1, 2)


def forward(modules: list[Any], xs: Any) -> Any:
    """Run modules as a model does that puts the features last before all but those of (N, C, L)."""
    for module in modules:
        match module:
            case nn.LSTM():
                xs = module(xs)[0]
            case nn.Conv1d() | nn.MaxPool1d() | nn.AvgPool1d() | nn.InstanceNorm1d():
                xs = over_time(module, xs)
            case nn.BatchNorm1d() | nn.PReLU() if xs.dim() == 3:
                xs = over_time(module, xs)
            case nn.AdaptiveAvgPool1d() | nn.AdaptiveMaxPool1d():
                xs = module(xs.transpose(1, 2))
            case str():
                xs = xs[:, -1]
            case _:
                xs = module(xs)
    return xs


def tracked_instance_norm() -> Any:
    module = nn.InstanceNorm1d(6, affine=True, track_running_stats=True)
    module.running_mean.normal_()
    module.running_var.uniform_(0.5, 2.0)
    return module.eval()


def slopes(*shape: int) -> Any:
    module = nn.PReLU(*shape)
    module.weight.data.uniform_(-0.5, 0.5)
    return module


MODULES: dict[str, Callable[[], list[Any]]] = {
    "max pool": lambda: [nn.Conv1d(SIZE, 4, 3, padding=1), nn.ReLU(), nn.MaxPool1d(2), lstm()],
    "max pool padded": lambda: [nn.Conv1d(SIZE, 4, 1), nn.MaxPool1d(3, 2, 1), lstm()],
    "max pool ceil": lambda: [lstm(), nn.MaxPool1d(5, 3, ceil_mode=True)],
    "max pool of every step": lambda: [nn.Linear(SIZE, SIZE), nn.MaxPool1d(3, 1, 1), lstm()],
    "a pool first": lambda: [nn.MaxPool1d(3, 2), nn.ReLU(), nn.BatchNorm1d(SIZE).eval(), lstm()],
    "mean pool": lambda: [lstm(), nn.AvgPool1d(3)],
    "mean pool, padding counted": lambda: [lstm(), nn.AvgPool1d(3, 2, 1), nn.Linear(6, 2)],
    "mean pool, not counted": lambda: [lstm(), nn.AvgPool1d(4, 1, 2, count_include_pad=False)],
    "mean pool ceil": lambda: [lstm(), nn.AvgPool1d(5, 2, 2, True, False)],
    "adaptive mean": lambda: [lstm(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(6, 2)],
    "adaptive max": lambda: [
        nn.Conv1d(SIZE, 6, 3), nn.AdaptiveMaxPool1d((1,)), nn.Flatten(), nn.Linear(6, 2),
    ],
    "flatten": lambda: [lstm(), nn.Flatten(), nn.Linear(6 * STEPS, 3), nn.Softmax(dim=1)],
    "flatten behind dropout": lambda: [
        lstm(), nn.Dropout(), nn.Flatten(1), nn.Dropout(), nn.Linear(6 * STEPS, 3), nn.ReLU(),
    ],
    "prelu": lambda: [lstm(), slopes(), nn.Linear(6, 2)],
    "prelu by channel": lambda: [nn.Conv1d(SIZE, 6, 3, padding=1), slopes(6), nn.MaxPool1d(2)],
    "gelu": lambda: [lstm(), nn.GELU(), nn.Linear(6, 3), nn.GELU(approximate="tanh")],
    "silu": lambda: [nn.Linear(SIZE, 6), nn.SiLU()],
    "gated": lambda: [lstm(), nn.GLU(), nn.Linear(3, 2)],
    "softmin": lambda: [lstm(), nn.Softmin(dim=-1)],
    "softmax of three axes": lambda: [lstm(), nn.Softmax(dim=2)],
    "softmax of a row": lambda: [lstm(), "last", nn.Linear(6, 3), nn.LogSoftmax(dim=1)],
    "instance norm": lambda: [nn.Conv1d(SIZE, 6, 3, padding=1), tracked_instance_norm(), nn.GELU()],
    "group norm of a row": lambda: [lstm(), "last", nn.GroupNorm(3, 6), nn.Linear(6, 2)],
    "rms norm": lambda: [lstm(), nn.RMSNorm(6, eps=0.5), nn.RMSNorm(6, elementwise_affine=False)],
    "softplus with a beta": lambda: [lstm(), nn.Softplus(beta=2.0)],
    "dropouts": lambda: [nn.AlphaDropout(), lstm(), nn.FeatureAlphaDropout(), nn.Identity()],
    **{
        text: lambda text=text: [nn.Linear(SIZE, 6), eval(f"nn.{text}"), nn.Linear(6, 3)]
        for text in (
            "Mish()", "Hardswish()", "LogSigmoid()", "Softshrink(0.3)", "Hardshrink(0.3)",
            "Tanhshrink()", "CELU(0.7)", "RReLU(0.1, 0.4)",
        )
    },
}  # fmt: skip


@pytest.mark.parametrize("name", MODULES)
def test_modules_answer_as_in_a_forward(name):
    torch.manual_seed(0)
    modules = [m if isinstance(m, str) else m.eval() for m in MODULES[name]()]
    xs = 2 * torch.randn(1, STEPS, SIZE)
    with torch.no_grad():
        expected = np.atleast_2d(forward(modules, xs)[0].numpy())
    model = numlstm.from_torch(*modules)
    ys = model.run(xs[0].numpy())
    TOLERANCES["output"].check(ys[len(ys) - len(expected) :], expected)
    if not model.network.reads_later:
        stream = model.stream()
        found = [y for x in xs[0].numpy() if (y := stream.step(x)) is not None]
        if isinstance(stream, numlstm.LookaheadStream):
            found += list(stream.finish())
        assert_same_bits(np.array(found), ys)


def test_a_flatten_behind_a_convolution_joins_the_steps_of_each_channel():
    """Where nothing puts the features last again, as in one nn.Sequential."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.BatchNorm1d(SIZE),
        nn.Conv1d(SIZE, 6, 3), nn.BatchNorm1d(6), nn.ReLU(), nn.MaxPool1d(2),
        nn.Flatten(), nn.Linear(30, 8), nn.GELU(), nn.Linear(8, 2), nn.Softmax(dim=1),
    ).eval()  # fmt: skip
    xs = torch.randn(1, STEPS, SIZE)
    with torch.no_grad():
        expected = net(xs.transpose(1, 2)).numpy()
    TOLERANCES["output"].check(numlstm.from_torch(net).run(xs[0].numpy()), expected)


def test_a_flatten_behind_a_norm_alone_joins_them_alike():
    torch.manual_seed(0)
    net = nn.Sequential(nn.BatchNorm1d(SIZE), nn.Flatten(), nn.Linear(SIZE * STEPS, 2)).eval()
    xs = torch.randn(1, STEPS, SIZE)
    with torch.no_grad():
        expected = net(xs.transpose(1, 2)).numpy()
    TOLERANCES["output"].check(numlstm.from_torch(net).run(xs[0].numpy())[-1:], expected)


def test_what_stands_behind_a_convolution_may_name_the_channels():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv1d(SIZE, 6, 1), nn.GLU(dim=1), nn.LogSoftmax(dim=1)).eval()
    xs = torch.randn(1, STEPS, SIZE)
    with torch.no_grad():
        expected = net(xs.transpose(1, 2))[0].T.numpy()
    TOLERANCES["output"].check(numlstm.from_torch(net).run(xs[0].numpy()), expected)


DESCRIBED: dict[str, tuple[str, Callable[[], dict[str, Any]], Callable[[Any, Any], Any]]] = {
    "pools": (
        "a:Conv1d(padding=1) ReLU6 MaxPool1d(2) AvgPool1d(kernel_size=3, stride=1, padding=1)",
        lambda: {"a": nn.Conv1d(SIZE, 6, 3, padding=1)},
        lambda m, x: functional.avg_pool1d(
            functional.max_pool1d(functional.relu6(m["a"](x.T[None])), 2), 3, 1, 1
        )[0].T,
    ),
    "prelu": (
        "a:Linear p:PReLU b:Linear q:PReLU",
        lambda: {
            "a": nn.Linear(SIZE, 6), "p": slopes(6), "b": nn.Linear(6, 3), "q": slopes(),
        },
        lambda m, x: m["q"](m["b"](m["p"](m["a"](x)))),
    ),
    "norms": (
        "a:Linear i:InstanceNorm1d(eps=1e-5) last g:GroupNorm(num_groups=2, eps=0.1) r:RMSNorm",
        lambda: {
            "a": nn.Linear(SIZE, 6), "i": tracked_instance_norm(),
            "g": nn.GroupNorm(2, 6, 0.1), "r": nn.RMSNorm(6),
        },
        lambda m, x: m["r"](m["g"](m["i"](m["a"](x).T).T)),
    ),
    "heads": (
        "a:Linear softmax(groups=3) normalize b:Linear relu normalize(p=1, eps=0.25, groups=2)",
        lambda: {"a": nn.Linear(SIZE, 6), "b": nn.Linear(6, 4)},
        lambda m, x: functional.normalize(
            m["b"](functional.normalize(m["a"](x).unflatten(-1, (3, 2)).softmax(-1).flatten(1)))
            .relu()
            .unflatten(-1, (2, 2)),
            1.0,
            -1,
            0.25,
        ).flatten(1),
    ),
    "flatten": (
        "a:Linear GELU(approximate=tanh) Flatten b:Linear Mish",
        lambda: {"a": nn.Linear(SIZE, 6), "b": nn.Linear(6 * STEPS, 2)},
        lambda m, x: functional.mish(
            m["b"](functional.gelu(m["a"](x), approximate="tanh").flatten()[None])
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DESCRIBED)
def test_a_description_names_them_too(name):
    layers, make, run = DESCRIBED[name]
    torch.manual_seed(0)
    modules = nn.ModuleDict(make()).eval()
    xs = torch.randn(STEPS, SIZE)
    with torch.no_grad():
        expected = run(modules, xs).numpy()
    ys = numlstm.from_torch(modules.state_dict(), layers=layers).run(xs.numpy())
    TOLERANCES["output"].check(ys[len(ys) - len(expected) :], expected)


REFUSED: dict[str, tuple[Callable[[], list[Any]], str]] = {
    "instance norm": (
        lambda: [nn.InstanceNorm1d(SIZE)],
        r"0: InstanceNorm1d: track_running_stats=False: it takes the mean of each sequence, which "
        r"a stream does not know before its end; norm the features of each step by a LayerNorm",
    ),
    "group norm": (
        lambda: [lstm(), nn.GroupNorm(2, 6)],
        r"1: GroupNorm: would take the mean over all steps, but behind a pooling; a stream knows "
        r"before its end neither the mean nor the variance of a sequence; norm the features of "
        r"each step by a LayerNorm",
    ),
    "group norm of others": (
        lambda: [lstm(), "last", nn.GroupNorm(2, 4)],
        "2: GroupNorm: num_channels=4, before it are 6 features",
    ),
    "flatten at the end": (
        lambda: [lstm(), nn.Flatten()],
        r"1: Flatten: would join the steps of a sequence, and does not say how many; it may stand "
        r"right before the Linear that reads them all, whose size says it",
    ),
    "flatten of a norm": (
        lambda: [lstm(), nn.BatchNorm1d(6), nn.Flatten(), nn.Linear(12, 2)],
        r"2: Flatten: behind a norm of \(N, C, L\) and what gives \(N, T, F\): whether steps or "
        r"features stand first is not said; describe the network in layers",
    ),
    "flatten of no steps": (
        lambda: [lstm(), nn.Flatten(), nn.Linear(20, 2)],
        r"1: Flatten: the Linear behind it reads 20 numbers, which are no steps of 6",
    ),
    "adaptive": (
        lambda: [lstm(), nn.AdaptiveMaxPool1d(3)],
        r"1: AdaptiveMaxPool1d: output_size=3: its windows depend on the length of the sequence, "
        r"which a stream does not know before its end; only output_size=1 is known",
    ),
    "dilated": (
        lambda: [lstm(), nn.MaxPool1d(3, dilation=2)],
        "1: MaxPool1d: dilation=2: only 1",
    ),
    "indices": (
        lambda: [lstm(), nn.MaxPool1d(3, return_indices=True)],
        "1: MaxPool1d: return_indices=True: only the values",
    ),
    "last window": (
        lambda: [lstm(), nn.AvgPool1d(3, 2, 1, True)],
        r"1: AvgPool1d: a mean that counts its padding, with ceil_mode: its last window is divided "
        r"otherwise; count_include_pad=False, or no padding",
    ),
    "slopes": (
        lambda: [lstm(), nn.PReLU(3)],
        "1: PReLU: it has 3 slopes for 6 features",
    ),
    "axis": (
        lambda: [lstm(), nn.Softmax(dim=1)],
        r"1: Softmax: dim=1: only dim=-1, the features; or dim=1 behind a Conv1d or what leaves "
        r"one row of a sequence",
    ),
    "odd gates": (lambda: [lstm(5), nn.GLU()], "1: GLU: 5 numbers are not 2 equal parts"),
    "shape": (
        lambda: [lstm(), nn.RMSNorm((2, 3))],
        r"1: RMSNorm: normalized_shape=\(2, 3\): only the features",
    ),
    "first": (lambda: [nn.MaxPool1d(2)], "0: MaxPool1d: has nothing before it"),
    "gates first": (lambda: [nn.GLU(), nn.Linear(3, 2)], "0: GLU: has nothing before it"),
    "norm": (lambda: [lstm(), "normalize(p=3)"], "1: Normalize: a norm of p=3: known are 1 and 2"),
    "eps": (
        lambda: [lstm(), "normalize(eps=0)"],
        "1: Normalize: eps=0, expected a positive number",
    ),
    "groups": (
        lambda: [lstm(), "softmax(groups=4)"],
        "1: GroupedSoftmax: 6 numbers are not 4 equal parts",
    ),
    "named options": (
        lambda: [lstm(), "MaxPool1d(2, size=3)"],
        r"'MaxPool1d\(2, size=3\)': got an unexpected keyword argument 'size'",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_stream_cannot_do_is_refused_with_the_reason(name):
    modules, message = REFUSED[name]
    with pytest.raises(WeightsError, match=message):
        numlstm.from_torch(*modules())
