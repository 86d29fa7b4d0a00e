"""What sources have as one layer and the engine has not, made of the layers that it has.

Each function grows drafts behind what it reads and returns the last: ``grow(layer, reads,
tensors)`` is that of an `Assembly`, or of a converter that keeps its layers otherwise. A size is
how many numbers a step of what is read has.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from numlstm.convert.assembly import Array, Refused
from numlstm.network.functions import LARGEST
from numlstm.network.layer import SMALLEST
from numlstm.spec import (
    Activation,
    Add,
    BatchNorm,
    Concat,
    Layer,
    LayerNorm,
    Linear,
    Multiply,
    Pool1d,
    Slice,
    Softmax,
    function_text,
)


class Grow(Protocol):
    """Adds a layer that reads others; what it returns is read in its turn."""

    def __call__(
        self, layer: Layer, reads: Sequence[Any], tensors: Mapping[str, Array] | None = None, /
    ) -> Any: ...


# Sums and products --------------------------------------------------------------------------------


def activated(grow: Grow, x: Any, size: int, *function: Any) -> Any:
    """Return a function of x, by its name and its parameters."""
    return grow(Activation(size, function_text(*function)), [x])


def added(grow: Grow, reads: Sequence[Any], size: int) -> Any:
    return grow(Add(size, inputs=("",) * len(reads)), list(reads))


def multiplied(grow: Grow, reads: Sequence[Any], size: int) -> Any:
    return grow(Multiply(size, inputs=("",) * len(reads)), list(reads))


def scaled(grow: Grow, x: Any, scale: Array, shift: Array | float = 0.0) -> Any:
    """Return ``scale * x + shift``, number by number; scale (size,)."""
    scale = np.asarray(scale, np.float64)
    shift = np.broadcast_to(np.asarray(shift, np.float64), scale.shape)
    if np.ptp(scale) == 0 and np.ptp(shift) == 0:
        return activated(grow, x, len(scale), "affine", float(scale[0]), float(shift[0]))
    ones = np.ones(len(scale))
    tensors = {"weight": scale, "bias": shift, "running_mean": 0 * ones, "running_var": ones}
    return grow(BatchNorm(len(scale), SMALLEST), [x], tensors)  # which adds nothing to 1


def parts(grow: Grow, x: Any, size: int, number: int) -> list[Any]:
    """Return so many equal parts of x.

    Raises
    ------
    Refused
        If the size cannot be divided so.
    """
    if number < 1 or size % number:
        raise Refused(f"{size} numbers are not {number} equal parts")
    each = size // number
    return [grow(Slice(size, at, at + each), [x]) for at in range(0, size, each)]


# Functions ----------------------------------------------------------------------------------------


def _gated(*function: Any) -> Callable[..., Any]:
    """Return what multiplies x by a function of it."""

    def gated(grow: Grow, x: Any, size: int) -> Any:
        return multiplied(grow, [x, activated(grow, x, size, *function)], size)

    return gated


def _mish(grow: Grow, x: Any, size: int) -> Any:
    """x tanh(log(1 + exp(x))): Misra 2019."""
    inner = activated(grow, x, size, "softplus")
    return multiplied(grow, [x, activated(grow, inner, size, "tanh")], size)


def _log_sigmoid(grow: Grow, x: Any, size: int) -> Any:
    """-log(1 + exp(-x))"""
    inner = activated(grow, activated(grow, x, size, "affine", -1.0, 0.0), size, "softplus")
    return activated(grow, inner, size, "affine", -1.0, 0.0)


def _soft_shrink(grow: Grow, x: Any, size: int, bound: float = 0.5) -> Any:
    """x without as much of it as is within the bound"""
    return _without(grow, x, size, "clip", -bound, bound)


def _hard_shrink(grow: Grow, x: Any, size: int, bound: float = 0.5) -> Any:
    """x where it is beyond the bound, else 0"""
    negative = activated(grow, x, size, "affine", -1.0, 0.0)
    below = activated(grow, negative, size, "thresholded_relu", bound)
    above = activated(grow, x, size, "thresholded_relu", bound)
    return added(grow, [above, activated(grow, below, size, "affine", -1.0, 0.0)], size)


def _tanh_shrink(grow: Grow, x: Any, size: int) -> Any:
    """x - tanh(x)"""
    return _without(grow, x, size, "tanh")


def _without(grow: Grow, x: Any, size: int, *function: Any) -> Any:
    less = activated(grow, x, size, *function)
    return added(grow, [x, activated(grow, less, size, "affine", -1.0, 0.0)], size)


def _celu(grow: Grow, x: Any, size: int, alpha: float = 1.0) -> Any:
    """x where it is positive, else alpha (exp(x / alpha) - 1): alpha elu(x / alpha)"""
    inner = activated(grow, x, size, "affine", 1 / alpha, 0.0)
    return activated(grow, activated(grow, inner, size, "elu", 1.0), size, "affine", alpha, 0.0)


# Functions by their names; those with parameters take them last.
COMPOSED: dict[str, Callable[..., Any]] = {
    "hard_swish": _gated("hard_sigmoid", 1 / 6, 0.5),
    "mish": _mish,
    "log_sigmoid": _log_sigmoid,
    "soft_shrink": _soft_shrink,
    "hard_shrink": _hard_shrink,
    "tanh_shrink": _tanh_shrink,
    "celu": _celu,
}


def gated_half(grow: Grow, x: Any, size: int, function: str = "sigmoid") -> Any:
    """Return the first half of x times a function of the second: torch.nn.GLU."""
    value, gate = parts(grow, x, size, 2)
    return multiplied(grow, [value, activated(grow, gate, size // 2, function)], size // 2)


def prelu(grow: Grow, x: Any, slopes: Array) -> Any:
    """Return x where it is positive, else ``slopes * x``; slopes (size,)."""
    slopes = np.asarray(slopes, np.float64)
    if np.ptp(slopes) == 0:
        return activated(grow, x, len(slopes), "leaky_relu", float(slopes[0]))
    below = activated(grow, x, len(slopes), "clip", -LARGEST, 0.0)
    above = activated(grow, x, len(slopes), "relu")
    return added(grow, [above, scaled(grow, below, slopes)], len(slopes))


# Over the features of a step ----------------------------------------------------------------------


def grouped_softmax(grow: Grow, x: Any, size: int, num_groups: int) -> Any:
    """Return a softmax of each of so many equal parts of x, end to end."""
    each = size // num_groups if num_groups else 0
    found = [grow(Softmax(each), [part]) for part in parts(grow, x, size, num_groups)]
    return found[0] if num_groups == 1 else grow(Concat(size), found)


def grouped_norm(
    grow: Grow,
    x: Any,
    size: int,
    num_groups: int,
    eps: float,
    weight: Array | None = None,
    bias: Array | None = None,
) -> Any:
    """Return a layer norm of each of so many equal parts of x: torch.nn.GroupNorm of a vector."""
    each = size // num_groups if num_groups else 0
    layer = LayerNorm(each, eps, weight is not None, bias is not None)
    found = []
    for n, part in enumerate(parts(grow, x, size, num_groups)):
        given = {"weight": weight, "bias": bias}
        own = {k: t[n * each : (n + 1) * each] for k, t in given.items() if t is not None}
        found.append(grow(layer, [part], own))
    return found[0] if num_groups == 1 else grow(Concat(size), found)


def total(grow: Grow, x: Any, size: int, num_groups: int = 1) -> Any:
    """Return the sum of x, or of each of so many equal parts, (num_groups,)."""
    if num_groups < 1 or size % num_groups:
        raise Refused(f"{size} numbers are not {num_groups} equal parts")
    weight = np.kron(np.eye(num_groups), np.ones(size // num_groups))
    return grow(Linear(size, num_groups, bias=False), [x], {"weight": weight})


def spread(grow: Grow, x: Any, num_groups: int, size: int) -> Any:
    """Return each of so many numbers as often as it fills its part of a size."""
    weight = np.kron(np.eye(num_groups), np.ones((size // num_groups, 1)))
    return grow(Linear(num_groups, size, bias=False), [x], {"weight": weight})


def divided_by_norm(
    grow: Grow,
    x: Any,
    size: int,
    p: float = 2,
    num_groups: int = 1,
    *,
    least: float = 0.0,
) -> Any:
    """Return x over its norm, or each part of it over its own: torch.nn.functional.normalize.

    p       1 or 2: the sum of absolute values, or the root of that of squares
    least   what the divisor is at least, where that is more than 0; 1e-12 in PyTorch
    """
    if p not in (1, 2):
        raise Refused(f"a norm of p={p}: known are 1 and 2")
    numbers = activated(grow, x, size, "abs" if p == 1 else "square")
    divisor = total(grow, numbers, size, num_groups)
    if p == 2:
        divisor = activated(grow, divisor, num_groups, "sqrt")
    if least:
        divisor = activated(grow, divisor, num_groups, "clip", least, LARGEST)
    return _divided(grow, x, size, divisor, num_groups)


def _divided(grow: Grow, x: Any, size: int, divisor: Any, num_groups: int = 1) -> Any:
    """Return x over divisors (num_groups,), each part of it over its own."""
    factor = activated(grow, divisor, num_groups, "reciprocal")
    return multiplied(grow, [x, spread(grow, factor, num_groups, size)], size)


def rms_norm(grow: Grow, x: Any, size: int, eps: float, weight: Array | None = None) -> Any:
    """Return ``x / sqrt(mean(x^2) + eps) * weight``: Zhang, Sennrich 2019."""
    mean = {"weight": np.full((1, size), 1 / size)}
    square = grow(Linear(size, 1, bias=False), [activated(grow, x, size, "square")], mean)
    root = activated(grow, activated(grow, square, 1, "affine", 1.0, eps), 1, "sqrt")
    normed = _divided(grow, x, size, root)
    return normed if weight is None else scaled(grow, normed, weight)


# Over time ----------------------------------------------------------------------------------------


def window_pooling(
    grow: Grow,
    x: Any,
    size: int,
    kernel_size: int,
    mode: str,
    *,
    stride: int = 1,
    padding: tuple[int, int] = (0, 0),
    ceil_mode: bool = False,
    counts_padding: bool = False,
) -> Any:
    """Return a pooling over a window of steps.

    mode             "max" or "mean"
    padding          steps before the first and after the last
    counts_padding   whether a mean counts steps of padding, as zeros (count_include_pad)
    """
    before_all = stride == 1 and padding == (kernel_size - 1, 0)
    options: dict[str, Any] = {
        "stride": stride,
        "padding": None if before_all else padding,
        "ceil_mode": ceil_mode and stride > 1,
    }
    if mode == "max" or not counts_padding or not any(padding):
        return grow(Pool1d(size, kernel_size, mode, **options), [x])
    if options["ceil_mode"]:
        raise Refused(
            "a mean that counts its padding, with ceil_mode: its last window is divided otherwise",
            "count_include_pad=False, or no padding",
        )
    summed = grow(Pool1d(size, kernel_size, "sum", **options), [x])
    return activated(grow, summed, size, "affine", 1 / kernel_size, 0.0)


def same_padding(
    kernel_size: int, stride: int, num_steps: int | None = None
) -> tuple[tuple[int, int], bool]:
    """Return the padding of a pooling, and its ceil_mode, that Keras and ONNX call "same".

    It gives ``ceil(T / stride)`` rows of T steps; where half of the padding is is said by T.

    num_steps   T, where it is known

    Raises
    ------
    Refused
        If it is not, and sequences of different lengths are padded differently.
    """

    def around(length: int) -> tuple[int, int]:
        windows = -(-length // stride)
        both = max((windows - 1) * stride + kernel_size - length, 0)
        return both // 2, both - both // 2

    if num_steps is not None:
        return around(num_steps), False
    found = [around(length) for length in range(kernel_size * stride, (kernel_size + 1) * stride)]
    if len({before for before, _ in found}) > 1:
        raise Refused(
            f"padding 'same' of a window of {kernel_size} with strides of {stride}, which begins "
            "elsewhere for other numbers of steps",
            "give it a sequence of known length, or padding 'valid'",
        )
    return (found[0][0], min(after for _, after in found)), len(set(found)) > 1
