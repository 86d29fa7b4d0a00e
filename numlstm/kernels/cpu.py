"""The levels of CPUs that kernels are compiled for, and the level of this one.

A level is a set of instructions that many CPUs share. What is chosen by it stands in one table,
`LEVELS`; a CPU is asked for what it has, never a list of LLVM's, which names no dot products on ARM
and nothing at all on macOS.
"""

import ctypes
import os
import platform
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from numlstm.kernels.executable import executable


@dataclass(frozen=True)
class Level:
    """A set of instructions, and what the kernels make of it.

    name       as NUMLSTM_LEVEL and the files of compiled kernels have it
    machine    x86_64 or aarch64
    needs      what the CPU must have, as `found` names it
    cpu        its code's CPU, as LLVM calls it
    features   what its code uses beyond that CPU, as LLVM spells it
    vectors    what the vectors of 16 floats are split into
    floats     the tile of accumulators of float32 and bfloat16 weights for several rows: vectors of
               16 by rows. A tile that spills runs at a sixth of the speed.
    planes     the tile of int8 weights; a row has one plane or two
    products   the instructions that multiply bytes: a name that `integers.py` knows
    """

    name: str
    machine: str
    needs: frozenset[str]
    cpu: str
    features: str
    vectors: str
    floats: tuple[int, int]
    planes: tuple[int, int]
    products: str


_V3 = frozenset({"avx", "avx2", "fma", "bmi", "bmi2", "lzcnt", "f16c", "movbe"})
_V4 = _V3 | {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}

# The best of a machine first.
LEVELS = (
    # 4 x 4 accumulators take 16 of 32 registers.
    Level(
        "x86-64-v4-vnni", "x86_64", _V4 | {"avx512vnni"}, "x86-64-v4", "+avx512vnni",
        "AVX-512", (4, 4), (4, 4), "vpdpbusd 512",
    ),
    Level("x86-64-v4", "x86_64", _V4, "x86-64-v4", "", "AVX-512", (4, 4), (4, 4), "vpmaddwd 256"),
    # 16 registers half as wide.
    Level(
        "x86-64-v3-vnni", "x86_64", _V3 | {"avxvnni"}, "x86-64-v3", "+avxvnni",
        "AVX2", (2, 2), (2, 2), "vpdpbusd 256",
    ),
    Level("x86-64-v3", "x86_64", _V3, "x86-64-v3", "", "AVX2", (2, 2), (2, 2), "vpmaddwd 256"),
    Level("x86-64", "x86_64", frozenset(), "x86-64", "", "SSE2", (2, 2), (2, 2), "shifts"),
    # 32 registers a quarter as wide. x18 belongs to macOS and Windows.
    Level(
        "armv8-i8mm", "aarch64", frozenset({"dotprod", "i8mm"}), "generic",
        "+v8.2a,+dotprod,+i8mm,+reserve-x18", "NEON", (2, 2), (2, 2), "shifts",
    ),
    Level(
        "armv8-dotprod", "aarch64", frozenset({"dotprod"}), "generic",
        "+v8.2a,+dotprod,+reserve-x18", "NEON", (2, 2), (2, 2), "shifts",
    ),
    Level(
        "armv8", "aarch64", frozenset(), "generic", "+reserve-x18",
        "NEON", (2, 2), (2, 2), "shifts",
    ),
)  # fmt: skip

# One row does too little with a weight to hide the way from the L2 cache and beyond: asking for it
# 4 KB ahead makes an LSTM step of 128 and 256 units 1.25 times faster on Zen 5, and one of 2 x 1024
# in bfloat16 1.2 times faster than 1 KB ahead. Narrower panels and several rows gain nothing.
PREFETCH = 1024  # words


# What the CPU has ---------------------------------------------------------------------------------

# cpuid(leaf, subleaf, out): out <- eax, ebx, ecx, edx. The arguments come in other registers on
# Windows.
_CPUID = bytes.fromhex(
    ("53" "89c8" "89d1" if sys.platform == "win32" else "53" "4989d0" "89f8" "89f1")  # push, mov
    + "0fa2"  # cpuid
    + "418900" "41895804" "41894808" "4189500c"  # mov to out
    + "5bc3"  # pop, ret
)  # fmt: skip
_XGETBV = bytes.fromhex("31c90f01d0c3")  # xor ecx, ecx; xgetbv; ret

# (leaf, subleaf, register of the answer, bit); Intel's manual, volume 2A, CPUID.
_X86_BITS = {
    "fma": (1, 0, 2, 12),
    "movbe": (1, 0, 2, 22),
    "avx": (1, 0, 2, 28),
    "f16c": (1, 0, 2, 29),
    "bmi": (7, 0, 1, 3),
    "avx2": (7, 0, 1, 5),
    "bmi2": (7, 0, 1, 8),
    "avx512f": (7, 0, 1, 16),
    "avx512dq": (7, 0, 1, 17),
    "avx512cd": (7, 0, 1, 28),
    "avx512bw": (7, 0, 1, 30),
    "avx512vl": (7, 0, 1, 31),
    "avx512vnni": (7, 0, 2, 11),
    "avxvnni": (7, 1, 0, 4),
    "lzcnt": (0x80000001, 0, 2, 5),
}
_OSXSAVE = (1, 0, 2, 27)
# Registers that the system saves, by bits of XCR0; what is older needs none.
_SAVED_AVX, _SAVED_AVX512 = 0x6, 0xE6


def _found_x86() -> frozenset[str]:
    out = (ctypes.c_uint32 * 4)()
    ask = ctypes.CFUNCTYPE(None, ctypes.c_uint32, ctypes.c_uint32, ctypes.c_void_p)
    page = executable(_CPUID + _XGETBV)
    cpuid = ask(page)
    xgetbv = ctypes.CFUNCTYPE(ctypes.c_uint32)(page + len(_CPUID))

    def has(leaf: int, subleaf: int, register: int, bit: int) -> bool:
        cpuid(leaf & 0x80000000, 0, ctypes.addressof(out))
        if out[0] < leaf:  # a leaf beyond the last answers as the last
            return False
        if subleaf:
            cpuid(leaf, 0, ctypes.addressof(out))
            if out[0] < subleaf:
                return False
        cpuid(leaf, subleaf, ctypes.addressof(out))
        return bool(out[register] >> bit & 1)

    saved = xgetbv() if has(*_OSXSAVE) else 0
    found = {name for name, bit in _X86_BITS.items() if has(*bit)}
    if saved & _SAVED_AVX != _SAVED_AVX:
        found -= {name for name in found if name.startswith("avx")} | {"fma", "f16c"}
    if saved & _SAVED_AVX512 != _SAVED_AVX512:
        found -= {name for name in found if name.startswith("avx512")}
    return frozenset(found)


def _found_arm() -> frozenset[str]:
    if sys.platform == "darwin":
        libc = ctypes.CDLL(None)

        def has(name: str) -> bool:
            value, size = ctypes.c_int64(0), ctypes.c_size_t(8)
            key = f"hw.optional.arm.{name}".encode()
            failed = libc.sysctlbyname(key, ctypes.byref(value), ctypes.byref(size), None, 0)
            return not failed and bool(value.value)

        told = {"dotprod": has("FEAT_DotProd"), "i8mm": has("FEAT_I8MM")}
    elif sys.platform == "win32":
        ask = ctypes.WinDLL("kernel32").IsProcessorFeaturePresent  # PF_ARM_V82_DP, V82_I8MM
        told = {"dotprod": bool(ask(43)), "i8mm": bool(ask(66))}
    else:
        ask = ctypes.CDLL(None).getauxval  # AT_HWCAP, AT_HWCAP2: asm/hwcap.h of Linux
        ask.restype, ask.argtypes = ctypes.c_ulong, [ctypes.c_ulong]
        told = {"dotprod": bool(ask(16) >> 20 & 1), "i8mm": bool(ask(26) >> 13 & 1)}
    return frozenset(name for name, present in told.items() if present)


_ASK: dict[str, Callable[[], frozenset[str]]] = {"x86_64": _found_x86, "aarch64": _found_arm}


@cache
def machine() -> str:
    """Return the architecture, as `Level` names it."""
    name = platform.machine().lower()
    return {"amd64": "x86_64", "arm64": "aarch64"}.get(name, name)


@cache
def found() -> frozenset[str]:
    """Return the instruction sets of this CPU that some level asks for, asked of the CPU."""
    ask = _ASK.get(machine())
    return ask() if ask else frozenset()


def fits(level: Level) -> bool:
    """Whether this CPU runs code of a level."""
    return level.machine == machine() and level.needs <= found()


def _chosen() -> Level:
    name = os.environ.get("NUMLSTM_LEVEL", "")
    for level in LEVELS:
        if level.name == name or (not name and fits(level)):
            return level
    known = ", ".join(level.name for level in LEVELS if level.machine == machine())
    if name:
        raise ImportError(f"NUMLSTM_LEVEL={name}: no such level; those of this machine: {known}")
    raise ImportError(f"numlstm knows no {machine()}: it runs on x86-64 and on 64-bit ARM")


LEVEL = _chosen()  # of the kernels of this process: the best that fits, or NUMLSTM_LEVEL's
