"""The loops of the products, read as machine code of every level, also of those of other CPUs."""

import pytest

from numlstm.kernels.cpu import LEVELS, Level
from tests.conftest import Python, output_of
from tests.kernels.assembly import k_loops

# Whole panels and narrower ones, each of one row and of several.
FEWEST_LOOPS = 6
# Of a tile: 6 rows of 2 registers on AVX2, more where there are 32 registers.
FEWEST_SUMS = 12
# A CPU older than x86-64-v3 has no fused multiply-add: each is many instructions.
FUSED = [level for level in LEVELS if level.machine == "aarch64" or "fma" in level.needs]


@pytest.mark.slow
@pytest.mark.parametrize("level", FUSED, ids=[level.name for level in FUSED])
def test_the_sums_of_a_product_stay_in_registers(python: Python, level: Level):
    process = python("-m", "tests.kernels.assembly", NUMLSTM_LEVEL=level.name)
    loops = k_loops(output_of(process))
    for weights in ("float32", "bfloat16", "int8"):
        products = [loop.num_products for loop in loops if loop.weights == weights]
        assert len(products) >= FEWEST_LOOPS, weights
        assert max(products) >= FEWEST_SUMS, weights
    spilled = [(loop.weights, loop.num_products, loop.on_stack) for loop in loops if loop.on_stack]
    assert not spilled


X86 = """
\t.type\tproducts,@function
products:
\tmovq\t%rsp, %rbp
\tvmovups\t%ymm1, 32(%rsp)
.LBB0_1:                                # %loop
\tvpslld\t$16, (%rbx), %ymm2
\tvfmadd231ps\t%ymm1, %ymm2, %ymm0 # ymm0 = (ymm2 * ymm1) + ymm0
\t{vex}\tvpdpbusd\t32(%rsp), %ymm1, %ymm0 # 32-byte Folded Reload
\tvpaddd\t-8(%rbp,%rax,4), %ymm1, %ymm0
\tdecq\t%rax
\tjne\t.LBB0_1
.LBB0_2:
\tvfmadd231ps\t(%rbx), %ymm2, %ymm0
\tvmovups\t%ymm0, (%rdi)
\tjne\t.LBB0_2
.LBB0_3:
\tvfmadd231ps\t(%rbx), %ymm2, %ymm0
\tja\t.LBB0_2
\tjne\t.LBB0_3
\tretq
\t.type\tleaf,@function
leaf:
.LBB1_1:
\tvfmadd231ps\t(%rbp,%rax,4), %ymm2, %ymm0
\tjne\t.LBB1_1
"""

ARM = """
\t.type\tproducts,@function
products:
\tmov\tx29, sp
.LBB0_1:                                // =>This Inner Loop Header: Depth=1
\tldp\tq1, q2, [x29, #-32]              // 32-byte Folded Reload
\tfmla\tv0.4s, v1.4s, v2.s[0]
\tsdot\tv3.4s, v1.16b, v2.16b
\tcbnz\tx8, .LBB0_1
.LBB0_2:
\tld1r\t{ v2.4s }, [x9], #4
\tsmull\tv4.8h, v1.8b, v2.8b
\tsadalp\tv3.4s, v4.8h
\tstr\tq3, [sp, #16]
\tb.ne\t.LBB0_2
.LBB0_3:
\tfmla\tv0.4s, v1.4s, v2.s[0]
\tst1\t{ v0.4s }, [x9]
\tb.ne\t.LBB0_3
"""


def test_what_a_loop_is():
    found = [
        (loop.weights, loop.num_products, [line.split("\t")[0] for line in loop.on_stack])
        for loop in k_loops(X86 + ARM)
    ]
    assert found == [
        ("bfloat16", 1, ["vpdpbusd", "vpaddd"]),
        ("int8", 1, ["vpdpbusd", "vpaddd"]),
        ("float32", 1, []),
        ("float32", 1, ["ldp"]),
        ("int8", 1, ["ldp"]),
        ("int8", 1, ["str"]),
    ]
