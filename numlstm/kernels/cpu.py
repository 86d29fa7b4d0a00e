"""The CPU that kernels are compiled for: its features, and what is chosen by them."""

from dataclasses import dataclass

import llvmlite.binding as llvm
import numba


def name() -> str:
    """Return the CPU that Numba compiles for, as LLVM calls it."""
    return numba.config.CPU_NAME or llvm.get_host_cpu_name()


def features() -> frozenset[str]:
    """Return the CPU features that Numba compiles for: the host's, or those it was told."""
    if numba.config.CPU_FEATURES is not None:
        told = numba.config.CPU_FEATURES.split(",")
        return frozenset(name[1:] for name in told if name.startswith("+"))
    return frozenset(name for name, present in llvm.get_host_cpu_features().items() if present)


FEATURES = features()


@dataclass(frozen=True)
class _Shape:
    """The tiles of accumulators for several rows, vectors of 16 by rows.

    feature   of the CPUs that it is for
    floats    of float32 and bfloat16 weights
    planes    of int8 weights; a row has one plane or two
    """

    feature: str
    floats: tuple[int, int]
    planes: tuple[int, int]


# The first that fits. 4 x 4 take 16 of the 32 registers of AVX-512; NEON's 32 are a quarter as
# wide, AVX2 has 16 half as wide. A tile that spills runs at a sixth of the speed.
_SHAPES = (
    _Shape("avx512f", (4, 4), (4, 4)),
    _Shape("", (2, 2), (2, 2)),
)
_SHAPE = next(shape for shape in _SHAPES if shape.feature in FEATURES | {""})
TILE_VECTORS, TILE_ROWS = _SHAPE.floats
PLANE_VECTORS, TILE_PLANES = _SHAPE.planes

# One row does too little with a weight to hide the way from the L2 cache and beyond: asking for it
# 4 KB ahead makes an LSTM step of 128 and 256 units 1.25 times faster on Zen 5, and one of 2 x 1024
# in bfloat16 1.2 times faster than 1 KB ahead. Narrower panels and several rows gain nothing.
PREFETCH = 1024  # words
