"""How many cycles the loops of the products take on ARM, as LLVM's model of a CPU has it.

``python -m tests.kernels.cycles [LLVM-MCA]`` compiles them for each level and writes the table of
docs/arm.md: an estimate, of weights in the first-level cache. Nothing is run.
"""

import os
import re
import subprocess
import sys
from itertools import product

from tests.kernels.assembly import Loop, k_loops

# Each with a level that it has.
CPUS = {
    "cortex-a72": "armv8",
    "neoverse-n1": "armv8-dotprod",
    "neoverse-v2": "armv8-dotprod",
    "apple-m1": "armv8-dotprod",
}
ITERATIONS = 200
WEIGHTS = 128

_WEIGHT_BYTES = {"float32": 4, "bfloat16": 2, "int8": 1}
# Products that an instruction makes.
_PRODUCTS = {"fmla": 4, "sdot": 16, "usdot": 16, "smull": 8, "smull2": 8}


def cycles(loop: Loop, llvm_mca: str, cpu: str) -> float:
    """Return how many cycles a turn of a loop takes in the long run."""
    command = [llvm_mca, "-mtriple=aarch64", f"-mcpu={cpu}", f"-iterations={ITERATIONS}"]
    text = "\n".join(loop.lines) + "\n"
    told = subprocess.run(command, input=text, capture_output=True, text=True, check=True)
    total = re.search(r"Total Cycles: +(\d+)", told.stdout)
    assert total is not None, told.stdout
    return int(total[1]) / ITERATIONS


def size(loop: Loop) -> tuple[int, int]:
    """Return how many weights a turn of a loop reads, and how many products it makes with each."""
    loads = [line for line in loop.lines if line.startswith("ld") and line not in loop.on_stack]
    registers = sum(len(re.findall(r"\bq\d+", line)) for line in loads)
    weights = registers * 16 // _WEIGHT_BYTES[loop.weights]
    products = sum(_PRODUCTS.get(line.split()[0], 0) for line in loop.lines)
    return weights, products // weights if weights else 0


def _range(found: list[tuple[int, float]]) -> str:
    """Return the cycles of the loops that read most at once: those of whole panels."""
    widest = max((weights for weights, _ in found), default=0)
    numbers = {round(number, 1) for weights, number in found if weights == widest}
    return " to ".join(dict.fromkeys(str(end(numbers)) for end in (min, max))) if numbers else ""


def main() -> None:
    llvm_mca = sys.argv[1] if len(sys.argv) > 1 else "llvm-mca"
    table: dict[tuple[str, int], dict[str, list[tuple[int, float]]]] = {}
    for level in sorted(set(CPUS.values())):
        text = subprocess.run(
            [sys.executable, "-m", "tests.kernels.assembly"],
            env=os.environ | {"NUMLSTM_LEVEL": level},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for loop, cpu in product(k_loops(text), (c for c in CPUS if CPUS[c] == level)):
            weights, products = size(loop)
            if products:
                row = table.setdefault((loop.weights, products), {cpu: [] for cpu in CPUS})
                row[cpu].append((weights, cycles(loop, llvm_mca, cpu) / weights * WEIGHTS))
    print(f"| weights | products of each | {' | '.join(CPUS)} |")
    print(f"|---|--:|{'--:|' * len(CPUS)}")
    for (weights, products), row in sorted(table.items()):
        print(f"| {weights} | {products} | {' | '.join(map(_range, row.values()))} |")


if __name__ == "__main__":
    main()
