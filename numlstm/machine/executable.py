"""Machine code as functions: bytes are copied into memory, which is then made executable.

No memory is ever writeable and executable at once. It is not given back: functions live as long as
the process, longer than the interpreter.
"""

import ctypes
import mmap
import sys

_WINDOWS, _MACOS = sys.platform == "win32", sys.platform == "darwin"
_READ_WRITE, _READ_EXECUTE = (0x04, 0x20) if _WINDOWS else (1 | 2, 1 | 4)
_COMMIT_RESERVE = 0x3000


def keep(thing: object) -> None:
    """Keep an object until the process ends.

    Modules are emptied before: a thread may still be in the code, and a function be called.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


def _raise_refused() -> None:
    raise OSError(
        "this system refuses to make memory executable, which compiled code needs; allow it "
        "(SELinux: execmem), or set NUMBA_DISABLE_JIT=1 to run as plain Python, very slowly"
    )


def executable(code: bytes) -> int:
    """Return the address of a copy of ``code`` that can be called, at the start of a page.

    Raises OSError where the system permits no such memory.
    """
    if _WINDOWS:
        return _executable_on_windows(code)
    pages = mmap.mmap(-1, len(code), mmap.MAP_PRIVATE | mmap.MAP_ANON, _READ_WRITE)
    pages[:] = code
    at = ctypes.addressof(ctypes.c_char.from_buffer(pages))
    libc = ctypes.CDLL(None)
    protect = libc.mprotect
    protect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    if protect(at, len(code), _READ_EXECUTE):
        _raise_refused()
    if _MACOS:  # Linux does it where a page becomes executable
        libc.sys_icache_invalidate(ctypes.c_void_p(at), ctypes.c_size_t(len(code)))
    keep(pages)
    return at


def _executable_on_windows(code: bytes) -> int:
    kernel = ctypes.WinDLL("kernel32", use_last_error=True)  # type: ignore[attr-defined,unused-ignore]
    allocate, protect = kernel.VirtualAlloc, kernel.VirtualProtect
    allocate.restype = ctypes.c_void_p
    allocate.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_uint32, ctypes.c_uint32]
    protect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_uint32, ctypes.c_void_p]
    at: int | None = allocate(None, len(code), _COMMIT_RESERVE, _READ_WRITE)
    if at is None:
        raise MemoryError("no memory for compiled code")
    ctypes.memmove(at, code, len(code))
    if not protect(at, len(code), _READ_EXECUTE, ctypes.byref(ctypes.c_uint32())):
        _raise_refused()
    kernel.FlushInstructionCache(
        ctypes.c_void_p(-1), ctypes.c_void_p(at), ctypes.c_size_t(len(code))
    )
    return at
