"""Kernels as a file: the machine code of the walker, and what it takes to call it.

Neither Numba nor LLVM is needed to run one. The code is one block that lies anywhere (`linking.py`)
and calls no library but Python's C API.
"""

import ctypes
import hashlib
import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass

from numlstm.machine.executable import executable, keep

_MAGIC = b"numlstm kernels\0"
_DIGEST_SIZE = 32
_METH_FASTCALL = 0x80


class ImageError(ValueError):
    """A file that is no image of kernels, or a damaged one."""


@dataclass(frozen=True)
class Image:
    """The walker, compiled.

    level     the level that it needs
    target    the CPU that it was made for, as LLVM calls it
    sources   the hash of what it was made of
    entries   where the function begins, by calling convention
    imports   where the addresses of the functions it calls are written, by their names
    code      machine code
    cpu       the CPU that alone runs it, as `instructions.identity` has it; "" if all of the level
    """

    level: str
    target: str
    sources: str
    entries: dict[str, int]
    imports: dict[str, int]
    code: bytes
    cpu: str = ""

    def to_bytes(self) -> bytes:
        """Return the file."""
        head = asdict(self)
        del head["code"]
        head_bytes = json.dumps(head).encode()
        body = len(head_bytes).to_bytes(4, "little") + head_bytes + self.code
        return _MAGIC + hashlib.sha256(body).digest() + body

    @staticmethod
    def from_bytes(data: bytes) -> "Image":
        """Return what a file holds; raise ImageError if it is not as `to_bytes` wrote it."""
        start = len(_MAGIC) + _DIGEST_SIZE
        if not data.startswith(_MAGIC):
            raise ImageError("it is no file of kernels")
        if hashlib.sha256(data[start:]).digest() != data[len(_MAGIC) : start]:
            raise ImageError("it is damaged: its checksum differs")
        code_at = start + 4 + int.from_bytes(data[start : start + 4], "little")
        try:
            image = Image(**json.loads(data[start + 4 : code_at]), code=data[code_at:])
        except (ValueError, TypeError, RecursionError) as error:
            raise ImageError("another version of numlstm wrote it") from error
        if not image._can_be_called():
            raise ImageError("it is not as this numlstm writes it: a place is not in its code")
        return image

    def _can_be_called(self) -> bool:
        """Whether what was read is of the types above, and all places are in the code."""
        entries, imports = self.entries, self.imports
        if not isinstance(entries, dict) or not isinstance(imports, dict) or "" not in entries:
            return False
        places = [(at, 1) for at in entries.values()] + [(at, 8) for at in imports.values()]
        return all(isinstance(t, str) for t in (self.level, self.target, self.sources)) and all(
            type(at) is int and 0 <= at <= len(self.code) - size for at, size in places
        )

    def function(self) -> Callable[..., int]:
        """Return the walker as a builtin function, (plan, params, state, xs, ys) -> status.

        The first three are addresses; the CPU must have what the level needs.
        """
        code = bytearray(self.code)
        for name, at in self.imports.items():
            code[at : at + 8] = _address_of(name).to_bytes(8, "little")
        entry = self.entries["win64" if sys.platform == "win32" and "win64" in self.entries else ""]
        return _builtin(b"run", executable(bytes(code)) + entry)


def _address_of(name: str) -> int:
    """Return where a function of Python's C API, or of the C library, begins."""
    for library in (ctypes.pythonapi, ctypes.CDLL(None) if sys.platform != "win32" else None):
        if hasattr(library, name):
            return ctypes.cast(getattr(library, name), ctypes.c_void_p).value or 0
    raise OSError(f"the kernels need {name}(), which this system does not have")


class _MethodDef(ctypes.Structure):
    """``PyMethodDef`` of Python's C API."""

    _fields_ = [
        ("name", ctypes.c_char_p),
        ("function", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    ]


def _builtin(name: bytes, address: int) -> Callable[..., int]:
    definition = _MethodDef(name, address, _METH_FASTCALL, None)
    keep(definition)  # the function points to it
    new = ctypes.pythonapi.PyCFunction_NewEx
    new.restype, new.argtypes = ctypes.py_object, [ctypes.c_void_p] * 3
    function: Callable[..., int] = new(ctypes.addressof(definition), None, None)
    return function
