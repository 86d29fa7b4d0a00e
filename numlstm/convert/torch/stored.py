"""Tensors of a file before their numbers are read, and what makes them in a pickle of PyTorch."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch

from numlstm.budget import spend
from numlstm.convert.torch.pickles import Functions, Stranger
from numlstm.spec import WeightsError

_DTYPES = {
    f"{name}Storage": dtype
    for name, dtype in {
        "Double": torch.float64,
        "Float": torch.float32,
        "Half": torch.float16,
        "BFloat16": torch.bfloat16,
        "Long": torch.int64,
        "Int": torch.int32,
        "Short": torch.int16,
        "Char": torch.int8,
        "Byte": torch.uint8,
        "Bool": torch.bool,
        "Untyped": torch.uint8,
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
class Stored:
    """A tensor whose numbers are not yet read."""

    storage: Storage
    dtype: torch.dtype
    start: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

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
        return numbers.as_strided(self.shape, self.strides, self.start)


class Storages:
    """Follows what a pickle says of storages, and keeps them by their names."""

    def __init__(self) -> None:
        self.found: dict[str, Storage] = {}

    def __call__(self, persistent: Any) -> Storage | Stranger:
        """Return what an id stands for: ("storage", class, key, device, size, ...)."""
        word, kind, key, _, size, *view = persistent
        name = kind.text.rpartition(".")[2] if isinstance(kind, Stranger) else ""
        if word != "storage" or not isinstance(key, str) or type(size) is not int or any(view):
            raise WeightsError("its pickle refers to what is no storage of PyTorch")
        if name not in _DTYPES:
            return Stranger(name)
        self.found[key] = Storage(_DTYPES[name], key, size)
        return self.found[key]


# What a pickle calls ------------------------------------------------------------------------------


def _tensor(storage: Any, start: Any, shape: Any, strides: Any, *rest: Any) -> Stored | Stranger:
    """torch._utils._rebuild_tensor, _v2, and _v3, which has the dtype among the rest."""
    sizes = (start, *shape, *strides)
    if not all(type(n) is int and 0 <= n < 2**62 for n in sizes) or len(shape) != len(strides):
        raise WeightsError(f"a tensor of shape {shape!s:.100} and strides {strides!s:.100}")
    if not isinstance(storage, Storage):
        return Stranger(storage.text if isinstance(storage, Stranger) else "a tensor of nothing")
    dtype = storage.dtype
    if len(rest) > 2 and isinstance(rest[2], Stranger):
        found = vars(torch).get(rest[2].text.removeprefix("torch."))
        if not isinstance(found, torch.dtype):
            return Stranger(rest[2].text)
        dtype = found
    return Stored(storage, dtype, start, tuple(shape), tuple(strides))


def _of_type(function: Any, kind: Any, args: Any, state: Any) -> Any:
    """torch._tensor._rebuild_from_type_v2: a tensor with attributes, or of a class of its own."""
    name = function.text if isinstance(function, Stranger) else ""
    known = FUNCTIONS.get(name)
    return Stranger(name) if known is None else known(*args)


FUNCTIONS: Functions = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor,
    "torch._utils._rebuild_parameter": lambda data, *rest: data,
    "torch._utils._rebuild_parameter_with_state": lambda data, *rest: data,
    "torch._tensor._rebuild_from_type_v2": _of_type,
    "torch.Size": lambda sizes=(): tuple(sizes),
}
