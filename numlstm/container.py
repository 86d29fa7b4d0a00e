"""What a .safetensors file is: 8 bytes of length, as much JSON, and the numbers of all tensors.

The JSON names each tensor with its dtype, its shape and where its numbers are, and under
``__metadata__`` texts. Written here as the safetensors library does, and read as strictly: the
numbers of the tensors fill the rest of the file, without gaps and without sharing.
https://huggingface.co/docs/safetensors
"""

import json
import math
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, BinaryIO, NamedTuple, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from numlstm.errors import WeightsError
from numlstm.strict_json import read_json

# NumPy has no bfloat16: here its numbers are uint16, which no file has.
TYPES: dict[str, type[np.generic]] = {
    "F32": np.float32, "BF16": np.uint16, "I8": np.int8, "I32": np.int32,
}  # fmt: skip
# What files of others may have besides.
FOREIGN: dict[str, type[np.generic]] = {
    "F64": np.float64, "F16": np.float16, **TYPES, "I64": np.int64, "I16": np.int16,
    "U8": np.uint8, "U16": np.uint16, "U32": np.uint32, "U64": np.uint64, "BOOL": np.bool_,
}  # fmt: skip
_NAMES = {np.dtype(kind): name for name, kind in TYPES.items()}

Value = TypeVar("Value")

_MAX_HEADER = 100_000_000  # bytes, as in the library
_MAX_AXES = 32
_PIECE = 2**24  # bytes
_MAX_NUMBERS = 2**60  # NumPy counts the bytes of an array in an int64, even of one that is empty
_METADATA = "__metadata__"


class _Place(NamedTuple):
    """Where in the file a tensor is."""

    at: int
    dtype: str
    shape: tuple[int, ...]


def write(file: BinaryIO, tensors: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]) -> None:
    """Write a whole file; the largest numbers come first, so that all are aligned."""
    header: dict[str, Any] = {_METADATA: dict(metadata)}
    order = sorted(tensors, key=lambda name: (-tensors[name].itemsize, name))
    end = 0
    for name in order:
        at, end = end, end + tensors[name].nbytes
        dtype, shape = _NAMES[tensors[name].dtype], list(tensors[name].shape)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    file.write(len(text).to_bytes(8, "little"))
    file.write(text)
    for name in order:
        for piece in pieces(tensors[name]):
            file.write(piece)


def pieces(tensor: NDArray[Any]) -> Iterator[memoryview]:
    """Return the numbers of an array in the order of their indices, as bytes.

    In pieces that are read, written or hashed in 10 to 50 ms: Ctrl-C waits for one.
    """
    whole = np.ascontiguousarray(tensor).reshape(-1).view(np.uint8).data
    return (whole[at : at + _PIECE] for at in range(0, len(whole), _PIECE))


def by_part(named: Mapping[str, Value]) -> dict[str, dict[str, Value]]:
    """Return what begins with ``PART/`` of each part, without that."""
    parts: dict[str, dict[str, Value]] = {}
    for name, value in named.items():
        part, slash, own = name.partition("/")
        if slash:
            parts.setdefault(part, {})[own] = value
    return parts


class Tensors(Mapping[str, NDArray[Any]]):
    """Tensors of a file that is open, each read when it is asked for."""

    def __init__(self, file: BinaryIO, places: dict[str, _Place]) -> None:
        self._file, self._places = file, places

    def __getitem__(self, name: str) -> NDArray[Any]:
        place = self._places[name]
        tensor = np.empty(place.shape, FOREIGN[place.dtype])
        self._file.seek(place.at)
        for piece in pieces(tensor):
            if self._file.readinto(piece) != len(piece):  # type: ignore[attr-defined]
                raise _incomplete("it became shorter while it was read")
        return tensor

    def __contains__(self, name: object) -> bool:
        return name in self._places

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor, which is not read."""
        return self._places[name].shape

    def dtype(self, name: str) -> str:
        """Return the dtype of a tensor as the file calls it, "BF16"."""
        return self._places[name].dtype

    def num_bytes(self, name: str) -> int:
        """Return how many bytes the numbers of a tensor are."""
        place = self._places[name]
        return math.prod(place.shape) * np.dtype(FOREIGN[place.dtype]).itemsize

    def by_part(self, names: Iterable[str]) -> dict[str, "Tensors"]:
        """Return the tensors of each of these parts, as `by_part` does."""
        parts = by_part(self._places)
        return {part: Tensors(self._file, parts.get(part, {})) for part in names}

    def without(self, names: Collection[str]) -> "Tensors":
        """Return those of other names."""
        return Tensors(self._file, {n: p for n, p in self._places.items() if n not in names})


class Container(Tensors):
    """A file that is open: its metadata, and its tensors.

    Raises
    ------
    WeightsError
        If the header is not one. `check` looks at the tensors.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(open(path, "rb"), {})  # noqa: SIM115, PTH123
        try:
            self._version = self._stat()
            self._described = self._read_header()
            self.metadata = _metadata(self._described.pop(_METADATA, {}))
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def _stat(self) -> tuple[int, int]:
        """Return the size of the file, and when it was written to."""
        found = os.fstat(self._file.fileno())
        return found.st_size, found.st_mtime_ns

    def _read_header(self) -> dict[str, Any]:
        whole = self._version[0]
        size = int.from_bytes(self._file.read(8), "little")
        if not 2 <= size <= min(whole - 8, _MAX_HEADER):
            raise _incomplete(f"a header of {size} bytes in a file of {whole}")
        text = self._file.read(size)
        if len(text) != size or not text.startswith(b"{"):
            raise _incomplete("its header is no JSON object")
        try:
            header = read_json(text.decode())
        except ValueError as error:
            raise _incomplete(f"its header cannot be read: {error}") from error
        self._start = 8 + size
        found: dict[str, Any] = header
        return found

    def check(self, types: Collection[str] = TYPES) -> None:
        """Find the tensors.

        Raises
        ------
        WeightsError
            If they are not all in the file, or of other dtypes than these.
        """
        strange = self.strange(types)
        if strange:
            raise WeightsError(f"expected {', '.join(types)}; {'; '.join(strange)}")
        found = {name: _span(name, described) for name, described in self._described.items()}
        end = 0
        for name, (start, stop, place) in sorted(found.items(), key=lambda item: item[1][:2]):
            if start != end:
                raise _incomplete(f"{name} begins at {start}, expected {end}")
            self._places[name] = place._replace(at=self._start + start)
            end = stop
        if self._start + end != self._version[0]:
            raise _incomplete(f"{self._version[0]} bytes, expected {self._start + end}")

    def strange(self, types: Collection[str]) -> list[str]:
        """Return which tensors are not of these dtypes."""
        return [
            f"{name} is {described.get('dtype')}"
            for name, described in self._described.items()
            if isinstance(described, dict) and described.get("dtype") not in tuple(types)
        ]

    def described_shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shapes that the header has, unchecked but for their form."""
        shapes = {n: d.get("shape") for n, d in self._described.items() if isinstance(d, dict)}
        return {
            name: tuple(shape)
            for name, shape in shapes.items()
            if isinstance(shape, list) and all(type(size) is int for size in shape)
        }

    def check_unchanged(self) -> None:
        """Raise a `WeightsError` if somebody has written to the file since it was opened."""
        if self._stat() != self._version:
            raise WeightsError("it was written to while it was read; load it again")


def _incomplete(reason: str) -> WeightsError:
    return WeightsError(f"not a complete .safetensors file: {reason}")


def _metadata(found: Any) -> dict[str, str]:
    try:
        "".join(found.values()).encode()  # half of a surrogate pair is no text
        return dict(found)
    except (TypeError, AttributeError, UnicodeEncodeError) as error:
        raise _incomplete(f"its metadata are not texts: {error}") from error


def _span(name: str, described: Any) -> tuple[int, int, _Place]:
    """Return where the numbers of a tensor begin and end, or raise a `WeightsError`."""
    try:
        dtype, shape, (start, stop) = (described[key] for key in ("dtype", "shape", "data_offsets"))
        if not isinstance(shape, list) or len(shape) > _MAX_AXES:
            raise ValueError(f"its shape is no list of at most {_MAX_AXES} sizes")
        if not all(type(n) is int and 0 <= n < 2**63 for n in (start, stop, *shape)):
            raise ValueError("its sizes are not whole numbers")
        if math.prod(max(n, 1) for n in shape) > _MAX_NUMBERS:
            raise ValueError("its sizes are beyond those of an array")
        expected = math.prod(shape) * np.dtype(FOREIGN[dtype]).itemsize
        if stop - start != expected:
            raise ValueError(f"{stop - start} bytes, expected {expected}")
    except (TypeError, KeyError, ValueError) as error:
        raise _incomplete(f"{name}: {error!r}") from error
    return start, stop, _Place(0, dtype, tuple(shape))
