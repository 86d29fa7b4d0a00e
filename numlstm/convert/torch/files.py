"""A .pt file -> its tensors, read as data: the pickle within is followed here, and runs nothing.

A pickle is a program for a machine with a stack. `_Machine` follows the instructions that make
plain data, and knows the few functions of PyTorch that make a tensor; whatever else a file names is
neither imported nor called, and what it would have given is a `Stranger`. Numbers are read when it
is known which are wanted.

Since PyTorch 1.6 a file is an archive, ``*/data.pkl`` and ``*/data/{key}``, not packed; before, it
is five pickles and the numbers.
"""

import math
import os
import pickletools
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

import torch

from numlstm.budget import spend
from numlstm.convert.assembly import reading
from numlstm.errors import first_of
from numlstm.spec import WeightsError

_INSTEAD = "save model.state_dict() with torch.save and convert that"
_NEWEST = 10  # version of the archive
_LEGACY = 0x1950A86A20F9469CFC6C  # what the first pickle of an old file holds
_PIECE = 2**24
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


def read_state_dict(path: str | os.PathLike[str], key: str | None = None) -> dict[str, Any]:
    """Read the tensors of a .pt file, never anything that could run code.

    Parameters
    ----------
    key : str, optional
        Where in the file the state dict is, if the file is a dict with other things in it.

    Raises
    ------
    WeightsError
        If the file holds no state dict, or is damaged.
    """
    name = os.fspath(path)
    what = "cannot be read as tensors only"
    with Path(path).open("rb") as file, reading(what, name, _INSTEAD):
        return _state_dict(file, key)


def _state_dict(file: BinaryIO, key: str | None) -> dict[str, Any]:
    head = file.read(10)
    file.seek(0)
    if head[8:] == b'{"':
        raise WeightsError("is a .safetensors file; pass safetensors.torch.load_file(path)")
    data, numbers_of = (_read_archive if head[:2] == b"PK" else _read_legacy)(file)
    if key is not None:
        if not isinstance(data, Mapping) or key not in data:
            raise WeightsError(f"holds no {key!r}")
        data = data[key]
    if _is_state_dict(data):
        once = cache(numbers_of)  # those of a flattened module are all of one storage
        return {name: tensor.load(once) for name, tensor in data.items()}
    parts = data.items() if isinstance(data, Mapping) else ()
    strangers = dict.fromkeys(v.text for _, v in parts if isinstance(v, Stranger))
    strangers |= {data.text: None} if isinstance(data, Stranger) else {}
    if strangers:
        raise WeightsError(
            f"cannot be read as tensors only: holds {first_of(strangers)}; {_INSTEAD}"
        )
    inside = [k for k, v in parts if isinstance(k, str) and _is_state_dict(v)]
    hint = f"; name one of its parts as key: {first_of(inside)}" if inside else ""
    raise WeightsError(f"is not a state dict{hint}")


def _is_state_dict(data: Any) -> bool:
    return (
        isinstance(data, Mapping)
        and len(data) > 0
        and all(isinstance(k, str) and isinstance(v, _Tensor) for k, v in data.items())
    )


# What a pickle makes ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stranger:
    """What a file would have made of something that is not called, or its name."""

    text: str


@dataclass(frozen=True)
class _Storage:
    dtype: torch.dtype
    key: str
    size: int  # numbers


@dataclass(frozen=True)
class _Tensor:
    """A tensor whose numbers are not yet read."""

    storage: _Storage
    dtype: torch.dtype
    start: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def load(self, numbers_of: Callable[[_Storage], bytearray]) -> torch.Tensor:
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


def _tensor(storage: Any, start: Any, shape: Any, strides: Any, *rest: Any) -> Any:
    """torch._utils._rebuild_tensor, _v2, and _v3, which has the dtype among the rest."""
    sizes = (start, *shape, *strides)
    if not all(type(n) is int and 0 <= n < 2**62 for n in sizes) or len(shape) != len(strides):
        raise WeightsError(f"a tensor of shape {shape!s:.100} and strides {strides!s:.100}")
    if not isinstance(storage, _Storage):
        return Stranger(storage.text if isinstance(storage, Stranger) else "a tensor of nothing")
    dtype = storage.dtype
    if len(rest) > 2 and isinstance(rest[2], Stranger):
        found = vars(torch).get(rest[2].text.removeprefix("torch."))
        if not isinstance(found, torch.dtype):
            return Stranger(rest[2].text)
        dtype = found
    return _Tensor(storage, dtype, start, tuple(shape), tuple(strides))


def _dict(*args: Any) -> dict[Any, Any]:
    pairs = args[0] if args and isinstance(args[0], list) else ()
    return {_key(pair[0]): pair[1] for pair in pairs}


def _key(key: Any) -> Any:
    """Return a key; the hash of tuples within tuples may take for ever, and nobody asks for one."""
    plain = isinstance(key, str | int | float | bytes | None)
    return key if plain else _Unnamed()


class _Unnamed:
    """A key that is not asked for."""


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor,
    "torch._utils._rebuild_parameter": lambda data, *rest: data,
    "torch._utils._rebuild_parameter_with_state": lambda data, *rest: data,
    "torch._tensor._rebuild_from_type_v2": lambda function, kind, args, state: _call(
        function, args
    ),
    "torch.Size": lambda sizes=(): tuple(sizes),
    "collections.OrderedDict": _dict,
    "collections.defaultdict": lambda *args: {},
    "builtins.dict": _dict,
    "__builtin__.dict": _dict,
}


def _call(function: Any, args: Any) -> Any:
    """Return what one of `_FUNCTIONS` gives; nothing else is called."""
    name = function.text if isinstance(function, Stranger) else ""
    known = _FUNCTIONS.get(name)
    if known is not None and isinstance(args, tuple | list):
        return known(*args)
    return Stranger(name or "what nothing known gives")


class _Machine:
    """What runs a pickle, but for what it would call."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.storages: dict[str, _Storage] = {}

    def run(self, file: BinaryIO) -> Any:
        """Return what a pickle makes; the file is then behind it."""
        for opcode, arg, _ in pickletools.genops(file):
            spend("the pickle of the file", 150, 5000)
            self.step(opcode.name, arg)
        return self.stack.pop()

    def step(self, name: str, arg: Any) -> None:
        stack = self.stack
        match name:
            case "PROTO" | "FRAME" | "STOP":
                pass
            case "MARK":
                self.marks.append(len(stack))
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[name])
            case "EMPTY_TUPLE":
                stack.append(())
            case "EMPTY_LIST" | "EMPTY_SET":
                stack.append([])
            case "EMPTY_DICT":
                stack.append({})
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                stack.append(self.taken(int(name[-1])))
            case "TUPLE":
                stack.append(self.marked())
            case "LIST" | "FROZENSET":
                stack.append(list(self.marked()))
            case "DICT":
                items = self.marked()
                stack.append({})
                self.put(items)
            case "APPEND" | "APPENDS" | "ADDITEMS":
                items = self.taken(1) if name == "APPEND" else self.marked()
                if isinstance(stack[-1], list):
                    stack[-1].extend(items)
            case "SETITEM" | "SETITEMS":
                self.put(self.taken(2) if name == "SETITEM" else self.marked())
            case "POP":
                stack.pop()
            case "POP_MARK":
                self.marked()
            case "DUP":
                stack.append(stack[-1])
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                self.memo[arg] = stack[-1]
            case "MEMOIZE":
                self.memo[len(self.memo)] = stack[-1]
            case "GET" | "BINGET" | "LONG_BINGET":
                stack.append(self.memo[arg])
            case "GLOBAL":
                stack.append(Stranger(arg.replace(" ", ".")))
            case "STACK_GLOBAL":
                stack.append(Stranger(".".join(map(str, self.taken(2)))))
            case "REDUCE" | "NEWOBJ":
                function, args = self.taken(2)
                stack.append(_call(function, args))
            case "NEWOBJ_EX":
                stack.append(_call(self.taken(3)[0], None))
            case "OBJ":
                stack.append(_call(self.marked()[0], None))
            case "INST":
                self.marked()
                stack.append(Stranger(arg.replace(" ", ".")))
            case "BUILD":
                stack.pop()  # a state beside the items, such as _metadata
            case "BINPERSID":
                stack.append(_storage(stack.pop()))
                if isinstance(stack[-1], _Storage):
                    self.storages[stack[-1].key] = stack[-1]
            case _ if isinstance(arg, str | bytes | bytearray | int | float):
                if name in ("PERSID", "EXT1", "EXT2", "EXT4"):
                    raise WeightsError(f"its pickle has {name}, which PyTorch does not write")
                stack.append(arg)
            case _:
                raise WeightsError(f"its pickle has {name}, which PyTorch does not write")

    def taken(self, count: int) -> tuple[Any, ...]:
        items = tuple(self.stack[len(self.stack) - count :])
        del self.stack[len(self.stack) - count :]
        return items

    def marked(self) -> tuple[Any, ...]:
        return self.taken(len(self.stack) - self.marks.pop())

    def put(self, items: Sequence[Any]) -> None:
        if isinstance(self.stack[-1], dict):
            for key, value in zip(items[::2], items[1::2], strict=True):
                self.stack[-1][_key(key)] = value


def _storage(persistent: Any) -> Any:
    """Return what a persistent id stands for: ("storage", class, key, device, size, ...)."""
    word, kind, key, _, size, *view = persistent
    name = kind.text.rpartition(".")[2] if isinstance(kind, Stranger) else ""
    if word != "storage" or not isinstance(key, str) or type(size) is not int or any(view):
        raise WeightsError("its pickle refers to what is no storage of PyTorch")
    if name not in _DTYPES:
        return Stranger(name)
    return _Storage(_DTYPES[name], key, size)


# Files --------------------------------------------------------------------------------------------


def _read_archive(file: BinaryIO) -> tuple[Any, Callable[[_Storage], bytearray]]:
    with zipfile.ZipFile(file) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
    ends = [name for name in entries if name.endswith(("/data.pkl", "/constants.pkl"))]
    if any(name.endswith("/constants.pkl") for name in ends):
        raise WeightsError(
            "is a TorchScript program; save its tensors, "
            "torch.save(torch.jit.load(path).state_dict(), other_path), and convert those"
        )
    root = ends[0].removesuffix("data.pkl") if len(ends) == 1 else ""
    version = _text(file, entries.get(f"{root}version")) or "0"
    if not version.isdecimal() or int(version) > _NEWEST or f"{root}archive_format" in entries:
        raise WeightsError(
            f"is of a format that is not known, version {version}, known up to {_NEWEST}; load it "
            f"with the PyTorch that wrote it, and {_INSTEAD}"
        )
    if not root:
        raise WeightsError("is an archive, but not of torch.save: it holds no data.pkl")
    if _text(file, entries.get(f"{root}byteorder")) == "big":
        raise WeightsError(
            f"has its numbers in the order of another kind of CPU; there, {_INSTEAD}"
        )
    at, _ = _place(file, entries[f"{root}data.pkl"])
    file.seek(at)
    data = _Machine().run(file)

    def numbers_of(storage: _Storage) -> bytearray:
        entry = entries.get(f"{root}data/{storage.key}")
        if entry is None:
            raise WeightsError(f"lacks the numbers data/{storage.key[:100]}")
        at, size = _place(file, entry)
        return _read(file, at, min(size, storage.size * storage.dtype.itemsize))

    return data, numbers_of


def _place(file: BinaryIO, entry: zipfile.ZipInfo) -> tuple[int, int]:
    """Return where the bytes of a file in an archive are, and how many."""
    if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
        raise WeightsError(f"{entry.filename[:100]} is packed, which torch.save never does")
    file.seek(entry.header_offset)
    head = file.read(30)
    if len(head) < 30 or head[:4] != b"PK\x03\x04":
        raise WeightsError(f"{entry.filename[:100]} is not where the archive says")
    lengths = int.from_bytes(head[26:28], "little") + int.from_bytes(head[28:30], "little")
    return entry.header_offset + 30 + lengths, entry.file_size


def _text(file: BinaryIO, entry: zipfile.ZipInfo | None) -> str:
    """Return a short text of an archive, or "" without."""
    if entry is None:
        return ""
    at, size = _place(file, entry)
    return bytes(_read(file, at, min(size, 20))).decode("ascii").strip()


def _read_legacy(file: BinaryIO) -> tuple[Any, Callable[[_Storage], bytearray]]:
    if _Machine().run(file) != _LEGACY:
        raise WeightsError(f"cannot be read as tensors only: not of torch.save; {_INSTEAD}")
    version, system = _Machine().run(file), _Machine().run(file)
    if version != 1001 or not isinstance(system, dict) or not system.get("little_endian"):
        raise WeightsError(f"is of an old format that is not known; {_INSTEAD}")
    machine = _Machine()
    data = machine.run(file)
    storages = machine.storages
    places: dict[str, int] = {}
    for key in _Machine().run(file):
        spend("the storages of the file", 200, 1e4)
        if key not in storages:
            raise WeightsError("has numbers of no tensor")
        count = int.from_bytes(file.read(8), "little")
        places[key] = file.tell()
        if count != storages[key].size:
            raise WeightsError(f"has {count} numbers for {storages[key].size}")
        file.seek(count * storages[key].dtype.itemsize, os.SEEK_CUR)

    def numbers_of(storage: _Storage) -> bytearray:
        return _read(file, places[storage.key], storage.size * storage.dtype.itemsize)

    return data, numbers_of


def _read(file: BinaryIO, at: int, size: int) -> bytearray:
    """Return so many bytes of a file, which may claim more than it has."""
    spend("the numbers of the file", size, size)
    file.seek(at)
    data = bytearray()
    while len(data) < size:
        piece = file.read(min(size - len(data), _PIECE))
        if not piece:
            raise WeightsError("ends before its numbers do")
        data += piece
    return data
