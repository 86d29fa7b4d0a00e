"""What is known of the numbers that nodes give: where they end, whatever the input is."""

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np

from numlstm.convert.assembly import Array

Range: TypeAlias = tuple[float, float]

EVERY: Range = (-math.inf, math.inf)
_POSITIVE: Range = (0.0, math.inf)
_RANGES: Mapping[str, Range] = {
    **dict.fromkeys(("Abs", "Exp", "Relu", "Sqrt"), _POSITIVE),
    **dict.fromkeys(("HardSigmoid", "Sigmoid", "Softmax"), (0.0, 1.0)),
    "Tanh": (-1.0, 1.0),
}
_KEEPING = (
    "Expand Flatten Gather Identity MaxPool ReduceMax ReduceMean Reshape Slice Squeeze Transpose "
    "Unsqueeze"
)


def range_of(node: Any, ranges: Mapping[str, Range], held: Callable[[str], Array | None]) -> Range:
    """Return where what a node gives ends, as far as that is seen at once.

    Parameters
    ----------
    ranges : of what it reads
    held : name -> a tensor that does not depend on the input, or None
    """
    kind = node.op_type
    a, b = [*node.input, "", ""][:2]
    if kind in _RANGES:
        return _RANGES[kind]
    if kind in _KEEPING.split():
        return ranges.get(a, EVERY)
    if kind == "Mul" and a == b:
        return _POSITIVE
    if kind == "Pow" and _all(held(b), lambda powers: powers == 2):
        return _POSITIVE
    if kind in ("Add", "ReduceSum") and all(_is_positive(n, ranges, held) for n in (a, b) if n):
        return _POSITIVE
    return EVERY


def _is_positive(
    name: str, ranges: Mapping[str, Range], held: Callable[[str], Array | None]
) -> bool:
    return ranges.get(name, EVERY)[0] >= 0 or _all(held(name), lambda numbers: numbers >= 0)


def _all(array: Array | None, is_so: Callable[[Array], Any]) -> bool:
    return array is not None and bool(np.all(is_so(array)))
