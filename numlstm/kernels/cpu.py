"""The levels of CPUs that kernels are compiled for, and the level of this one.

A level is a set of instructions that many CPUs share. What is chosen by it stands in one table,
`LEVELS`.
"""

import os
from dataclasses import dataclass

from numlstm.machine.instructions import found, machine


@dataclass(frozen=True)
class Floats:
    """How float32 and bfloat16 weights are multiplied and laid out: see `tiles.py`, `packing.py`.

    lanes           floats in a register
    tile            the accumulators of several rows: vectors of 16 outputs by rows. A tile that
                    spills runs at a sixth of the speed.
    panel           vectors that lie together, 4 or 1
    one_row         vectors that one row takes at once, 4 or 8: of panels of 1 as many streams of
                    memory, as far apart as they can be
    prefetch        how many words ahead one row asks for weights
    prefetch_from   words of a matrix from which on it does
    """

    lanes: int
    tile: tuple[int, int]
    panel: int
    one_row: int
    prefetch: int
    prefetch_from: int


@dataclass(frozen=True)
class Integers:
    """How int8 weights are multiplied and laid out: see `integers.py` and `packing.py`.

    instruction   a name that `integers.py` knows
    lanes         sums of int32 in a register
    inputs        what it multiplies weights with: "uint8" or "int8", four at once, and an input of
                  16 bits is two of them; "int16", two at once
    panel         vectors of 16 outputs of a panel: one row takes all of them together
    tile          what several rows take together: vectors of 16 outputs by sums of each output. Of
                  bytes a row of 16 bits has two sums.
    """

    instruction: str
    lanes: int
    inputs: str
    panel: int
    tile: tuple[int, int]


@dataclass(frozen=True)
class Level:
    """A set of instructions, and what the kernels make of it.

    name       as NUMLSTM_LEVEL and the files of compiled kernels have it
    machine    x86_64 or aarch64
    needs      what the CPU must have, as `instructions.found` names it
    cpu        its code's CPU, as LLVM calls it
    features   what its code uses beyond that CPU, as LLVM spells it
    vectors    what the vectors of 16 floats are split into
    floats     how float32 and bfloat16 weights are multiplied
    integers   how int8 weights are multiplied
    """

    name: str
    machine: str
    needs: frozenset[str]
    cpu: str
    features: str
    vectors: str
    floats: Floats
    integers: Integers


_V3 = frozenset({"avx", "avx2", "fma", "bmi", "bmi2", "lzcnt", "f16c", "movbe"})
_V4 = _V3 | {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}

# 4 x 4 accumulators take 16 of 32 registers; 4 x 6 and blocks of inputs gain nothing. Four streams
# of reads are as fast as one up to 16 MB and 0.9 times as fast beyond (Emerald Rapids).
# One row of 8 vectors has 8 sums to add to in turn: LSTM steps of 32 to 96 units are 1.1 to 1.3,
# of 256 units 1.03 times as fast as with 4, in bfloat16 of 128 and 256 units 1.15.
# One row does too little with a weight to hide the way from the L2 cache: asking for it 4 KB ahead
# makes an LSTM step of 128 and 256 units, 256 KB and more, 1.25 times faster on Zen 5, and one of
# 2 x 1024 in bfloat16 1.2 times faster than 1 KB ahead; on Emerald Rapids it costs one of 128 to
# 256 units 5 to 8 %, and nothing from 384 on. Smaller ones it gains nothing.
_AVX512 = Floats(16, (4, 4), 4, 8, 1024, 2**16)

# 1 x 6 accumulators take 12 of 16 registers, the weights 2 and an input 1. Pools of 8, 32 and 128
# at 128 and 256 units: 88 to 96 % of the FMA peak on Emerald Rapids, 75 to 83 % with 2 x 2, 82 to
# 86 % with 1 x 4; on Zen 3 82 to 90 %, 52 to 64 % with 2 x 2.
# Panels of one vector: pools of 8 and 32 at 512 units 79 and 89 % of the peak, 61 and 78 % with
# panels of 4, of which a tile reads every fourth line. Blocks of 256 inputs gain nothing then, and
# cost up to a fifth. One row reads four streams for it: 33 MB at 37 GB/s, not 22, on Zen 3; steps
# of 64, 128 and 256 units are 1.10, 1.06 and 1.03 times as fast on Emerald Rapids, those of 17 to
# 600 MB 0.9 to 1.4 times. Asking ahead costs 5 to 10 % up to 1 MB, and gains 0 to 40 % beyond 4.
_AVX2 = Floats(8, (1, 6), 1, 4, 256, 2**20)

# Every fused multiply-add is a call: nothing else counts.
_SSE2 = Floats(4, (2, 2), 4, 4, 1024, 0)

# 2 x 2 accumulators of 4 registers each take 16 of 32.
_NEON = Floats(4, (2, 2), 4, 4, 1024, 0)

# Ratios of interleaved runs on Sapphire Rapids, the level forced; of ARM estimates of llvm-mca.
#
# A row of 64 outputs has 8 registers of sums, high and low; two rows 16 of 32. Two vectors of 4
# rows are 0.95 times as fast, 4 of 3 rows 0.97, one of 8 rows 0.7.
_VPDPBUSD_512 = Integers("vpdpbusd", 16, "uint8", 4, (4, 4))
# 16 registers: a panel of 2 vectors has 8 sums and is read once, where one of 4 is read in
# halves (1.1 times as fast from L3). Three rows of 1 vector are 1.2 times as fast as three times
# one row.
_VPDPBUSD_256 = Integers("vpdpbusd", 8, "uint8", 2, (1, 6))
# Against two planes of bytes in halves of a register: 4 times as fast for one row and for
# several; with inputs of 8 bits 1.4 and 2.3 times.
_VPMADDWD_512 = Integers("pmaddwd", 16, "int16", 4, (4, 4))
# Against two planes of bytes: 2.0 times as fast for one row, 2.4 times for several; with inputs
# of 8 bits 1.3 times. Three rows are 0.9 times, 5 rows 1.0, 6 rows 0.8, 2 vectors of 2 rows 0.92
# times as fast.
_VPMADDWD_256 = Integers("pmaddwd", 8, "int16", 4, (1, 4))
# 16 registers of half the width: more than 4 sums spill.
_PMADDWD = Integers("pmaddwd", 4, "int16", 1, (1, 1))
# Of 32 registers 16 are sums of one row, 24 of three, and nothing spills. Cycles for 128 weights
# and one row of 16 and of 8 bits: 9.6 and 5.5 on Neoverse N1, 5.0 and 3.7 on V2; with shifts and
# multiplications 128 and 64, 42 and 30. USDOT would be as many of the same.
_SDOT = Integers("sdot", 4, "int8", 2, (1, 6))
# 37 and 21 cycles on N1. More sums spill: products need registers of their own.
_SMULL = Integers("smull", 4, "int8", 2, (1, 2))

# The best of a machine first.
LEVELS = (
    Level(
        "x86-64-v4-vnni", "x86_64", _V4 | {"avx512vnni"}, "x86-64-v4", "+avx512vnni",
        "AVX-512", _AVX512, _VPDPBUSD_512,
    ),
    Level("x86-64-v4", "x86_64", _V4, "x86-64-v4", "", "AVX-512", _AVX512, _VPMADDWD_512),
    Level(
        "x86-64-v3-vnni", "x86_64", _V3 | {"avxvnni"}, "x86-64-v3", "+avxvnni",
        "AVX2", _AVX2, _VPDPBUSD_256,
    ),
    Level("x86-64-v3", "x86_64", _V3, "x86-64-v3", "", "AVX2", _AVX2, _VPMADDWD_256),
    Level("x86-64", "x86_64", frozenset(), "x86-64", "", "SSE2", _SSE2, _PMADDWD),
    # x18 belongs to macOS and Windows.
    Level(
        "armv8-dotprod", "aarch64", frozenset({"dotprod"}), "generic",
        "+v8.2a,+dotprod,+reserve-x18", "NEON", _NEON, _SDOT,
    ),
    Level(
        "armv8", "aarch64", frozenset(), "generic", "+reserve-x18",
        "NEON", _NEON, _SMULL,
    ),
)  # fmt: skip

PREFETCH = 1024  # words, of int8 weights: as for floats in one stream


def fits(level: Level) -> bool:
    """Whether this CPU runs code of a level."""
    return level.machine == machine() and level.needs <= found()


def better_levels() -> list[Level]:
    """Return the levels of this architecture before `LEVEL`: those whose needs the CPU lacks."""
    before = LEVELS[: LEVELS.index(LEVEL)]
    return [level for level in before if level.machine == machine() and not fits(level)]


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
