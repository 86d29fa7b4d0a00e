"""Tensors of a file before their numbers are read, and what makes them in a pickle of PyTorch."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import torch

from numlstm.budget import spend
from numlstm.convert.torch.files.pickles import Functions, Stranger
from numlstm.spec import WeightsError

_DTYPES = {
    f"{name}Storage": dtype
    for name, dtype in {
        "Double": torch.float64,
        "Float": torch.float32,
        "Half": torch.float16,
        "BFloat16": torch.bfloat16,
        "ComplexFloat": torch.complex64,
        "ComplexDouble": torch.complex128,
        "Long": torch.int64,
        "Int": torch.int32,
        "Short": torch.int16,
        "Char": torch.int8,
        "Byte": torch.uint8,
        "Bool": torch.bool,
        "Untyped": torch.uint8,
        "QInt8": torch.int8,
        "QUInt8": torch.uint8,
        "QInt32": torch.int32,
    }.items()
}


@dataclass(frozen=True)
class Storage:
    """The numbers of one tensor or more, by the name that they have in the file."""

    dtype: torch.dtype
    key: str
    size: int  # numbers


NumbersOf: TypeAlias = Callable[[Storage], bytearray]


@dataclass(frozen=True)
class Scale:
    """What a whole number q of a quantised tensor stands for: (q - zero_point) * scale.

    scale, zero_point   numbers, or tensors with one for each place along an axis
    """

    scale: "float | Stored"
    zero_point: "float | Stored"
    axis: int = 0

    def apply(self, numbers: torch.Tensor, numbers_of: NumbersOf) -> torch.Tensor:
        along = [1] * numbers.dim()
        along[self.axis : self.axis + 1] = [-1]
        scale, zero_point = (
            part.load(numbers_of).float().reshape(along) if isinstance(part, Stored) else part
            for part in (self.scale, self.zero_point)
        )
        return (numbers.float() - zero_point) * scale


@dataclass(frozen=True)
class Stored:
    """A tensor whose numbers are not yet read."""

    storage: Storage
    dtype: torch.dtype
    start: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    scale: Scale | None = None  # of a quantised tensor, which is float32 once it is read

    def load(self, numbers_of: NumbersOf) -> torch.Tensor:
        # Of a tensor that repeats one number there are more than are in the file.
        spend("the tensors of the file", 4 * math.prod(self.shape), math.prod(self.shape))
        data = numbers_of(self.storage)
        numbers = (
            torch.frombuffer(data, dtype=self.dtype) if data else torch.empty(0, dtype=self.dtype)
        )
        last = sum((n - 1) * stride for n, stride in zip(self.shape, self.strides, strict=True))
        if 0 not in self.shape and self.start + last >= len(numbers):
            raise WeightsError(
                f"a tensor {self.shape} ends at number {self.start + last} of {len(numbers)}"
            )
        numbers = numbers.as_strided(self.shape, self.strides, self.start)
        return numbers if self.scale is None else self.scale.apply(numbers, numbers_of)


class Storages:
    """Follows what a pickle says of storages, and keeps them by their names."""

    def __init__(self) -> None:
        self.found: dict[str, Storage] = {}

    def __call__(self, persistent: Any) -> Storage | Stranger:
        """Return what an id stands for: ("storage", class, key, device, size, ...).

        Old files have ("module", class, ...) too, with the text of its program.
        """
        if persistent[0] == "module" and isinstance(persistent[1], Stranger):
            return persistent[1]
        word, kind, key, _, size, *view = persistent
        name = kind.text.rpartition(".")[2] if isinstance(kind, Stranger) else ""
        if word != "storage" or not isinstance(key, str) or type(size) is not int or any(view):
            raise WeightsError("its pickle refers to what is no storage of PyTorch")
        if name not in _DTYPES:
            return Stranger(name)
        self.found[key] = Storage(_DTYPES[name], key, size)
        return self.found[key]


# What a pickle calls ------------------------------------------------------------------------------


def strided(storage: Storage, start: Any, shape: Any, strides: Any) -> Stored:
    """Return a tensor of numbers of a storage.

    Raises
    ------
    WeightsError
        If its sizes are not whole numbers, 0 or more.
    """
    sizes = (start, *shape, *strides)
    if not all(type(n) is int and 0 <= n < 2**62 for n in sizes) or len(shape) != len(strides):
        raise WeightsError(f"a tensor of shape {shape!s:.100} and strides {strides!s:.100}")
    return Stored(storage, storage.dtype, start, tuple(shape), tuple(strides))


def _tensor(storage: Any, start: Any, shape: Any, strides: Any, *rest: Any) -> Stored | Stranger:
    """torch._utils._rebuild_tensor, _v2, and _v3, which has the dtype among the rest."""
    if not isinstance(storage, Storage):
        return Stranger(storage.text if isinstance(storage, Stranger) else "a tensor of nothing")
    tensor = strided(storage, start, shape, strides)
    if len(rest) > 2 and isinstance(rest[2], Stranger):
        found = vars(torch).get(rest[2].text.removeprefix("torch."))
        if not isinstance(found, torch.dtype):
            return Stranger(rest[2].text)
        return replace(tensor, dtype=found)
    return tensor


def _quantised(
    storage: Any, start: Any, shape: Any, strides: Any, scales: Any, *rest: Any
) -> Stored | Stranger:
    """torch._utils._rebuild_qtensor."""
    tensor = _tensor(storage, start, shape, strides)
    scheme, *parts = scales
    name = scheme.text if isinstance(scheme, Stranger) else ""
    if isinstance(tensor, Stored):
        match name, parts:
            case "torch.per_tensor_affine", [float() as scale, int() as zero_point]:
                return replace(tensor, scale=Scale(scale, zero_point))
            case (
                "torch.per_channel_affine" | "torch.per_channel_affine_float_qparams",
                [Stored() as scale, Stored() as zero_point, int() as axis],
            ) if scale.shape == zero_point.shape == tensor.shape[axis : axis + 1] and axis >= 0:
                return replace(tensor, scale=Scale(scale, zero_point, axis))
    return Stranger(name or "a quantised tensor of nothing")


def _of_type(function: Any, kind: Any, args: Any, state: Any) -> Any:
    """torch._tensor._rebuild_from_type_v2: a tensor with attributes, or of a class of its own."""
    name = function.text if isinstance(function, Stranger) else ""
    known = FUNCTIONS.get(name)
    return Stranger(name) if known is None else known(*args)


FUNCTIONS: Functions = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor,
    "torch._utils._rebuild_qtensor": _quantised,
    "torch._utils._rebuild_parameter": lambda data, *rest: data,
    "torch._utils._rebuild_parameter_with_state": lambda data, *rest: data,
    "torch._tensor._rebuild_from_type_v2": _of_type,
    # TorchScript says of its lists what is in them.
    "torch.jit._pickle.restore_type_tag": lambda value=None, *rest: value,
    **dict.fromkeys(
        (f"torch.jit._pickle.build_{of}list" for of in ("int", "double", "bool", "tensor")),
        lambda items=(), *rest: items,
    ),
    "torch.Size": lambda sizes=(): tuple(sizes),
}
