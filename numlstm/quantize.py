"""The dtypes of weights: how matrices are rounded to fewer bits, kept in files, and brought back.

bfloat16 has half of the bits, int8 a quarter, with a scale per row. Needs no data. Rounding what is
rounded changes nothing, bit for bit: a model that was saved and loaded, or built of tensors that a
file held, is the same model.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from numlstm.errors import WeightsError, listed
from numlstm.spec import TOLERANCE, Network, Weights

Floats = NDArray[np.float32]

_SMALLEST = 2.0**-100  # a row of smaller numbers is a row of zeros
_BLOCK = 2**16  # numbers that are worked on together: what comes of them is not there as a whole
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


def blocks(num_rows: int, num_columns: int) -> list[slice]:
    """Return which rows of a matrix to take together, one after another: Ctrl-C waits for some."""
    step = max(1, _BLOCK // max(1, num_columns))
    return [slice(at, at + step) for at in range(0, num_rows, step)]


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
    largest = np.empty(len(rows), np.float64)
    for block in blocks(*rows.shape):
        largest[block] = np.maximum(rows[block].max(axis=1), -rows[block].min(axis=1))
    mantissa, exponent = np.frexp(largest / 127)
    scale = np.ldexp(np.ceil(mantissa * 2**16), exponent - 16)
    scale = np.minimum(scale, _LARGEST_SCALE).astype(np.float32)
    divisor = np.where(largest < _SMALLEST, np.float32(np.inf), scale)
    q = np.empty(rows.shape, np.int8)
    for block in blocks(*rows.shape):
        q[block] = np.rint(rows[block] / divisor[block, None])
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


# Formats ------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Matrix:
    """A matrix as its format holds it.

    numbers   (N, ...), float32, uint16 (the bits of bfloat16) or int8
    scale     (N,), float32, of a format with one per row
    name      of the tensor that it is made of, within its layer, or ""
    rows      (N,), for each row which one of the tensor it is, counted from 1; 0 where it is none
    back      what makes the tensor again of all its rows; None where they are the tensor
    """

    format: "Format"
    numbers: NDArray[Any]
    scale: Floats | None = None
    name: str = ""
    rows: NDArray[np.int64] | None = None
    back: Callable[[NDArray[Any]], NDArray[Any]] | None = None

    def values(self) -> Floats:
        """Return what it holds in float32, exactly."""
        if self.format is FLOAT32:
            return self.numbers
        values = np.empty(self.numbers.shape, np.float32)
        for block in blocks(len(values), self.numbers[:1].size):
            scale = None if self.scale is None else self.scale[block]
            values[block] = self.format.decode(self.numbers[block], scale)
        return values

    def arranged(self, arrange: Callable[[NDArray[Any]], NDArray[Any]]) -> "Matrix":
        """Return the matrix with its rows moved, chosen or padded, and their scales with them."""
        scale = None if self.scale is None else arrange(self.scale)
        rows = None if self.rows is None else arrange(self.rows)
        return replace(self, numbers=arrange(self.numbers), scale=scale, rows=rows)

    def named(self, name: str) -> "Matrix":
        """Return the matrix, known as a tensor of its layer."""
        return replace(self, name=name, rows=np.arange(1, len(self.numbers) + 1))


class Format(NamedTuple):
    """A dtype of weights.

    name           as layers spell it
    type           of its numbers in NumPy and in files
    has_scale      whether there is a float32 for every row
    tolerance      |y - expected| <= tolerance * (1 + |expected|), expected of a float32 network:
                   rounding takes 5e-4 (bfloat16) and 2e-3 (int8) of the bundled model; weights in a
                   wrong order are off by far more
    speed          how much faster than float32 it is where the weights are read for many rows, by
                   what they are multiplied with
    round          float32 -> numbers and scale; raises a `WeightsError` for what it cannot hold
    decode         numbers and scale -> float32, exactly
    check          raises a `WeightsError` for numbers and scale that `round` does not give
    """

    name: str
    type: type[np.generic]
    has_scale: bool
    tolerance: float
    speed: Mapping[str, int]
    round: Callable[[Floats], tuple[NDArray[Any], Floats | None]]
    decode: Callable[[NDArray[Any], Any], Floats]
    check: Callable[[NDArray[Any], Any], None]

    def encode(self, weight: Floats) -> Matrix:
        """Return a finite float32 matrix (N, ...) rounded to what the format holds."""
        return Matrix(self, *self.round(weight))

    def num_bytes(self, shape: tuple[int, ...]) -> int:
        """Return what a matrix takes."""
        numbers = int(np.prod(shape)) * np.dtype(self.type).itemsize
        return numbers + (4 * shape[0] if self.has_scale else 0)


def _to_bfloat16(weight: Floats) -> tuple[NDArray[np.uint16], None]:
    bits = bfloat16_bits(weight)
    if ((bits & 0x7F80) == 0x7F80).any():  # an infinity
        raise WeightsError("a number is too large for bfloat16")
    return bits, None


def _take_all(numbers: NDArray[Any], scale: None) -> None:
    pass


FLOAT32 = Format(
    "float32", np.float32, False, TOLERANCE, {"int16": 1},
    round=lambda weight: (weight, None),
    decode=lambda numbers, scale: numbers,
    check=_take_all,
)  # fmt: skip
BFLOAT16 = Format(
    "bfloat16", np.uint16, False, 0.05, {"int16": 1},
    round=_to_bfloat16,
    decode=lambda numbers, scale: bfloat16_values(numbers),
    check=_take_all,
)  # fmt: skip
INT8 = Format(
    "int8", np.int8, True, 0.05, {"int16": 2, "int8": 4},
    round=quantize_rows,
    decode=dequantize_rows,
    check=check_rows,
)  # fmt: skip
FORMATS = {form.name: form for form in (FLOAT32, BFLOAT16, INT8)}

# Tensors by their canonical names, those matrices that are not float32 as their formats hold them.
Encoded = Mapping[str, Floats | Matrix]


class FileTensors(Mapping[str, Floats]):
    """Tensors in float32 that are read from a file when they are asked for."""

    def matrix(self, name: str) -> Matrix:
        """Return a matrix as the file holds it."""
        raise NotImplementedError


class _Rounding(Mapping[str, Floats | Matrix]):
    """Tensors of a file, each matrix rounded when it is asked for to what its layer can hold."""

    def __init__(self, network: Network, tensors: FileTensors) -> None:
        self._tensors = tensors
        self._formats = {n: FORMATS[dtype] for n, dtype in network.matrix_dtypes().items()}

    def __getitem__(self, name: str) -> Floats | Matrix:
        if name not in self._formats:
            return self._tensors[name]
        try:
            return self._matrix(name)
        except WeightsError as error:
            raise _not_rounded(self._formats, self._matrix) from error

    def _matrix(self, name: str) -> Floats | Matrix:
        form, stored = self._formats[name], self._tensors.matrix(name)
        if form is FLOAT32:
            return stored.values()
        return stored if stored.format is form else form.encode(stored.values())

    def __contains__(self, name: object) -> bool:
        return name in self._tensors

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)


def _not_rounded(names: Iterable[str], round_one: Callable[[str], Any]) -> WeightsError:
    """Return the error that names all matrices that cannot be rounded."""
    problems = []
    for name in names:
        try:
            round_one(name)
        except WeightsError as error:
            problems.append(f"{name}: {error}")
    return WeightsError(f"the weights cannot be rounded:{listed(problems)}")


# Weights ------------------------------------------------------------------------------------------


def encoded(weights: Weights) -> Encoded:
    """Return the tensors, each matrix rounded to what the dtype of its layer can hold.

    Tensors of float32 are the same objects as before; those of a file are read one by one, when
    they are asked for.

    Raises
    ------
    WeightsError
        If a number is too large for bfloat16.
    """
    if isinstance(weights.tensors, FileTensors):
        return _Rounding(weights.network, weights.tensors)
    dtypes = weights.network.matrix_dtypes()
    low = {n: FORMATS[dtype] for n, dtype in dtypes.items() if dtype != FLOAT32.name}

    def encode(name: str) -> Matrix:
        return low[name].encode(weights.tensors[name])

    try:
        return dict(weights.tensors) | {name: encode(name) for name in low}
    except WeightsError as error:
        raise _not_rounded(low, encode) from error


def decoded(weights: Weights, tensors: Encoded) -> Weights:
    """Return the weights with what their encoded tensors hold; themselves if nothing is rounded."""
    if not any(isinstance(tensor, Matrix) for tensor in tensors.values()):
        return weights
    return weights.with_tensors(weights.network, floats_of(tensors))


def floats_of(tensors: Encoded) -> dict[str, Floats]:
    """Return what encoded tensors hold in float32, exactly: tensors of float32 themselves."""
    return {n: t.values() if isinstance(t, Matrix) else t for n, t in tensors.items()}


def rounded(weights: Weights) -> Weights:
    """Return the weights with each matrix rounded to what the dtype of its layer can hold.

    Tensors of float32 are the same objects as before; so are the weights if all are.

    Raises
    ------
    WeightsError
        If a number is too large for bfloat16.
    """
    return decoded(weights, encoded(weights))


def with_dtype(weights: Weights, dtype: str, activations: str = "int16") -> Weights:
    """Return the weights with a dtype for all matrices, not yet rounded to it.

    Who makes a model or a file of them rounds them, once.

    Raises
    ------
    ValueError
        If there is no such dtype, or no such activations.
    """
    return weights.with_tensors(weights.network.with_dtype(dtype, activations), weights.tensors)


def as_dtype(weights: Weights, dtype: str, activations: str = "int16") -> Weights:
    """Return the weights with all matrices of a dtype, rounded; all else is kept.

    Raises
    ------
    ValueError
        If there is no such dtype, or no such activations.
    WeightsError
        If a number is too large for it.
    """
    return rounded(with_dtype(weights, dtype, activations))


def dtypes_of(network: Network) -> list[str]:
    """Return the dtypes of the matrices, in the order of `FORMATS`; float32 if there are none."""
    found = set(network.matrix_dtypes().values()) or {FLOAT32.name}
    return [dtype for dtype in FORMATS if dtype in found]


def tolerance(network: Network) -> float:
    """Return how far a network may be from its float32 source: the largest of its formats."""
    return max(FORMATS[dtype].tolerance for dtype in dtypes_of(network))


def num_bytes(network: Network) -> int:
    """Return the bytes that all tensors take."""
    dtypes = network.matrix_dtypes()
    return sum(
        FORMATS[dtypes.get(name, FLOAT32.name)].num_bytes(shape)
        for name, shape in network.tensor_shapes().items()
    )
