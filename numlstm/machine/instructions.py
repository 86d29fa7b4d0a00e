"""What this CPU has, asked of the CPU: x86 by cpuid, ARM by what the system tells.

LLVM's lists of features are no help: they name no dot products on ARM and nothing at all on macOS.
"""

import ctypes
import hashlib
import platform
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

from numlstm.machine.executable import executable

# cpuid(leaf, subleaf, out): out <- eax, ebx, ecx, edx. The arguments come in other registers on
# Windows.
_CPUID = bytes.fromhex(
    ("53 89c8 89d1" if sys.platform == "win32" else "53 4989d0 89f8 89f1")  # push rbx; mov
    + "0fa2 418900 41895804 41894808 4189500c"  # cpuid; mov to out
    + "5bc3"  # pop rbx; ret
)
_XGETBV = bytes.fromhex("31c9 0f01d0 c3")  # xor ecx, ecx; xgetbv; ret

_EAX, _EBX, _ECX, _EDX = range(4)

# (leaf, subleaf, register of the answer, bit); Intel's manual, volume 2A, CPUID.
_X86_BITS = {
    "fma": (1, 0, _ECX, 12),
    "movbe": (1, 0, _ECX, 22),
    "avx": (1, 0, _ECX, 28),
    "f16c": (1, 0, _ECX, 29),
    "bmi": (7, 0, _EBX, 3),
    "avx2": (7, 0, _EBX, 5),
    "bmi2": (7, 0, _EBX, 8),
    "avx512f": (7, 0, _EBX, 16),
    "avx512dq": (7, 0, _EBX, 17),
    "avx512cd": (7, 0, _EBX, 28),
    "avx512bw": (7, 0, _EBX, 30),
    "avx512vl": (7, 0, _EBX, 31),
    "avx512vnni": (7, 0, _ECX, 11),
    "avxvnni": (7, 1, _EAX, 4),
    "lzcnt": (0x80000001, 0, _ECX, 5),
}
_OSXSAVE = (1, 0, _ECX, 27)
# Registers that the system saves, by bits of XCR0; what is older needs none.
_SAVED_AVX, _SAVED_AVX512 = 0x6, 0xE6

# (AT_HWCAP, bit) of Linux, asm/hwcap.h; sysctl of macOS; PF_ARM_... of Windows.
_ARM_NAMES = {
    "dotprod": ((16, 20), b"hw.optional.arm.FEAT_DotProd", 43),
}


@cache
def machine() -> str:
    """Return the architecture: x86_64, aarch64 or another."""
    name = platform.machine().lower()
    return {"amd64": "x86_64", "arm64": "aarch64"}.get(name, name)


@cache
def _page() -> int:
    return executable(_CPUID + _XGETBV)


def _cpuid(leaf: int, subleaf: int) -> tuple[int, ...]:
    """Return eax, ebx, ecx, edx; zeros of a leaf beyond the last, where the last would answer."""
    ask = ctypes.CFUNCTYPE(None, ctypes.c_uint32, ctypes.c_uint32, ctypes.c_void_p)(_page())
    out = (ctypes.c_uint32 * 4)()
    ask(leaf & 0x80000000, 0, ctypes.addressof(out))
    if out[_EAX] >= leaf:
        ask(leaf, 0, ctypes.addressof(out))
        if out[_EAX] >= subleaf or subleaf == 0:
            ask(leaf, subleaf, ctypes.addressof(out))
            return tuple(out)
    return (0, 0, 0, 0)


def _found_x86() -> set[str]:
    def has(leaf: int, subleaf: int, register: int, bit: int) -> bool:
        return bool(_cpuid(leaf, subleaf)[register] >> bit & 1)

    xgetbv = ctypes.CFUNCTYPE(ctypes.c_uint32)(_page() + len(_CPUID))
    saved = xgetbv() if has(*_OSXSAVE) else 0
    names = {name for name, bit in _X86_BITS.items() if has(*bit)}
    if saved & _SAVED_AVX != _SAVED_AVX:
        names -= {name for name in names if name.startswith("avx")} | {"fma", "f16c"}
    if saved & _SAVED_AVX512 != _SAVED_AVX512:
        names -= {name for name in names if name.startswith("avx512")}
    return names


def _arm_has() -> Callable[[str], bool]:
    if sys.platform == "win32":
        present = ctypes.WinDLL("kernel32").IsProcessorFeaturePresent
        return lambda name: bool(present(_ARM_NAMES[name][2]))
    libc = ctypes.CDLL(None)
    if sys.platform == "darwin":

        def is_told(name: str) -> bool:
            value, size = ctypes.c_int64(0), ctypes.c_size_t(8)
            key = _ARM_NAMES[name][1]
            failed = libc.sysctlbyname(key, ctypes.byref(value), ctypes.byref(size), None, 0)
            return not failed and bool(value.value)

        return is_told
    libc.getauxval.restype, libc.getauxval.argtypes = ctypes.c_ulong, [ctypes.c_ulong]

    def is_set(name: str) -> bool:
        vector, bit = _ARM_NAMES[name][0]
        return bool(libc.getauxval(vector) >> bit & 1)

    return is_set


@cache
def found() -> frozenset[str]:
    """Return the instruction sets of this CPU that some level asks for.

    None where the system lets no one ask, because it makes no memory executable: no compiled code
    will run there.
    """
    if machine() == "x86_64":
        try:
            return frozenset(_found_x86())
        except OSError:
            return frozenset()
    if machine() == "aarch64":
        return frozenset(filter(_arm_has(), _ARM_NAMES))
    return frozenset()


@cache
def identity() -> str:
    """Return a word that differs between CPUs if code of one may not run on the other."""
    if machine() == "x86_64":
        # The second register of leaf 1 tells which core it is.
        try:
            words = (_cpuid(0, 0), _cpuid(1, 0)[:1], _cpuid(1, 0)[2:], _cpuid(7, 0), _cpuid(7, 1))
            told = sorted(map(repr, words))
        except OSError:
            told = []  # as for `found`
    else:
        keys = ("CPU implementer", "CPU architecture", "CPU part", "Features")
        try:
            lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        except OSError:
            lines = []
        told = sorted({line for line in lines if line.startswith(keys)}) or [platform.processor()]
    return hashlib.sha256(repr((sys.platform, told)).encode()).hexdigest()[:12]
