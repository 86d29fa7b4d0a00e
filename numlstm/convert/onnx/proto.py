"""Nodes of an ONNX graph: what they are called, what they hold, what they read."""

from collections.abc import Iterator

import onnx


def name_of(node: onnx.NodeProto) -> str:
    """Return the name of a node, without one that of what it gives."""
    return node.name or next((output for output in node.output if output), "")


def label_of(node: onnx.NodeProto) -> str:
    """Return what a message calls a node: ``LSTM 'encoder'``."""
    return f"{node.op_type} {name_of(node)!r}"


def graphs_of(attribute: onnx.AttributeProto) -> list[onnx.GraphProto]:
    """Return the graphs that an attribute holds, a branch for example."""
    own = [attribute.g] if attribute.HasField("g") else []
    return [*own, *attribute.graphs]


def graphs_in(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """Yield the graphs that a node holds."""
    for attribute in node.attribute:
        yield from graphs_of(attribute)


def names_read(node: onnx.NodeProto) -> Iterator[str]:
    """Yield the names that a node reads, and the graphs within it do."""
    yield from (name for name in node.input if name)
    for graph in graphs_in(node):
        for inner in graph.node:
            yield from names_read(inner)
        yield from (output.name for output in graph.output)


def tensors_in(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Yield the tensors of a graph and of those within it: initializers, and constants of nodes."""
    yield from graph.initializer
    for node in graph.node:
        yield from (attribute.t for attribute in node.attribute if attribute.HasField("t"))
        for inner in graphs_in(node):
            yield from tensors_in(inner)
