"""Layers of sources that are made of several of ours, held against PyTorch."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from numlstm import Model, Weights
from numlstm.convert import compositions
from numlstm.convert.assembly import Assembly, Refused
from numlstm.convert.compositions import COMPOSED
from tests.cases import TOLERANCES
from tests.lazy import functional, torch

SIZE = 12
SLOPES = np.linspace(-0.5, 1.5, SIZE)
WEIGHT, BIAS = np.linspace(0.5, 1.5, SIZE), np.linspace(-1, 1, SIZE)
XS = 3 * np.random.default_rng(0).standard_normal((23, SIZE)).astype(np.float32)


def answers(make: Callable[[Any], Any], xs: np.ndarray = XS, size: int = SIZE) -> np.ndarray:
    """Return what a composition answers to rows: ``make(grow)`` reads the input."""
    assembly = Assembly()
    network, tensors = assembly.network(make(assembly.grow), size)
    return Model(Weights(network, tensors)).run(xs)


def over_time(function: Callable[[Any], Any], xs: np.ndarray = XS) -> np.ndarray:
    return function(torch.from_numpy(xs).double().T[None])[0].T.numpy()


def of_rows(function: Callable[[Any], Any], xs: np.ndarray = XS) -> np.ndarray:
    return function(torch.from_numpy(xs).double()).numpy()


def _grouped(function: Callable[[Any], Any], number: int) -> Callable[[Any], Any]:
    return lambda x: torch.cat([function(part) for part in x.chunk(number, -1)], -1)


FUNCTIONS: dict[str, tuple[tuple[float, ...], Callable[[Any], Any]]] = {
    "hard_swish": ((), lambda x: functional.hardswish(x)),
    "mish": ((), lambda x: functional.mish(x)),
    "log_sigmoid": ((), lambda x: functional.logsigmoid(x)),
    "soft_shrink": ((0.75,), lambda x: functional.softshrink(x, 0.75)),
    "hard_shrink": ((0.75,), lambda x: functional.hardshrink(x, 0.75)),
    "tanh_shrink": ((), lambda x: functional.tanhshrink(x)),
    "celu": ((1.5,), lambda x: functional.celu(x, 1.5)),
}


@pytest.mark.parametrize("name", COMPOSED)
def test_functions_are_those_of_torch(name):
    parameters, expected = FUNCTIONS[name]
    ys = answers(lambda grow: COMPOSED[name](grow, None, SIZE, *parameters))
    TOLERANCES["output"].check(ys, of_rows(expected))


ROWS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "prelu": (
        lambda grow: compositions.prelu(grow, None, SLOPES),
        lambda x: functional.prelu(x, torch.from_numpy(SLOPES)),
    ),
    "prelu of one slope": (
        lambda grow: compositions.prelu(grow, None, np.full(SIZE, 0.3)),
        lambda x: functional.leaky_relu(x, 0.3),
    ),
    "gated half": (
        lambda grow: compositions.gated_half(grow, None, SIZE),
        lambda x: functional.glu(x),
    ),
    "scaled": (
        lambda grow: compositions.scaled(grow, None, WEIGHT, BIAS),
        lambda x: x * torch.from_numpy(WEIGHT) + torch.from_numpy(BIAS),
    ),
    "softmax in groups": (
        lambda grow: compositions.grouped_softmax(grow, None, SIZE, 3),
        _grouped(lambda x: x.softmax(-1), 3),
    ),
    "softmax in one group": (
        lambda grow: compositions.grouped_softmax(grow, None, SIZE, 1),
        lambda x: x.softmax(-1),
    ),
    "norm in groups": (
        lambda grow: compositions.grouped_norm(grow, None, SIZE, 4, 1e-3, WEIGHT, BIAS),
        lambda x: functional.group_norm(
            x, 4, torch.from_numpy(WEIGHT), torch.from_numpy(BIAS), 1e-3
        ),
    ),
    "norm in groups, bare": (
        lambda grow: compositions.grouped_norm(grow, None, SIZE, 2, 1e-5),
        lambda x: functional.group_norm(x, 2),
    ),
    "a sum for each group": (
        lambda grow: compositions.total(grow, None, SIZE, 4),
        lambda x: x.unflatten(-1, (4, 3)).sum(-1),
    ),
    "over the norm": (
        lambda grow: compositions.divided_by_norm(grow, None, SIZE, least=1e-12),
        lambda x: functional.normalize(x),
    ),
    "over the norm, at least 5": (
        lambda grow: compositions.divided_by_norm(grow, None, SIZE, least=5.0),
        lambda x: functional.normalize(x, eps=5.0),
    ),
    "over the absolute values": (
        lambda grow: compositions.divided_by_norm(grow, None, SIZE, 1, 2, least=1e-12),
        _grouped(lambda x: functional.normalize(x, p=1), 2),
    ),
}


@pytest.mark.parametrize("name", ROWS)
def test_what_is_made_of_a_row_is_as_in_torch(name):
    make, expected = ROWS[name]
    TOLERANCES["output"].check(answers(make), of_rows(expected))


def test_a_row_of_zeros_has_a_norm_of_its_least():
    ys = answers(lambda grow: compositions.divided_by_norm(grow, None, SIZE, least=1e-12), 0 * XS)
    assert (ys == 0).all()


POOLINGS: dict[str, dict[str, Any]] = {
    "max": {"mode": "max", "stride": 2},
    "max padded": {"mode": "max", "stride": 2, "padding": (1, 1)},
    "max ceil": {"mode": "max", "stride": 2, "ceil_mode": True},
    "mean": {"mode": "mean", "stride": 3},
    "mean padded": {"mode": "mean", "padding": (1, 1)},
    "mean padded, counted": {"mode": "mean", "padding": (1, 1), "counts_padding": True},
    "mean ceil, counted": {
        "mode": "mean", "stride": 2, "ceil_mode": True, "counts_padding": True,
    },
}  # fmt: skip


@pytest.mark.parametrize("num_steps", [1, 3, 8, 23])
@pytest.mark.parametrize("name", POOLINGS)
def test_poolings_are_those_of_torch(name, num_steps):
    options = dict(POOLINGS[name])
    xs, kernel_size = XS[:num_steps], min(3, num_steps)
    if num_steps == 1:
        options["padding"] = (0, 0)

    def pooled(x):
        given = (kernel_size, options.get("stride", 1), options.get("padding", (0,))[0])
        ceil = options.get("ceil_mode", False)
        if options["mode"] == "max":
            return functional.max_pool1d(x, *given, ceil_mode=ceil)
        return functional.avg_pool1d(x, *given, ceil, options.get("counts_padding", False))

    ys = answers(
        lambda grow: compositions.window_pooling(grow, None, SIZE, kernel_size, **options), xs
    )
    TOLERANCES["output"].check(ys, over_time(pooled, xs))


def _same(xs: np.ndarray, kernel_size: int, stride: int) -> np.ndarray:
    """Return the largest of windows as TensorFlow pads them for "same"."""
    windows = -(-len(xs) // stride)
    before = max((windows - 1) * stride + kernel_size - len(xs), 0) // 2
    starts = [n * stride - before for n in range(windows)]
    return np.array([xs[max(s, 0) : s + kernel_size].max(0) for s in starts])


@pytest.mark.parametrize("stride", range(1, 5))
@pytest.mark.parametrize("kernel_size", range(1, 6))
def test_same_padding_is_that_of_keras_or_refused(kernel_size, stride):
    for num_steps in range(1, 14):
        try:
            padding, ceil_mode = compositions.same_padding(kernel_size, stride)
        except Refused:
            padding, ceil_mode = compositions.same_padding(kernel_size, stride, num_steps)
        ys = answers(
            lambda grow, padding=padding, ceil_mode=ceil_mode: compositions.window_pooling(
                grow, None, SIZE, kernel_size, "max",
                stride=stride, padding=padding, ceil_mode=ceil_mode,
            ),
            XS[:num_steps],
        )  # fmt: skip
        np.testing.assert_array_equal(ys, _same(XS[:num_steps], kernel_size, stride))


@pytest.mark.parametrize(("kernel_size", "stride"), [(2, 2), (2, 1), (3, 1), (1, 3), (4, 2)])
def test_common_poolings_need_no_known_length(kernel_size, stride):
    compositions.same_padding(kernel_size, stride)


REFUSED: dict[str, tuple[Callable[[Any], Any], str]] = {
    "parts": (
        lambda grow: compositions.grouped_softmax(grow, None, SIZE, 5),
        "12 numbers are not 5 equal parts",
    ),
    "sums": (lambda grow: compositions.total(grow, None, SIZE, 0), "not 0 equal parts"),
    "norm": (
        lambda grow: compositions.divided_by_norm(grow, None, SIZE, 3),
        "a norm of p=3: known are 1 and 2",
    ),
    "same": (
        lambda grow: compositions.same_padding(3, 2),
        "begins elsewhere for other numbers of steps; give it a sequence of known length",
    ),
    "last window": (
        lambda grow: compositions.window_pooling(
            grow, None, SIZE, 3, "mean",
            stride=2, padding=(1, 1), ceil_mode=True, counts_padding=True,
        ),
        "its last window is divided otherwise; count_include_pad=False, or no padding",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_composed_is_refused(name):
    make, message = REFUSED[name]
    with pytest.raises(Refused, match=message):
        make(Assembly().grow)
