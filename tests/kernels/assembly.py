"""What the products of matrices become on a level, and the loops in it that take the time.

``NUMLSTM_LEVEL=armv8 python -m tests.kernels.assembly`` compiles them, for a CPU that need not be
this one, and writes their assembly.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

# What adds products to sums; on ARM without dot products, what adds up those that SMULL made.
PRODUCTS = {
    "float": re.compile(r"vfmadd\d+ps|fmla"),
    "int8": re.compile(r"v?pmaddwd|vpdpbusd|vpdpwssd|[us]dot|usdot|sadalp"),
}
WIDENS = re.compile(r"v?pslld|shll?2?|ushll2?")  # bfloat16 to float32

_LABEL = re.compile(r"(\.L\w+):")
_JUMP = re.compile(r"(?:j\w+|b(?:\.\w+)?|cbn?z|tbn?z)\t(?:.*[, \t])?(\.L\w+)$")
_FUNCTION = re.compile(r"\t\.type\t.*function")
_FRAME = re.compile(r"movq\t%rsp, %rbp|(?:mov|add)\tx29, sp")
_STORE = re.compile(r"st\w+\t.*|v?(?:mov|extract|pextr|compress)\w*\t.*\)")


@dataclass(frozen=True)
class Loop:
    """A loop over the inputs of a product: a block that jumps to its own start and stores nothing.

    weights        float32, bfloat16 or int8
    num_products   instructions that multiply and add
    lines          its instructions
    on_stack       those that read or write the stack
    """

    weights: str
    num_products: int
    lines: tuple[str, ...]
    on_stack: tuple[str, ...]


def _blocks(text: str) -> Iterator[tuple[list[str], str]]:
    """Yield the blocks that jump to their own start, and what points to the stack there."""
    label, lines, stack = "", [], ""
    for line in text.splitlines():
        if _FUNCTION.match(line):
            stack = r"%rsp|\bsp\b"
        if found := _LABEL.match(line):
            label, lines = found[1], []
        if not re.match(r"\t[a-z{]", line):
            continue
        # Without comments; {vex} asks for one of two encodings.
        instruction = re.sub(r"\s*(?:# |//).*|\{vex\}\s*", "", line).strip()
        if _FRAME.match(instruction):
            stack += r"|%rbp|\bx29\b"
        lines.append(instruction)
        if found := _JUMP.match(instruction):
            if found[1] == label:
                yield lines, stack
            label = ""


def k_loops(text: str) -> list[Loop]:
    """Return the loops over the inputs in the assembly of products."""
    loops = []
    for lines, stack in _blocks(text):
        names = Counter(line.split()[0] for line in lines)
        on_stack = tuple(line for line in lines if re.search(rf"[(\[](?:{stack})", line))
        stores = [line for line in lines if _STORE.fullmatch(line) and line not in on_stack]
        for kind, pattern in PRODUCTS.items():
            count = sum(n for name, n in names.items() if pattern.fullmatch(name))
            if count and not stores:
                widens = any(WIDENS.fullmatch(name) for name in names)
                weights = ("bfloat16" if widens else "float32") if kind == "float" else kind
                loops.append(Loop(weights, count, tuple(lines), on_stack))
    return loops


def main() -> None:
    from numba import types

    from numlstm.kernels.codegen import Compiler
    from numlstm.kernels.cpu import LEVEL

    compiler = Compiler(LEVEL, LEVEL.cpu, LEVEL.features)
    from numlstm.kernels.operations import linear

    def products(op, params, state, first, stop):
        linear(op, params, state, first, stop)

    plan, floats = types.CPointer(types.int64), types.CPointer(types.float32)
    signature = types.void(plan, floats, floats, types.int64, types.int64)
    print(compiler.assembly(products, signature))


if __name__ == "__main__":
    main()
