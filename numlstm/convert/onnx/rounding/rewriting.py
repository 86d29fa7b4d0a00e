"""A graph of ONNX, rewritten node by node by rules, in float32."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from numlstm.budget import spend
from numlstm.convert.assembly import Array, Refusals, Refused
from numlstm.convert.onnx.proto import label_of, name_of, names_read
from numlstm.convert.onnx.rounding.integers import dequantized
from numlstm.convert.onnx.rounding.ranges import Range, range_of
from numlstm.spec import WeightsError

# A tensor of integers is kept as what they stand for: (x - zero point) * scale.
Units: TypeAlias = tuple[str, str]

OTHERS: dict[int, str] = {
    TensorProto.FLOAT16: "float16",
    TensorProto.BFLOAT16: "bfloat16",
    TensorProto.DOUBLE: "float64",
}
OF_TYPES = {"to", "dtype", "output_dtype", "stash_type", "output_datatype"}  # attributes
# Attributes of a Conv, in whatever rounds or is fused.
OF_CONV = ("auto_pad", "dilations", "group", "kernel_shape", "pads", "strides")
# Operators that give the numbers of their first input (all of Concat's), moved or chosen.
_MOVING = (
    "Concat Expand Flatten Gather GlobalMaxPool Identity MaxPool Pad ReduceMax Reshape Slice Split "
    "Squeeze Tile Transpose Unsqueeze"
)


class Rewriting:
    """One graph, node by node, as it becomes one in float32.

    clips   whether activations end where their integers do, or only at zero, as a relu does
    nodes   of the new graph so far
    units   of the tensors that were integers
    renamed    tensors that others stand for
    ranges     where what is given ends
    fixed   the names of what does not depend on an input
    stored  the tensors that the file has
    made    those in float32 in their place, and new ones
    taken   all names of tensors
    names   of the nodes so far
    """

    def __init__(
        self,
        graph: Any,
        opset: int,
        rules: Mapping[str, "Rule"],
        clips: bool = True,
        outer: "Rewriting | None" = None,
    ) -> None:
        self.graph, self.opset, self.rules, self.clips = graph, opset, rules, clips
        self.nodes: list[onnx.NodeProto] = []
        self.made: dict[str, TensorProto] = {}
        self.units: dict[str, Units] = dict(outer.units) if outer else {}
        self.renamed: dict[str, str] = dict(outer.renamed) if outer else {}
        self.ranges: dict[str, Range] = {}
        self.fixed: set[str] = set(outer.fixed) if outer else set()
        self.kinds: dict[str, None] = {} if outer is None else outer.kinds
        self.refusals: Refusals = Refusals("the graph") if outer is None else outer.refusals
        self.stored: dict[str, TensorProto] = dict(outer.stored) if outer else {}
        self.taken: set[str] = outer.taken if outer else set()
        self.names: set[str] = outer.names if outer else set()
        self._now = onnx.NodeProto()
        self.stored |= {tensor.name: tensor for tensor in graph.initializer}
        for node in graph.node:
            self.taken |= {*node.input, *node.output}
            if (
                node.op_type == "Constant"
                and node.attribute[:1]
                and node.attribute[0].HasField("t")
            ):
                self.stored[node.output[0]] = node.attribute[0].t
        self.fixed |= set(self.stored)

    # What rules ask for ---------------------------------------------------------------------------

    def array(self, name: str) -> Array:
        """Return a tensor that the file holds, floats in float32, or raise `Refused`."""
        if name in self.made:
            return numpy_helper.to_array(self.made[name])
        if name not in self.stored:
            raise Refused(f"{name!r} is computed, expected a tensor of the file")
        tensor = self.stored[name]
        spend(f"tensor {name!r}", 8 * math.prod(tensor.dims), math.prod(tensor.dims))
        return _array(tensor)

    def holds(self, name: str) -> bool:
        """Tell whether the file, or what was made of it, has a tensor of this name."""
        return name in self.made or name in self.stored

    def constant(self, array: Any, name: str = "") -> str:
        """Add a tensor of float32 (or of indices), and return its name."""
        found = np.asarray(array)
        found = found if found.dtype == np.int64 else found.astype(np.float32)
        name = name or self._new_name()
        self.made[name] = numpy_helper.from_array(np.asarray(found, order="C"), name)
        self.fixed.add(name)
        return name

    def emit(self, kind: str, inputs: Iterable[str], output: str = "", **attributes: Any) -> str:
        """Add a node in place of the one that is being replaced; return the name of its output."""
        return self.emit_all(kind, inputs, [output or self._new_name()], **attributes)[0]

    def emit_all(
        self, kind: str, inputs: Iterable[str], outputs: Iterable[str], **attributes: Any
    ) -> list[str]:
        """Add a node with several outputs; see `emit`."""
        inputs, outputs = list(inputs), list(outputs)
        spend("the nodes in place of others", 4000, 1e5)
        name = self._name_of_node()
        given = {key: value for key, value in attributes.items() if value is not None}
        self.nodes.append(helper.make_node(kind, inputs, outputs, name, **given))
        self._note(self.nodes[-1])
        return outputs

    def _note(self, node: onnx.NodeProto) -> None:
        """Note what is known of what a node gives."""
        if self.is_fixed(node.input) and not any(a.HasField("g") for a in node.attribute):
            self.fixed |= set(node.output)
        self.ranges |= dict.fromkeys(node.output, range_of(node, self.ranges, self._held))

    def _held(self, name: str) -> Array | None:
        return self.array(name) if self.holds(name) else None

    def is_fixed(self, names: Iterable[str]) -> bool:
        return all(name in self.fixed for name in names if name)

    def _new_name(self) -> str:
        return self._unique(next((o for o in self._now.output if o), ""), self.taken)

    def _name_of_node(self) -> str:
        """Return the name of the node that is replaced, which its user knows; each node has one."""
        return self._unique(name_of(self._now), self.names)

    def _unique(self, name: str, taken: set[str]) -> str:
        unique, n = name, len(taken)
        while unique in taken:
            unique, n = f"{name}:{n}", n + 1
        taken.add(unique)
        return unique

    # The walk -------------------------------------------------------------------------------------

    def run(self) -> onnx.GraphProto:
        """Return the graph of all nodes, those that have a rule replaced."""
        self._tables()
        for node in self.graph.node:
            self._now = node
            with self.refusals.of(label_of(node)):
                self._replaced(node)
        for output in self.graph.output:
            self._integers_again(output.name)
        return self._graph()

    def _tables(self) -> None:
        """Make of tables of integers what they stand for, if rows are taken before that is done."""
        producers = {name: node for node in self.graph.node for name in node.output}
        found: dict[str, set[Units]] = {}
        for node in self.graph.node:
            if node.op_type != "DequantizeLinear" or not self.holds(node.input[1]):
                continue
            name = node.input[0]
            while name in producers and producers[name].op_type in _MOVING.split():
                name = producers[name].input[0]
            if name in self.stored and name != node.input[0] and name not in producers:
                found.setdefault(name, set()).add((node.input[1], "".join(node.input[2:3])))
        for name, ways in found.items():
            scale, zero = ways.pop()
            if ways or self.array(scale).size != 1:
                continue
            with self.refusals.of(f"tensor {name!r}"):
                zeros = self.array(zero) if zero else None
                self.constant(dequantized(self.array(name), self.array(scale), zeros), name)
                self.units[name] = (scale, zero)

    def _replaced(self, node: onnx.NodeProto) -> None:
        try:
            self._one(node)
        except WeightsError:
            raise
        except Exception as error:  # of a node that is wrong in a way no checker sees
            raise Refused(str(error) or type(error).__name__) from error

    def _one(self, node: onnx.NodeProto) -> None:
        if self.renamed:
            given, node = node, onnx.NodeProto()
            node.CopyFrom(given)
            node.input[:] = [self.renamed.get(name, name) for name in node.input]
        rule = self.rules.get(node.op_type)
        if rule is not None and not self._is_known_by_onnx(node):
            kind = rule(self, Replaced(node))
            self.kinds |= {kind: None} if kind else {}
        elif node.op_type in _MOVING.split() and node.input[:1] and node.input[0] in self.units:
            self._move(node)
        else:
            self._keep(node, [self.integers(name) for name in node.input])

    def _is_known_by_onnx(self, node: onnx.NodeProto) -> bool:
        """Tell whether a node is an operator of ONNX that is fused, and no other's of its name."""
        return node.op_type in ("Gelu", "LayerNormalization") and node.domain in ("", "ai.onnx")

    def _keep(self, node: onnx.NodeProto, inputs: list[str]) -> None:
        kept = onnx.NodeProto()
        kept.CopyFrom(node)
        kept.input[:] = inputs
        for attribute in kept.attribute:
            self._attribute(attribute)
        self.nodes.append(kept)
        self._note(kept)

    def _move(self, node: onnx.NodeProto) -> None:
        units = self.units[node.input[0]]
        moved = list(node.input) if node.op_type == "Concat" else [node.input[0]]
        if not all(name in self.units and self.same(self.units[name], units) for name in moved):
            raise Refused(
                "the scales of its parts differ", "quantise what is joined with one scale"
            )
        inputs = list(node.input)
        if node.op_type == "Pad":
            if self.opset < 11:
                raise Refused(
                    "it pads integers before opset 11", "export the model with opset 11 or later"
                )
            value = inputs[2] if len(inputs) > 2 and inputs[2] else ""
            integer = float(self.array(value)) if value else 0.0
            scale, zero = (float(self.array(name)) if name else 0.0 for name in units)
            inputs[2:3] = [self.constant((integer - zero) * scale)]
        self._keep(node, inputs)
        self.units |= dict.fromkeys(node.output, units)

    def same(self, units: Units, others: Units) -> bool:
        """Tell whether two pairs of a scale and a zero point are the same."""
        return all(
            a == b
            or (self.holds(a) and self.holds(b) and np.array_equal(self.array(a), self.array(b)))
            or (not a and self.holds(b) and not self.array(b).any())
            or (not b and self.holds(a) and not self.array(a).any())
            for a, b in zip(units, others, strict=True)
        )

    def integers(self, name: str) -> str:
        """Return the name of what the integers of a tensor are, before they were rounded."""
        if name not in self.units:
            return name
        scale, zero = self.units[name]
        found = self.emit("Div", [name, scale])
        if not zero:
            return found
        return self.emit("Add", [found, self.emit("Cast", [zero], to=TensorProto.FLOAT)])

    def _integers_again(self, name: str) -> None:
        if name not in self.units:
            return
        real = self._new_name()
        spend("the integers that it answers", 0, 1e4 * len(self.nodes))
        for node in self.nodes:
            node.input[:] = [real if n == name else n for n in node.input]
            node.output[:] = [real if n == name else n for n in node.output]
        self.units[real] = self.units.pop(name)
        self.nodes.append(helper.make_node("Identity", [self.integers(real)], [name], name))

    # Tensors --------------------------------------------------------------------------------------

    def _attribute(self, attribute: onnx.AttributeProto) -> None:
        if attribute.name in OF_TYPES and attribute.i in OTHERS:
            self.kinds[OTHERS[attribute.i]] = None
            attribute.i = TensorProto.FLOAT
        if attribute.HasField("t"):
            attribute.t.CopyFrom(self._in_float32(attribute.t))
        if attribute.HasField("g"):
            inner = Rewriting(attribute.g, self.opset, self.rules, self.clips, self)
            attribute.g.CopyFrom(inner.run())

    def _in_float32(self, tensor: TensorProto) -> TensorProto:
        if tensor.data_type not in OTHERS:
            return tensor
        self.kinds[OTHERS[tensor.data_type]] = None
        spend(f"tensor {tensor.name!r}", 8 * math.prod(tensor.dims), math.prod(tensor.dims))
        return numpy_helper.from_array(_array(tensor), tensor.name)

    def _graph(self) -> onnx.GraphProto:
        graph = onnx.GraphProto()
        graph.CopyFrom(self.graph)
        for field in (graph.node, graph.initializer, graph.value_info):
            del field[:]
        for node in self.nodes:
            node.input[:] = [self.renamed.get(name, name) for name in node.input]
        graph.node.extend(_alive(self.nodes, {output.name for output in graph.output}))
        read = {name for node in graph.node for name in names_read(node)}
        read |= {info.name for info in (*graph.input, *graph.output)}
        for tensor in (*self.graph.initializer, *self.made.values()):
            replaced = tensor.name in self.made and tensor is not self.made[tensor.name]
            if tensor.name in read and not replaced:
                graph.initializer.append(self._in_float32(tensor))
        for info in (*graph.input, *graph.output):
            kind = info.type.tensor_type
            if kind.elem_type in OTHERS or info.name in self.units:
                self.kinds |= dict.fromkeys(filter(None, [OTHERS.get(kind.elem_type)]))
                kind.elem_type = TensorProto.FLOAT
        return graph


class Replaced:
    """A node that is being replaced: what it reads, gives and says."""

    def __init__(self, proto: onnx.NodeProto) -> None:
        self.outputs = [*proto.output, "", "", ""]
        self.inputs = list(proto.input)
        self.kind = proto.op_type
        self.attributes = {a.name: helper.get_attribute_value(a) for a in proto.attribute}

    def input(self, n: int) -> str:
        """Return the name of an input, or "" for one that is not given."""
        return self.inputs[n] if n < len(self.inputs) else ""

    def attribute(self, name: str, default: Any = None) -> Any:
        value = self.attributes.get(name, default)
        return value.decode() if isinstance(value, bytes) else value

    def options(self, *names: str) -> dict[str, Any]:
        """Return attributes by their names, None for one that is not given."""
        return {name: self.attribute(name) for name in names}


# What replaces a node; it says what kind of node that was.
Rule: TypeAlias = Callable[[Rewriting, Replaced], str]


def _array(tensor: TensorProto) -> Array:
    try:
        found = numpy_helper.to_array(tensor)
    except Exception as error:  # its type, shape and data need not fit each other
        raise Refused(f"tensor {tensor.name!r} cannot be read: {error}") from error
    if tensor.data_type in OTHERS:
        with np.errstate(over="ignore"):  # an infinity is refused where all tensors are known
            return found.astype(np.float32)
    return found


def _alive(nodes: list[onnx.NodeProto], wanted: set[str]) -> list[onnx.NodeProto]:
    """Return the nodes without those that nothing reads any more."""
    alive: list[onnx.NodeProto] = []
    for node in reversed(nodes):
        if not wanted.isdisjoint(node.output):
            alive.append(node)
            wanted.update(names_read(node))
    return alive[::-1]
