"""Functions, number by number, as modules of PyTorch; and what has no tensors, by its words."""

import math
import re
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from numlstm import spec
from numlstm.convert.assembly import Refused
from numlstm.spec import function_text

# What the functions of a network are in PyTorch, of x and their parameters.
_FUNCTIONS: dict[str, Callable[..., torch.Tensor]] = {
    "linear": lambda x: x,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "relu": torch.relu,
    "affine": lambda x, alpha, beta: alpha * x + beta,
    "leaky_relu": functional.leaky_relu,
    "thresholded_relu": lambda x, alpha: functional.threshold(x, alpha, 0.0),
    "scaled_tanh": lambda x, alpha, beta: alpha * torch.tanh(beta * x),
    "hard_sigmoid": lambda x, alpha, beta: (alpha * x + beta).clamp(0.0, 1.0),
    "elu": functional.elu,
    "selu": lambda x, alpha, beta: beta * functional.elu(x, alpha),
    "softsign": functional.softsign,
    "softplus": functional.softplus,
    "silu": functional.silu,
    "clip": torch.clamp,
    "exp": torch.exp,
    "log": torch.log,
    "sqrt": torch.sqrt,
    "square": torch.square,
    "linear_sigmoid": lambda x: torch.where(x >= 0, x + 0.5, torch.sigmoid(x)),
    "abs": torch.abs,
    "reciprocal": torch.reciprocal,
    "gelu": functional.gelu,
    "gelu_tanh": lambda x: functional.gelu(x, approximate="tanh"),
    "erf": torch.erf,
}


class Function(nn.Module):  # type: ignore[misc]
    """A function as layers spell it: ``"leaky_relu(0.3)"``."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.name, self.options = spec.parse_function(text)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return _FUNCTIONS[self.name](x, *self.options)

    def __str__(self) -> str:
        return function_text(self.name, *self.options)


class Normalize(nn.Module):  # type: ignore[misc]
    """torch.nn.functional.normalize of the features, or of so many equal parts of them."""

    def __init__(self, p: float = 2, eps: float = 1e-12, groups: int = 1) -> None:
        super().__init__()
        self.p, self.eps, self.groups = p, eps, groups

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = x.unflatten(-1, (self.groups, -1))
        return functional.normalize(parts, self.p, -1, self.eps).flatten(-2)


class GroupedSoftmax(nn.Module):  # type: ignore[misc]
    """A softmax of each of so many equal parts of the features."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.unflatten(-1, (self.groups, -1)).softmax(-1).flatten(-2)


def is_plain_softplus(threshold: float) -> bool:
    """Whether a softplus that is x beyond a threshold is log(1 + exp(x)) there too, in float32."""
    return math.exp(-threshold) < 2**-24 * threshold  # by which they differ


# Functions by the options of their modules; None where no function is equal in float32.
ELEMENTWISE: dict[type[nn.Module], Callable[[Any], str | None]] = {
    Function: str,
    nn.Tanh: lambda m: "tanh",
    nn.Sigmoid: lambda m: "sigmoid",
    nn.ReLU: lambda m: "relu",
    nn.ReLU6: lambda m: function_text("clip", 0.0, 6.0),
    nn.Hardtanh: lambda m: function_text("clip", m.min_val, m.max_val),
    nn.Hardsigmoid: lambda m: function_text("hard_sigmoid", 1 / 6, 0.5),
    nn.LeakyReLU: lambda m: function_text("leaky_relu", m.negative_slope),
    nn.RReLU: lambda m: function_text("leaky_relu", (m.lower + m.upper) / 2),
    nn.ELU: lambda m: function_text("elu", m.alpha),
    nn.SELU: lambda m: "selu",
    nn.SiLU: lambda m: "silu",
    nn.GELU: lambda m: "gelu" if m.approximate == "none" else "gelu_tanh",
    nn.Softsign: lambda m: "softsign",
    nn.Softplus: lambda m: "softplus" if is_plain_softplus(m.threshold) else None,
    nn.Threshold: lambda m: (
        function_text("thresholded_relu", m.threshold) if m.value == 0 else None
    ),
}

# Modules without tensors that a word may name: those above, and these.
_NAMED: dict[str, type[nn.Module]] = {
    kind.__name__: kind
    for kind in (
        *(kind for kind in ELEMENTWISE if kind is not Function),
        nn.AdaptiveAvgPool1d,
        nn.AdaptiveMaxPool1d,
        nn.AvgPool1d,
        nn.CELU,
        nn.Flatten,
        nn.GLU,
        nn.Hardshrink,
        nn.Hardswish,
        nn.LogSigmoid,
        nn.MaxPool1d,
        nn.Mish,
        nn.Softmin,
        nn.Softshrink,
        nn.Tanhshrink,
    )
} | {"normalize": Normalize, "softmax": GroupedSoftmax}
_WORD = re.compile(r"(\w+)(?:\(([^()]*)\))?")


def named_module(word: str) -> nn.Module | None:
    """Return the module of a word such as ``MaxPool1d(2, stride=2)``, None if it names none.

    Raises
    ------
    Refused
        If it has other options.
    """
    match = _WORD.fullmatch(word)
    if match is None or match[1] not in _NAMED:
        return None
    given: list[Any] = []
    options: dict[str, Any] = {}
    for text in match[2].split(",") if match[2] else []:
        name, equals, value = (piece.strip() for piece in text.partition("="))
        if equals:
            options[name] = _value(value)
        else:
            given.append(_value(name))
    try:
        return _NAMED[match[1]](*given, **options).eval()
    except (TypeError, ValueError, RuntimeError) as error:
        raise Refused(re.sub(r"\w+\.__init__\(\) ", "", str(error))) from error


def _value(text: str) -> int | float | bool | str:
    """Return a whole number, a number, true, false, or the text itself."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
