"""Where NumPy's arrays lie: what compiled code is given in place of them.

The fields of an array's object are those of ``PyArrayObject_fields`` in NumPy's C API, which is
checked when this is imported.
"""

import ctypes
import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numlstm.kernels.plan import LANES


def _is_compiled() -> bool:
    """Whether the kernels are compiled, read as Numba does, which is not imported for it."""
    try:
        return not int(os.environ.get("NUMBA_DISABLE_JIT", "0"))
    except ValueError:  # no number is no answer
        return True


COMPILED = _is_compiled()

# Bytes from the start of the object.
TYPE = ctypes.sizeof(ctypes.c_void_p)
_FIELDS = object.__basicsize__
DATA, NDIM, SHAPE, DTYPE, FLAGS = (_FIELDS + at for at in (0, 8, 16, 40, 48))

# Bits of the flags.
_CONTIGUOUS, _ALIGNED, _WRITEABLE = 0x1, 0x100, 0x400
READABLE = _CONTIGUOUS | _ALIGNED
WRITEABLE = READABLE | _WRITEABLE

# Addresses, which compiled code that is cached must be told.
ARRAY_TYPE_AT = id(np.ndarray)
FLOAT32_AT = id(np.dtype(np.float32))
INT32_AT = id(np.dtype(np.int32))


def _check_fields() -> None:
    """Raise an ImportError if arrays are not laid out as this file says."""
    array = np.zeros(3, np.float32)
    array.flags.writeable = False

    def read(kind: Any, at: int) -> Any:
        return kind.from_address(id(array) + at).value

    found = (
        read(ctypes.c_void_p, TYPE),
        read(ctypes.c_void_p, DATA),
        read(ctypes.c_int, NDIM),
        ctypes.c_ssize_t.from_address(read(ctypes.c_void_p, SHAPE)).value,
        read(ctypes.c_void_p, DTYPE),
        read(ctypes.c_int, FLAGS) & WRITEABLE,
    )
    if found != (ARRAY_TYPE_AT, array.ctypes.data, 1, 3, FLOAT32_AT, READABLE):
        raise ImportError(
            f"arrays of NumPy {np.__version__} are laid out as numlstm does not know; "
            "install another version of NumPy, or a newer numlstm"
        )


_check_fields()


def address(array: NDArray[Any]) -> int:
    """Return where the numbers of an array are; five times as fast as ``array.ctypes.data``."""
    at: int = ctypes.c_void_p.from_address(id(array) + DATA).value or 0
    return at


def argument(array: NDArray[Any]) -> Any:
    """Return what `run` takes for plan, params or state; keep the array alive as long as it."""
    return address(array) if COMPILED else array


def aligned(size: int) -> NDArray[np.float32]:
    """Return an array, not initialised, at a multiple of 64 bytes: unaligned runs at half speed."""
    spare = np.empty(size + LANES, np.float32)
    start = -address(spare) % 64 // 4
    return spare[start : start + size]
