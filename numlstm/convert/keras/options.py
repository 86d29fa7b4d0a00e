"""The options of Keras layers, by their names in Keras 1, 2 and 3; which of them do nothing."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numlstm.convert.assembly import Refused
from numlstm.convert.compositions import COMPOSED
from numlstm.spec import FUNCTIONS, function_text

# Initial values, training, placement: nothing that a trained network does.
_IGNORED = {
    "name", "trainable", "dtype", "input_dtype", "autocast", "supports_masking", "seed",
    "batch_input_shape", "batch_shape", "input_shape", "input_dim", "input_length",
    "implementation", "consume_less", "unroll", "use_cudnn", "fused", "synchronized",
    "unit_forget_bias", "forget_bias_init", "init", "inner_init", "beta_init", "gamma_init",
    "weights", "sparse", "ragged", "optional",
    "dropout", "recurrent_dropout", "dropout_W", "dropout_U", "rate", "p", "sigma", "stddev",
    "noise_shape", "momentum", "renorm_momentum", "l1", "l2",
}  # fmt: skip
IGNORED_ENDINGS = ("_initializer", "_regularizer", "_constraint")


class Options:
    """The options of one layer; those that nobody takes are refused by `end`."""

    def __init__(self, config: dict[str, Any], major: int | None) -> None:
        self.rest = dict(config)
        self.major = major

    def take(self, *names: str, default: Any = None) -> Any:
        """Return an option by its newest name or an older one."""
        found = [self.rest.pop(name) for name in names if name in self.rest]
        return found[0] if found else default

    def flag(self, *names: str, default: bool = False) -> bool:
        """Return an option that is true or false."""
        value = self.take(*names, default=default)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise Refused(f"{names[0]}={value!r}, expected true or false")
        return value

    def size(self, *names: str, default: int | None = None) -> int:
        """Return an option that is a size; Keras writes those of one axis as a list, too."""
        value = self.take(*names, default=default)
        if isinstance(value, list) and len(value) == 1:
            value = value[0]
        if type(value) is not int or value < 1:
            raise Refused(f"{names[0]}={value!r}, expected a whole number above 0")
        return value

    def number(self, *names: str, default: float) -> float:
        """Return an option that is a number; Keras wraps some as an array."""
        value = _bare(self.take(*names))
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise Refused(f"{names[0]}={value!r}, expected a number")
        return float(value)

    def numbers(self, name: str) -> NDArray[np.float64] | None:
        """Return an option that is numbers, in lists or an array as Keras writes it, or None."""
        value = _bare(self.take(name))
        if value is None:
            return None
        try:
            found = np.asarray(value, np.float64)
        except (TypeError, ValueError, OverflowError) as error:
            raise Refused(f"{name}={str(value)[:60]}, expected numbers") from error
        if not np.isfinite(found).all():
            raise Refused(f"{name}={str(value)[:60]}, expected finite numbers")
        return found

    def expect(self, name: str, *allowed: Any) -> None:
        """Refuse an option that has another value than the allowed ones, the first its default."""
        value = self.take(name, default=allowed[0])
        if value not in allowed:
            raise Refused(f"{name}={value!r}")

    def end(self) -> None:
        """Refuse what is left and does something."""
        dtype = self.rest.pop("dtype", None)
        name = dtype.get("config", {}).get("name", "") if isinstance(dtype, dict) else dtype
        left = [f"dtype={name!r}"] if "_from_" in str(name) else []  # int8_from_float32
        left += [
            f"{option}={value!r}"
            for option, value in self.rest.items()
            if value not in (None, False)
            and option not in _IGNORED
            and not option.endswith(IGNORED_ENDINGS)
        ]
        if left:
            raise Refused(", ".join(left))


def _bare(value: Any) -> Any:
    """Return what Keras wraps as an array, ``{"class_name": "__numpy__", "config": {...}}``."""
    if not isinstance(value, dict):
        return value
    inner = value.get("config")
    return (inner if isinstance(inner, dict) else value).get("value")


# Functions ----------------------------------------------------------------------------------------

_SAME = {"linear", "tanh", "sigmoid", "relu", "elu", "selu", "softsign", "softplus"}
_OTHER = {
    "exponential": "exp",
    "swish": "silu",
    "silu": "silu",
    "relu6": function_text("clip", 0.0, 6.0),
    "hard_tanh": "clip",
    "leaky_relu": function_text("leaky_relu", 0.2),
    "gelu": "gelu",
    "hard_silu": "hard_swish",
}
_ROWS = ("softmax", "log_softmax")  # functions of all features of a step


def function_of(value: Any, major: int | None) -> str:
    """Return a function as numlstm spells it, or "softmax" or "log_softmax", of all features.

    Raises
    ------
    Refused
        If it is not known.
    """
    if value is None:
        return "linear"
    if isinstance(value, dict):
        kind, config = value.get("class_name"), value.get("config")
        if kind == "function" and isinstance(config, str):
            value = config
        elif isinstance(kind, str) and isinstance(config, dict):
            return advanced(kind, Options(config, major)) or str(kind)
    if not isinstance(value, str):
        raise Refused(f"activation {value!r}")
    if value in _SAME or value in _ROWS:
        return value
    if value in _OTHER:
        return _OTHER[value]
    if value in COMPOSED:
        return value
    if value == "hard_sigmoid":
        if major is None:
            raise Refused(
                "activation 'hard_sigmoid' without the version of Keras",
                "name it in the config: keras_version",
            )
        # clip(0.2 x + 0.5, 0, 1), since Keras 3 relu6(x + 3) / 6.
        return function_text("hard_sigmoid", 1 / 6 if major >= 3 else 0.2, 0.5)
    raise Refused(f"activation {value!r}")


def elementwise(value: Any, major: int | None) -> str:
    """Return a function of single numbers, as a recurrent layer needs it."""
    function = function_of(value, major)
    if function in _ROWS or function in COMPOSED:
        raise Refused(f"activation {value!r} in a recurrent layer")
    return function


def advanced(kind: str, options: Options) -> str | None:
    """Return the function of a layer that is one, with its parameters, or None if it is another."""
    match kind:
        case "LeakyReLU":
            slope = options.number("negative_slope", "alpha", default=0.3)
            found = ("leaky_relu", slope)
        case "ELU":
            found = ("elu", options.number("alpha", default=1.0))
        case "ThresholdedReLU":
            found = ("thresholded_relu", options.number("theta", default=1.0))
        case "ReLU":
            return _relu(options)
        case "Softmax":
            options.expect("axis", -1, 2, [2], [-1])
            options.end()
            return "softmax"
        case _:
            return None
    options.end()
    assert found[0] in FUNCTIONS
    return function_text(*found)


def _relu(options: Options) -> str:
    largest = options.number("max_value", default=math.inf)
    slope = options.number("negative_slope", default=0.0)
    threshold = options.number("threshold", default=0.0)
    options.end()
    if sum((largest != math.inf, slope != 0, threshold != 0)) > 1:
        raise Refused(f"max_value={largest}, negative_slope={slope}, threshold={threshold}")
    if largest != math.inf:
        return function_text("clip", 0.0, largest)
    if slope:
        return function_text("leaky_relu", slope)
    return function_text("thresholded_relu", threshold) if threshold else "relu"
