"""What the inputs of an ONNX graph can be: the data, states, and lengths of sequences."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from numlstm.budget import spend

_STRUCTURAL = {"Identity", "Cast", "Slice", "Squeeze", "Unsqueeze", "Transpose", "Reshape"}
_STRUCTURAL |= {"Split", "Gather", "Concat", "Expand"}


_MOST_AXES = 16  # of the data


@dataclass(frozen=True)
class Input:
    """An input, or output, of the graph; None is a size that may differ."""

    name: str
    shape: tuple[int | None, ...]
    type: int

    @classmethod
    def of(cls, info: Any) -> "Input":
        tensor = info.type.tensor_type
        shape = tuple(d.dim_value if d.HasField("dim_value") else None for d in tensor.shape.dim)
        return cls(info.name, shape, tensor.elem_type)

    @property
    def ones(self) -> tuple[int, ...]:
        """The shape with one for every size that may differ."""
        return tuple(1 if size is None else size for size in self.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(self.type))


@dataclass(frozen=True)
class Roles:
    """What each input is: the data, whose axes of time and numbers are known; states; lengths.

    pairs   states with the output that continues each of them
    """

    data: Input
    time: int | None
    features: int | None
    states: tuple[Input, ...]
    lengths: tuple[Input, ...]
    pairs: tuple[tuple[Input, Input], ...]

    @property
    def rank(self) -> int:
        """How far from what is usual: a free axis of time, a fixed one, none."""
        return 2 if self.time is None else int(self.length is not None)

    @property
    def batch(self) -> int | None:
        """The axis of the batch, if that can have any size."""
        rest = set(range(len(self.data.shape))) - {self.time, self.features}
        return next((n for n in rest if self.data.shape[n] is None), None)

    @property
    def length(self) -> int | None:
        """How many steps the data has; None for any number."""
        return 1 if self.time is None else self.data.shape[self.time]


def all_roles(model: onnx.ModelProto) -> Iterator[Roles]:
    """Yield all that the inputs can be by their shapes, the usual first."""
    yield from sorted(_every_role(model), key=lambda roles: roles.rank)


def _every_role(model: onnx.ModelProto) -> Iterator[Roles]:
    graph = model.graph
    constants = {tensor.name for tensor in graph.initializer}
    inputs = [Input.of(info) for info in graph.input if info.name not in constants]
    outputs = [Input.of(info) for info in graph.output]
    producers = {name: node for node in graph.node for name in node.output}
    recurrent = [node for node in graph.node if node.op_type in ("RNN", "GRU", "LSTM")]
    initial = _origins((name for node in recurrent for name in node.input[5:7]), producers)
    lengths = _origins((name for node in recurrent for name in node.input[4:5]), producers)
    free = [i for i in inputs if i.name not in initial | lengths]
    for data in free:
        spend("the roles of inputs", operations=100 * (len(inputs) + len(outputs)))
        others = [i for i in free if i is not data]
        pairs = _pairs(others, outputs)
        if pairs is None or np.issubdtype(data.dtype, np.complexfloating):
            continue
        states = tuple(i for i in inputs if i.name in initial) + tuple(others)
        of_length = tuple(i for i in inputs if i.name in lengths - initial)
        for time, features in _axes(data):
            yield Roles(data, time, features, states, of_length, pairs)


def _origins(names: Iterable[str], producers: dict[str, Any]) -> set[str]:
    """Return the names that some tensors only are parts of."""
    found, seen, waiting = set(), set(), list(names)
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        node = producers.get(name)
        if node is None:
            found.add(name)
        elif node.op_type in _STRUCTURAL:
            waiting += node.input if node.op_type == "Concat" else node.input[:1]
    return found


def _pairs(
    states: Sequence[Input], outputs: Sequence[Input]
) -> tuple[tuple[Input, Input], ...] | None:
    """Return each state with the last outputs of its shape, in order, or None without."""
    before, after = _by_shape(states), _by_shape(outputs)
    pairs: list[tuple[Input, Input]] = []
    for shape, own in before.items():
        following = after.get(shape, [])
        if len(following) < len(own):
            return None
        pairs += zip(own, following[len(following) - len(own) :], strict=True)
    return tuple(pairs)


def _by_shape(tensors: Sequence[Input]) -> dict[tuple[int, ...], list[Input]]:
    found: dict[tuple[int, ...], list[Input]] = {}
    for tensor in tensors:
        found.setdefault(tensor.ones, []).append(tensor)
    return found


def _axes(data: Input) -> Iterator[tuple[int | None, int | None]]:
    """Yield the axes that can be those of time and of the numbers of a step.

    What remains is one axis of a batch, before the numbers, or axes of one.
    """
    axes = range(len(data.shape))
    if len(axes) > _MOST_AXES:
        return
    is_token = np.issubdtype(data.dtype, np.integer)
    sizes = [n for n in reversed(axes) if data.shape[n] and not is_token]
    for time in [*(n for n in axes if data.shape[n] not in (0, 1)), None]:
        for features in [*(n for n in sizes if n != time), None]:
            rest = [n for n in axes if n not in (time, features)]
            free = [n for n in rest if data.shape[n] is None]
            if any(data.shape[n] not in (None, 1) for n in rest):
                continue
            if not free or (len(rest) == 1 and (features is None or free[0] < features)):
                yield time, features
