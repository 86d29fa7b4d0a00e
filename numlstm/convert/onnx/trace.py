"""An ONNX graph run on symbols: which number of which layer each element of each tensor is.

The graph is walked with a batch of one and a length of time that is a number, so that all shapes
are numbers, and what does not depend on the input is computed by the reference of the onnx package.
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from numlstm.budget import spend
from numlstm.convert.assembly import Array, Refusals, Refused
from numlstm.convert.onnx.constants import fold
from numlstm.convert.onnx.proto import label_of
from numlstm.convert.onnx.values import Ids, Value, roomy
from numlstm.spec import Layer, WeightsError

_OF_A_NUMBER = 32  # bytes that a number of a layer takes, with what knows where it is


@dataclass(eq=False)
class Node:
    """A layer before it has a name, or the input, a state, or what no layer gives.

    sources   the ids that it reads; several for a sum or a product
    row       it gives one row for all steps
    note      what other nodes must know of it: ("mean", ...), ("affine", scale, shift)
    kind      "layer", "input", "state", "constant", "counter" (of the steps), "cell" (c of an LSTM)
              or "weights" (of steps)
    """

    kind: str
    start: int
    size: int
    label: str
    layer: Layer | None = None
    tensors: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    sources: tuple[Ids, ...] = ()
    row: bool = False
    note: tuple[Any, ...] = ()
    is_state: bool = False  # what a stream keeps anyway: the last h or c
    numbers: Array | None = None  # of a constant, or those that a state begins with

    @property
    def ids(self) -> Ids:
        return np.arange(self.start, self.start + self.size)

    def has(self, ids: Ids) -> NDArray[np.bool_]:
        """Return which of some numbers are its own."""
        return (ids >= self.start) & (ids < self.start + self.size)


class Op:
    """One node of the graph with the values of its inputs."""

    def __init__(self, proto: Any, inputs: Sequence["Value | Array | None"], opset: int) -> None:
        self.proto = proto
        self.inputs = inputs
        self.opset = opset
        self.kind = proto.op_type
        self.attributes = {a.name: onnx.helper.get_attribute_value(a) for a in proto.attribute}

    @property
    def label(self) -> str:
        return label_of(self.proto)

    def attribute(self, name: str, default: Any = None) -> Any:
        value = self.attributes.get(name, default)
        return value.decode() if isinstance(value, bytes) else value

    def has(self, n: int) -> bool:
        """Tell whether input n is given."""
        return n < len(self.inputs) and self.inputs[n] is not None

    def value(self, n: int = 0) -> Value:
        """Return an input that depends on the input of the network."""
        value = self.inputs[n] if self.has(n) else None
        if not isinstance(value, Value):
            raise Refused(f"its input {n} does not depend on the input of the network")
        value.check_steps()
        return value

    def constant(self, n: int) -> Array:
        """Return an input that must not depend on the input of the network."""
        value = self.inputs[n] if self.has(n) else None
        if not isinstance(value, np.ndarray):
            what = "is missing" if value is None else "depends on the input of the network"
            raise Refused(f"its input {n} {what}, expected a constant")
        return value

    def floats(self, n: int) -> NDArray[np.float64]:
        found = self.constant(n)
        if np.issubdtype(found.dtype, np.complexfloating):
            raise Refused(f"its input {n} is of {found.dtype}")
        with np.errstate(invalid="ignore"):  # a NaN is refused where all tensors are known
            return found.astype(np.float64)

    def ints(self, n: int, name: str) -> list[int] | None:
        """Return whole numbers that are an input, or an attribute as in older opsets."""
        if self.has(n):
            return [int(i) for i in self.constant(n).ravel()]
        given = self.attribute(name)
        return None if given is None else [int(i) for i in given]


Handler: TypeAlias = Callable[["Trace", Op], Any]
# Of an operator with graphs of its own, which see the tensors around it.
Inner: TypeAlias = Callable[["Trace", Op, dict[str, Any]], Any]


class Trace:
    """One walk through a graph.

    handlers   by operator
    inner      those of operators with graphs of their own
    unknown    of other operators, why there is no layer of them, and what to do instead
    length     of the time axis, or 1 for a graph of one step
    in_step    within the body of a loop over the steps
    fixed      the graph says this length
    refusals   of the nodes that cannot be converted
    carried    pairs of the ids of states and the ids of what they are one step later
    progress   how many nodes that depend on the input were converted
    work       operations of one step, and those that are of none
    windows    within a step: the ids of what they give (outputs, places), how far the first axis
               moves, and how many numbers of it are left over
    """

    def __init__(
        self,
        handlers: dict[str, Handler],
        opset: int,
        length: int,
        inner: dict[str, Inner],
        unknown: dict[str, tuple[str, str]] | None = None,
    ) -> None:
        self.handlers, self.inner = handlers, inner
        self.unknown = unknown or {}
        self.opset = opset
        self.length = length
        self.in_step = False
        self.fixed = False
        self.nodes: list[Node] = []
        self.refusals = Refusals("the graph")
        self.carried: list[tuple[Ids, Ids]] = []
        self.consumed: set[str] = set()
        self.progress = 0
        self.work = self.folded = 0.0
        self.windows: list[tuple[Ids, int, int]] = []
        self.size = 0
        self.starts: list[int] = []  # of the nodes
        self._known: dict[tuple[Any, ...], Node] = {}

    # Nodes ----------------------------------------------------------------------------------------

    def add(self, kind: str, size: int, label: str, **options: Any) -> Node:
        spend(label, _OF_A_NUMBER * size, 10 * size)
        node = Node(kind, self.size, size, label, **options)
        self.size += size
        self.nodes.append(node)
        self.starts.append(node.start)
        return node

    def layer(
        self,
        op: Op,
        layer: Layer,
        sources: Iterable[Ids],
        tensors: dict[str, Array] | None = None,
        row: bool = False,
        note: tuple[Any, ...] = (),
    ) -> Node:
        """Return a layer that reads these numbers; the same one, if it has no tensors."""
        sources = tuple(np.ravel(ids) for ids in sources)
        spend(op.label, 8 * sum(ids.size for ids in sources))
        key = (layer, row, *(ids.tobytes() for ids in sources))
        if not tensors and key in self._known:
            return self._known[key]
        for name, shape in layer.tensors().items():
            found = (tensors or {})[name].shape
            if found != shape:
                raise Refused(f"{name} of {found}, expected {shape}")
        numbers = sum(math.prod(shape) for shape in layer.tensors().values())
        spend(op.label, 4 * numbers, numbers)
        self.work += 2 * numbers
        floats = {n: np.ascontiguousarray(t, np.float32) for n, t in (tensors or {}).items()}
        node = self.add("layer", layer.output_size, op.label)
        node.layer, node.tensors, node.sources = layer, floats, sources
        node.row, node.note = row, note
        if not tensors:
            self._known[key] = node
        return node

    def constant(self, op: Op, numbers: Array) -> Value:
        """Return numbers that do not depend on the input, as a tensor that joins one that does."""
        array = np.asarray(numbers, np.float64)
        roomy(op.label, array.shape)
        node = self.add("constant", array.size, op.label, numbers=array.ravel())
        return Value(node.ids.reshape(array.shape), None)

    def numbers(self, ids: Ids) -> Array:
        """Return the numbers that constants are, or states begin with, in the shape of the ids."""
        found = np.zeros(ids.shape)
        for node in self.owners(ids):
            if node.numbers is not None:
                own = node.has(ids)
                found[own] = node.numbers[ids[own] - node.start]
        return found

    def counter(self, op: Op, first: int, shape: tuple[int, ...]) -> Value:
        """Return what is a whole number at the first step, and one more at each that follows."""
        node = self.add("counter", 1, op.label, note=("counter", first))
        return Value(node.ids.reshape(shape), None)

    def step_of(self, ids: Ids) -> tuple[float, float] | None:
        """Return (a, b) of a number that is ``a * t + b`` at step t of a loop, or None."""
        node = self.node_of(ids)
        scale, shift = 1.0, 0.0
        if node is not None and node.note[:1] == ("affine",) and node.size == 1:
            scale, shift = float(node.note[1][0]), float(node.note[2][0])
            node = self.node_of(node.note[3])
        if node is None or node.kind != "counter":
            return None
        return scale, shift + scale * node.note[1]

    def is_row(self, value: Value) -> bool:
        """Tell whether a tensor is one row for all steps."""
        return value.time is None and self.length > 1

    def node_of(self, ids: Ids) -> Node | None:
        """Return the node whose whole output these are, in order, or None."""
        ids = ids.ravel()
        if not ids.size:
            return None
        node = self.nodes[self.index(int(ids[0]))]
        return node if np.array_equal(node.ids, ids) else None

    def index(self, number: int) -> int:
        return bisect_right(self.starts, number) - 1

    def owners(self, ids: Ids) -> list[Node]:
        """Return the nodes that some numbers are of, each once."""
        flat = ids.ravel()
        if not flat.size:
            return []
        first = self.nodes[self.index(int(flat.min()))]
        if flat.max() < first.start + first.size:  # as mostly
            return [first]
        if 8 * flat.size < len(self.starts):  # or all starts become an array for a few numbers
            return [self.nodes[n] for n in sorted({self.index(n) for n in flat.tolist()})]
        found = np.unique(np.searchsorted(self.starts, flat, side="right") - 1)
        return [self.nodes[n] for n in found]

    def inputs_of(self, ids: Ids) -> list[Node]:
        """Return the inputs of the graph of which some numbers are made."""
        found: dict[int, Node] = {}
        waiting = self.owners(ids)
        while waiting:
            node = waiting.pop()
            if node.start not in found:
                found[node.start] = node
                for source in node.sources:
                    waiting += self.owners(source)
        return [node for node in found.values() if node.label.startswith("input ")]

    def kinds(self, ids: Ids) -> set[str]:
        return {node.kind for node in self.owners(ids)}

    # The walk -------------------------------------------------------------------------------------

    def run(self, graph: Any, scope: dict[str, Any]) -> dict[str, Any]:
        """Walk a graph; return all its values by name. None is what a refused node gives."""
        spend("the graphs within the graph", 100 * len(scope), 100 * len(scope))
        scope = dict(scope)
        for tensor in graph.initializer:
            try:
                scope[tensor.name] = numpy_helper.to_array(tensor)
            except Exception as error:  # its type, shape and data need not fit each other
                scope[tensor.name] = None
                self.refusals.add(f"initializer {tensor.name!r}", f"it cannot be read: {error}")
        self.consumed |= {name for node in graph.node for name in node.input}
        self.consumed |= {output.name for output in graph.output}
        for proto in graph.node:
            names = [name for name in proto.input if name]
            missing = [name for name in names if name not in scope]
            if missing:
                label = label_of(proto)
                self.refusals.add(label, f"nothing gives {missing[0]!r}, which it reads")
            known = all(scope.get(name) is not None for name in names)
            inputs = [scope.get(name) if name else None for name in proto.input]
            spend("the nodes of the graph", 2000, 1e5)
            outputs = self._one(Op(proto, inputs, self.opset), scope) if known else ()
            outputs = outputs if isinstance(outputs, tuple | list) else (outputs,)
            for n, name in enumerate(proto.output):
                if name:
                    scope[name] = outputs[n] if n < len(outputs) else None
        return scope

    def _one(self, op: Op, scope: dict[str, Any]) -> Any:
        with self.refusals.of(op.label):
            try:
                return self._converted(op, scope)
            except WeightsError:
                raise
            except Exception as error:  # of a graph that is wrong in a way no checker sees
                raise Refused(str(error) or type(error).__name__) from error
        return ()

    def _converted(self, op: Op, scope: dict[str, Any]) -> Any:
        if op.proto.domain not in ("", "ai.onnx"):
            raise Refused(f"operators of {op.proto.domain!r} are not known")
        if op.kind in self.inner:
            return self.inner[op.kind](self, op, scope)
        if not any(isinstance(value, Value) for value in op.inputs):
            found, operations = fold(op)
            self.folded += operations
            return found
        handler = self.handlers.get(op.kind)
        if handler is None:
            why, instead = self.unknown.get(op.kind, ("", ""))
            raise Refused(
                why or "this operator is not known of what depends on the input",
                instead or "export the part of the network before it, or after it",
            )
        found = handler(self, op)
        self.progress += 1
        return found
