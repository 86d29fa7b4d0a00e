"""How long a row is of which a graph does not say it: chunks of samples, for example.

A graph that slides windows along a row of any size reads rows of some sizes alike, and computes
what it never reads of longer ones. So the row is the longest of which nothing is left over: what
Silero VAD calls a chunk, with its context.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

import numpy as np
import onnx

from numlstm.convert.onnx.proto import graphs_in
from numlstm.convert.onnx.roles.inputs import Input
from numlstm.convert.onnx.source import Found
from numlstm.convert.onnx.trace import Trace
from numlstm.convert.onnx.values import Ids
from numlstm.spec import Activation, Add, BatchNorm, Multiply, WeightsError

_SIZES = [2**n for n in range(4, 15)]
_MOST_STEPS = 64  # by which the row is made longer

Attempt = Callable[[onnx.ModelProto], Found]


def spare(trace: Trace, answer: Ids) -> tuple[int, int, int]:
    """Return (hop, rest, unread) of the windows within a step.

    hop      by how many numbers of the input the first one moves, 0 if there is none
    rest     how many of the input it leaves over
    unread   at how many places what the windows give is read by nothing
    """
    if not trace.windows:
        return 0, 0, 0
    read = np.zeros(trace.size, bool)
    read[answer] = True
    for _, after in trace.carried:
        read[after] = True
    for node in reversed(trace.nodes):
        own = read[node.ids]
        if own.any():
            each = isinstance(node.layer, Activation | BatchNorm | Add | Multiply)
            for source in node.sources:
                read[source[own] if each else source] = True
    unread = sum(int((~read[found].any(0)).sum()) for found, _, _ in trace.windows)
    _, hop, rest = trace.windows[0]
    return hop, rest, unread


def sized(model: onnx.ModelProto, attempt: Attempt) -> tuple[str, int, Found] | None:
    """Return an input whose rows have no size, the size that they have, and what is found then."""
    if not _slides(model.graph.node):
        return None
    constants = {tensor.name for tensor in model.graph.initializer}
    for info in model.graph.input:
        tensor = Input.of(info)
        is_free = len(tensor.shape) > 1 and tensor.shape[-1] is None
        if is_free and info.name not in constants and tensor.dtype.kind == "f":
            found = _longest(partial(_tried, model, attempt, info.name), _likely(model.graph))
            if found is not None:
                return info.name, *found
    return None


def _slides(nodes: Iterable[onnx.NodeProto]) -> bool:
    """Tell whether a convolution is among nodes, or in the graphs that they have."""
    return any(
        node.op_type == "Conv" or any(_slides(inner.node) for inner in graphs_in(node))
        for node in nodes
    )


def _tried(model: onnx.ModelProto, attempt: Attempt, name: str, size: int) -> Found | None:
    other = onnx.ModelProto()
    other.CopyFrom(model)
    (info,) = (info for info in other.graph.input if info.name == name)
    info.type.tensor_type.shape.dim[-1].dim_value = size
    try:
        return attempt(other)
    except WeightsError:
        return None


def _likely(graph: onnx.GraphProto) -> list[int]:
    """Return sizes to try: first those that a kernel could slide along, which may be padded."""
    widest = max(_kernels(graph), default=0)
    return sorted(_SIZES, key=lambda size: 2 * size < widest)


def _kernels(graph: onnx.GraphProto) -> Iterator[int]:
    """Yield how much the windows of a graph and of its branches read at once."""
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.name == "kernel_shape":
                yield from attribute.ints
        for inner in graphs_in(node):
            yield from _kernels(inner)


def _longest(
    tried: Callable[[int], Found | None], sizes: Sequence[int]
) -> tuple[int, Found] | None:
    """Return the longest row of which nothing is left over, and what is found then."""
    first = next(_that_can_be(tried, sizes), None)
    if first is None:
        return None
    size, found = first
    hop, rest, _ = found.spare
    if not hop:
        return None
    best: tuple[int, Found] | None = None
    size -= rest
    for _ in range(_MOST_STEPS):
        other = tried(size)
        unread = None if best is None else best[1].spare[2]
        if other is None or (unread is not None and other.spare[2] > unread):
            break
        best, size = (size, other), size + hop
    return best


def _that_can_be(
    tried: Callable[[int], Found | None], sizes: Sequence[int]
) -> Iterator[tuple[int, Found]]:
    for size in sizes:
        found = tried(size)
        if found is not None:
            yield size, found
