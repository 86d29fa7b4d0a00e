"""Weights rounded to fewer bits: bfloat16, and int8 with a scale per row.

Needs no data. Rounding what is rounded changes nothing, bit for bit: a model that was saved and
loaded, or built of tensors that a file held, is the same model.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from numlstm.errors import WeightsError
from numlstm.spec import DTYPES, TOLERANCE, Network, Weights

Floats = NDArray[np.float32]

# |y - expected| <= tolerance * (1 + |expected|), expected of a float32 network. Rounding takes 5e-4
# (bfloat16) and 2e-3 (int8) of the bundled model; weights in a wrong order are off by far more.
TOLERANCES = {"float32": TOLERANCE, "bfloat16": 0.05, "int8": 0.05}

_SMALLEST = 2.0**-100  # a row of smaller numbers is a row of zeros
_LARGEST_SCALE = 33026 * 2.0**106  # of 16 significant bits; 127 times it is a float32


# Numbers ------------------------------------------------------------------------------------------


def bfloat16_bits(values: Floats) -> NDArray[np.uint16]:
    """Return finite float32 numbers as bfloat16, rounded to nearest, ties to even.

    Numbers beyond 3.39e38 become infinities; `rounded` refuses them.
    """
    bits = np.ascontiguousarray(values).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def bfloat16_values(bits: NDArray[np.uint16]) -> Floats:
    """Return bfloat16 numbers as float32, exactly."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def quantize_rows(weight: Floats) -> tuple[NDArray[np.int8], Floats]:
    """Return ``q`` and the scale of each row, such that ``q * scale`` is about ``weight``.

    The scale is the largest of the row over 127, rounded up to 16 significant bits: the products
    of q are exact float32, the largest q is 127, and to quantise ``q * scale`` gives the same q
    and scale. A row of numbers all below 2**-100 is a row of zeros, of scale 0.

    Parameters
    ----------
    weight : float32 array of shape (N, ...)
        Finite; the rows of a convolution are its outputs.

    Returns
    -------
    q : int8 array of the shape of weight
        From -127 to 127, ties rounded to even.
    scale : float32 array of shape (N,)
    """
    rows = weight.reshape(len(weight), -1)
    largest = np.abs(rows).max(axis=1).astype(np.float64)
    mantissa, exponent = np.frexp(largest / 127)
    scale = np.ldexp(np.ceil(mantissa * 2**16), exponent - 16)
    scale = np.minimum(scale, _LARGEST_SCALE).astype(np.float32)
    divisor = np.where(largest < _SMALLEST, np.float32(np.inf), scale)
    q = np.rint(rows / divisor[:, None]).astype(np.int8)
    return q.reshape(weight.shape), np.where(largest < _SMALLEST, np.float32(0), scale)


def dequantize_rows(q: NDArray[np.int8], scale: Floats) -> Floats:
    """Return ``q * scale``, (N, ...), exactly; see `quantize_rows`."""
    rows = q.reshape(len(q), -1) * scale[:, None]
    return rows.reshape(q.shape)


def check_rows(q: NDArray[np.int8], scale: Floats) -> None:
    """Raise a `WeightsError` if q (N, ...) and scale (N,) are not what `quantize_rows` gives."""
    if not np.isfinite(scale).all() or np.signbit(scale).any():
        raise WeightsError("a scale is not finite, or negative")
    is_long = (np.ascontiguousarray(scale).view(np.uint32) & 0xFF) != 0
    is_small = (scale > 0) & (127 * scale.astype(np.float64) < _SMALLEST)
    if (is_long | is_small | (scale > _LARGEST_SCALE)).any():
        raise WeightsError("a scale has more than 16 significant bits, or is too small or large")
    rows = q.reshape(len(q), -1)
    largest = np.maximum(rows.max(axis=1).astype(int), -rows.min(axis=1).astype(int))
    if (largest != np.where(scale > 0, 127, 0)).any():
        raise WeightsError("the largest of a row is not 127, or not 0 where its scale is")


# Weights ------------------------------------------------------------------------------------------


def _in_bfloat16(weight: Floats) -> Floats:
    values = bfloat16_values(bfloat16_bits(weight))
    if not np.isfinite(values).all():
        raise WeightsError("a number is too large for bfloat16")
    return values


def _in_int8(weight: Floats) -> Floats:
    return dequantize_rows(*quantize_rows(weight))


_ROUND: dict[str, Callable[[Floats], Floats]] = {"bfloat16": _in_bfloat16, "int8": _in_int8}


def rounded(weights: Weights) -> Weights:
    """Return the weights with each matrix rounded to what the dtype of its layer can hold.

    Tensors of float32 are the same objects as before; so are the weights if all are.

    Raises
    ------
    WeightsError
        If a number is too large for bfloat16.
    """
    tensors, problems = dict(weights.tensors), []
    dtypes = {n: d for n, d in weights.network.matrix_dtypes().items() if d != "float32"}
    for name, dtype in dtypes.items():
        try:
            tensors[name] = _ROUND[dtype](tensors[name])
        except WeightsError as error:
            problems.append(f"{name}: {error}")
    if problems:
        raise WeightsError("the weights cannot be rounded:\n  " + "\n  ".join(problems))
    return replace(weights, tensors=tensors) if dtypes else weights


def as_dtype(weights: Weights, dtype: str, activations: str = "int16") -> Weights:
    """Return the weights with all matrices of a dtype, rounded; all else is kept.

    Raises
    ------
    ValueError
        If dtype or activations is none of `DTYPES` and `ACTIVATIONS`.
    WeightsError
        If a number is too large for it.
    """
    return rounded(replace(weights, network=weights.network.with_dtype(dtype, activations)))


def dtypes_of(network: Network) -> list[str]:
    """Return the dtypes of the matrices, in the order of `DTYPES`; float32 if there are none."""
    found = set(network.matrix_dtypes().values()) or {"float32"}
    return [dtype for dtype in DTYPES if dtype in found]


def tolerance(network: Network) -> float:
    """Return how far a network may be from its float32 source: the largest of `TOLERANCES`."""
    return max(TOLERANCES[dtype] for dtype in dtypes_of(network))


def num_bytes(network: Network) -> int:
    """Return the bytes that all tensors take, those of int8 with a float32 scale per row."""
    dtypes, total = network.matrix_dtypes(), 0
    for name, shape in network.tensor_shapes().items():
        numbers = int(np.prod(shape))
        match dtypes.get(name):
            case "bfloat16":
                total += 2 * numbers
            case "int8":
                total += numbers + 4 * shape[0]
            case _:
                total += 4 * numbers
    return total
