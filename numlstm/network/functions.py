"""The elementwise functions that layers know, and how they are spelled: ``"leaky_relu(0.3)"``."""

import re

import numpy as np

from numlstm.errors import WeightsError

LARGEST = float(np.finfo(np.float32).max)

# Elementwise functions with the defaults of their parameters, which are those of ONNX.
FUNCTIONS: dict[str, tuple[float, ...]] = {
    "linear": (),
    "tanh": (),
    "sigmoid": (),
    "relu": (),
    "affine": (1.0, 0.0),  # alpha * x + beta
    "leaky_relu": (0.01,),  # x if x >= 0 else alpha * x
    "thresholded_relu": (1.0,),  # x if x > alpha else 0
    "scaled_tanh": (1.0, 1.0),  # alpha * tanh(beta * x)
    "hard_sigmoid": (0.2, 0.5),  # min(max(alpha * x + beta, 0), 1)
    "elu": (1.0,),  # x if x >= 0 else alpha * (exp(x) - 1)
    "selu": (1.6732632423543772, 1.0507009873554805),  # beta * elu(alpha)(x)
    "softsign": (),  # x / (1 + |x|)
    "softplus": (),  # log(1 + exp(x))
    "silu": (),  # x * sigmoid(x)
    "clip": (-1.0, 1.0),  # min(max(x, alpha), beta)
    "exp": (),
    "log": (),
    "sqrt": (),
    "square": (),
    "linear_sigmoid": (),  # x + 0.5 if x >= 0 else sigmoid(x)
    "abs": (),
    "reciprocal": (),  # 1 / x
    "gelu": (),  # x * (1 + erf(x / sqrt(2))) / 2
    "gelu_tanh": (),  # x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x^3))) / 2
    "erf": (),
}

_FUNCTION = re.compile(r"(\w+)(?:\(([^()]*)\))?")


def parse_function(text: str) -> tuple[str, tuple[float, ...]]:
    """Return the name and the parameters of a function: ``"leaky_relu(0.3)"``.

    Raises
    ------
    WeightsError
        If it is not known, or has other parameters.
    """
    match = _FUNCTION.fullmatch(text) if isinstance(text, str) else None
    if match is None or match[1] not in FUNCTIONS:
        raise WeightsError(f"function {text!r} is not known; known: {', '.join(FUNCTIONS)}")
    name, given = match[1], match[2]
    if given is None:
        return name, FUNCTIONS[name]
    try:
        parameters = tuple(float(number) for number in given.split(","))
    except ValueError:
        parameters = ()
    if (
        not parameters
        or len(parameters) != len(FUNCTIONS[name])
        or not all(abs(p) <= LARGEST for p in parameters)
    ):
        expected = len(FUNCTIONS[name])
        numbers = f"{expected} finite numbers in" if expected else "no"
        raise WeightsError(f"function {text!r}: expected {numbers} brackets")
    return name, parameters


def function_text(name: str, *parameters: float) -> str:
    """Return a function as layers spell it, without parameters that are the defaults."""
    if tuple(parameters) == FUNCTIONS[name]:
        return name
    return f"{name}({', '.join(repr(float(p)) for p in parameters)})"
